import { Redis } from 'ioredis';
import mysql, { type RowDataPacket } from 'mysql2/promise';
import { SCHEMA as SHOP } from '../kit/data/schema';
import { openPool } from '../kit/pool';
import { openServers } from '../servers/open';
import { dropSchema, freshSchema, REDIS_MARK, SCHEMA, takeTurn } from '../servers/ours';
import { ServerError } from '../servers/server';
import { SESSION } from '../servers/session';
import { type MeasureServers, redisVersion } from './claims';
import { loadShop } from './data/large';

const TURN_WITHIN_S = 60;

export interface OpenMeasureServers extends MeasureServers {
  /** "Redis 7.0.15", "MariaDB 10.11.6". */
  readonly servers: readonly string[];
  /** An empty Redis, and no tables but those of the shop: for the next measure. */
  clean(): Promise<void>;
  close(): Promise<void>;
}

/** The servers as measures see them: their own turn, their own schema, an empty Redis. */
export async function openMeasureServers(): Promise<OpenMeasureServers> {
  const servers = await openServers();
  const admin = await mysql.createConnection({ uri: servers.mysql });
  await admin.query(SESSION);
  const mysqlUrl = withPath(servers.mysql, SCHEMA);
  const redis = new Redis(servers.redis);
  const db = openPool(mysqlUrl);

  let claimed = false;
  const close = async () => {
    // Without its mark, what a measure leaves would pass for the learner's.
    if (claimed) await markedOnly(redis).catch(() => {});
    redis.disconnect();
    await db.end();
    await dropSchema(admin, SCHEMA);
    await admin.end();
    await servers.close();
  };
  const clean = async () => {
    // It was the course's at the start; a measure may have flushed the mark away.
    await markedOnly(redis);
    const [rows] = await admin.query<RowDataPacket[]>(
      'SELECT table_name AS name FROM information_schema.tables WHERE table_schema = ?',
      [SCHEMA],
    );
    const foreign = rows.map(({ name }) => String(name)).filter((name) => !STAYS.has(name));
    for (const name of foreign) await admin.query('DROP TABLE ??', [`${SCHEMA}.${name}`]);
  };

  try {
    if (!(await takeTurn(admin, TURN_WITHIN_S))) {
      throw new ServerError(
        `Another run of the course has been using this MySQL for ${TURN_WITHIN_S} s. End it, or wait for its end.`,
      );
    }
    await freshSchema(admin, SCHEMA);
    await emptyRedis(redis);
    claimed = true;
    return {
      redis,
      db,
      redisUrl: servers.redis,
      mysqlUrl,
      servers: [await redisVersion(redis), await mysqlVersion(admin)],
      loadShop: () => loadShop(db),
      clean,
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Loading the shop takes seconds, finding it unchanged a tenth of one: it may stay from measure to measure. */
const STAYS = new Set([...Object.keys(SHOP), 'shop_checksums', 'course_mark']);

async function emptyRedis(redis: Redis): Promise<void> {
  if ((await redis.dbsize()) > 0 && (await redis.exists(REDIS_MARK)) === 0) {
    throw new ServerError(
      `The Redis database holds keys that the course did not make. Name an empty one in REDIS_URL.`,
    );
  }
  await markedOnly(redis);
}

const markedOnly = (redis: Redis) => redis.multi().flushdb().set(REDIS_MARK, '1').exec();

async function mysqlVersion(admin: mysql.Connection): Promise<string> {
  const [rows] = await admin.query<RowDataPacket[]>('SELECT VERSION() AS version');
  const version = String(rows[0]?.version);
  const number = /^[\d.]+/.exec(version)?.[0] ?? version;
  return `${version.includes('MariaDB') ? 'MariaDB' : 'MySQL'} ${number}`;
}

function withPath(url: string, path: string): string {
  const changed = new URL(url);
  changed.pathname = path;
  return changed.href;
}
