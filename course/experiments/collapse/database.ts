import type { Pool } from 'mysql2/promise';

/** A query that waits for a connection. */
export interface Waiting {
  readonly id: number;
  /** When its reader leaves (ms, by performance.now). */
  readonly deadline: number;
}

/** Takes the next one out of the queue; undefined where none is left. */
export type Pick = <Query extends Waiting>(queue: Query[]) => Query | undefined;

export const oldest: Pick = (queue) => queue.shift();
export const newest: Pick = (queue) => queue.pop();

/** The oldest whose reader is still there. */
export const living: Pick = (queue) => {
  const now = performance.now();
  for (let next = queue.shift(); next; next = queue.shift()) if (next.deadline > now) return next;
  return undefined;
};

/** Ten seconds of work for 200 queries a second: a bound of memory, and no help against the collapse. */
const QUEUE_AT_MOST = 2000;

interface Queued extends Waiting {
  readonly resolve: (id: number) => void;
  readonly reject: (error: unknown) => void;
}

export interface DatabaseOptions {
  readonly connections?: number;
  /** How long each query takes. */
  readonly queryMs?: number;
}

/**
 * A database of bounded capacity: real connections to a real MySQL, each query sleeps there. A query that has been asked
 * for is carried out, also when its reader has left, as a pool of mysql2 does it.
 */
export class Database {
  pick: Pick = oldest;
  /** Queries that were asked for, those included that found the queue full. */
  asked = 0;
  /** Queries that have ended. */
  served = 0;
  /** Those of them whose reader had left. */
  wasted = 0;
  busy = 0;
  readonly connections: number;
  readonly #pool: Pool;
  readonly #sql: string;
  readonly #queue: Queued[] = [];

  constructor(pool: Pool, { connections = 4, queryMs = 20 }: DatabaseOptions = {}) {
    this.#pool = pool;
    this.connections = connections;
    this.#sql = `SELECT SLEEP(${queryMs / 1000})`;
  }

  get queued(): number {
    return this.#queue.length;
  }

  /** @param deadline when the reader leaves; the query is carried out all the same */
  query(id: number, deadline = Number.POSITIVE_INFINITY): Promise<number> {
    this.asked++;
    if (this.#queue.length >= QUEUE_AT_MOST) return Promise.reject(new Error('the queue is full'));
    return new Promise((resolve, reject) => {
      this.#queue.push({ id, deadline, resolve, reject });
      this.#work();
    });
  }

  /** The queries that wait are gone, as when the process is started again. */
  forget(): void {
    for (const { reject } of this.#queue.splice(0)) reject(new Error('the process was started again'));
  }

  #work(): void {
    while (this.busy < this.connections) {
      const next = this.pick(this.#queue);
      if (!next) return;
      this.busy++;
      this.#run(next).finally(() => {
        this.busy--;
        this.#work();
      });
    }
  }

  async #run({ id, deadline, resolve, reject }: Queued): Promise<void> {
    try {
      await this.#pool.query(this.#sql);
      this.served++;
      if (performance.now() > deadline) this.wasted++;
      resolve(id);
    } catch (error) {
      reject(error);
    }
  }
}
