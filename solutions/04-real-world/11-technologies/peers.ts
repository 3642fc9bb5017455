import { spawnSync } from 'node:child_process';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { PEERS, peerBinary } from '../../../course/servers/packages';
import { freePort, ServerError } from '../../../course/servers/server';
import { keep } from '../../../course/servers/supervisor';

/** A server that only this measure starts: on loopback, in a folder of its own. It dies with this process. */
export interface PeerServer {
  readonly port: number;
  close(): Promise<void>;
}

export interface PeerPlan {
  readonly name: string;
  /** Written to `<folder>/config`. */
  config?(folder: string, port: number): string;
  command(folder: string, port: number): [string, ...string[]];
}

/** "memcached 1.6.18", of those that are installed. Two of them print it to stderr. */
export const peerVersions = (): string[] =>
  PEERS.flatMap((name) => {
    const binary = peerBinary(name);
    if (!binary) return [];
    const { stdout, stderr } = spawnSync(binary, [name === 'nginx' ? '-v' : '-V'], { encoding: 'utf8' });
    return [`${name} ${/\d+(?:\.\d+)+/.exec(stdout + stderr)?.[0] ?? 'unknown'}`];
  });

const READY_WITHIN_MS = 20_000;

/** Resolves when the server accepts connections. @throws {ServerError} with the server's last words */
export async function startPeer({ name, config, command }: PeerPlan): Promise<PeerServer> {
  const port = await freePort();
  const server = keep({
    config: (folder) => config?.(folder, port) ?? '',
    command: (folder) => command(folder, port),
  });
  const deadline = Date.now() + READY_WITHIN_MS;
  while (!(await accepts(port))) {
    if (server.hasEnded()) throw new ServerError(`${name} did not start:\n${server.lastWords()}`);
    if (Date.now() > deadline) {
      await server.close();
      throw new ServerError(`${name} was not ready after ${READY_WITHIN_MS / 1000} s. Try again.`);
    }
    await sleep(10);
  }
  return { port, close: server.close };
}

const accepts = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.end());
  });

/** One connection that asks one question at a time, without a client library: the same for Redis and memcached. */
export class Line {
  readonly #socket;
  #answer: { text: string; whole(text: string): boolean; resolve(text: string): void } | undefined;

  constructor(port: number, host = '127.0.0.1') {
    this.#socket = connect(port, host).setNoDelay().setEncoding('latin1');
    this.#socket.on('data', (chunk) => {
      const answer = this.#answer;
      if (!answer) return;
      answer.text += chunk;
      if (!answer.whole(answer.text)) return;
      this.#answer = undefined;
      answer.resolve(answer.text);
    });
  }

  /** @param whole where the answer ends; by default after its first line, and after its value where it has one */
  ask(request: string, whole = isWhole): Promise<string> {
    return new Promise((resolve) => {
      this.#answer = { text: '', whole, resolve };
      this.#socket.write(request, 'latin1');
    });
  }

  close(): void {
    this.#socket.destroy();
  }
}

/** `VA <bytes> …` of memcached and `$<bytes>` of Redis announce a value. */
function isWhole(text: string): boolean {
  const [, bytes] = /^(?:VA |\$)(\d+)/.exec(text) ?? [];
  const first = text.indexOf('\r\n') + 2;
  if (first < 2) return false;
  return bytes === undefined || text.length >= first + Number(bytes) + 2;
}
