import type { Redis } from 'ioredis';
import type { Connection } from 'mysql2/promise';
import { ServerError } from './server';

const WITHIN_MS = 3000;
export const OWN = 'unset REDIS_URL and MYSQL_URL to let the course start servers of its own';

/** A client on the database that `url` names. @throws {ServerError} when no Redis answers there within 3 s. */
export async function connectRedis(url: string): Promise<Redis> {
  const target = parse('REDIS_URL', url, ['redis:', 'rediss:'], 'redis://127.0.0.1:6379/9');
  if (!/^\/?\d*$/.test(target.pathname)) {
    throw new ServerError(
      `REDIS_URL names the database ${target.pathname.slice(1)}, and Redis numbers its databases. ` +
        'Write for example REDIS_URL=redis://127.0.0.1:6379/9.',
    );
  }
  // The client libraries load more slowly than servers start: only those load them who connect.
  const { Redis } = await import('ioredis');
  const client = new Redis(url, { lazyConnect: true, retryStrategy: () => null, maxRetriesPerRequest: 0 });
  try {
    // ioredis reports a database that does not exist as an event and goes on in database 0: every event counts.
    const failure = new Promise<never>((_, reject) => client.on('error', reject));
    failure.catch(() => {});
    const ready = client.connect().then(
      () => client.ping(),
      () => failure,
    );
    await inTime(Promise.race([ready, failure]));
    return client;
  } catch (error) {
    client.disconnect();
    throw explain('REDIS_URL', 'a Redis', target, error);
  }
}

/** A connection without a schema. @throws {ServerError} when no MySQL answers there within 3 s. */
export async function connectMysql(url: string): Promise<Connection> {
  const target = parse('MYSQL_URL', url, ['mysql:'], 'mysql://USER:PASSWORD@127.0.0.1:3306');
  target.pathname = '';
  const { createConnection } = await import('mysql2/promise');
  const connecting = createConnection({ uri: target.href, connectTimeout: WITHIN_MS });
  try {
    const admin = await inTime(connecting);
    admin.on('error', () => {});
    return admin;
  } catch (error) {
    connecting.then(
      (late) => late.destroy(),
      () => {},
    );
    throw explain('MYSQL_URL', 'a MySQL or MariaDB', target, error);
  }
}

/** `host:port/path` of a URL: what may be shown of it. */
export const shown = (url: URL) => `${url.host}${url.pathname === '/' ? '' : url.pathname}`;

function parse(name: string, url: string, protocols: readonly string[], example: string): URL {
  const target = URL.canParse(url) ? new URL(url) : undefined;
  if (target?.hostname && protocols.includes(target.protocol)) {
    refuseOptions(name, target);
    return target;
  }
  const reason = target?.hostname ? `begins with ${target.protocol}//` : 'is not a URL';
  throw new ServerError(`${name} ${reason}. Write for example ${name}=${example}, or ${OWN}.`);
}

/** The labs set the options of their connections themselves, and look into what is sent. */
function refuseOptions(name: string, target: URL): void {
  const options = [...target.searchParams.keys()];
  if (target.protocol === 'rediss:' || options.some((option) => /^(ssl|tls)/i.test(option))) {
    throw new ServerError(
      `${name} asks for TLS, and the tests hold and read single requests between your code and the server, which TLS ` +
        `hides. Certificates do not matter here: name a server without TLS, as in ${name}=${plain(target)}, or ${OWN}.`,
    );
  }
  if (options.length > 0) {
    throw new ServerError(
      `${name} sets ${options.join(', ')}, and the labs set the options of their connections themselves. ` +
        `Leave out what follows the question mark, or ${OWN}.`,
    );
  }
}

const plain = (url: URL) =>
  `${url.protocol.replace('rediss', 'redis')}//${url.username || url.password ? '…@' : ''}${shown(url)}`;

async function inTime<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('ETIMEDOUT')), WITHIN_MS);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** What an error of the client libraries means, and what to do about it. The first that matches is shown. */
const MEANINGS: readonly (readonly [RegExp, (at: string, name: string, what: string) => string])[] = [
  [
    /ECONNREFUSED/,
    (at, name) => `Nothing listens at ${at}. Start the server there, correct ${name}, or ${OWN}.`,
  ],
  [
    /ENOTFOUND|EAI_AGAIN/,
    (at, name) => `No machine of that name is known: ${at}. Correct ${name}, or ${OWN}.`,
  ],
  [
    /ETIMEDOUT|timed out|EHOSTUNREACH|ENETUNREACH/,
    (at, name, what) =>
      `${at} did not answer as ${what} within ${WITHIN_MS / 1000} s. Check that ${name} names the right port, or ${OWN}.`,
  ],
  [
    /WRONGPASS|NOAUTH|ACCESS_DENIED/,
    (at, name) => `${at} refused the user or the password in ${name}. Correct them, or ${OWN}.`,
  ],
  [
    /secure_transport|SECURE_TRANSPORT|3159/,
    (at) =>
      `${at} takes connections with TLS only, and TLS hides the requests that the tests hold and read. ` +
      `Run SET GLOBAL require_secure_transport = OFF; on it, or ${OWN}.`,
  ],
  [
    /DB index is out of range/,
    (at, name) =>
      `The Redis at ${at} has no database of that number. Choose a smaller one in ${name} (0 to 15).`,
  ],
  [
    /RESP type|EPIPE|ECONNRESET|CONNECTION_LOST|closed|packet|handshake/i,
    (at, name, what) => `What answers at ${at} is not ${what}. Check the port in ${name}, or ${OWN}.`,
  ],
];

function explain(name: string, what: string, target: URL, error: unknown): ServerError {
  const text =
    error instanceof Error ? `${'code' in error ? error.code : ''} ${error.message}` : String(error);
  const meaning = MEANINGS.find(([pattern]) => pattern.test(text));
  const message =
    meaning?.[1](shown(target), name, what) ??
    `${shown(target)}: ${text.trim()}. Correct ${name}, or ${OWN}.`;
  return new ServerError(message, { cause: error });
}
