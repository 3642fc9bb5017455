import type { Redis } from 'ioredis';
import type { RowDataPacket } from 'mysql2/promise';
import { expect, onTestFinished, test } from 'vitest';
import { explore } from '#kit/explore';
import { startProcesses } from '#kit/processes';
import { openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { soon, unhandledRejections, until } from '#kit/waiting';
import { createLeaseCache, InvalidationError, LoadTimeoutError, leaseKey, valueKey } from './leases';
import subjectFile from './leases?file';

type Subject = typeof import('./leases');

const servers = useServers('products');

const KEY = 'product:1';
const MUG = 'Enamel mug, 350 ml';
const TTL_MS = 60_000;
const LEASE_MS = 10_000;
const TIMES = { ttlMs: TTL_MS, leaseMs: LEASE_MS, waitMs: 4_000 };
const OLD = { name: 'old' };
const NEW = { name: 'new' };

test('one caller of all processes holds the lease and loads, and a holder that is killed is survived', async () => {
  const proxy = await openProxy(servers.mysqlUrl);
  const gate = proxy.hold(/SELECT .* FROM products/i);
  const args = { redis: servers.redisUrl, mysql: proxy.url, times: TIMES };
  const [peer] = await startProcesses<Subject, typeof args, never>(
    1,
    subjectFile,
    args,
    async ({ subject, args, Redis, mysql, tell }) => {
      const db = mysql.createPool({ uri: args.mysql });
      const cache = subject.createLeaseCache({ redis: new Redis(args.redis) });
      const load = async () => {
        await db.query('SELECT name FROM products WHERE id = 1');
        return { name: 'loaded by the peer' };
      };
      await cache.getOrLoad('product:1', load, args.times);
      const hung = () => {
        tell('loading product:2');
        return new Promise<never>(() => {});
      };
      return cache.getOrLoad('product:2', hung, args.times);
    },
  );
  await Promise.race([gate.arrived, peer?.result]);
  const { source, load } = productSource();
  const cache = createLeaseCache({ redis: servers.redis });
  const lifeOfLease = await servers.redis.pttl(leaseKey(KEY));
  const readers = Promise.all(Array.from({ length: 10 }, () => cache.getOrLoad(KEY, load, TIMES)));
  // The peer's SELECT is held while they look.
  await soon(readers, 20);
  expect(source.loads, 'the peer holds the lease and is loading: nobody else loads').toBe(0);
  gate.release();
  expect(
    await soon(readers),
    'the peer has loaded and stored: those who wait look again, and take what was stored',
  ).toEqual(Array.from({ length: 10 }, () => ({ name: 'loaded by the peer' })));
  expect(lifeOfLease, 'the PX of the lease is leaseMs').toBeGreaterThan(LEASE_MS / 2);
  expect(lifeOfLease, 'the PX of the lease is leaseMs').toBeLessThanOrEqual(LEASE_MS);
  expect(await servers.redis.exists(leaseKey(KEY)), 'the value is stored: its lease is removed').toBe(0);
  expect(await servers.redis.pttl(valueKey(KEY)), 'the PX of the value is ttlMs').toSatisfy(
    (ms: number) => ms > TTL_MS / 2 && ms <= TTL_MS,
  );

  const orphan = 'product:2';
  await Promise.race([peer?.heard('loading product:2'), peer?.result]);
  await peer?.kill();
  const survivors = Promise.all(Array.from({ length: 5 }, () => cache.getOrLoad(orphan, load, TIMES)));
  await soon(survivors, 20);
  expect(source.loads, 'nobody can know that the holder is dead: wait until its lease expires').toBe(0);
  expect(
    await servers.redis.pttl(leaseKey(orphan)),
    'a holder that was killed removes nothing: its lease must expire by itself, after leaseMs at most',
  ).toSatisfy((ms: number) => ms > 0 && ms <= LEASE_MS);
  // Its end, brought forward.
  await servers.redis.pexpire(leaseKey(orphan), 1);
  expect(await soon(survivors), 'the lease of the dead has expired: one of those who wait gets it').toEqual(
    Array.from({ length: 5 }, () => ({ name: MUG })),
  );
  expect(source.loads, 'one of those who wait gets the lease, the others go on waiting').toBe(1);
  expect(await stored(orphan), 'the new holder stores what it has loaded').toEqual({ name: MUG });
});

test('a value is what JSON makes of it, for the holder too, and unreadable bytes are none', async () => {
  const cache = createLeaseCache({ redis: servers.redis });
  const { source, load } = productSource();
  const dated = async () => ({ ...(await load()), at: new Date(0) });
  const readers = await Promise.all(Array.from({ length: 20 }, () => cache.getOrLoad(KEY, dated, TIMES)));
  expect(source.loads, '20 calls missed at once: one gets the lease').toBe(1);
  expect(new Set(readers).size, 'callers share no object').toBe(20);
  expect(readers[0], 'the holder gets what a hit gives: what JSON makes of the value').toEqual({
    name: MUG,
    at: '1970-01-01T00:00:00.000Z',
  });
  expect(
    await Promise.all(['a', 'b'].map((key) => cache.getOrLoad(key, async () => key, TIMES))),
    'two keys have two leases',
  ).toEqual(['a', 'b']);
  await cache.getOrLoad('none', async () => null, TIMES);
  expect(
    await cache.getOrLoad<string | null>('none', async () => 'loaded again', TIMES),
    'null is a value, and cached',
  ).toBeNull();

  for (const value of [undefined, 9007199254740993n]) {
    expect(
      await soon(failureOf(cache.getOrLoad('odd', async () => value, TIMES))),
      `JSON cannot hold ${typeof value}: a TypeError tells the caller`,
    ).toBeInstanceOf(TypeError);
    expect(
      await servers.redis.exists(valueKey('odd'), leaseKey('odd')),
      `${typeof value} is not stored, and its lease is given back`,
    ).toBe(0);
  }

  for (const bytes of [Buffer.from('{"name":"Ena'), Buffer.from([0xff, 0xfe, 0x00]), Buffer.alloc(0)]) {
    await servers.redis.set(valueKey(KEY), bytes, 'PX', TTL_MS);
    expect(
      await soon(failureOf(cache.getOrLoad(KEY, load, { ...TIMES, waitMs: 0 }))),
      `bytes that are no JSON (${bytes.toString('hex') || 'none at all'}) are no value: load`,
    ).toEqual({ name: MUG });
    expect(await stored(KEY), 'bytes that are no JSON are replaced by what was loaded').toEqual({
      name: MUG,
    });
  }
  await servers.redis.set(valueKey(KEY), '{"name":"Ena', 'PX', TTL_MS);
  await servers.redis.set(leaseKey(KEY), 'the token of another', 'PX', LEASE_MS);
  await soon(cache.getOrLoad(KEY, load, { ...TIMES, waitMs: 0 }));
  expect(
    await servers.redis.mget(valueKey(KEY), leaseKey(KEY)),
    'the bytes are no JSON, and another holds the lease: it will replace them, and nobody else',
  ).toEqual(['{"name":"Ena', 'the token of another']);
  await servers.redis.del(leaseKey(KEY));
  const overtaken = async () => {
    await cache.invalidate(KEY);
    return OLD;
  };
  expect(await soon(cache.getOrLoad(KEY, overtaken, TIMES)), 'the caller gets what was loaded').toEqual(OLD);
  expect(
    await servers.redis.exists(valueKey(KEY)),
    'the bytes were no JSON, and the key was invalidated during the load: to replace them too takes the lease',
  ).toBe(0);

  await servers.redis.set(valueKey(KEY), '{"name":"hit"}', 'PX', 5_000);
  await cache.getOrLoad(KEY, load, TIMES);
  expect(
    await servers.redis.pttl(valueKey(KEY)),
    'a hit must not prolong the life of the value: ttlMs bounds what an invalidation that was lost leaves behind',
  ).toBeLessThanOrEqual(5_000);
});

test('a fill whose lease is lost is refused, and its caller still gets the value', async () => {
  const proxy = await openProxy(servers.redisUrl);
  const cache = createLeaseCache({ redis: servers.connectRedis({}, proxy.url) });
  const other = createLeaseCache({ redis: servers.redis });
  let endOther = () => {};
  let withoutExpiry = 0;
  const watchExpiry = async () => {
    const left = await Promise.all([leaseKey(KEY), valueKey(KEY)].map((key) => servers.redis.pttl(key)));
    if (left.includes(-1)) withoutExpiry++;
  };
  const losses = {
    'the key was invalidated': () => other.invalidate(KEY),
    'the lease had expired': () => servers.redis.del(leaseKey(KEY)),
    async 'the key was invalidated, and another held the new lease'() {
      await other.invalidate(KEY);
      let begun = false;
      const load = () => {
        begun = true;
        return new Promise<typeof NEW>((resolve) => {
          endOther = () => resolve(NEW);
        });
      };
      const reading = other.getOrLoad(KEY, load, TIMES);
      reading.catch(() => {});
      await until(() => begun);
    },
    async 'the key was invalidated, and another had stored the new value'() {
      await other.invalidate(KEY);
      await soon(other.getOrLoad(KEY, async () => NEW, TIMES));
    },
  };
  /** One load that ends by `end`; `lose` happens before it ends (0), or before the nth command that follows it. */
  const round = async (end: 'well' | 'badly', nth: number, lose: () => Promise<unknown>) => {
    await servers.redis.del(valueKey(KEY), leaseKey(KEY));
    proxy.schedule(watchExpiry);
    let settle = () => {};
    let begun = false;
    const load = () => {
      begun = true;
      return new Promise<typeof OLD>((resolve, reject) => {
        settle = () => (end === 'well' ? resolve(OLD) : reject(new Error('deadlock')));
      });
    };
    const caller = failureOf(cache.getOrLoad(KEY, load, TIMES));
    await Promise.race([until(() => begun), caller]);
    if (nth === 0) await lose();
    let sent = 0;
    let lost = await inRedis();
    proxy.schedule(async () => {
      await watchExpiry();
      if (++sent !== nth) return;
      await lose();
      lost = await inRedis();
    });
    settle();
    const got = await soon(caller);
    proxy.schedule();
    const now = await inRedis();
    endOther();
    return { got, lost, now, isOver: sent < nth };
  };
  const inRedis = async () => {
    const [value, lease] = await servers.redis.mget(valueKey(KEY), leaseKey(KEY));
    return { value, lease };
  };
  for (const [what, lose] of Object.entries(losses)) {
    for (const end of ['well', 'badly'] as const) {
      for (let nth = 0; ; nth++) {
        const { got, lost, now, isOver } = await round(end, nth, lose);
        if (isOver) {
          expect(now.lease, `the load has ended ${end}: its lease must go with it`).toBeNull();
          break;
        }
        const when = `${what} ${nth === 0 ? 'before the load ended' : `after the load had ended, just before the holder's next command (the ${nth}.)`} ${end}`;
        expect(now.value, `${when}: the fill must be refused, in the step that would store`).toBe(lost.value);
        expect(now.lease, `${when}: the lease of another must stay, with its token`).toBe(lost.lease);
        if (end === 'well')
          expect(got, `${when}: the holder's caller gets what was loaded for it`).toEqual(OLD);
        else expect(got, `${when}: the holder's caller gets the error of its load`).toBeInstanceOf(Error);
      }
    }
  }
  await servers.redis.del(valueKey(KEY), leaseKey(KEY));
  const ends: (() => void)[] = [];
  const read = async (value: typeof OLD) => {
    const load = () => new Promise<typeof OLD>((resolve) => ends.push(() => resolve(value)));
    const begun = ends.length + 1;
    const reading = failureOf(cache.getOrLoad(KEY, load, TIMES));
    await Promise.race([until(() => ends.length === begun), reading]);
    return { reading };
  };
  const { reading: overtaken } = await read(OLD);
  await other.invalidate(KEY);
  const { reading: current } = await read(NEW);
  ends[0]?.();
  await soon(overtaken);
  expect(
    await stored(KEY),
    'two calls of one object: the lease is that of the second by now, so each call needs a token of its own',
  ).toBeUndefined();
  ends[1]?.();
  await soon(current);
  expect(
    await stored(KEY),
    'two calls of one object: the lease was that of the second, so it stores',
  ).toEqual(NEW);
  expect(
    withoutExpiry,
    'a process that is killed between two commands leaves a lease, or a value, for ever: set it together with its PX',
  ).toBe(0);
});

test('who asks after an invalidation gets nothing older, in whatever process it was', async () => {
  const proxy = await openProxy(servers.redisUrl);
  const stalled = servers.connectRedis({ commandTimeout: 30 }, proxy.url);
  await connected(stalled);
  const takeLease = () => servers.redis.set(leaseKey(KEY), 'the token of another', 'PX', LEASE_MS);
  const situations = {
    async 'the holder'() {},
    // It does not wait, and loads for itself.
    'one who does not hold the lease': takeLease,
    async 'one without Redis'() {
      proxy.stall();
    },
  };
  for (const [who, arrange] of Object.entries(situations)) {
    const withoutRedis = who === 'one without Redis';
    for (const where of ['the same process', 'another process'] as const) {
      if (withoutRedis && where === 'the same process') continue;
      await servers.redis.del(valueKey(KEY), leaseKey(KEY));
      const cache = createLeaseCache({ redis: withoutRedis ? stalled : servers.redis });
      const writer = where === 'the same process' ? cache : createLeaseCache({ redis: servers.redis });
      const times = { ...TIMES, waitMs: 0 };
      await arrange();
      let endOld = () => {};
      let begun = false;
      const slow = () => {
        begun = true;
        return new Promise<typeof OLD>((resolve) => {
          endOld = () => resolve(OLD);
        });
      };
      const before = failureOf(cache.getOrLoad(KEY, slow, times));
      await until(() => begun);
      await writer.invalidate(KEY);
      await arrange();
      const after = failureOf(cache.getOrLoad(KEY, async () => NEW, times));
      expect(
        await soon(after, 300),
        `${who} had read the old row when ${where} invalidated the key: who asks now must not wait for that load, and not share it`,
      ).toEqual(NEW);
      endOld();
      expect(await soon(before), 'who asked before gets what was loaded for it').toEqual(OLD);
      await proxy.heal();
    }
  }
});

test('no interleaving leaves the old value behind an acknowledged invalidation', async () => {
  const reader = ({ redis, db }: Pick<typeof servers, 'redis' | 'db'>) =>
    createLeaseCache({ redis }).getOrLoad(KEY, productSource(db).load, { ...TIMES, waitMs: 0 });
  await explore(servers, {
    runs: 20,
    seed: 2,
    async prepare() {
      await servers.redis.del(valueKey(KEY), leaseKey(KEY));
      await servers.db.query('UPDATE products SET name = ? WHERE id = 1', [MUG]);
    },
    actors: {
      one: reader,
      other: reader,
      async writer({ redis, db }) {
        await db.query("UPDATE products SET name = 'Steel mug' WHERE id = 1");
        await createLeaseCache({ redis }).invalidate(KEY);
      },
      expiry: ({ redis }) => redis.del(leaseKey(KEY)),
    },
    async verdict() {
      const left = await servers.redis.get(valueKey(KEY));
      return left?.includes(MUG)
        ? `the invalidation is acknowledged, MySQL holds "Steel mug", and Redis "${MUG}" until its TTL`
        : undefined;
    },
  });

  const proxy = await openProxy(servers.redisUrl);
  const writer = createLeaseCache({ redis: servers.connectRedis({}, proxy.url) });
  for (let nth = 1, isOver = false; !isOver; nth++) {
    await servers.redis.del(valueKey(KEY), leaseKey(KEY));
    let endLoad = () => {};
    let begun = false;
    const load = () => {
      begun = true;
      return new Promise<typeof OLD>((resolve) => {
        endLoad = () => resolve(OLD);
      });
    };
    const reading = failureOf(createLeaseCache({ redis: servers.redis }).getOrLoad(KEY, load, TIMES));
    await Promise.race([until(() => begun), reading]);
    let sent = 0;
    proxy.schedule(async () => {
      if (++sent !== nth) return;
      endLoad();
      await soon(reading);
    });
    await soon(writer.invalidate(KEY));
    proxy.schedule();
    isOver = sent < nth;
    endLoad();
    await soon(reading);
    expect(
      await stored(KEY),
      `a fill came ${isOver ? 'after' : `just before command ${nth} of`} the invalidation: it must leave no value of a load that began before it`,
    ).toBeUndefined();
  }
});

test('who does not get the lease looks again until waitMs, then loads and stores nothing', async () => {
  const cache = createLeaseCache({ redis: servers.redis });
  const { source, load } = productSource();
  await servers.redis.set(leaseKey(KEY), 'the token of another', 'PX', 5_000);
  let impatient: unknown;
  const atOnce = await servers.work(async () => {
    const dated = async () => ({ ...(await load()), at: new Date(0) });
    impatient = await soon(cache.getOrLoad(KEY, dated, { ...TIMES, waitMs: 0 }));
  });
  expect(impatient, 'with waitMs 0 a call does not wait: it loads for itself').toMatchObject({ name: MUG });
  expect(impatient, 'without the lease too, a caller gets what JSON makes of the value').toEqual({
    name: MUG,
    at: '1970-01-01T00:00:00.000Z',
  });
  expect(
    await soon(failureOf(cache.getOrLoad(KEY, async () => undefined, { ...TIMES, waitMs: 0 }))),
    'JSON cannot hold undefined: a TypeError tells the caller without the lease too',
  ).toBeInstanceOf(TypeError);
  expect(await stored(KEY), 'only the holder of the lease may store').toBeUndefined();
  expect(source.loads, 'who does not get the lease has to load').toBe(1);
  // Pauses of 5, 10, 20, 40 and 80 ms: the fourth ends at 75, and the fifth would end at 155.
  const slowly = createLeaseCache({ redis: servers.redis, random: () => 0 });
  const waits: number[] = [];
  let patient: unknown;
  const looks = await servers.work(async () => {
    // Again, if the machine was busy.
    while (waits.length < 4 && waits.every((ms) => ms > 145)) {
      const began = performance.now();
      const brief = async () => {
        waits.push(performance.now() - began);
        await new Promise((resolve) => setTimeout(resolve, 5));
        return { name: MUG };
      };
      patient = await soon(failureOf(slowly.getOrLoad(KEY, brief, { ...TIMES, leaseMs: 80, waitMs: 100 })));
      if (waits.length === 0) break;
    }
  });
  expect(
    patient,
    'waitMs has passed and the lease is still held: load for this caller alone, for leaseMs from when the load begins',
  ).toEqual({ name: MUG });
  expect(
    Math.min(...waits),
    'a call waits for all of waitMs, even if the next pause would end after it',
  ).toBeGreaterThan(90);
  expect(Math.min(...waits), 'the last pause must end with waitMs').toBeLessThanOrEqual(145);
  expect(looks.redis(), 'a call that waits must look again').toBeGreaterThan(atOnce.redis());
  expect(looks.redis(), 'a call that waits must pause between its looks (pauseMs)').toBeLessThan(100);
  const down = new Error('connect ECONNREFUSED');
  const fail = () => Promise.reject(down);
  expect(
    await soon(failureOf(cache.getOrLoad(KEY, fail, { ...TIMES, waitMs: 0 }))),
    'a caller without the lease gets the error of its own load',
  ).toBe(down);
  let signal: AbortSignal | undefined;
  const hung = (its: AbortSignal) => {
    signal = its;
    return new Promise<never>(() => {});
  };
  expect(
    await soon(failureOf(cache.getOrLoad(KEY, hung, { ...TIMES, leaseMs: 30, waitMs: 0 }))),
    'a load without the lease may take leaseMs too',
  ).toBeInstanceOf(LoadTimeoutError);
  expect(signal?.aborted, 'a load without the lease is late: abort its signal').toBe(true);
  expect(await stored(KEY), 'only the holder of the lease may store').toBeUndefined();
  expect(await servers.redis.get(leaseKey(KEY)), 'the lease is still that of its holder').toBe(
    'the token of another',
  );
  expect(
    await servers.redis.pttl(leaseKey(KEY)),
    'who looks must not prolong the lease of another',
  ).toBeLessThanOrEqual(5_000);
});

test('a load that fails or hangs gives its lease back', async () => {
  const unhandled = unhandledRejections();
  const cache = createLeaseCache({ redis: servers.redis });
  const other = createLeaseCache({ redis: servers.connectRedis() });
  const down = new Error('connect ECONNREFUSED');
  const failing = {
    'rejects with its error': () => Promise.reject(down),
    'throws its error': () => {
      throw down;
    },
  };
  for (const [how, fail] of Object.entries(failing)) {
    expect(await soon(failureOf(cache.getOrLoad(KEY, fail, TIMES))), `a load that ${how}: pass it on`).toBe(
      down,
    );
    expect(
      await servers.redis.exists(leaseKey(KEY)),
      'the load has failed: give the lease back, others need not wait until it expires',
    ).toBe(0);
  }
  const { load } = productSource();
  expect(await soon(other.getOrLoad(KEY, load, TIMES)), 'a failure is not remembered').toEqual({ name: MUG });

  const lateGrant = async () => {
    const proxy = await openProxy(servers.redisUrl);
    const far = createLeaseCache({ redis: servers.connectRedis({}, proxy.url) });
    const [asks, fills] = [proxy.hold(/leased:lease:\{slow/), proxy.hold(/leased:lease:\{slow/)];
    const brief = () => new Promise<typeof NEW>((resolve) => setTimeout(() => resolve(NEW), 10));
    const caller = failureOf(far.getOrLoad('slow', brief, { ...TIMES, leaseMs: 40, waitMs: 0 }));
    await Promise.race([asks.arrived, caller]);
    await new Promise((resolve) => setTimeout(resolve, 50));
    asks.release();
    await Promise.race([fills.arrived, caller]);
    const beforeTheFill = await soon(caller, 20);
    fills.release();
    expect(
      await soon(caller),
      'Redis took longer than leaseMs to grant the lease: a load has leaseMs from when it begins',
    ).toEqual(NEW);
    expect(
      beforeTheFill,
      'Redis has not answered the fill yet: a call settles after its fill, or who asks next may miss',
    ).toBe('still waiting');
  };
  await servers.redis.del(valueKey(KEY));
  // Both at once: each takes its time.
  const late = lateGrant();
  late.catch(() => {});
  let signal: AbortSignal | undefined;
  let endLate = () => {};
  const hung = (its: AbortSignal) => {
    signal = its;
    return new Promise<never>((_, reject) => {
      endLate = () => reject(new Error('killed'));
    });
  };
  const caller = soon(failureOf(cache.getOrLoad(KEY, hung, { ...TIMES, leaseMs: 40 })));
  await until(() => signal !== undefined);
  const waiting = other.getOrLoad(KEY, load, TIMES);
  expect(await caller, 'a load may take leaseMs, no longer').toBeInstanceOf(LoadTimeoutError);
  expect(signal?.aborted, 'the load is late: abort its signal').toBe(true);
  expect(await soon(waiting), 'the lease of the hung load is free: who waits for it loads').toEqual({
    name: MUG,
  });
  expect(await stored(KEY), 'who waited got the lease, so it stores').toEqual({ name: MUG });
  endLate();
  await new Promise((resolve) => setTimeout(resolve, 5));
  expect(unhandled(), 'a load that was given up fails later: nobody may hear of it').toEqual([]);

  await late;
});

test('an invalidation that Redis has not confirmed rejects', async () => {
  const cache = createLeaseCache({ redis: servers.redis });
  await soon(cache.getOrLoad(KEY, async () => OLD, TIMES));
  const lease = leaseKey('product:2');
  await servers.redis.set(lease, 'the token of another', 'PX', LEASE_MS);
  expect(await soon(cache.invalidate(KEY)), 'Redis has deleted the value: resolve').toBeUndefined();
  expect(await stored(KEY), 'an invalidation deletes the value').toBeUndefined();
  await soon(cache.invalidate('product:2'));
  expect(await servers.redis.exists(lease), 'an invalidation deletes the lease, of whatever holder').toBe(0);
  expect(
    await soon(cache.invalidate('nothing there')),
    'there was nothing to delete: resolve',
  ).toBeUndefined();

  await soon(cache.getOrLoad(KEY, async () => OLD, TIMES));
  const unconfirmed = async (fault: 'stall' | 'refuse') => {
    const away = await behindProxy();
    await away.proxy[fault]();
    const outcome = await soon(failureOf(createLeaseCache({ redis: away.redis }).invalidate(KEY)));
    await away.proxy.heal();
    return outcome;
  };
  for (const outcome of await Promise.all([unconfirmed('stall'), unconfirmed('refuse')])) {
    expect(
      outcome,
      'nobody knows whether Redis has deleted the value: tell the writer, who must try again',
    ).toBeInstanceOf(InvalidationError);
    expect((outcome as Error).cause, 'cause says what Redis, or the client, has said').toBeInstanceOf(Error);
  }
});

test('without Redis, getOrLoad loads, and stores nothing', async () => {
  const { load } = productSource();
  /** Redis is silent, and back before the load has ended. */
  const silentFromTheStart = async () => {
    const { onCacheError, told } = brokenLog();
    const { proxy, redis } = await behindProxy();
    const cache = createLeaseCache({ redis, onCacheError });
    proxy.stall();
    const backBeforeTheLoadEnds = async () => {
      await proxy.heal();
      await redis.ping();
      return { name: MUG };
    };
    expect(
      await soon(failureOf(cache.getOrLoad(KEY, backBeforeTheLoadEnds, TIMES))),
      'Redis does not answer: load',
    ).toEqual({ name: MUG });
    await redis.ping();
    expect(told.length, 'Redis has failed, and no caller hears of it: tell onCacheError').toBeGreaterThan(0);
    expect(
      await stored(KEY),
      'Redis is back, but this call has no lease: nothing has proved that no invalidation has come meanwhile',
    ).toBeUndefined();
  };
  /** Redis falls silent while two calls load and one waits. */
  const silentLater = async () => {
    const { onCacheError, told } = brokenLog();
    const later = await behindProxy();
    const silent = createLeaseCache({ redis: later.redis, onCacheError });
    await servers.redis.set(leaseKey('waiting'), 'the token of another', 'PX', LEASE_MS);
    const ends: (() => void)[] = [];
    const down = new Error('connect ECONNREFUSED');
    const callers = (['stores', 'fails'] as const).map((key) => {
      const load = () =>
        new Promise<{ name: string }>((resolve, reject) => {
          ends.push(() => (key === 'stores' ? resolve({ name: MUG }) : reject(down)));
        });
      return failureOf(silent.getOrLoad(key, load, TIMES));
    });
    const waiting = failureOf(silent.getOrLoad('waiting', load, TIMES));
    await until(() => ends.length === 2);
    told.length = 0;
    later.proxy.stall();
    for (const end of ends) end();
    expect(
      await soon(Promise.all(callers)),
      'Redis fell silent during two loads: one caller gets its value, one the error of its load',
    ).toEqual([{ name: MUG }, down]);
    expect(await soon(waiting), 'Redis fell silent while this call waited: load').toEqual({ name: MUG });
    expect(told.length, 'each of the three commands that failed is told').toBeGreaterThanOrEqual(3);
    await later.proxy.heal();
  };
  /** The connection breaks before the answer. */
  const answerLost = async () => {
    const broken = await openProxy(servers.redisUrl);
    const sendsAgain = servers.connectRedis({ retryStrategy: () => 1 }, broken.url);
    await sendsAgain.ping();
    const again = createLeaseCache({ redis: sendsAgain });
    broken.delay(5_000);
    const asked = failureOf(again.getOrLoad('asked twice', load, { ...TIMES, waitMs: 300 }));
    for (let looks = 0; looks < 200 && !(await servers.redis.exists(leaseKey('asked twice'))); looks++)
      await new Promise((resolve) => setTimeout(resolve, 1));
    broken.cut();
    await broken.heal();
    expect(await soon(asked), 'the connection broke before the answer: ask again, and load').toEqual({
      name: MUG,
    });
    expect(
      await stored('asked twice'),
      'the connection broke before the answer, and the client asked again: the lease is its own, by its token',
    ).toEqual({ name: MUG });
  };
  // All at once: each waits for timeouts.
  const parts = await Promise.allSettled([silentFromTheStart(), silentLater(), answerLost()]);
  for (const part of parts) if (part.status === 'rejected') throw part.reason;
});

/** Reads product 1, and counts how often. */
function productSource(db = servers.db) {
  const source = { loads: 0 };
  const load = async (): Promise<{ name: string }> => {
    source.loads++;
    const [[row]] = await db.query<RowDataPacket[]>('SELECT name FROM products WHERE id = 1');
    return { name: row?.name };
  };
  return { source, load };
}

/** An onCacheError that remembers what it is told, and throws. */
function brokenLog() {
  const told: unknown[] = [];
  const onCacheError = (error: unknown) => {
    told.push(error);
    throw new Error('the log is down too');
  };
  return { told, onCacheError };
}

/** A client whose Redis can be taken away. Its connection is up. */
async function behindProxy() {
  const proxy = await openProxy(servers.redisUrl);
  const redis = servers.connectRedis({ commandTimeout: 100, maxRetriesPerRequest: 1 }, proxy.url);
  onTestFinished(() => redis.disconnect());
  await connected(redis);
  return { proxy, redis };
}

const connected = (redis: Redis) =>
  expect
    .poll(() => redis.ping().catch(() => 'away'), {
      timeout: 3000,
      interval: 1,
      message: 'the client connects',
    })
    .toBe('PONG');

async function stored(key: string): Promise<unknown> {
  const text = await servers.redis.get(valueKey(key));
  return text === null ? undefined : JSON.parse(text);
}

/** What a promise resolves to, or what it rejects with; "not implemented" is thrown on. */
const failureOf = <T>(promise: Promise<T>): Promise<T | Error> =>
  promise.catch((error: Error) => {
    if (error.message === 'not implemented') throw error;
    return error;
  });
