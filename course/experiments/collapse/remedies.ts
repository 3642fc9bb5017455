import { InFlight, withDeadline } from '../../kit/given';
import { living, newest, type Pick } from './database';

/** Asks the database for one product. Rejects where it is not asked. */
export type Query = (id: number, deadline: number) => Promise<number>;

/** One change to the naive reader: cache-aside, and a store by the reader that is still there. */
export interface Remedy {
  readonly id: string;
  readonly name: string;
  /** One line: what it changes. */
  readonly about: string;
  /** Called once: what it makes lives as long as the remedy is chosen. */
  readonly around?: (query: Query, deadlineMs: number) => Query;
  /** Which of the waiting queries is next. */
  readonly pick?: Pick;
  readonly ttlTimes?: number;
  /** A reader that has left stores the product all the same. */
  readonly fillsLate?: boolean;
  /** How often a reader asks, each time with a deadline of its own. */
  readonly tries?: number;
}

const LIMIT = 8;
const FAILURES = 5;
const OPEN_MS = 200;

export const NAIVE: Remedy = {
  id: 'naive',
  name: 'none',
  about: 'cache-aside: GET, SELECT, SET',
};

export const LIMITER: Remedy = {
  id: 'limit',
  name: 'limit and shed',
  about: `at most ${LIMIT} queries at once, the rest is refused`,
  around: limited,
};

/** In the order in which people propose them. */
export const REMEDIES: readonly Remedy[] = [
  {
    id: 'retry',
    name: 'retry',
    about: 'a reader without an answer asks again, up to three times',
    tries: 3,
  },
  {
    id: 'single-flight',
    name: 'single flight',
    about: 'one query for each product at a time',
    around: shared,
  },
  {
    id: 'breaker',
    name: 'circuit breaker',
    about: `after ${FAILURES} late answers in a row, no query for ${OPEN_MS} ms`,
    around: broken,
  },
  { id: 'long-ttl', name: 'longer TTL', about: 'entries live eight times as long', ttlTimes: 8 },
  {
    id: 'late-fill',
    name: 'late fill',
    about: 'an answer is stored, also when its reader has left',
    fillsLate: true,
  },
  { id: 'lifo', name: 'newest first (LIFO)', about: 'the newest query in the queue is next', pick: newest },
  {
    id: 'skip-dead',
    name: 'skip the dead',
    about: 'a query whose reader has left is not carried out',
    pick: living,
  },
  LIMITER,
];

function limited(query: Query): Query {
  let underWay = 0;
  return async (id, deadline) => {
    if (underWay >= LIMIT) throw new Error('refused: the database is busy');
    underWay++;
    try {
      return await query(id, deadline);
    } finally {
      underWay--;
    }
  };
}

function shared(query: Query): Query {
  const inFlight = new InFlight<number>();
  return (id, deadline) => inFlight.run(String(id), () => query(id, deadline));
}

function broken(query: Query): Query {
  let failures = 0;
  let closedAt = 0;
  let probing = false;
  return async (id, deadline) => {
    const now = performance.now();
    const isProbe = failures >= FAILURES;
    if (isProbe && (probing || now < closedAt)) throw new Error('refused: the circuit is open');
    probing = isProbe;
    try {
      const answer = await withDeadline(query(id, deadline), Math.max(0, deadline - now));
      failures = 0;
      return answer;
    } catch (error) {
      failures++;
      if (failures >= FAILURES) closedAt = performance.now() + OPEN_MS;
      throw error;
    } finally {
      if (isProbe) probing = false;
    }
  };
}
