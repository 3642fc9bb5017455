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

/**
 * Runs `work` in a transaction and commits. When one of them fails, rolls back and throws that error.
 * @param deadlineMs for all of it; then the connection is closed, the server rolls back, and a {@link DeadlineError} is thrown
 */
export async function transaction<T>(
  db: Pool,
  work: (connection: PoolConnection) => Promise<T>,
  deadlineMs = 2 ** 31 - 1,
): Promise<T> {
  const connection = await db.getConnection();
  const committed = (async () => {
    await connection.beginTransaction();
    const result = await work(connection);
    await connection.commit();
    return result;
  })();
  try {
    const result = await withDeadline(committed, deadlineMs);
    connection.release();
    return result;
  } catch (error) {
    // A ROLLBACK would wait behind what has not answered. The server rolls back what a closed connection leaves.
    if (error instanceof DeadlineError) connection.destroy();
    else await rollBack(connection);
    throw error;
  }
}

/** A connection that cannot roll back is closed: the server rolls back then. */
const rollBack = (connection: PoolConnection): Promise<void> =>
  connection.rollback().then(
    () => connection.release(),
    () => connection.destroy(),
  );

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
