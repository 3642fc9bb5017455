import { Redis } from 'ioredis';
import mysql from 'mysql2/promise';

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

const KEPT = 12;
const ring: Request[] = [];
const names = new WeakMap<object, string>();
/** What the kit itself asks for on the lab's connections. */
const BOOKKEEPING = /^(info|hello|client|select|auth|subscribe)$/i;

export const clearRequests = (): void => void ring.splice(0);

/** Names the one behind a connection or a pool: `reader`. An empty name leaves its requests out. */
export const nameRequests = (connection: object, name: string): void => void names.set(connection, name);

/** `reader     GET product:1 → nil`, oldest first. */
export function lastRequests(): string[] {
  const rows = ring.map((request) => ({ by: nameOf(request), request }));
  const width = Math.max(0, ...rows.map(({ by }) => by.length));
  return rows.map(
    ({ by, request }) => `${by.padEnd(width)}  ${request.text()} → ${request.answer?.() ?? 'no answer yet'}`,
  );
}

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
  record((_, text) => {
    const id = ++last;
    tell({ request: id, text: text() });
    return (answer) => tell({ answered: id, answer: answer() });
  });
}

/** In the process of the tests. */
export function recordRequests(): void {
  record((connection, text) => {
    const name = names.get(connection);
    if (name === '') return () => {};
    const request = keep({ by: name ?? here(), text });
    return (answer) => {
      request.answer = answer;
    };
  });
}

type Begin = (connection: object, text: () => string) => (answer: () => string) => void;

/** Once in a process: the libraries are the same for every test file in it. */
function record(begin: Begin): void {
  if (names.has(Redis)) return;
  names.set(Redis, 'recorded');
  recordRedis(begin);
  const pool = prototypeOf('PromisePool');
  const connection = prototypeOf('PromiseConnection');
  for (const method of ['query', 'execute']) {
    recordMysql(begin, pool, method, sqlText);
    recordMysql(begin, connection, method, sqlText);
  }
  recordMysql(begin, connection, 'beginTransaction', () => 'START TRANSACTION');
  recordMysql(begin, connection, 'commit', () => 'COMMIT');
  recordMysql(begin, connection, 'rollback', () => 'ROLLBACK');
  const getConnection = Reflect.get(pool, 'getConnection');
  Reflect.set(pool, 'getConnection', async function (this: object) {
    const taken: object = await Reflect.apply(getConnection, this, []);
    const name = names.get(this);
    if (name !== undefined) names.set(taken, name);
    return taken;
  });
}

/** mysql2 exports its classes and does not declare them. */
const prototypeOf = (name: string): object => Reflect.get(mysql, name).prototype;

function recordRedis(begin: Begin): void {
  const { sendCommand } = Redis.prototype;
  const seen = new WeakSet<object>();
  Redis.prototype.sendCommand = function (this: Redis, command, stream) {
    // A command that waited for the connection comes here twice.
    if (!seen.has(command) && !BOOKKEEPING.test(command.name)) {
      seen.add(command);
      const { name, args, resolve, reject } = command;
      const answered = begin(this, () => short(`${name.toUpperCase()} ${args.map(String).join(' ')}`, 60));
      // Not by then(): it would make a rejection handled that nobody has handled.
      command.resolve = (value) => {
        answered(() => redisAnswer(value));
        resolve(value);
      };
      command.reject = (error) => {
        answered(() => short(error.message, 40));
        reject(error);
      };
    }
    return Reflect.apply(sendCommand, this, [command, stream]);
  };
}

function recordMysql(
  begin: Begin,
  prototype: object,
  method: string,
  text: (args: readonly unknown[]) => string,
): void {
  const original: (...args: unknown[]) => Promise<unknown> = Reflect.get(prototype, method);
  Reflect.set(prototype, method, function (this: object, ...args: unknown[]) {
    const answered = begin(this, () => text(args));
    return Reflect.apply(original, this, args).then(
      (value: unknown) => {
        answered(() => mysqlAnswer(value));
        return value;
      },
      (error: unknown) => {
        answered(() => short(error instanceof Error ? error.message : String(error), 40));
        throw error;
      },
    );
  });
}

/** Few frames: the caller is near. */
function here(): Error {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 10;
  const stack = new Error();
  Error.stackTraceLimit = stackTraceLimit;
  return stack;
}

function nameOf({ by }: Request): string {
  if (typeof by === 'string') return by;
  const caller = by.stack?.split('\n').find((row) => /\/(labs|solutions|subjects)\//.test(row)) ?? '';
  return /\.test\.ts/.test(caller) ? 'test' : 'your code';
}

function sqlText([query, values]: readonly unknown[]): string {
  const { sql = query, values: own = values } = Object(query);
  const text = Array.isArray(own) ? mysql.format(String(sql), own) : String(sql);
  return short(text.replace(/\s+/g, ' ').trim(), 60);
}

const short = (text: string, length: number): string =>
  text.length > length ? `${text.slice(0, length - 1)}…` : text;

function redisAnswer(value: unknown): string {
  if (value === null) return 'nil';
  if (Array.isArray(value)) return short(JSON.stringify(value), 40);
  return short(String(value), 40);
}

function mysqlAnswer(answer: unknown): string {
  const [result] = Array.isArray(answer) ? answer : [undefined];
  if (Array.isArray(result)) {
    const first = result.length === 1 ? `: ${Object.values(Object(result[0])).join(', ')}` : '';
    return short(`${result.length} row${result.length === 1 ? '' : 's'}${first}`, 40);
  }
  const { affectedRows } = Object(result);
  return affectedRows > 0 ? `${affectedRows} row${affectedRows === 1 ? '' : 's'} matched` : 'OK';
}
