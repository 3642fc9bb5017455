import { callers, filesOf } from '../base/callers';
import { observeClients } from './clients';
import { perThread } from './per-thread';

/**
 * The last requests of the running test and their answers, for the screen of a test that failed. What is recorded
 * costs little: texts are made when they are asked for.
 */
interface Request {
  /** A name, or the stack at the time of the call, which tells the test's requests from the lab's. */
  readonly by: string | Error;
  readonly text: () => string;
  answer?: () => string;
}

/** What another process says of its requests: JSON. */
export type Told =
  | { readonly request: number; readonly text: string }
  | { readonly answered: number; readonly answer: string };

/** Many more than are shown: what is repeated, as a test does that waits for something, will be one row. */
const KEPT = 1_000;
const { ring, names } = perThread('requests', () => ({
  ring: [] as Request[],
  names: new WeakMap<object, string>(),
}));

export const clearRequests = (): void => void ring.splice(0);

/** Names the one behind a connection or a pool: `reader`. An empty name leaves its requests out. */
export const nameRequests = (connection: object, name: string): void => void names.set(connection, name);

/** One of the last requests, in words. */
export interface Sent {
  /** `test`, `your code`, or the name of an actor or a process; empty where nothing tells. */
  readonly by: string;
  /** `GET product:1` */
  readonly text: string;
  readonly answer: string;
}

/** Oldest first. */
export const lastRequests = (): Sent[] =>
  ring.map((request) => ({
    by: nameOf(request),
    text: request.text(),
    answer: request.answer?.() ?? 'no answer yet',
  }));

function keep(request: Request): Request {
  ring.push(request);
  if (ring.length > KEPT) ring.shift();
  return request;
}

/** Takes up what the process `name` tells of its requests. */
export function requestsOf(name: string): (told: Told) => void {
  const open = new Map<number, Request>();
  return (told) => {
    if ('request' in told) {
      open.set(told.request, keep({ by: name, text: () => told.text }));
    } else {
      const request = open.get(told.answered);
      if (request) request.answer = () => told.answer;
      open.delete(told.answered);
    }
  };
}

/** In a process that a test has started: each request is told at once, because the process may be killed. */
export function tellRequests(tell: (told: Told) => void): void {
  let last = 0;
  observeClients((_, text) => {
    const id = ++last;
    tell({ request: id, text: text() });
    return (answer) => tell({ answered: id, answer: answer() });
  });
}

/** In the process of the tests. */
export function recordRequests(): void {
  observeClients((connection, text) => {
    const name = names.get(connection);
    if (name === '') return () => {};
    const request = keep({ by: name ?? here(), text });
    return (answer) => {
      request.answer = answer;
    };
  }, sameName);
}

function sameName(pool: object, connection: object): void {
  const name = names.get(pool);
  if (name !== undefined) names.set(connection, name);
}

/** Stacks taken in this turn of the event loop, and the last of them. */
let taken = 0;
let last = new Error();

/** Few frames: the caller is near. Of a burst, such as ten thousand increments at once, the first few tell for all. */
function here(): Error {
  if (taken === 0) setImmediate(forgetTaken);
  // The frames of the client library, and the caller. More would be those of awaiting callers, at ten times the price.
  if (taken++ < 4) last = callers(7);
  return last;
}

function forgetTaken(): void {
  taken = 0;
}

/** Empty for a request that a library sent in a turn of its own, as some pipelines are. */
function nameOf({ by }: Request): string {
  if (typeof by === 'string') return by;
  const caller = filesOf(by).find((file) => /\/(labs|solutions|subjects)\//.test(file));
  if (!caller) return '';
  return /\.test\.ts/.test(caller) ? 'test' : 'your code';
}
