import { connect, createServer, type Socket } from 'node:net';

/** A TCP proxy on loopback that can do to its connections what a network does. */
export async function startProxy(target: URL) {
  const sockets = new Set<Socket>();
  let open = Promise.resolve();
  let resume = () => {};
  let release = () => {};
  let gate: { pattern: RegExp; arrive: () => void; opening: Promise<void> } | undefined;

  // #region link
  const server = createServer((client) => {
    const upstream = connect(Number(target.port), target.hostname);
    let sent = Promise.resolve();
    client.on('data', (bytes) => {
      // A queue: a command that is held holds all that come behind it on this connection.
      sent = sent.then(async () => {
        await waitAtGate(textOf(bytes));
        await open;
        upstream.write(bytes);
      });
    });
    upstream.on('data', (bytes) => open.then(() => client.write(bytes)));
    // #endregion
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('error', () => {});
      socket.once('close', () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
  });
  async function waitAtGate(text: string): Promise<void> {
    if (!gate?.pattern.test(text)) return;
    const { arrive, opening } = gate;
    // A gate holds one command.
    gate = undefined;
    arrive();
    await opening;
  }
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };

  const port = await new Promise<number>((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port));
  });
  const url = new URL(target);
  url.host = `127.0.0.1:${port}`;
  return {
    url: url.href,
    // #region faults
    /** Connections stay open, and nothing moves. */
    stall(): void {
      open = new Promise((resolve) => {
        resume = resolve;
      });
    },
    heal(): void {
      resume();
      release();
      gate = undefined;
    },
    /** Holds the next command that matches, before the server has seen it. */
    hold(pattern: RegExp): { arrived: Promise<void>; release: () => void } {
      const opening = new Promise<void>((resolve) => {
        release = resolve;
      });
      const arrived = new Promise<void>((arrive) => {
        gate = { pattern, arrive, opening };
      });
      return { arrived, release: () => release() };
    },
    // #endregion
    cut,
    close(): void {
      server.close();
      cut();
    },
  };
}

/** "set price:1 5": a short command arrives in one piece. Longer ones need a parser that waits for the rest. */
const textOf = (bytes: Buffer): string =>
  bytes
    .toString()
    .replace(/[*$]\d+\r\n/g, '')
    .replaceAll('\r\n', ' ');
