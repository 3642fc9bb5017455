import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { explore, stepwise, type Turn } from './explore';
import type { CreatePrices } from './prices';
import type { startProxy } from './proxy';

export interface World {
  readonly db: Pool;
  readonly redis: Redis;
  /** Another connection to the same Redis: through the proxy. */
  readonly proxied: Redis;
  readonly proxy: Awaited<ReturnType<typeof startProxy>>;
  /** Another connection, whose user Redis allows everything but this command. */
  refusing(command: string): Promise<Redis>;
}
export type Test = (create: CreatePrices, world: World) => Promise<void>;
export type Tests = Readonly<Record<string, Test>>;

/** A test that hangs is red. */
const within = async <T>(ms: number, answer: Promise<T>): Promise<T> => {
  const late = sleep(ms, undefined, { ref: false }).then(() => assert.fail(`no answer within ${ms} ms`));
  return Promise.race([answer, late]);
};

/** The pool, and how many SELECTs it has sent. */
function counted(db: Pool): { db: Pool; selects: () => number } {
  let selects = 0;
  const query = (sql: string, values: unknown[]) => {
    if (sql.startsWith('SELECT')) selects++;
    return db.query(sql, values);
  };
  return { db: { query } as Pool, selects: () => selects };
}

/** Both agree, or the cache has nothing. @returns what is wrong */
export async function isStale({ redis, db }: Pick<World, 'redis' | 'db'>): Promise<string | undefined> {
  const [[row]] = (await db.query('SELECT cents FROM prices WHERE id = 1')) as unknown as [
    { cents: number }[],
  ];
  const cached = await redis.get('price:1');
  if (cached === null || cached === String(row?.cents)) return undefined;
  return `the cache says ${cached}, MySQL says ${row?.cents}`;
}

export const examples: Tests = {
  async 'a second read asks Redis only, also for 0'(create, { redis, db: pool }) {
    const { db, selects } = counted(pool);
    const prices = create({ redis, db });
    await prices.write(1, 0);
    assert.equal(await prices.read(1), 0);
    assert.equal(await prices.read(1), 0);
    assert.equal(selects(), 1);
  },
  async 'an id without a row is asked for once'(create, { redis, db: pool }) {
    const { db, selects } = counted(pool);
    const prices = create({ redis, db });
    assert.deepEqual([await prices.read(99), await prices.read(99), selects()], [null, null, 1]);
  },
  async 'each id has its own price'(create, world) {
    const prices = create(world);
    assert.notEqual(await prices.read(1), await prices.read(2));
  },
  async 'an entry lives for a minute at most'(create, { redis, db }) {
    await create({ redis, db }).read(1);
    const ttl = await redis.pttl('price:1');
    assert(ttl > 0 && ttl <= 60_000, `a TTL of ${ttl} ms`);
  },
  async 'a read after a write has the new price'(create, world) {
    const prices = create(world);
    await prices.read(1);
    await prices.write(1, 500);
    assert.equal(await prices.read(1), 500);
  },
};

// #region faults
export const faults: Tests = {
  async 'a stalled Redis makes a read a little slower'(create, { proxy, proxied, db }) {
    proxy.stall();
    assert.equal(await within(1000, create({ redis: proxied, db }).read(1)), 100);
  },
  async 'a write that has committed succeeds and tells what is pending'(create, { proxy, proxied, db }) {
    const pending: number[] = [];
    proxy.stall();
    const prices = create({ redis: proxied, db, onPending: (id) => pending.push(id) });
    await within(1000, prices.write(1, 500));
    assert.deepEqual(pending, [1]);
  },
  // #endregion
  async 'a GET that is refused is a miss'(create, { refusing, db }) {
    const prices = create({ redis: await refusing('get'), db });
    assert.equal(await prices.read(1).catch(String), 100);
  },
  async 'a fill that is refused does not fail the read'(create, { refusing, db }) {
    const prices = create({ redis: await refusing('eval'), db });
    assert.equal(await prices.read(1).catch(String), 100);
  },
  async 'a DEL that is refused does not fail the write'(create, { refusing, db }) {
    const written = create({ redis: await refusing('del'), db }).write(1, 500);
    assert.equal(await written.then(() => 'written', String), 'written');
  },
};

// #region gate
const AT_THE_FILL = /^(eval|set price:1 )/i;
const AT_THE_LEASE = /^set price:1:lease /i;

/** The reader is held before one of its commands, while a write begins and ends. */
const heldAt =
  (command: RegExp) =>
  async (create: CreatePrices, { proxy, proxied, redis, db }: World) => {
    const held = proxy.hold(command);
    const reader = create({ redis: proxied, db, deadlineMs: 5000 }).read(1);
    await within(5000, held.arrived);
    await create({ redis, db }).write(1, 500);
    held.release();
    await reader;
    assert.equal(await isStale({ redis, db }), undefined);
  };

export const gates: Tests = {
  'a fill that arrives after the write leaves no old price': heldAt(AT_THE_FILL),
  'a lease that is taken after the write leaves no old price': heldAt(AT_THE_LEASE),
};
// #endregion

// #region exploration
export function explored(create: CreatePrices, { redis, db }: World, { readers, numRuns, seed }: Explored) {
  // While an actor waits for its turn, no deadline may pass.
  const prices = (turn: Turn) =>
    create({ redis: stepwise(redis, turn), db: stepwise(db, turn), deadlineMs: 60_000 });
  const reads = readers.map((name) => [name, (turn: Turn) => prices(turn).read(1)]);
  return explore(
    { ...Object.fromEntries(reads), writer: (turn) => prices(turn).write(1, 500) },
    { prepare: () => reset({ redis, db }), verdict: () => isStale({ redis, db }), numRuns, seed },
  );
}
// #endregion

export async function reset({ redis, db }: Pick<World, 'redis' | 'db'>): Promise<void> {
  await db.query('REPLACE INTO prices VALUES (1, 100), (2, 200)');
  await redis.del(
    'price',
    'price:lease',
    ...[1, 2, 99].flatMap((id) => [`price:${id}`, `price:${id}:lease`]),
  );
}

export interface Explored {
  readonly readers: readonly string[];
  readonly numRuns: number;
  readonly seed: number;
}

export const exploration = (numRuns: number): Tests => ({
  async 'no interleaving leaves an old price'(create, world) {
    const lost = await explored(create, world, { readers: ['reader A', 'reader B'], numRuns, seed: 2026 });
    assert(!lost, `${lost?.wrong}\n${lost?.steps.join('\n')}`);
  },
});

/** A reader and a writer at the same time, or the writer a little later. Nothing decides who is first. */
export async function atOnce(
  create: CreatePrices,
  world: World,
  pauseMs: number,
): Promise<string | undefined> {
  const { db, redis, proxied } = world;
  const reader = create({ redis: proxied, db }).read(1);
  if (pauseMs > 0) await sleep(pauseMs);
  await Promise.all([reader, create({ redis, db }).write(1, 500)]);
  return isStale(world);
}
