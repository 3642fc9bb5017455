import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import type { Server } from 'node:net';
import { threadId } from 'node:worker_threads';

/**
 * Below the ports that systems give to outgoing connections; a part for each thread, used one after the other. Nobody
 * takes the port of a proxy while it refuses.
 */
const PORTS = { from: 20_000, parts: 8, each: 1_500 };
let lastPort = randomInt(PORTS.each);

/** @returns the port */
export async function listenSomewhere(server: Server): Promise<number> {
  for (let attempt = 1; ; attempt++) {
    lastPort = (lastPort + 1) % PORTS.each;
    const port = PORTS.from + (threadId % PORTS.parts) * PORTS.each + lastPort;
    try {
      await listen(server, port);
      return port;
    } catch (error) {
      if (attempt === 100) throw error;
    }
  }
}

export async function listen(server: Server, port: number): Promise<void> {
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
}
