import type { RowDataPacket } from 'mysql2/promise';
import { expect, onTestFinished, test } from 'vitest';
import { explore } from '#kit/explore';
import { startProcesses } from '#kit/processes';
import { openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { soon, unhandledRejections, until } from '#kit/waiting';
import {
  createLockedCache,
  entryKey,
  FIRST_PAUSE_MS,
  LONGEST_PAUSE_MS,
  LoadTimeoutError,
  lockKey,
  pauseMs,
  type Times,
  WaitTimeoutError,
} from './stampede-lock';
import subjectFile from './stampede-lock?file';

type Subject = typeof import('./stampede-lock');

const servers = useServers('products');

const KEY = 'product:1';
const MUG = 'Enamel mug, 350 ml';
const FRESH_MS = 20_000;
const STALE_MS = 30_000;
const LOCK_MS = 10_000;
const TIMES: Times = { freshMs: FRESH_MS, staleMs: STALE_MS, lockMs: LOCK_MS, waitMs: 4_000 };

interface Product {
  name: string;
}

test('processes share a load, and survive the one that is killed in it', async () => {
  const proxy = await openProxy(servers.mysqlUrl);
  const gate = proxy.hold(/SELECT .* FROM products/i);
  const args = { redis: servers.redisUrl, mysql: proxy.url, times: TIMES };
  const [peer] = await startProcesses<Subject, typeof args, never>(
    1,
    subjectFile,
    args,
    async ({ subject, args, Redis, mysql, tell }) => {
      const db = mysql.createPool({ uri: args.mysql });
      const cache = subject.createLockedCache({ redis: new Redis(args.redis) });
      let loads = 0;
      const load = async () => {
        loads++;
        await db.query('SELECT name FROM products WHERE id = 1');
        return { name: 'loaded by the peer' };
      };
      await Promise.all(Array.from({ length: 10 }, () => cache.getOrLoad('product:1', load, args.times)));
      tell(`${loads} loads`);
      return await cache.getOrLoad(
        'product:2',
        () => {
          tell('loading product:2');
          return new Promise(() => {});
        },
        args.times,
      );
    },
  );
  const heard = (word: string) => Promise.race([peer?.heard(word), peer?.result]);
  await Promise.race([gate.arrived, peer?.result]);
  const { source, load } = productSource();
  const here = createLockedCache({ redis: servers.redis });
  const lifeOfLock = await servers.redis.pttl(lockKey(KEY));
  const token = await servers.redis.get(lockKey(KEY));
  const readers = Array.from({ length: 10 }, () => here.getOrLoad(KEY, load, TIMES));
  // The peer's SELECT is held while they look.
  await soon(Promise.all(readers), 30);
  expect(source.loads, 'the peer is loading: who has not got the lock does not load').toBe(0);
  gate.release();
  expect(
    await soon(Promise.all(readers)),
    'the peer has loaded and stored the value: those who wait look again, and get it',
  ).toEqual(Array.from({ length: 10 }, () => ({ name: 'loaded by the peer' })));
  expect(
    await soon(heard('1 loads').then(() => 'one load')),
    '10 calls met in the peer: they share one load',
  ).toBe('one load');
  expect(lifeOfLock, 'the lock must expire by itself, and no load may outlive it: PX lockMs').toBeGreaterThan(
    LOCK_MS / 2,
  );
  expect(token, 'two processes must not take the same token: randomUUID').toMatch(
    /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/,
  );
  expect(lifeOfLock, 'the lock lives no longer than lockMs').toBeLessThanOrEqual(LOCK_MS);
  expect(await servers.redis.exists(lockKey(KEY)), 'the value is stored: release the lock').toBe(0);
  const left = await servers.redis.pttl(entryKey(KEY));
  expect(
    left,
    'the value is fresh for freshMs, and stale for staleMs then: more than staleMs is left',
  ).toBeGreaterThan(STALE_MS);
  expect(left, 'the PX of the entry is freshMs + staleMs').toBeLessThanOrEqual(FRESH_MS + STALE_MS);

  const hung = 'product:2';
  await heard('loading product:2');
  await peer?.kill();
  const survivor = here.getOrLoad(hung, load, TIMES);
  await soon(survivor, 30);
  expect(source.loads, 'nobody can know that the holder is dead: wait until its lock expires').toBe(0);
  const leftOfLock = await servers.redis.pttl(lockKey(hung));
  expect(
    leftOfLock,
    'a holder that was killed releases nothing: its lock must expire by itself',
  ).toBeGreaterThan(0);
  expect(leftOfLock, 'the key of a holder that was killed is free after lockMs at most').toBeLessThanOrEqual(
    LOCK_MS,
  );
  // Its end, brought forward.
  await servers.redis.pexpire(lockKey(hung), 1);
  expect(
    await soon(survivor),
    'the lock of the dead has expired: one of those who wait has to take it, and load',
  ).toEqual({ name: MUG });
  expect(
    await servers.redis.get(entryKey(hung)),
    'who has taken over the lock stores the value like any holder',
  ).not.toBeNull();
});

test('calls that meet in a process share one load, and no object', async () => {
  const told: unknown[] = [];
  const cache = createLockedCache({ redis: servers.redis, onCacheError: (error) => told.push(error) });
  const other = createLockedCache({ redis: servers.redis });
  const { source, load } = productSource();
  const dated = async () => ({ ...(await load()), at: new Date(0) });
  const readers = await Promise.all(Array.from({ length: 50 }, () => cache.getOrLoad(KEY, dated, TIMES)));
  expect(source.loads, '50 calls missed at once: they share one load').toBe(1);
  expect(new Set(readers).size, 'they share the load, but no object').toBe(50);
  expect(
    await other.getOrLoad(KEY, dated, TIMES),
    'a miss gives what a hit will give: what JSON makes of it',
  ).toEqual(readers[0]);
  expect(source.loads, 'the value is fresh for all processes').toBe(1);
  expect(
    await Promise.all(['a', 'b'].map((key) => cache.getOrLoad(key, async () => key, TIMES))),
    'two keys missed at once: each has a load of its own',
  ).toEqual(['a', 'b']);

  expect(await cache.getOrLoad('none', async () => null, TIMES), 'null is a value').toBeNull();
  const again = await cache.getOrLoad('none', async () => 'loaded again', TIMES);
  expect(again, 'null is a value, and cached').toBeNull();
  for (const [what, value] of [
    ['undefined', undefined],
    ['a bigint', 9007199254740993n],
  ] as const) {
    expect(
      await soon(failureOf(cache.getOrLoad('odd', async () => value, TIMES))),
      `JSON cannot hold ${what}: a TypeError tells the caller`,
    ).toBeInstanceOf(TypeError);
    expect(await servers.redis.keys('*odd*'), `${what} is not stored, and its lock is released`).toEqual([]);
  }

  const down = new Error('connect ECONNREFUSED');
  let failures = 0;
  const fail = () => {
    failures++;
    if (failures === 2) throw down;
    return Promise.reject(down);
  };
  for (const attempt of [1, 2]) {
    expect(
      await Promise.all(Array.from({ length: 5 }, () => failureOf(cache.getOrLoad('down', fail, TIMES)))),
      'the load has failed: all who share it get its own error',
    ).toEqual(Array.from({ length: 5 }, () => down));
    expect(failures, 'a failure is shared by those who wait for it, and forgotten then').toBe(attempt);
    expect(
      await servers.redis.exists(lockKey('down')),
      'the load has failed: release the lock, others need not wait until it expires',
    ).toBe(0);
  }
  expect(
    told,
    'the callers have been told why their loads failed: onCacheError is for what nobody is told',
  ).toEqual([]);

  for (const [what, px] of [
    ['fresh', FRESH_MS + STALE_MS],
    ['stale', STALE_MS],
  ] as const) {
    await servers.redis.set(entryKey(KEY), '{"name":"Ena', 'PX', px);
    await servers.redis.set(lockKey(KEY), 'the token of another', 'PX', LOCK_MS);
    expect(
      await soon(failureOf(cache.getOrLoad(KEY, load, { ...TIMES, waitMs: 0 }))),
      `bytes that are no JSON, ${what} by their PX, and another has the lock: there is nothing to serve, so wait`,
    ).toBeInstanceOf(WaitTimeoutError);
    await servers.redis.del(lockKey(KEY));
    expect(
      await soon(failureOf(cache.getOrLoad(KEY, load, TIMES))),
      `bytes that are no JSON, ${what} by their PX: they are nothing, so load`,
    ).toEqual({ name: MUG });
    expect(
      await servers.redis.get(entryKey(KEY)),
      `bytes that are no JSON, ${what} by their PX: store the value over them`,
    ).toBe(JSON.stringify({ name: MUG }));
  }
});

test('who has lost the lock neither stores nor releases', async () => {
  const proxy = await openProxy(servers.redisUrl);
  const cache = createLockedCache({ redis: servers.connectRedis({}, proxy.url) });
  const other = createLockedCache({ redis: servers.redis });
  let endOther = () => {};
  let withoutExpiry = 0;
  /** One round: a load that ends by `end`; `lose` happens before the nth command that follows the load. */
  const round = async (end: 'well' | 'badly', nth: number, lose: () => Promise<unknown>) => {
    await servers.redis.del(entryKey(KEY), lockKey(KEY));
    proxy.schedule(async () => {
      if ((await servers.redis.pttl(lockKey(KEY))) === -1) withoutExpiry++;
    });
    let settle = () => {};
    let begun = false;
    const load = () =>
      new Promise<Product>((resolve, reject) => {
        begun = true;
        settle = () => (end === 'well' ? resolve({ name: 'old' }) : reject(new Error('deadlock')));
      });
    const caller = failureOf(cache.getOrLoad(KEY, load, TIMES));
    await until(() => begun);
    let sent = 0;
    let lost = await inRedis();
    proxy.schedule(async () => {
      if (++sent !== nth) return;
      await lose();
      lost = await inRedis();
    });
    settle();
    const got = await soon(caller);
    await soon(cache.settled());
    proxy.schedule();
    const now = await inRedis();
    endOther();
    await soon(other.settled());
    return { got, lost, now, isOver: sent < nth };
  };
  const inRedis = async () => {
    const [entry, lock] = await servers.redis.mget(entryKey(KEY), lockKey(KEY));
    return { entry, lock };
  };
  const newer = JSON.stringify({ name: 'newer' });
  const losses = {
    async 'another holds the lock'() {
      await servers.redis.del(entryKey(KEY), lockKey(KEY));
      let begun = false;
      void other.getOrLoad(
        KEY,
        () => {
          begun = true;
          return new Promise<Product>((resolve) => {
            endOther = () => resolve({ name: 'newer' });
          });
        },
        TIMES,
      );
      await until(() => begun);
    },
    'another has had the lock, and stored': () =>
      servers.redis.multi().set(entryKey(KEY), newer, 'PX', FRESH_MS).del(lockKey(KEY)).exec(),
    'a writer has deleted entry and lock': () => servers.redis.del(entryKey(KEY), lockKey(KEY)),
  };
  for (const end of ['well', 'badly'] as const) {
    for (const [what, lose] of Object.entries(losses)) {
      for (let nth = 1; ; nth++) {
        const { got, lost, now, isOver } = await round(end, nth, lose);
        if (isOver) {
          expect(now.lock, `the load has ended ${end}, and the lock was kept: release it`).toBeNull();
          break;
        }
        const when = `${what}, since just before command ${nth} after a load that ended ${end}`;
        expect(now.lock, `${when}: compare the token and delete the lock in one step`).toBe(lost.lock);
        expect(now.entry, `${when}: compare the token and store the value in one step`).toBe(lost.entry);
        if (end === 'well') expect(got, `${when}: its caller still gets the value`).toEqual({ name: 'old' });
      }
    }
  }

  // A refresh, and a load of the same object behind it.
  await servers.redis.set(entryKey(KEY), '{"name":"stale"}', 'PX', STALE_MS - 1_000);
  const ends: ((product: Product) => void)[] = [];
  const load = () => new Promise<Product>((resolve) => ends.push(resolve));
  await soon(cache.getOrLoad(KEY, load, TIMES));
  await until(() => ends.length === 1);
  await servers.redis.del(entryKey(KEY), lockKey(KEY));
  const second = cache.getOrLoad(KEY, load, TIMES);
  await until(() => ends.length === 2);
  let sent = 0;
  proxy.schedule(async () => {
    sent++;
  });
  ends[0]?.({ name: 'old' });
  await until(() => sent > 0);
  proxy.schedule();
  ends[1]?.({ name: 'newer' });
  expect(
    await soon(second),
    'a writer has deleted entry and lock during a refresh: who comes now takes the lock, and loads',
  ).toEqual({ name: 'newer' });
  await soon(cache.settled());
  expect(
    (await inRedis()).entry,
    'a refresh has lost its lock to a load of the same object: a new token each time the lock is taken',
  ).toBe(newer);
  expect(
    withoutExpiry,
    'a process that is killed between two commands leaves its lock for ever: take it and give it its expiry in one step',
  ).toBe(0);
});

test('no interleaving begins more loads than there were locks', async () => {
  let loads = 0;
  let expired = 0;
  const read = ({ redis, db }: Pick<typeof servers, 'redis' | 'db'>) =>
    createLockedCache({ redis }).getOrLoad(
      KEY,
      async () => {
        loads++;
        await db.query('SELECT name FROM products WHERE id = 1');
        return loads;
      },
      { ...TIMES, waitMs: 0 },
    );
  await explore(servers, {
    runs: 40,
    async prepare() {
      loads = 0;
      expired = 0;
      await servers.redis.del(entryKey(KEY), lockKey(KEY));
    },
    actors: {
      first: read,
      second: read,
      third: read,
      async expiry({ redis }) {
        expired = await redis.del(lockKey(KEY));
      },
    },
    // It does not wait for the others.
    mayReject: (error) => error instanceof WaitTimeoutError,
    async verdict() {
      if (loads === 0) return 'nobody has loaded: one of the three gets the lock';
      const allowed = 1 + expired;
      if (loads <= allowed) return undefined;
      return `${loads} loads, although ${expired ? 'only one lock expired under its holder' : 'no lock expired'}: ${allowed} at most`;
    },
  });
});

test('a stale value is served at once, while one process refreshes it', async () => {
  const told: unknown[] = [];
  const onCacheError = (error: unknown) => {
    told.push(error);
    throw new Error('the log is down too');
  };
  const processes = [servers.redis, servers.connectRedis()].map((redis) =>
    createLockedCache({ redis, onCacheError }),
  );
  const settled = () => soon(Promise.all(processes.map((cache) => cache.settled())));
  const proxy = await openProxy(servers.mysqlUrl);
  const { source, load } = productSource(servers.connectDb({}, proxy.url));
  const readAll = (loading = load) =>
    soon(
      Promise.all(
        processes.flatMap((cache) =>
          Array.from({ length: 10 }, () => failureOf(cache.getOrLoad(KEY, loading, TIMES))),
        ),
      ),
    );
  const stale = Array.from({ length: 20 }, () => ({ name: MUG }));
  await processes[0]?.getOrLoad(KEY, load, TIMES);
  await servers.redis.pexpire(entryKey(KEY), STALE_MS + 5_000);
  await readAll();
  await settled();
  expect(source.loads, 'more than staleMs of the entry is left: it is fresh').toBe(1);

  let refreshed = 0;
  const refresh = async () => ({ name: `refreshed ${++refreshed}` });
  await soon(
    Promise.all(
      Array.from({ length: 20 }, (_, i) => {
        // Sent together with the look: PTTL has not moved on.
        void servers.redis.set(entryKey(`edge:${i}`), '{"name":"stale"}', 'PX', STALE_MS);
        return processes[0]?.getOrLoad(`edge:${i}`, refresh, TIMES);
      }),
    ),
  );
  await settled();
  expect(refreshed, 'staleMs of the entry is left, and no more: it is stale').toBe(20);

  await servers.redis.set(entryKey('none'), 'null', 'PX', STALE_MS);
  expect(
    await processes[0]?.getOrLoad('none', async () => 'loaded', TIMES),
    'null is a value: it is served while it is stale, too',
  ).toBeNull();
  await settled();

  await servers.redis.pexpire(entryKey(KEY), STALE_MS);
  await servers.db.query("UPDATE products SET name = 'Steel mug' WHERE id = 1");
  const gate = proxy.hold(/SELECT .* FROM products/i);
  expect(
    await readAll(),
    'the value is stale and the SELECT is held: nobody waits, not even who refreshes',
  ).toEqual(stale);
  await gate.arrived;
  expect(await readAll(), 'a refresh is going on: the stale value serves those who come now too').toEqual(
    stale,
  );
  expect(source.loads, '40 calls in two processes saw the stale value: one refreshes it').toBe(2);
  gate.release();
  await settled();
  expect(await readAll(), 'the refresh has ended: serve what it has loaded').toEqual(
    stale.map(() => ({ name: 'Steel mug' })),
  );
  expect(await servers.redis.pttl(entryKey(KEY)), 'what was refreshed is fresh again').toBeGreaterThan(
    STALE_MS,
  );
  expect(await servers.redis.exists(lockKey(KEY)), 'the refresh has stored its value: release the lock').toBe(
    0,
  );

  await servers.redis.pexpire(entryKey(KEY), 5_000);
  const unhandled = unhandledRejections();
  let failures = 0;
  const down = new Error('connect ECONNREFUSED');
  const fail = () => {
    failures++;
    return Promise.reject(down);
  };
  for (let i = 0; i < 3; i++) {
    expect(await readAll(fail), 'the refresh has failed: that is not the matter of its readers').toEqual(
      stale.map(() => ({ name: 'Steel mug' })),
    );
    await settled();
  }
  await new Promise((resolve) => setTimeout(resolve, 5));
  expect(
    unhandled(),
    'nobody awaits a refresh: catch whatever it throws, and what onCacheError throws',
  ).toEqual([]);
  expect(failures, 'the source has just failed: leave the lock, nobody refreshes before it has expired').toBe(
    1,
  );
  expect(told, 'a load in the background has failed: tell onCacheError').toEqual([down]);
  expect(
    await servers.redis.pttl(entryKey(KEY)),
    'a refresh that has failed does not prolong the life of the value',
  ).toBeLessThanOrEqual(5_000);
});

test('a load ends with its lock', async () => {
  const told: unknown[] = [];
  const cache = createLockedCache({ redis: servers.redis, onCacheError: (error) => told.push(error) });
  const other = createLockedCache({ redis: servers.connectRedis() });
  const short = { ...TIMES, lockMs: 150, waitMs: 20 };
  const late: ((product: Product) => void)[] = [];
  const slow = {
    'goes on': () => new Promise<Product>((resolve) => late.push(resolve)),
    'gives up by itself': (signal: AbortSignal) =>
      new Promise<Product>((_, reject) =>
        signal.addEventListener('abort', () => reject(new Error('Query execution was interrupted'))),
      ),
  };
  const overdue = async (what: keyof typeof slow) => {
    const signals: AbortSignal[] = [];
    let abortedEarly = false;
    let outlives: boolean | undefined;
    const load = async (signal: AbortSignal) => {
      signals.push(signal);
      abortedEarly ||= signal.aborted;
      setTimeout(() => {
        outlives = !signal.aborted;
      }, 1.5 * short.lockMs);
      const loading = slow[what](signal);
      // Longer than it would live, so that it can be seen who deletes it.
      await servers.redis.pexpire(lockKey(what), 10_000);
      return loading;
    };
    expect(
      await soon(Promise.all([1, 2, 3].map(() => failureOf(cache.getOrLoad(what, load, short))))),
      `a load that ${what} when its lock ends: its callers get LoadTimeoutError, after lockMs`,
    ).toEqual([1, 2, 3].map(() => expect.any(LoadTimeoutError)));
    expect(abortedEarly, 'the load has only begun: its signal is not aborted').toBe(false);
    await until(() => outlives !== undefined);
    expect(outlives, 'the lock would have expired by now, and the load went on: it has lockMs, no more').toBe(
      false,
    );
    expect(signals[0]?.aborted, 'nobody waits for this load any more: abort its signal').toBe(true);
    expect(
      await servers.redis.exists(lockKey(what)),
      `a load that ${what}: it may still be at work, so leave the lock to expire`,
    ).toBe(1);
    for (const reader of [cache, other]) {
      expect(
        await soon(failureOf(reader.getOrLoad(what, load, short))),
        'the lock of a load that was late is still there: no other load begins, in no process',
      ).toBeInstanceOf(WaitTimeoutError);
    }
    expect(signals.length, 'one load begins for each lock, and no more').toBe(1);
  };
  await Promise.all([overdue('goes on'), overdue('gives up by itself')]);
  for (const answer of late) answer({ name: 'too late' });
  await new Promise((resolve) => setTimeout(resolve, 5));
  expect(await servers.redis.exists(entryKey('goes on')), 'what came after the deadline is not stored').toBe(
    0,
  );

  await servers.redis.del(lockKey('goes on'));
  const { load } = productSource();
  expect(
    await soon(failureOf(cache.getOrLoad('goes on', load, TIMES))),
    'the late load is forgotten: load again',
  ).toEqual({ name: MUG });
  await servers.redis.pexpire(entryKey('goes on'), STALE_MS);
  let background: AbortSignal | undefined;
  const hang = (signal: AbortSignal) => {
    background = signal;
    return new Promise<Product>(() => {});
  };
  expect(
    await soon(cache.getOrLoad('goes on', hang, { ...TIMES, lockMs: 40 })),
    'a refresh that hangs is not the matter of its reader',
  ).toEqual({ name: MUG });
  expect(
    await soon(cache.settled().then(() => 'settled')),
    'a load in the background ends with its lock too',
  ).toBe('settled');
  expect(background?.aborted, 'a load in the background ends with its lock too: abort its signal').toBe(true);
  expect(told, 'a load in the background was late: tell onCacheError').toContainEqual(
    expect.any(LoadTimeoutError),
  );
});

test('a waiter keeps its own deadline', async () => {
  let draws = 0;
  /** A key whose lock another holds, and a cache that counts its commands. */
  const heldKey = async (key: string) => {
    const proxy = await openProxy(servers.redisUrl);
    const redis = servers.connectRedis({}, proxy.url);
    await redis.ping();
    const random = () => {
      draws++;
      return 0.999;
    };
    const cache = createLockedCache({ redis, random });
    const { source, load } = productSource();
    const read = (waitMs: number, loading: () => Promise<Product> = load) =>
      failureOf(cache.getOrLoad(key, loading, { ...TIMES, waitMs }));
    const hold = () => servers.redis.set(lockKey(key), 'the token of another', 'PX', LOCK_MS);
    const settled = () => soon(cache.settled().then(() => 'settled'));
    const sent = { commands: 0 };
    /** Counts anew; `before` may do something first, or take its time. */
    const count = (before: (nth: number) => Promise<unknown> = async () => {}) => {
      sent.commands = 0;
      proxy.schedule(async () => {
        await before(++sent.commands);
      });
    };
    await hold();
    count();
    expect(await soon(read(0)), 'another loads, and waitMs is 0').toBeInstanceOf(WaitTimeoutError);
    const perLook = sent.commands;
    await servers.redis.set(entryKey(key), '{"name":"there"}', 'PX', FRESH_MS + STALE_MS);
    expect(await soon(read(0)), 'the wait before is over, and forgotten: look anew').toEqual({
      name: 'there',
    });
    expect(await settled(), 'both calls have ended').toBe('settled');
    await servers.redis.del(entryKey(key));
    return { cache, source, read, hold, settled, sent, count, perLook };
  };
  const itsOwnLoad = async () => {
    const { cache, read, settled } = await heldKey('own');
    await servers.redis.del(lockKey('own'));
    let end: (() => void) | undefined;
    const loading = () =>
      new Promise<Product>((resolve) => {
        end = () => resolve({ name: 'loaded here' });
      });
    const own = [read(1, loading)];
    await until(() => end !== undefined);
    own.push(read(0));
    const settling = cache.settled().then(() => 'settled');
    expect(
      await soon(Promise.race(own), 30),
      'this process loads: lockMs is its deadline, waitMs is for those who wait for another process',
    ).toBe('still waiting');
    expect(await soon(settling, 1), 'a load is going on, and its caller waits: settled waits too').toBe(
      'still waiting',
    );
    end?.();
    expect(await soon(Promise.all(own)), 'this process loads: its callers get the value').toEqual(
      own.map(() => ({ name: 'loaded here' })),
    );
    expect(await settled(), 'the load has ended').toBe('settled');
  };

  const takenOver = async () => {
    const key = 'taken over';
    const { read, hold, count, perLook } = await heldKey(key);
    /** Three wait, and the lock is free when they look again. */
    const takeOver = async (waitMs: number) => {
      await servers.redis.del(entryKey(key));
      await hold();
      count(async (nth) => nth > perLook && servers.redis.del(lockKey(key)));
      const from = performance.now();
      let begun:
        | { afterMs: number; end: (product: Product) => void; fail: (error: Error) => void }
        | undefined;
      const loading = () =>
        new Promise<Product>((end, fail) => {
          begun = { afterMs: performance.now() - from, end, fail };
        });
      const waiting = [1, 2, 3].map(() => read(waitMs, loading));
      await until(() => begun !== undefined);
      expect(begun, 'the lock is free again: one of those who wait takes it, and loads').toBeDefined();
      count();
      return { waiting, over: () => pauseFor(from + waitMs + 20 - performance.now()), ...begun };
    };

    const down = new Error('connect ECONNREFUSED');
    const badly = await takeOver(4_000);
    badly.fail?.(down);
    expect(
      await soon(Promise.all(badly.waiting)),
      'one who waited has taken over, and its load has failed: its error is for all who wait here',
    ).toEqual([down, down, down]);
    expect(
      await soon(read(100)),
      'the load of one who had waited has failed, and is forgotten then: load again',
    ).toEqual({ name: MUG });

    let well = await takeOver(120);
    // Too slow a machine to tell: it began when their time was almost over.
    if ((well.afterMs ?? 0) > 60) {
      well.end?.({ name: 'taken over' });
      await Promise.all(well.waiting);
      well = await takeOver(1_200);
    }
    await well.over();
    expect(
      await soon(Promise.race(well.waiting), 1),
      'one who waited has taken over: this process loads, so waitMs bounds nobody who waits here',
    ).toBe('still waiting');
    well.end?.({ name: 'taken over' });
    expect(
      await soon(Promise.all(well.waiting)),
      'one who waited has taken over: all who wait here get the value',
    ).toEqual([1, 2, 3].map(() => ({ name: 'taken over' })));
  };

  const givenUp = async () => {
    const { read, settled, source, sent, count, perLook } = await heldKey('given up');
    count();
    expect(
      await soon(Promise.all(Array.from({ length: 30 }, () => read(120)))),
      'another loads for longer than waitMs: those who wait stop waiting',
    ).toEqual(Array.from({ length: 30 }, () => expect.any(WaitTimeoutError)));
    expect(
      sent.commands / perLook,
      'looks of 30 waiters in 120 ms: they look together, and each pause is longer than the last (10, 20, 40, 80 ms)',
    ).toBeLessThanOrEqual(7);
    expect(draws, 'waiters of all processes must not look at the same time: ask `random`').toBeGreaterThan(0);
    await servers.redis.del(lockKey('given up'));
    await settled();
    await pauseFor(60);
    expect(source.loads, 'all who waited have given up: nobody loads for them').toBe(0);
  };

  const slowLook = async () => {
    const { read, settled, sent, count, perLook } = await heldKey('slow look');
    count(async (nth) => nth === 1 && pauseFor(120));
    expect(await soon(read(100)), 'the first look has taken longer than waitMs').toBeInstanceOf(
      WaitTimeoutError,
    );
    await settled();
    expect(
      sent.commands / perLook,
      'looks of a caller whose first look took longer than waitMs: waitMs counts from the call',
    ).toBeLessThanOrEqual(2);
  };

  const eachByItself = async () => {
    const { cache, read, settled, source, sent, count, perLook } = await heldKey(KEY);
    count();
    const patient = read(4_000);
    expect(
      await soon(read(30)),
      'this caller would wait 30 ms, whatever those had in mind who wait already',
    ).toBeInstanceOf(WaitTimeoutError);
    const settling = cache.settled().then(() => 'settled');
    await until(() => sent.commands >= 4 * perLook);
    expect(await soon(settling, 10), 'a call is still waiting: settled waits too').toBe('still waiting');
    // The pause of the patient one is of 80 ms now.
    await servers.redis.set(entryKey(KEY), '{"name":"stale"}', 'PX', STALE_MS);
    expect(
      await soon(read(0)),
      'there is a value, and others pause: who comes now looks before it pauses or gives up',
    ).toEqual({ name: 'stale' });
    expect(await soon(patient), 'a value has come: it serves those who wait, even if it is stale').toEqual({
      name: 'stale',
    });
    expect(await settled(), 'nobody waits any more').toBe('settled');

    await servers.redis.del(entryKey(KEY));
    const impatient = read(40);
    await new Promise((resolve) => setImmediate(resolve));
    const later = read(4_000);
    expect(await soon(impatient), 'waitMs is over').toBeInstanceOf(WaitTimeoutError);
    expect(
      await soon(later, 20),
      'who came later waits on: the deadline of those who came first is not its own',
    ).toBe('still waiting');
    await servers.redis.set(entryKey(KEY), '{"name":"fresh"}', 'PX', FRESH_MS + STALE_MS);
    expect(await soon(later), 'a value has come before its own deadline').toEqual({ name: 'fresh' });
    expect(source.loads, 'another holds the lock: who has waited in vain does not load either').toBe(0);
  };

  const newcomer = async () => {
    const { read, hold, sent, count, perLook } = await heldKey('newcomer');
    // It looks five times, with pauses of 10, 20, 40, 80 and 160 ms after them: at its deadline it is in the last one.
    const waitMs = 300;
    const inTime = waitMs - 15;
    for (let tries = 0, beganAfter = waitMs; tries < 8 && beganAfter > inTime; tries++) {
      await servers.redis.del(entryKey('newcomer'));
      await hold();
      const from = performance.now();
      let end: (() => void) | undefined;
      const loading = () =>
        new Promise<Product>((resolve) => {
          end = () => resolve({ name: 'loaded here' });
        });
      count();
      const waiting = read(waitMs, loading);
      await until(() => sent.commands >= 5 * perLook);
      await pauseFor(20);
      await servers.redis.del(lockKey('newcomer'));
      const coming = read(4_000, loading);
      await until(() => end !== undefined);
      beganAfter = performance.now() - from;
      await pauseFor(from + waitMs + 20 - performance.now());
      const left = await soon(waiting, 1);
      end?.();
      const got = await soon(Promise.all([waiting, coming]));
      // Too slow a machine to tell: the load began when the time was almost over.
      if (beganAfter > inTime) continue;
      expect(left, 'a newcomer of this process has begun to load: waitMs no longer bounds who paused').toBe(
        'still waiting',
      );
      expect(got, 'a newcomer of this process has loaded: who paused gets the value, too').toEqual(
        [1, 2].map(() => ({ name: 'loaded here' })),
      );
    }
  };

  await together(itsOwnLoad, takenOver, givenUp, slowLook, eachByItself, newcomer);

  const longest = [0, 1, 2, 3, 4, 5, 50].map((attempt) => pauseMs(attempt, () => 0.999999));
  expect(
    longest.map((ms) => Math.round(ms)),
    'a pause grows, up to LONGEST_PAUSE_MS',
  ).toEqual([10, 20, 40, 80, 160, 160, 160]);
  expect([FIRST_PAUSE_MS, LONGEST_PAUSE_MS], 'the constants are given').toEqual([10, 160]);
  expect(
    pauseMs(2, () => 0),
    'chance takes half of a pause at most',
  ).toBe(20);
  expect(
    pauseMs(2, () => 0.5),
    'chance takes its share of the other half',
  ).toBe(30);
});

test('without Redis, calls load together, and in bounded time', async () => {
  const down = new Error('connect ECONNREFUSED');
  const fail = () => Promise.reject(down);
  const open = async (commandTimeout: number) => {
    const proxy = await openProxy(servers.redisUrl);
    const redis = servers.connectRedis({ commandTimeout, retryStrategy: () => 10 }, proxy.url);
    onTestFinished(() => redis.disconnect());
    const told = new Set<string>();
    const onCacheError = (_: unknown, key: string) => {
      told.add(key);
      throw new Error('the log is down too');
    };
    const create = () => createLockedCache({ redis, onCacheError });
    /** Redis answers again, and has done all that was asked of it meanwhile. */
    const healed = async () => {
      await proxy.heal();
      await until(() => redis.status === 'ready');
      await redis.ping().catch(() => {});
    };
    await healed();
    return { proxy, create, cache: create(), told, healed, ...productSource() };
  };

  const away = (what: string, fault: 'stall' | 'refuse') => async () => {
    const { proxy, cache, told, healed, source, load } = await open(50);
    await proxy[fault]();
    const [reads, failed, brief, hung] = await Promise.all([
      soon(Promise.all(Array.from({ length: 10 }, () => failureOf(cache.getOrLoad(what, load, TIMES))))),
      soon(failureOf(cache.getOrLoad(`down: ${what}`, fail, TIMES))),
      soon(failureOf(cache.getOrLoad(`brief: ${what}`, () => pauseFor(5, MUG), { ...TIMES, lockMs: 40 }))),
      soon(
        failureOf(cache.getOrLoad(`hung: ${what}`, () => new Promise(() => {}), { ...TIMES, lockMs: 40 })),
      ),
    ]);
    expect(reads, `Redis ${what}: load`).toEqual(Array.from({ length: 10 }, () => ({ name: MUG })));
    expect(new Set<unknown>(reads).size, `Redis ${what}: calls share the load, but no object`).toBe(10);
    expect(source.loads, `Redis ${what}: now of all times, calls share a load`).toBe(1);
    expect([...told], `Redis ${what}: tell onCacheError`).toContain(what);
    expect(failed, `Redis ${what} and the load fails: its error is the one to throw`).toBe(down);
    expect(
      brief,
      `Redis ${what}, and that takes longer than lockMs: a load has lockMs from its own beginning`,
    ).toBe(MUG);
    expect(hung, `Redis ${what} and the load hangs: it ends after lockMs, lock or no lock`).toBeInstanceOf(
      LoadTimeoutError,
    );
    await healed();
    expect(await servers.redis.exists(entryKey(what)), `Redis ${what}: store nothing`).toBe(0);
  };

  const fallsSilent = async () => {
    const { proxy, create, cache, told, healed, load } = await open(250);
    await servers.redis.set(entryKey('stale'), '{"name":"stale"}', 'PX', STALE_MS);
    await servers.redis.set(lockKey('waiting'), 'the token of another', 'PX', LOCK_MS);
    let begun = 0;
    const ends: (() => void)[] = [];
    /** A load that ends when Redis has fallen silent. */
    const read = (key: string, end: () => Promise<Product>) =>
      failureOf(
        cache.getOrLoad(
          key,
          async () => {
            begun++;
            await new Promise<void>((resolve) => ends.push(resolve));
            return end();
          },
          TIMES,
        ),
      );
    const answers = [read('well', load), read('badly', fail)];
    const stale = await soon(read('stale', load));
    const waiting = failureOf(create().getOrLoad('waiting', load, TIMES));
    await until(() => begun === 3);
    await soon(waiting, 10);
    proxy.stall();
    for (const end of ends) end();
    expect(stale, 'the value is stale, and its refresh held: serve it').toEqual({ name: 'stale' });
    expect(
      await soon(Promise.all(answers)),
      'Redis fell silent during two loads: one gives its value, one its error',
    ).toEqual([{ name: MUG }, down]);
    expect(await soon(waiting), 'Redis fell silent while this call waited: load').toEqual({ name: MUG });
    expect(
      await soon(cache.settled().then(() => 'settled')),
      'Redis fell silent during a refresh: it ends in bounded time',
    ).toBe('settled');
    expect(
      [...told].sort(),
      'Redis fell silent before a store, a release, the store of a refresh, and a look: tell onCacheError of each',
    ).toEqual(['badly', 'stale', 'waiting', 'well']);
    await healed();
    expect(await servers.redis.get(lockKey('waiting')), 'the lock is still that of another').toBe(
      'the token of another',
    );
    expect(await servers.redis.exists(entryKey('waiting')), 'Redis had fallen silent: store nothing').toBe(0);
  };

  await together(away('gives no answer', 'stall'), away('refuses connections', 'refuse'), fallsSilent);
});

const pauseFor = <T>(ms: number, value?: T) =>
  new Promise<T | undefined>((resolve) => setTimeout(() => resolve(value), ms));

/** Reads product 1, and counts how often. */
function productSource(db = servers.db) {
  const source = { loads: 0 };
  const load = async (_signal?: AbortSignal): Promise<Product> => {
    source.loads++;
    const [[row]] = await db.query<RowDataPacket[]>('SELECT name FROM products WHERE id = 1');
    return { name: row?.name };
  };
  return { source, load };
}

/** What a promise resolves to, or what it rejects with; "not implemented" is thrown on. */
const failureOf = <T>(promise: Promise<T>): Promise<T | Error> =>
  promise.catch((error: Error) => {
    if (error.message === 'not implemented') throw error;
    return error;
  });

/** Runs scenes at the same time, each on keys of its own; when all have ended, throws what the first has thrown. */
async function together(...scenes: (() => Promise<void>)[]) {
  for (const scene of await Promise.allSettled(scenes.map((play) => play())))
    if (scene.status === 'rejected') throw scene.reason;
}
