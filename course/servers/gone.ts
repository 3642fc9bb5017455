import { connect } from 'node:net';
import type { ServerUrls } from './types';

/** The servers whose ports no process listens at any more, by name. */
export async function goneServers({ redis, mysql }: ServerUrls): Promise<string[]> {
  const servers = [
    { name: 'Redis', url: new URL(redis), port: 6379 },
    { name: 'MySQL', url: new URL(mysql), port: 3306 },
  ];
  const listening = await Promise.all(
    servers.map(({ url, port }) => listens(url.hostname.replace(/^\[|\]$/g, ''), Number(url.port || port))),
  );
  return servers.filter((_, index) => !listening[index]).map(({ name }) => name);
}

function listens(host: string, port: number): Promise<boolean> {
  const socket = connect({ host, port, timeout: 1000 });
  return new Promise<boolean>((resolve) => {
    socket.once('connect', () => resolve(true));
    socket.once('error', () => resolve(false));
    socket.once('timeout', () => resolve(false));
  }).finally(() => socket.destroy());
}
