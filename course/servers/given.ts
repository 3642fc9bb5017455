import type { Redis } from 'ioredis';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { connectMysql, connectRedis, shown } from './connect';
import { claimRedis, refuseUnfitMysql, refuseUnfitRedis } from './fit';
import { dropSchema, foreignSchema, freshSchema, ownerOf, REDIS_MARK, SCHEMA, takeTurn } from './ours';
import { ServerError } from './server';
import type { OpenedServers, ServersKind, ServerUrls } from './types';

const TURN_WITHIN_S = 60;
const CLEAN_WITHIN_S = 1;

/** The learner's own servers, named by REDIS_URL and MYSQL_URL; undefined when neither is set. */
export async function givenServers(env: NodeJS.ProcessEnv): Promise<OpenedServers | undefined> {
  const { REDIS_URL: redis, MYSQL_URL: mysql } = env;
  if (!redis && !mysql) return undefined;
  if (!redis || !mysql) {
    throw new ServerError(
      `${redis ? 'REDIS_URL' : 'MYSQL_URL'} is set and ${redis ? 'MYSQL_URL' : 'REDIS_URL'} is not. Set both, or neither.`,
    );
  }
  return claimServers({ redis, mysql }, 'given');
}

/** Servers that outlive the run: nothing on them is touched that the course did not make. */
export async function claimServers(urls: ServerUrls, kind: ServersKind): Promise<OpenedServers> {
  await withBoth(urls, async (redis, admin) => {
    await refuseUnfitRedis(redis, shown(new URL(urls.redis)));
    await refuseUnfitMysql(admin, new URL(urls.mysql).host);
    if (!(await takeTurn(admin, TURN_WITHIN_S))) {
      throw new ServerError(
        `Another run of the course has been using this MySQL for ${TURN_WITHIN_S} s. End it, or wait for its end.`,
      );
    }
    await refuseOthers(redis, admin, urls);
    await claimRedis(redis, shown(new URL(urls.redis)));
    await claimMysql(admin);
  });
  const mysql = new URL(urls.mysql);
  mysql.pathname = '';
  return { kind, redis: urls.redis, mysql: mysql.href, close: () => clean(urls) };
}

async function refuseOthers(redis: Redis, admin: Connection, urls: ServerUrls): Promise<void> {
  const target = new URL(urls.redis);
  const keys = await redis.dbsize();
  if (keys > 0 && (await redis.exists(REDIS_MARK)) === 0) {
    const sample = (await redis.randomkey()) ?? '';
    target.pathname = '/9';
    throw new ServerError(
      `Redis database ${redis.options.db ?? 0} holds ${keys} ${keys === 1 ? 'key' : 'keys'} that the course did not make ` +
        `(for example ${JSON.stringify(sample)}), and the course empties its database before each test. ` +
        `Name an empty one: REDIS_URL=${target.protocol}//${target.username || target.password ? '…@' : ''}${shown(target)}`,
    );
  }
  const schema = decodeURIComponent(new URL(urls.mysql).pathname.slice(1));
  if (schema && schema !== SCHEMA && (await ownerOf(admin, schema)) === 'someone') {
    throw new ServerError(
      `MYSQL_URL names the schema ${schema}, which holds tables that the course did not make. The course works in a ` +
        `schema of its own, ${SCHEMA}: leave the path out of MYSQL_URL.`,
    );
  }
  if ((await ownerOf(admin, SCHEMA)) === 'someone') throw new ServerError(foreignSchema(SCHEMA));
}

async function claimMysql(admin: Connection): Promise<void> {
  try {
    await freshSchema(admin, SCHEMA);
    // Some tests ask the server who waits for a lock.
    await admin.query('SHOW ENGINE INNODB STATUS');
  } catch (error) {
    throw new ServerError(await whyNoSchema(admin, error));
  }
}

/** "Access denied" to a schema, to a table, or because a privilege is missing. */
const DENIED = [1044, 1142, 1227];

async function whyNoSchema(admin: Connection, error: unknown): Promise<string> {
  const denied = error instanceof Error && 'errno' in error && DENIED.includes(Number(error.errno));
  if (!denied)
    return `MySQL could not make the schema ${SCHEMA} (${error}). Fix that, or point MYSQL_URL elsewhere.`;
  const [rows] = await admin.query<RowDataPacket[]>('SELECT CURRENT_USER() AS account');
  const account = String(rows[0]?.account).replace(/^(.*)@(.*)$/, "'$1'@'$2'");
  return (
    `The account ${account} of MYSQL_URL may not make the schema ${SCHEMA}, or not see who waits for a lock. ` +
    `Let an administrator run:\n` +
    `  GRANT ALL ON \`caching\\_deep\\_dive%\`.* TO ${account};\n  GRANT PROCESS ON *.* TO ${account};`
  );
}

/** Removes what the course made, unless another run is at work with it: then that run removes it. */
async function clean(urls: ServerUrls): Promise<void> {
  try {
    await withBoth(urls, async (redis, admin) => {
      if (!(await takeTurn(admin, CLEAN_WITHIN_S))) return;
      if (await redis.exists(REDIS_MARK)) await redis.flushdb();
      await dropSchema(admin, SCHEMA);
    });
  } catch {
    // A server that went away took with it what there was to clean; the run's result stands.
  }
}

async function withBoth(
  urls: ServerUrls,
  use: (redis: Redis, admin: Connection) => Promise<void>,
): Promise<void> {
  const [redis, admin] = await Promise.allSettled([connectRedis(urls.redis), connectMysql(urls.mysql)]);
  try {
    if (redis.status === 'fulfilled' && admin.status === 'fulfilled')
      return await use(redis.value, admin.value);
    const failures = [redis, admin].flatMap((end) => (end.status === 'rejected' ? [end.reason] : []));
    throw new ServerError(failures.map((failure) => failure.message).join('\n'));
  } finally {
    if (redis.status === 'fulfilled') redis.value.disconnect();
    if (admin.status === 'fulfilled') admin.value.destroy();
  }
}
