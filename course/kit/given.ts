import type { Pool, PoolConnection } from 'mysql2/promise';

/** What several labs provide beside their own `given.ts`: parts that a team has in a library of its own. */

export class DeadlineError extends Error {
  override readonly name = 'DeadlineError';

  constructor(ms: number) {
    super(`no answer within ${ms} ms`);
  }
}

/**
 * The promise, or an error after `ms`. The work itself goes on; if it fails later, nothing hears of it.
 * @throws what `late` makes, a {@link DeadlineError} by default
 */
export function withDeadline<T>(
  promise: Promise<T>,
  ms: number,
  late: () => Error = () => new DeadlineError(ms),
): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(late()), ms);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

const LONGEST_TIMER_MS = 2 ** 31 - 1;

export interface TransactionOptions {
  /** For this transaction only; else what the connection has. */
  readonly isolation?: 'READ COMMITTED' | 'REPEATABLE READ' | 'SERIALIZABLE';
  /** For all of it, from the wait for a connection to the answer of COMMIT or ROLLBACK. */
  readonly deadlineMs?: number;
}

/**
 * Runs `work` in a transaction and commits. When one of them fails, rolls back and throws that error.
 * @param options a number is `deadlineMs`. After it the connection is closed, and the server rolls back
 * @throws a {@link DeadlineError} after `deadlineMs`
 */
export async function transaction<T>(
  db: Pool,
  work: (connection: PoolConnection) => Promise<T>,
  options: TransactionOptions | number = {},
): Promise<T> {
  const { isolation, deadlineMs = LONGEST_TIMER_MS } =
    typeof options === 'number' ? { deadlineMs: options } : options;
  const end = performance.now() + deadlineMs;
  const inTime = <R>(promise: Promise<R>) =>
    withDeadline(promise, Math.max(0, end - performance.now()), () => new DeadlineError(deadlineMs));

  const opening = db.getConnection();
  const connection = await inTime(opening).catch((error: unknown) => {
    // A connection that comes too late has done nothing: the pool may keep it.
    opening.then(
      (late) => late.release(),
      () => {},
    );
    throw error;
  });
  const committed = (async () => {
    if (isolation) await connection.query(`SET TRANSACTION ISOLATION LEVEL ${isolation}`);
    await connection.beginTransaction();
    const result = await work(connection);
    await connection.commit();
    return result;
  })();
  try {
    const result = await inTime(committed);
    connection.release();
    return result;
  } catch (error) {
    // A ROLLBACK would wait behind what has not answered. The server rolls back what a closed connection leaves.
    if (error instanceof DeadlineError) connection.destroy();
    else
      await inTime(connection.rollback()).then(
        () => connection.release(),
        () => connection.destroy(),
      );
    throw error;
  }
}

/** Work under way, by key: a call that comes meanwhile gets the same promise. */
export class InFlight<T> {
  readonly #running = new Map<string, Promise<T>>();

  has(key: string): boolean {
    return this.#running.has(key);
  }

  /** What is running for `key`, else what `start` starts. Forgotten when it has settled. */
  run(key: string, start: () => Promise<T>): Promise<T> {
    const running = this.#running.get(key);
    if (running) return running;
    const started = start().finally(() => this.#running.delete(key));
    this.#running.set(key, started);
    return started;
  }
}

/**
 * The pause before try number `attempt` (0, 1, …), in ms: it doubles up to `longestMs`, and half of it is random, so that
 * processes which failed together do not come back together.
 */
export function backoffMs(
  attempt: number,
  { firstMs = 10, longestMs = 160, random = Math.random } = {},
): number {
  const longest = Math.min(firstMs * 2 ** attempt, longestMs);
  return (longest / 2) * (1 + random());
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true });

/** The value of a JSON text in UTF-8; undefined where the bytes are neither. (JSON itself has no undefined.) */
export function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(strictUtf8.decode(bytes));
  } catch {
    return undefined;
  }
}

/** `['a', '1', 'b', '2']` of a Redis hash, as a record. */
export function toRecord(flat: readonly string[]): Record<string, string> {
  const entries: [string, string][] = [];
  for (let at = 0; at + 1 < flat.length; at += 2) entries.push([flat[at] ?? '', flat[at + 1] ?? '']);
  return Object.fromEntries(entries);
}
