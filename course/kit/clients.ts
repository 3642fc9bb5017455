import { Redis } from 'ioredis';
import mysql from 'mysql2/promise';
import { perThread } from './per-thread';

/** What the kit itself asks for on the lab's connections. */
const BOOKKEEPING = new Set(['info', 'hello', 'client', 'select', 'auth', 'ping', 'subscribe', 'cluster']);

/** A request begins; the answer is told to what it returns. Texts are made when they are asked for. */
type Begin = (connection: object, text: () => string) => (answer: () => string) => void;

/** A connection comes out of a pool. */
type TakenFrom = (pool: object, connection: object) => void;

const observed = perThread('observed clients', () => ({ yet: false }));

/** Sees every request of ioredis and mysql2 from now on. Once in a thread: it changes the classes themselves. */
export function observeClients(begin: Begin, takenFrom: TakenFrom = () => {}): void {
  if (observed.yet) return;
  observed.yet = true;
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
    takenFrom(this, taken);
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
    if (!seen.has(command) && !BOOKKEEPING.has(command.name)) {
      seen.add(command);
      const { name, args, resolve, reject } = command;
      const answered = begin(this, () => short(`${name.toUpperCase()} ${args.map(String).join(' ')}`, 100));
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

function sqlText([query, values]: readonly unknown[]): string {
  const { sql = query, values: own = values } = Object(query);
  const text = Array.isArray(own) ? mysql.format(String(sql), own) : String(sql);
  return short(text.replace(/\s+/g, ' ').trim(), 100);
}

/** On one line of a terminal: no byte of a value may move the cursor. */
function short(text: string, length: number): string {
  const line = text.replace(/\p{Cc}/gu, (byte) => `\\x${byte.charCodeAt(0).toString(16).padStart(2, '0')}`);
  return line.length > length ? `${line.slice(0, length - 1)}…` : line;
}

const bytesAsText = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(bytesAsText);
  return Buffer.isBuffer(value) ? value.toString() : value;
};

function redisAnswer(value: unknown): string {
  if (value === null) return 'nil';
  if (Array.isArray(value)) return short(JSON.stringify(value.map(bytesAsText)), 40);
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
