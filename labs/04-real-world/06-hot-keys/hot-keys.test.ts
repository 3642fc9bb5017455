import { setTimeout as sleep } from 'node:timers/promises';
import type { Cluster, ClusterOptions } from 'ioredis';
import { describe, expect, onTestFinished, test } from 'vitest';
import { fakeClock } from '#kit/clock';
import { useCluster } from '#kit/cluster';
import { usedMb } from '#kit/effort';
import { timed } from '#kit/lateness';
import { countedLoad, heldLoad } from '#kit/loads';
import type { FaultyProxy } from '#kit/proxy';
import { seeded } from '#kit/random';
import { outcome, rejectionOf, until } from '#kit/waiting';
import { baseKey, type SlotMap, slotMapOf, TTL_MS } from './given';
import { copyKeys, createDetector, createHotCache, type Options } from './hot-keys';

const cluster = useCluster();

/** Long enough for every answer on a busy machine. */
const PATIENT_MS = 5000;
const DEADLINE_MS = 200;
/** Longer than any test. */
const LONG_MS = 30_000;
const KEY = 'celebrity';
const OLD = Buffer.from('old \xff\xfe\x00', 'latin1');
const NEW = Buffer.from('new');
const times = (count: number) => Array.from({ length: count }, (_, at) => at);

describe('Core', () => {
  test('a key with a counter of its own is counted exactly, and is hot from hotReads reads on', () => {
    const detector = createDetector({ counters: 3, hotReads: 3 });
    const hot = () => ['a', 'b', 'c'].filter((key) => detector.isHot(key));
    for (const key of ['a', 'b', 'a', 'c', 'b']) detector.record(key);
    expect(hot(), 'hot keys after two reads of a and b, with hotReads 3').toEqual([]);
    detector.record('b');
    expect(hot(), 'hot keys after the third read of b').toEqual(['b']);
    expect(detector.isHot('d'), 'd, which was never read, is hot').toBe(false);
    expect(detector.top(2), 'the top 2 of a, b, a, c, b, b').toEqual([
      { key: 'b', count: 3, error: 0 },
      { key: 'a', count: 2, error: 0 },
    ]);
  });

  test('the top keys of a long stream are found, in memory for the counters alone', () => {
    const detector = createDetector({ counters: 100, hotReads: 1000, windowMs: 3_600_000 });
    const truth = new Map<string, number>();
    for (const key of skewedReads(30_000, 5000)) {
      detector.record(key);
      truth.set(key, (truth.get(key) ?? 0) + 1);
    }
    const read = (key: string) => truth.get(key) ?? 0;
    const top = [...truth].sort(([, a], [, b]) => b - a).map(([key]) => key);
    expect(
      detector.top(5).map(({ key }) => key),
      'top 5 of 30,000 reads of 5,000 keys, with 100 counters',
    ).toEqual(top.slice(0, 5));
    const wrong = detector
      .top(100)
      .filter(({ key, count, error }) => read(key) > count || read(key) < count - error)
      .map((counted) => ({ ...counted, read: read(counted.key) }));
    expect(wrong, 'counters whose key was read more often than count, or less than count - error').toEqual(
      [],
    );
    const before = usedMb();
    for (const at of times(20_000)) detector.record(`${at}`.padEnd(500, 'x'));
    expect(detector.top(1000).length, 'keys that are kept, with 100 counters').toBeLessThanOrEqual(100);
    expect(usedMb() - before, 'MB kept after 20,000 keys of 500 characters').toBeLessThan(5);
    detector.record('last');
  });

  test('a hot key gets one copy on every master, under the same names at each call', async () => {
    const map = await slotMapOf(cluster.connect());
    const keys = [...times(40).map((id) => `product ${id}`), 'a{b}c', '}{', '', 'ä'];
    const names: string[] = [];
    for (const key of keys) {
      const copies = copyKeys(key, map);
      const slots = await Promise.all(copies.map((copy) => cluster.slotOf(copy)));
      expect(
        slots.map(cluster.homeOf).sort(),
        `masters of the copies of "${key}": a copy beside another one spreads nothing`,
      ).toEqual([0, 1, 2]);
      expect(
        copyKeys(key, map).toSorted(),
        `names of the copies of "${key}", asked for again: another process has to find them`,
      ).toEqual(copies.toSorted());
      names.push(baseKey(key), ...copies);
    }
    expect(new Set(names).size, `different names of ${keys.length} base keys with three copies each`).toBe(
      4 * keys.length,
    );
  });

  test('a cold key is loaded once, and stays a single entry', async () => {
    const detector = hotFrom(100);
    const { cache } = await open({ detector });
    const source = countedLoad(OLD);
    const failure = new Error('MySQL is away');
    expect(
      await rejectionOf(() => cache.get(KEY, () => Promise.reject(failure))),
      'a read whose load fails',
    ).toBe(failure);
    for (const _ of times(5)) {
      expect(await outcome(cache.get(KEY, source.load)), 'value of the key, after that').toEqual(OLD);
    }
    expect(source.loads, 'loads for 5 reads').toBe(1);
    expect(detector.reads, 'calls of `record` for 6 reads').toBe(6);
    await until(async () => (await entries()).length > 0);
    expect(await entries(), 'entries on the three masters').toEqual([{ name: baseKey(KEY), value: 'old' }]);
    const ttl = Number(await cluster.nodes[await homeOfBase()]?.pttl(baseKey(KEY)));
    expect(ttl, 'ms that the entry has to live').toBeGreaterThan(TTL_MS - 5000);
    expect(ttl, 'ms that the entry has to live').toBeLessThanOrEqual(TTL_MS);
    await cluster.nodes[await homeOfBase()]?.del(baseKey(KEY));
    expect(
      await cache.get(KEY, async () => NEW),
      'value of the key after another process has deleted the entry',
    ).toEqual(NEW);
  });

  test('reads of a hot key are spread over all masters, after one load', async () => {
    const { client, cache } = await open({ detector: hotFrom(3) });
    const source = countedLoad(OLD);
    for (const _ of times(3)) await cache.get(KEY, source.load);
    await filled(() => cache.get(KEY, source.load));
    for (const node of cluster.nodes) await node.config('RESETSTAT');
    const processes = times(120).map(() => createCache(client, { detector: hotFrom(0) }));
    const values = processes.map(async (process) => {
      for (const _ of times(3)) expect(await process.get(KEY, source.load), 'value of the key').toEqual(OLD);
    });
    await Promise.all(values);
    const hits = await Promise.all(
      cluster.nodes.map(async (node) => Number(/^keyspace_hits:(\d+)/m.exec(await node.info('stats'))?.[1])),
    );
    const shares = hits.map((hit) => hit / hits.reduce((sum, other) => sum + other));
    const told = `reads that each master has answered: ${hits}.`;
    expect(Math.min(...shares), `${told} The smallest share`).toBeGreaterThan(0.14);
    expect(Math.max(...shares), `${told} The greatest share`).toBeLessThan(0.53);
    expect(source.loads, 'loads for all reads').toBe(1);
  });

  test('an invalidation deletes the base key and every copy, and rejects unless each is confirmed', async () => {
    const { cache } = await open();
    await filled(() => cache.get(KEY, async () => OLD));
    await cache.invalidate(KEY);
    expect(await entries(), 'entries that are left of a hot key').toEqual([]);
    expect(await cache.get(KEY, async () => NEW), 'the next read').toEqual(NEW);
    await filled(() => cache.get(KEY, async () => NEW));
    const [home, other] = [await homeOfBase(), ((await homeOfBase()) + 1) % 3];
    await cluster.refuseWrites(other);
    expect(
      await rejectionOf(() => cache.invalidate(KEY)),
      `a master refuses to delete one copy, and the base key is on another (${home}): the invalidation must reject`,
    ).toBeInstanceOf(Error);
  });
});

describe('In production', () => {
  test('a key that takes over a counter is not hot by the reads of others', () => {
    const detector = createDetector({ counters: 50, hotReads: 20 });
    const hot: string[] = [];
    for (const at of times(4000)) {
      // It comes late: it has to take over a counter too.
      if (at >= 100 && at % 10 === 0) detector.record(KEY);
      for (const key of [`page ${at}`, `page ${(at * 7) % 4000}`]) {
        detector.record(key);
        if (detector.isHot(key)) hot.push(key);
      }
    }
    expect(hot.length, 'keys that are hot, of 4,000 pages that a crawler reads twice, with hotReads 20').toBe(
      0,
    );
    expect(detector.isHot(KEY), 'a key that takes over a counter, and has 390 reads of its own, is hot').toBe(
      true,
    );
  });

  test('a key stays hot while it is read, and cools down when it is not', () => {
    const clock = fakeClock(7_000_123);
    const detector = createDetector({ counters: 20, hotReads: 100, windowMs: 1000, now: clock.now });
    // The counters are taken: the key begins with an error of 500.
    for (const at of times(20 * 500)) detector.record(`yesterday ${at % 20}`);
    for (const _ of times(4000)) detector.record(KEY);
    let cold = 0;
    for (const _ of times(1500)) {
      clock.advance(4);
      detector.record(KEY);
      if (!detector.isHot(KEY)) cold++;
    }
    expect(cold, 'moments at which a key with 250 reads in each window is not hot, with hotReads 100').toBe(
      0,
    );
    for (const at of times(20 * 50)) {
      clock.advance(20);
      detector.record(`other ${at % 10}`);
    }
    expect(detector.isHot(KEY), 'the key is hot after 20 windows without a read of it').toBe(false);
    const top = detector.top(10).map(({ key }) => key);
    expect(top, 'the top 10 after 20 windows without a read of the key').not.toContain(KEY);
    expect(top.length, 'keys in the top 10, after 100 reads of each of 10 keys').toBe(10);
  });

  test('a master with hardly a slot does not keep the search busy', async () => {
    const full = (slot: number) => (slot < 8000 ? 'a:1' : 'b:1');
    const maps: Record<string, { masters: string[]; ownerOf: SlotMap['ownerOf']; copies: number }> = {
      'a third master has one slot': {
        masters: ['a:1', 'b:1', 'c:1'],
        ownerOf: (slot) => (slot === 16_000 ? 'c:1' : full(slot)),
        copies: 2,
      },
      'a third master has none': { masters: ['a:1', 'b:1', 'c:1'], ownerOf: full, copies: 2 },
      'no slot has a master': { masters: ['a:1'], ownerOf: () => undefined, copies: 0 },
    };
    for (const [scene, { masters, ownerOf, copies }] of Object.entries(maps)) {
      for (const id of times(10)) {
        let looked = 0;
        const ask = (slot: number) => {
          if (++looked > 2000) throw new Error('this search goes on and on');
          return ownerOf(slot);
        };
        const found = await rejectionOf(() => copyKeys(`product ${id}`, { masters, ownerOf: ask }).length);
        expect(looked > 2000 ? 'none after 2,000 slots' : found, `copies of a key, where ${scene}`).toBe(
          copies,
        );
      }
    }
  });

  test('a hundred readers of a hot key that is not cached share one load', async () => {
    const { client, cache } = await open();
    const source = heldLoad(OLD);
    const reads = times(100).map(() => cache.get(KEY, source.load));
    await source.begun;
    await allSent(client);
    source.end();
    expect(await outcome(Promise.all(reads), PATIENT_MS), 'values that the readers get').toEqual(
      times(100).map(() => OLD),
    );
    expect(source.loads, 'loads for 100 readers at once').toBe(1);
    const names = async () => (await entries()).map(({ name }) => name);
    await until(async () => (await names()).includes(baseKey(KEY)));
    expect(
      await names(),
      'entries after that load: copies end soon, and are filled from the base key',
    ).toContain(baseKey(KEY));
  });

  test('a load that an invalidation overtakes is neither shared nor stored', async () => {
    const { client, cache } = await open();
    const late = heldLoad(OLD);
    const early = outcome(cache.get(KEY, late.load), PATIENT_MS);
    await late.begun;
    await cache.invalidate(KEY);
    const after = await outcome(cache.get(KEY, async () => NEW));
    late.end();
    expect(after, 'a read that begins after the invalidation, while an older load is under way').toEqual(NEW);
    expect([OLD, NEW], 'values that the reader of the older load may get').toContainEqual(await early);
    await allSent(client);
    const values = new Set((await entries()).map(({ value }) => value));
    expect([...values], 'values in Redis after both loads have ended').toEqual(['new']);

    const racing = heldLoad(OLD);
    const reader = outcome(cache.get('other', racing.load), PATIENT_MS);
    await racing.begun;
    const deleted = cache.invalidate('other');
    racing.end();
    await Promise.all([deleted, reader]);
    await allSent(client);
    const names = (await entries()).map(({ name }) => name);
    expect(names, 'entries: a load of "other" ended while its invalidation was on its way').not.toContain(
      baseKey('other'),
    );
  });

  test('a lost master costs no reader its answer, and a hot key no load', async () => {
    const home = await homeOfBase();
    const detector = { record() {}, isHot: (key: string) => key === KEY };
    const { cache } = await open({ detector });
    await filled(() => cache.get(KEY, async () => OLD));
    const cold = await keyOn(home);
    await duringEachFault(home, detector, async ({ cache, fault }) => {
      const hot = countedLoad(OLD);
      const { value, ms } = await fastest(
        async () => {
          hot.loads = 0;
          const reads = [...times(30).map(() => cache.get(KEY, hot.load)), cache.get(cold, async () => NEW)];
          return { values: await outcome(Promise.all(reads), PATIENT_MS), loads: hot.loads };
        },
        READ_WITHIN_MS,
        ({ loads }) => loads === 0,
      );
      expect(
        value.values,
        `30 reads of a hot key and one of a cold key, while the master of both ${fault}`,
      ).toEqual([...times(30).map(() => OLD), NEW]);
      expect(value.loads, `loads of the hot key while one of its three masters ${fault}`).toBe(0);
      expect(ms, `ms for these reads, with a deadline of ${DEADLINE_MS} ms`).toBeLessThan(READ_WITHIN_MS);
    });
  });

  test('an invalidation that a lost master does not confirm rejects soon, and has deleted all others', async () => {
    const home = await homeOfBase();
    await duringEachFault(home, ALWAYS_HOT, async ({ cache, fault }) => {
      const { cache: healthy } = await open();
      await filled(() => healthy.get(KEY, async () => OLD));
      const { value, ms } = await fastest(
        () => outcome(cache.invalidate(KEY), PATIENT_MS),
        DELETED_WITHIN_MS,
      );
      expect(value, `the invalidation while the master of the base key ${fault}`).toEqual(
        expect.stringMatching(/^rejected/),
      );
      const others = cluster.nodes.filter((_, index) => index !== home);
      const left = () => Promise.all(others.map((node) => node.dbsize()));
      await until(async () => Math.max(...(await left())) === 0);
      expect(await left(), `entries left on the masters that answer, while one ${fault}`).toEqual([0, 0]);
      expect(ms, `ms until it rejects, with a deadline of ${DEADLINE_MS} ms`).toBeLessThan(DELETED_WITHIN_MS);
    });
  });

  test('a writer that does not know that a key is hot deletes its copies', async () => {
    const { cache } = await open();
    await filled(() => cache.get(KEY, async () => OLD));
    const writer = await open({ detector: hotFrom(1000) });
    await writer.cache.invalidate(KEY);
    expect(
      await entries(),
      'entries that are left after a write by a process that has never read the key',
    ).toEqual([]);
  });

  test('a copy lives for copyTtlMs, however often it is read', async () => {
    const copyTtlMs = 5000;
    const { cache } = await open({ copyTtlMs });
    const load = async () => OLD;
    await filled(() => cache.get(KEY, load));
    const home = cluster.nodes[await homeOfBase()];
    await home?.pexpire(baseKey(KEY), TTL_MS / 2);
    await deleteCopies();
    await filled(() => cache.get(KEY, load));
    expect(
      await home?.pttl(baseKey(KEY)),
      `ms that the base key has to live: ${TTL_MS / 2} were left when copies were filled from it`,
    ).toBeLessThanOrEqual(TTL_MS / 2);
    await sleep(60);
    for (const _ of times(30)) await cache.get(KEY, load);
    const longest = Math.max(...(await copyTtls()));
    expect(
      longest,
      `ms that a copy has to live, with copyTtlMs ${copyTtlMs}, 60 ms after its fill`,
    ).toBeLessThan(copyTtlMs - 50);
    expect(longest, `ms that a copy has to live, with copyTtlMs ${copyTtlMs}`).toBeGreaterThan(0);
  });

  test('while the base key is being deleted, no copy is filled from it for good', async () => {
    const { client, cache } = await open();
    await filled(() => cache.get(KEY, async () => OLD));
    const writer = await openBehindProxies();
    const gate = writer.proxies[await homeOfBase()]?.hold(/item:celebrity(?!:)/);
    const done = outcome(writer.cache.invalidate(KEY), PATIENT_MS);
    await outcome(gate?.arrived ?? Promise.reject(new Error('no gate')), PATIENT_MS);
    // What this writer has already sent is executed.
    await sleep(20);
    for (const _ of times(12)) await cache.get(KEY, async () => OLD);
    await allSent(client);
    gate?.release();
    expect(await done, 'the invalidation').toBeUndefined();
    expect(
      await entries(),
      'entries that are left: the reader has come while the delete of the base key was on its way',
    ).toEqual([]);
  });
});

const ALWAYS_HOT = { record() {}, isHot: () => true };

/** A truthful detector: hot from this number of reads on. */
function hotFrom(hotReads: number) {
  const counted = new Map<string, number>();
  const detector = {
    reads: 0,
    record(key: string) {
      detector.reads++;
      counted.set(key, (counted.get(key) ?? 0) + 1);
    },
    isHot: (key: string) => (counted.get(key) ?? 0) >= hotReads,
  };
  return detector;
}

const clientOptions: ClusterOptions = { redisOptions: { commandTimeout: 1000 } };
type CacheOptions = Partial<Omit<Options, 'client'>>;

const createCache = (client: Cluster, options: CacheOptions) =>
  createHotCache({
    client,
    detector: ALWAYS_HOT,
    copyTtlMs: LONG_MS,
    deadlineMs: PATIENT_MS,
    ...options,
  });

async function open(options: CacheOptions = {}) {
  const client = cluster.connect(clientOptions);
  onTestFinished(() => client.disconnect());
  await connected(client);
  return { client, cache: createCache(client, options) };
}

async function openBehindProxies(options: CacheOptions = {}) {
  const { client, proxies } = await cluster.connectThrough(clientOptions);
  await connected(client);
  return { client, proxies, cache: createCache(client, options) };
}

/** Knows the slots, and has a connection to each master. */
async function connected(client: Cluster) {
  await until(() => client.status === 'ready');
  await allSent(client);
}

/** What this client has sent is answered. */
async function allSent(client: Cluster) {
  await sleep(5);
  await Promise.all(client.nodes('master').map((node) => node.ping()));
}

/** ioredis forgets such a node. */
const CLOSED = 'refuses connections';
const FAULTS: Readonly<Record<string, (proxy: FaultyProxy | undefined) => unknown>> = {
  [CLOSED]: (proxy) => proxy?.refuse(),
  stalls: (proxy) => proxy?.stall(),
};
/** One deadline for the lost copy, one for whatever is asked instead. */
const READ_WITHIN_MS = 2.8 * DEADLINE_MS;
/** One deadline for the base key, one for the copies. */
const DELETED_WITHIN_MS = 3.4 * DEADLINE_MS;

/** One fault after the other, each with a client of its own that knew the master before. */
async function duringEachFault(
  master: number,
  detector: Options['detector'],
  check: (opened: { cache: ReturnType<typeof createHotCache>; fault: string }) => Promise<void>,
) {
  for (const [fault, strike] of Object.entries(FAULTS)) {
    const { client, cache, proxies } = await openBehindProxies({ deadlineMs: DEADLINE_MS, detector });
    await slotMapOf(client);
    await strike(proxies[master]);
    if (fault === CLOSED) await until(() => client.nodes('master').length < 3);
    await check({ cache, fault });
  }
}

/** What is in Redis, on all masters; a value without its bytes that are not text. */
async function entries() {
  const found = await Promise.all(
    cluster.nodes.map(async (node) => {
      const names = await node.keys('*');
      return Promise.all(names.map(async (name) => ({ name, value: (await node.get(name))?.split(' ')[0] })));
    }),
  );
  return found.flat();
}

/** Reads until every master has a copy of the key. The base key alone does not count: its copy could be filled later. */
async function filled(read: () => Promise<unknown>) {
  const copies = `${baseKey(KEY)}:copy:*`;
  const masters = async () =>
    (await Promise.all(cluster.nodes.map((node) => node.keys(copies)))).filter((names) => names.length > 0);
  await until(async () => {
    await read();
    return (await masters()).length === 3;
  });
  expect((await masters()).length, 'masters that have a copy of the hot key, after many reads').toBe(3);
}

/** As if their time were over. */
const deleteCopies = () =>
  Promise.all(
    cluster.nodes.map(async (node) => {
      const names = await node.keys(`${baseKey(KEY)}:copy:*`);
      await Promise.all(names.map((name) => node.del(name)));
    }),
  );

/** How long each entry has to live (ms), but for the base key. */
async function copyTtls(): Promise<number[]> {
  const ttls = await Promise.all(
    cluster.nodes.map(async (node) => {
      const names = (await node.keys('*')).filter((name) => name !== baseKey(KEY));
      return Promise.all(names.map((name) => node.pttl(name)));
    }),
  );
  return ttls.flat();
}

const homeOfBase = async () => cluster.homeOf(await cluster.slotOf(baseKey(KEY)));

/** A key whose entry is on this master. */
async function keyOn(master: number): Promise<string> {
  for (const id of times(100)) {
    const key = `cold ${id}`;
    if (cluster.homeOf(await cluster.slotOf(baseKey(key))) === master) return key;
  }
  throw new Error('no key on this master');
}

/**
 * Reads with a few keys that are read often, and many that are read seldom; the same at each run. One of the first kind
 * comes up in the second half.
 */
function skewedReads(count: number, keys: number): string[] {
  const random = seeded(46);
  return times(count).map((at) =>
    at > count / 2 && random() < 0.2 ? 'a new star' : `product ${Math.floor(keys * random() ** 6)}`,
  );
}

/**
 * What `action` comes to, and the shortest time of a few tries (ms): on a busy machine the first ones can be slow. The
 * first that takes less than `enough` and is accepted is the last.
 */
async function fastest<T>(
  action: () => Promise<T>,
  enough: number,
  accepts: (value: T) => boolean = () => true,
) {
  let best = Number.POSITIVE_INFINITY;
  for (let tries = 1; ; tries++) {
    const { value, ms } = await timed(action);
    if (accepts(value)) best = Math.min(best, Math.round(ms));
    if ((ms < enough && accepts(value)) || tries === 4) return { value, ms: Math.min(best, Math.round(ms)) };
    await sleep(20);
  }
}
