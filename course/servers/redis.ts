import { randomBytes } from 'node:crypto';
import { findBinary, type Server, ServerError, startServer } from './server';

/** Settings of redis.conf by name, for example `{ maxmemory: '3mb' }`. */
export type RedisSettings = Readonly<Record<string, string>>;

export const redisBinary = () => findBinary('redis-server', 'valkey-server');

/** A Redis of our own: loopback, a random password, nothing on disk. */
export async function startRedis(settings: RedisSettings = {}): Promise<Server & { url: string }> {
  const binary = redisBinary();
  if (!binary) throw new ServerError('redis-server is not installed. Install it: npm run doctor');
  const password = randomBytes(12).toString('hex');
  const server = await startServer({
    name: 'redis-server',
    config: (folder, port) =>
      Object.entries({
        port: String(port),
        bind: '127.0.0.1',
        dir: `"${folder.replace(/[\\"]/g, '\\$&')}"`,
        save: '""',
        appendonly: 'no',
        requirepass: password,
        ...settings,
      })
        .map(([name, value]) => `${name} ${value}\n`)
        .join(''),
    command: (folder) => [binary, `${folder}/config`],
  });
  return { ...server, url: `redis://default:${password}@127.0.0.1:${server.port}` };
}
