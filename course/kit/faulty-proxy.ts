import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { frameReader } from './frames';
import { type Gate, HeldGate, signal } from './gate';
import { listen, listenSomewhere } from './ports';
import type { FrameReader } from './splitter';

/** A loopback TCP proxy before a real server, and what can go wrong between the two. */
export interface FaultyProxy {
  /** The server's URL with the proxy's address. */
  readonly url: string;
  /** Nobody listens: open connections end, new ones are refused. */
  refuse(): Promise<void>;
  /** Ends the open connections once; new ones work. */
  cut(): void;
  /** Each answer takes this much longer (ms). */
  delay(ms: number): void;
  /** Connections stay open and nothing moves; `heal` delivers what was held. */
  stall(): void;
  /** Connections stay open and every byte is lost; `heal` ends them. */
  blackHole(): void;
  heal(): Promise<void>;
  /** The next request whose text matches waits at a gate: `proxy.hold(/^set user:1 /i)`, `proxy.hold(/FROM users/i)`. */
  hold(pattern: RegExp): Gate;
  /** Each request waits for `pass`, and those behind it for its answer too; with no `pass`, nothing waits any more. */
  schedule(pass?: (request: string) => Promise<void>): void;
  close(): Promise<void>;
}

type Fault = 'none' | 'stall' | 'blackHole';

/** A proxy to the server at `url` (`redis:` or `mysql:`). Its opener closes it. */
export async function startProxy(url: string): Promise<FaultyProxy> {
  const target = new URL(url);
  const links = new Set<Link>();
  const gates: HeldGate[] = [];
  const state: ProxyState = { fault: 'none', delayMs: 0, gates, pass: undefined };

  const server = createServer((client) => {
    const link = new Link(client, target, state);
    links.add(link);
    client.once('close', () => links.delete(link));
  });
  const port = await listenSomewhere(server);
  const proxied = new URL(url);
  proxied.host = `127.0.0.1:${port}`;

  const cut = () => {
    for (const link of links) link.end();
    links.clear();
  };
  const refuse = async () => {
    if (!server.listening) return;
    const closed = new Promise((resolve) => server.close(resolve));
    cut();
    await closed;
  };
  const proxy: FaultyProxy = {
    url: proxied.href,
    refuse,
    cut,
    delay(ms) {
      state.delayMs = ms;
    },
    stall() {
      state.fault = 'stall';
    },
    blackHole() {
      state.fault = 'blackHole';
    },
    async heal() {
      const lost = state.fault === 'blackHole';
      state.fault = 'none';
      state.delayMs = 0;
      if (lost) cut();
      for (const link of links) link.resume();
      if (!server.listening) await listen(server, port);
    },
    hold(pattern) {
      const gate = new HeldGate(pattern);
      gates.push(gate);
      return gate;
    },
    schedule(pass) {
      state.pass = pass;
    },
    async close() {
      state.pass = undefined;
      for (const gate of gates) gate.release();
      await refuse();
    },
  };
  return proxy;
}

interface ProxyState {
  fault: Fault;
  delayMs: number;
  readonly gates: readonly HeldGate[];
  pass: ((request: string) => Promise<void>) | undefined;
}

/** A request that waits for a lock of the server is answered later: what comes behind it need not wait as long. */
const ANSWERED_WITHIN_MS = 25;

/** One proxied connection. */
class Link {
  readonly #client: Socket;
  readonly #server: Socket;
  readonly #reader: FrameReader;
  readonly #state: ProxyState;
  /** Each direction is a queue: what is held holds what comes behind it. */
  #toServer = Promise.resolve();
  #toClient = Promise.resolve();
  #resumed = signal();
  #answered = signal();

  constructor(client: Socket, target: URL, state: ProxyState) {
    this.#client = client;
    this.#state = state;
    this.#reader = frameReader(target.protocol);
    this.#server = connect({
      host: target.hostname,
      port: Number(target.port || defaultPort(target)),
      noDelay: true,
    });
    client.setNoDelay(true);
    for (const socket of [client, this.#server]) {
      socket.on('error', () => {});
      socket.once('close', () => this.end());
    }
    client.on('data', (chunk) => {
      for (const frame of this.#reader.read(chunk)) {
        const gate = state.gates.find((each) => each.takes(frame.text));
        this.#toServer = this.#toServer.then(async () => {
          await gate?.pass();
          const scheduled = frame.text !== '' && state.pass;
          if (scheduled) await scheduled(frame.text);
          const answer = this.#answered.promise;
          await this.#deliver(this.#server, frame.bytes);
          if (scheduled) await Promise.race([answer, sleep(ANSWERED_WITHIN_MS)]);
        });
      }
    });
    this.#server.on('data', (chunk) => {
      this.#reader.answered?.(chunk);
      this.#answered.fire();
      this.#answered = signal();
      const due = Date.now() + state.delayMs;
      this.#toClient = this.#toClient.then(async () => {
        const wait = due - Date.now();
        if (wait > 0) await sleep(wait);
        await this.#deliver(client, chunk);
      });
    });
  }

  async #deliver(to: Socket, bytes: Buffer): Promise<void> {
    while (this.#state.fault === 'stall') await this.#resumed.promise;
    if (this.#state.fault === 'blackHole' || to.destroyed) return;
    to.write(bytes);
  }

  resume(): void {
    this.#resumed.fire();
    this.#resumed = signal();
  }

  end(): void {
    this.#client.destroy();
    this.#server.destroy();
    this.resume();
  }
}

const defaultPort = (url: URL) => (url.protocol.startsWith('redis') ? 6379 : 3306);
