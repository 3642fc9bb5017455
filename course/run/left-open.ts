import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { Server, type Socket } from 'node:net';
import type { Worker } from 'node:worker_threads';
import { callers, filesOf } from '../base/callers';

/** Something that keeps a process alive until it is closed, and the test in which it was opened. */
interface Opened {
  /** `timer|timers` */
  readonly what: string;
  readonly test: string | undefined;
  isOpen(): boolean;
}

/** A timer that ends this soon is waited for: what it throws is thrown while the run can still see it. */
const SOON_MS = 250;

/** Watches what code under test opens in this thread. */
export function watchOpen() {
  const opened: Opened[] = [];
  let test: string | undefined;
  const add = (what: string, isOpen: () => boolean) => opened.push({ what, test, isOpen });
  const forget = [watchSockets(add), watchWorkers(add), watchServers(add), watchTimers(add)];
  const stillOpen = () => opened.filter(({ isOpen }) => isOpen());
  return {
    testBegins(name: string): void {
      test = name;
    },
    /** Gives what is about to close the time to do so. */
    async closing(): Promise<void> {
      for (let turn = 0; stillOpen().length > 0 && turn < SOON_MS / 5; turn++) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    },
    /** @returns what nobody closed, in words; the first of each kind names the test that opened it */
    end(): string[] {
      for (const stop of forget) stop();
      return [...byKind(stillOpen()).values()].map(inWords);
    },
  };
}

type Add = (what: string, isOpen: () => boolean) => void;

function byKind(left: readonly Opened[]): Map<string, Opened[]> {
  const kinds = new Map<string, Opened[]>();
  for (const item of left) kinds.set(item.what, [...(kinds.get(item.what) ?? []), item]);
  return kinds;
}

function inWords([first, ...others]: readonly Opened[]): string {
  if (!first) return '';
  const count = others.length + 1;
  const [one = '', several = ''] = first.what.split('|');
  const what = count === 1 ? `1 ${one}` : `${count} ${several}`;
  return first.test === undefined
    ? `${what}, opened while the file was loaded`
    : `${what}, first in the test "${first.test}"`;
}

function watchSockets(add: Add): () => void {
  const opened = (message: unknown) => {
    const { socket } = message as { socket: Socket };
    add('connection to a server|connections to a server', () => !socket.destroyed);
  };
  subscribe('net.client.socket', opened);
  return () => unsubscribe('net.client.socket', opened);
}

function watchWorkers(add: Add): () => void {
  const opened = (message: unknown) => {
    const { worker } = message as { worker: Worker };
    let running = true;
    worker.once('exit', () => {
      running = false;
    });
    add('worker thread|worker threads', () => running);
  };
  subscribe('worker_threads', opened);
  return () => unsubscribe('worker_threads', opened);
}

function watchServers(add: Add): () => void {
  const { listen } = Server.prototype;
  Server.prototype.listen = function (this: Server, ...args: unknown[]) {
    if (!this.listening) add('server that listens|servers that listen', () => this.listening);
    return Reflect.apply(listen, this, args);
  };
  return () => {
    Server.prototype.listen = listen;
  };
}

/** Those of the code under test: libraries have timers of their own, which end with their connections. */
function watchTimers(add: Add): () => void {
  const { setInterval: realSetInterval, setTimeout: realSetTimeout } = globalThis;
  const watched =
    <Args extends unknown[]>(what: string, real: (...args: Args) => NodeJS.Timeout) =>
    (...args: Args): NodeJS.Timeout => {
      const timer = real(...args);
      if (isOurs()) add(what, () => timer.hasRef() && isPending(timer));
      return timer;
    };
  globalThis.setInterval = watched(
    'setInterval timer|setInterval timers',
    realSetInterval,
  ) as typeof setInterval;
  globalThis.setTimeout = watched(
    'setTimeout timer|setTimeout timers',
    realSetTimeout,
  ) as unknown as typeof setTimeout;
  return () => {
    globalThis.setInterval = realSetInterval;
    globalThis.setTimeout = realSetTimeout;
  };
}

/** Whether the caller of a timer function is a file of a lab or a solution. */
function isOurs(): boolean {
  // callers, isOurs, the watched function, and who calls it.
  const caller = filesOf(callers(4))[3] ?? '';
  return /\/(labs|solutions|subjects)\//.test(caller) && !/\.test\.ts/.test(caller);
}

/** Node keeps the mark on a timer that has fired or was cleared. */
const isPending = (timer: NodeJS.Timeout): boolean => !Reflect.get(timer, '_destroyed');
