import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import type { Redis } from 'ioredis';
import { beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { connected, leave, redisBehindProxy, refusingRedis } from '#kit/faulty-redis';
import { signal } from '#kit/gate';
import { lateness } from '#kit/lateness';
import { type FaultyProxy, openProxy } from '#kit/proxy';
import { nameRequests } from '#kit/requests';
import { useServers } from '#kit/servers';
import { drained } from '#kit/strikes';
import { outcome, rejectionOf, soon, unhandledRejections, until } from '#kit/waiting';
import {
  CAPACITY,
  CREATE_VOUCHERS,
  DEADLINE_MS,
  FILTER_KEY,
  InvalidCodeError,
  MAX_ABSENT,
  REBUILD_LOCK_MS,
  type Voucher,
} from './given';
import { createVouchers, type Options, type Vouchers } from './penetration';

const servers = useServers();

/** Looks at keys, so the red screen leaves it out. */
let watcher: Redis;
beforeAll(async () => {
  watcher = servers.connectRedis();
  nameRequests(watcher, '');
  await servers.db.query(CREATE_VOUCHERS);
});
beforeEach(async () => {
  await servers.db.query('DELETE FROM vouchers');
});

/** A deadline that no busy machine misses. */
const PATIENT_MS = 20_000;
const SUMMER = { code: 'SUMMER10', percent: 10 };
const WINTER = { code: 'WINTER30', percent: 30 };

describe('Core', () => {
  test('a voucher is read from MySQL once, and an unknown code is asked for once', async () => {
    await insert(SUMMER, WINTER);
    const { db, lookups } = await countedDb();
    const vouchers = open({ db });
    // The unknown one first: for the first find, there is no filter.
    for (const [code, expected] of [
      ['NOBODY77', null],
      ['SUMMER10', SUMMER],
    ] as const) {
      for (const nth of ['first', 'second', 'third']) {
        expect(await vouchers.find(code), `${nth} find of ${code}`).toEqual(expected);
      }
      expect(lookups(), `SELECTs for three finds of ${code}`).toBe(1);
    }
    await shortenLives(20_000);
    await vouchers.find('SUMMER10');
    expect(
      await longestLife(),
      'ms that the longest entry has to live: 20,000 were left before one more find',
    ).toBeLessThanOrEqual(20_000);
    const closed = servers.connectDb();
    await closed.end();
    expect(
      await rejectionOf(() => open({ db: closed }).find('WINTER30')),
      'find while MySQL cannot be asked: it must reject',
    ).toBeInstanceOf(Error);
    expect(await vouchers.find('WINTER30'), 'find after a SELECT that failed').toEqual(WINTER);
  });

  test('after a rebuild, codes that do not exist do not reach MySQL', async () => {
    await insert(...some(CAPACITY));
    const { db, lookups } = await countedDb();
    const vouchers = open({ db });
    await rebuilt(vouchers);
    const bots = codes('BOT', 500);
    await inTurns(bots, async (code) => {
      expect(await vouchers.find(code), `find of ${code}, which does not exist`).toBeNull();
    });
    expect(
      (lookups() / bots.length) * 100,
      `% of ${bots.length} codes that do not exist and reach MySQL: ${HASHES_SAY}`,
    ).toBeLessThan(2.5);
  });

  test('no voucher that exists is taken for unknown', async () => {
    await insert(...some(CAPACITY));
    const vouchers = open();
    await rebuilt(vouchers);
    const sample = some(CAPACITY).filter((_, at) => at % 4 === 0);
    expect(
      await unknownOf(sample),
      `vouchers that find calls unknown: there are ${CAPACITY}, and the filter was built from them`,
    ).toEqual([]);

    const imported = codes('IMP', 20).map((code) => ({ code, percent: 5 }));
    await insert(...imported);
    await rebuilt(vouchers);
    expect(
      await unknownOf(imported),
      'vouchers that find calls unknown: another program has inserted 20, and rebuild was called after it',
    ).toEqual([]);
  });

  test('a voucher that was deleted is asked for once, and its absence is forgotten after absentTtlMs', async () => {
    await insert(SUMMER, WINTER);
    const { db, lookups } = await countedDb();
    const vouchers = open({ db });
    await rebuilt(vouchers);
    await servers.db.query('DELETE FROM vouchers');
    const lasting = await keysThatStay();
    const process = open({ db, redis: servers.connectRedis() });
    for (const finder of [vouchers, vouchers, process]) {
      expect(await finder.find('SUMMER10'), 'find of a voucher that was deleted').toBeNull();
    }
    expect(
      lookups(),
      'SELECTs for three finds of a voucher that was deleted: two in one process, one in another one',
    ).toBe(1);
    await shortenLives(10_000);
    await vouchers.find('SUMMER10');
    expect(
      await longestLife(),
      'ms that the absence has to live: 10,000 were left before one more find',
    ).toBeLessThanOrEqual(10_000);

    const forgetful = open({ absentTtlMs: 60 });
    await forgetful.find('WINTER30');
    await insert(WINTER);
    await sleep(70);
    expect(
      await forgetful.find('WINTER30'),
      'find 70 ms after it was absent, with absentTtlMs 60: another program has inserted it again',
    ).toEqual(WINTER);
    expect(await keysThatStay(), 'keys that never expire, after the finds: as before them').toEqual(lasting);
  });

  test('a voucher that is created is found at once, although its code was asked for before', async () => {
    const [first, second] = [open(), open({ redis: servers.connectRedis() })];
    for (const [code, scene] of [
      ['SUMMER10', 'there was no filter'],
      ['AUTUMN20', 'the filter was built before the creation'],
    ] as const) {
      expect(await first.find(code), `find of ${code} before it is created`).toBeNull();
      const voucher = { code, percent: 10 };
      expect(await outcome(second.create(voucher)), `create of ${code}`).toBeUndefined();
      for (const vouchers of [first, second]) {
        expect(await vouchers.find(code), `find of ${code}, which was created: ${scene}`).toEqual(voucher);
      }
      await passTime();
      expect(
        await first.find(code),
        `find of ${code}, which was created, when its entry has expired: ${scene}`,
      ).toEqual(voucher);
      await rebuilt(first);
    }
    const lasting = await keysThatStay();
    await second.create(WINTER);
    expect(await keysThatStay(), 'keys that never expire, after a creation: as before it').toEqual(lasting);
    expect(
      await rejectionOf(() => first.create({ code: 'SUMMER10', percent: 99 })),
      'a second creation of SUMMER10: it must reject',
    ).toMatchObject({ code: 'ER_DUP_ENTRY' });
  });
});

describe('In production', () => {
  test('after the filter is lost, vouchers that exist are still found, also after a creation', async () => {
    await insert(SUMMER);
    for (const [nth, [event, lose]] of LOSSES.entries()) {
      const vouchers = open();
      await rebuilt(vouchers);
      await passTime();
      await lose();
      await outcome(vouchers.create({ code: `NEW${nth}`, percent: 20 }));
      expect(
        await vouchers.find('SUMMER10'),
        `find of an old voucher: Redis has ${event}, and a voucher was created since`,
      ).toEqual(SUMMER);
    }
  });

  test('a filter that is lost while it is built is not used', async () => {
    for (const [event, lose] of LOSSES) {
      await atEachStep(async (step, strike) => {
        await watcher.flushdb();
        const created = { code: `DURING${step}`, percent: 1 };
        await strike(async () => {
          await outcome(other().create(created));
          await lose();
        });
        await passTime();
        expect(
          await unknownOf([...some(1), created]),
          `vouchers that find calls unknown: before request ${step} of a rebuild, DURING${step} was created, and then Redis ${event}`,
        ).toEqual([]);
      });
    }
    await expectHalfIsNotUsed();
  });

  test('while a filter is built, every voucher is found, and so is each that is created meanwhile', async () => {
    for (const scene of ['there is no filter', 'there is a filter already']) {
      await atEachStep(async (step, strike) => {
        if (scene === 'there is no filter') await watcher.flushdb();
        const created = { code: `DURING${step}`, percent: 1 };
        await strike(async () => {
          await outcome(other().create(created));
          expect(
            await unknownOf([...some(1), created]),
            `vouchers that find calls unknown before request ${step} of a rebuild; ${scene}`,
          ).toEqual([]);
        });
        await passTime();
        expect(
          await unknownOf([created]),
          `vouchers that find calls unknown after a rebuild: this one was created before its request ${step}; ${scene}`,
        ).toEqual([]);
      });
    }
    await expectOvertaken();
  });

  test('a lost filter is rebuilt in the background by one process, or by the next one if that one dies', async () => {
    await insert(SUMMER);
    const { db, build, others } = await heldScan();
    const processes = [1, 2, 3].map(() => open({ redis: servers.connectRedis(), db }));
    const finds = [...processes, ...processes].map((vouchers) => vouchers.find('SUMMER10'));
    expect(
      await Promise.race([outcome(Promise.all(finds), PATIENT_MS), rounds('still waiting')]),
      'six finds of SUMMER10 in three processes, while the rebuild waits for MySQL',
    ).toEqual(finds.map(() => SUMMER));
    expect(
      await Promise.race([outcome(build.arrived, PATIENT_MS), rounds('still waiting')]),
      'a scan of the table must begin',
    ).toBeUndefined();
    for (const vouchers of processes) await outcome(vouchers.find('SUMMER10'));
    await sleep(20);
    expect(others.scans, 'more scans of the table, by two other processes').toBe(0);

    // The first process is never heard of again.
    await passTime(REBUILD_LOCK_MS);
    const nextDb = await countedDb();
    const next = open({ redis: servers.connectRedis(), db: nextDb.db });
    await expectRebuilt(
      next,
      nextDb.lookups,
      'the process that rebuilt it has died, and REBUILD_LOCK_MS is over',
    );
    await watcher.del(FILTER_KEY);
    await passTime(REBUILD_LOCK_MS);
    await expectRebuilt(next, nextDb.lookups, 'it was lost a second time');
  });

  test('rebuilds that overlap enter every code, and complete the filter', async () => {
    await atEachStep(async (step, strike) => {
      const imported = { code: `IMPORT${step}`, percent: 1 };
      let second: Promise<unknown> | undefined;
      await strike(async () => {
        await insert(imported);
        second = outcome(other().rebuild(), 3000);
        // It may wait for the first one.
        await Promise.race([second, sleep(100)]);
      });
      await second;
      expect(
        await unknownOf([imported]),
        `vouchers that find calls unknown: another program inserted it before request ${step} of a rebuild, and then a second rebuild was called`,
      ).toEqual([]);
    });

    await watcher.flushdb();
    const [first, slow] = [await heldScan(), await heldScan()];
    const rebuilding = outcome(open({ db: first.db }).rebuild(), 3000);
    await soon(first.build.arrived);
    const late = outcome(open({ db: slow.db }).rebuild(), 3000);
    await soon(slow.build.arrived, 200);
    first.build.release();
    expect(await rebuilding, 'a rebuild, while a second one waits for MySQL').toBeUndefined();
    const { db, lookups } = await countedDb();
    await inTurns(codes('BOT', 20), (code) => open({ db }).find(code));
    expect(
      lookups(),
      'SELECTs for 20 unknown codes, after a rebuild: a second one began meanwhile, and has not ended',
    ).toBeLessThan(5);
    await watcher.flushdb();
    await outcome(other().create(SUMMER));
    expect(
      await unknownOf([...some(1), SUMMER]),
      'vouchers that find calls unknown: while the second one waits for MySQL, Redis lost all keys, and SUMMER10 was created',
    ).toEqual([]);
    slow.build.release();
    await late;
  });

  test('a flood of unknown codes leaves at most MAX_ABSENT absences, and new ones are still remembered', async () => {
    const { db, lookups } = await countedDb();
    const vouchers = open({ db });
    const flood = codes('BOT', 4 * MAX_ABSENT);
    const later = codes('NEXT', 5);
    // They were deleted, so all of them pass the filter.
    await insert(...[...flood, ...later].map((code) => ({ code, percent: 5 })));
    await rebuilt(vouchers);
    await servers.db.query('DELETE FROM vouchers');
    const before = await memory();
    await inTurns([...flood, ...codes('RANDOM', 200)], (code) => vouchers.find(code));
    lookups();
    const after = await memory();
    const scene = `after ${flood.length} codes of deleted vouchers and 200 random ones`;
    expect(after.keys - before.keys, `keys ${scene}: MAX_ABSENT is ${MAX_ABSENT}`).toBeLessThan(
      MAX_ABSENT + 5,
    );
    expect(
      (after.bytes - before.bytes) / MAX_ABSENT,
      `bytes for each of MAX_ABSENT absences, ${scene}`,
    ).toBeLessThan(300);
    for (const code of later) {
      for (const _ of ['first', 'second']) await vouchers.find(code);
      expect(lookups(), `SELECTs for two finds of ${code}, ${scene}`).toBe(1);
    }
    await inTurns(later, (code) => vouchers.find(code));
    // Two of them may share a place.
    expect(lookups(), `SELECTs for a third find of ${later.length} codes, ${scene}`).toBeLessThan(4);
    const real = codes('REAL', 10).map((code) => ({ code, percent: 5 }));
    await insert(...real);
    await rebuilt(vouchers);
    expect(await unknownOf(real), `vouchers that find calls unknown, ${scene}`).toEqual([]);
  });

  test('a slow reader that read an absence does not hide a voucher that was created since', async () => {
    await outcome(other().create(SUMMER));
    await rebuilt(other());
    await servers.db.query('DELETE FROM vouchers');
    await passTime();

    const { finder, storing, release } = await slowReader();
    const finding = finder.find('SUMMER10');
    await soon(Promise.race([storing, outcome(finding)]));
    await outcome(other().create(SUMMER));
    release();
    await outcome(finding);
    expect(
      await other().find('SUMMER10'),
      'find after the creation: a reader has read the absence before it, and stores it after it',
    ).toEqual(SUMMER);
  });

  test('a creation that the filter did not take is refused, and leaves no voucher', async () => {
    const refusing = await refusingRedis(servers);
    const silent = await redisBehindProxy(servers);
    await silent.proxy.stall();
    const db = servers.connectDb({ connectionLimit: 2 });
    for (const [scene, redis] of [
      ['Redis refuses the command (NOPERM)', refusing.redis],
      ['Redis is silent', silent.redis],
    ] as const) {
      const vouchers = open({ redis, db, deadlineMs: DEADLINE_MS });
      expect(
        await outcome(vouchers.create(SUMMER)),
        `create: ${scene}, and the filter does not have the code`,
      ).toEqual(expect.stringMatching(/^rejected/));
      const [rows] = await servers.db.query('SELECT code FROM vouchers');
      expect(rows, `rows of MySQL after a creation that was refused: ${scene}`).toEqual([]);
    }
    await silent.proxy.heal();
    expect(
      await outcome(open({ db }).create(SUMMER)),
      'the same creation, with Redis, on a pool of two connections: each refusal must give its own back',
    ).toBeUndefined();
  });

  test('Redis that does not answer costs a find one deadline, and hides no voucher', async () => {
    await insert(SUMMER);
    const faults: Readonly<Record<string, (proxy: FaultyProxy) => unknown>> = {
      'refuses connections': (proxy) => proxy.refuse(),
      'is silent': (proxy) => proxy.stall(),
    };
    for (const [fault, strike] of Object.entries(faults)) {
      const { result, lateMs } = await lateness({
        open: async () => {
          const { proxy, redis } = await redisBehindProxy(servers);
          const errors: unknown[] = [];
          const vouchers = open({ redis, deadlineMs: DEADLINE_MS, onError: (error) => errors.push(error) });
          await strike(proxy);
          return { redis, vouchers, errors };
        },
        call: async ({ vouchers, errors }) => ({
          voucher: await vouchers.find('SUMMER10'),
          reported: errors.length > 0,
        }),
        reference: () => sleep(DEADLINE_MS),
        toleratedMs: TOLERATED_MS,
      });
      expect(result, `find of SUMMER10: Redis ${fault}`).toEqual({ voucher: SUMMER, reported: true });
      expect(lateMs, `ms beyond one deadline that a find takes: Redis ${fault}`).toBeLessThan(TOLERATED_MS);
    }
    const unhandled = unhandledRejections();
    const { redis, refuseReads } = await refusingRedis(servers);
    const vouchers = open({ redis });
    for (const refused of ['every write', 'every command']) {
      expect(
        await outcome(vouchers.find('SUMMER10')),
        `find of SUMMER10: Redis refuses ${refused} (NOPERM)`,
      ).toEqual(SUMMER);
      await drained(servers.redis);
      await refuseReads();
    }
    expect(unhandled(), 'rejections that nobody has caught: they end the process').toEqual([]);
  });

  test('a text that is not a code is refused without a request', async () => {
    const { db, lookups } = await countedDb(/./);
    const { redis, proxy } = await redisBehindProxy(servers);
    let commands = 0;
    proxy.schedule(async () => {
      commands++;
    });
    const vouchers = open({ redis, db });
    const long = 'A'.repeat(100_000);
    const texts = ['', 'ABC', 'SUMMER 10', 'SUMMER10\n', "' OR 1=1 --", 'summer10', '\ud800AAAA', long];
    for (const text of texts) {
      const shown = inspect(text.slice(0, 20));
      expect(await outcome(vouchers.find(text)), `find of ${shown}`).toBeNull();
      expect(
        await rejectionOf(() => vouchers.create({ code: text, percent: 1 })),
        `create of ${shown}`,
      ).toBeInstanceOf(InvalidCodeError);
    }
    const requests = { redis: commands, mysql: lookups() };
    expect(requests, `requests for ${texts.length} texts that are not codes`).toEqual({ redis: 0, mysql: 0 });
  });
});

/** Beyond one deadline. */
const TOLERATED_MS = DEADLINE_MS * 0.8;

const LOSSES: readonly (readonly [event: string, lose: () => Promise<unknown>])[] = [
  ['evicted the filter', () => watcher.del(FILTER_KEY)],
  ['lost all keys', () => watcher.flushdb()],
];

const HASHES_SAY = 'with 10 bits for each code and 7 hashes, theory says 0.8';

const LOOKUP = /FROM vouchers WHERE code = /i;
const SCAN = /FROM vouchers WHERE code > ''/i;
const SECOND_PAGE = /FROM vouchers WHERE code > '[^']/i;

const open = (options: Partial<Options> = {}) =>
  createVouchers({
    redis: servers.redis,
    db: servers.db,
    absentTtlMs: 30_000,
    deadlineMs: PATIENT_MS,
    ...options,
  });

/** A process that has just started. */
const other = () => open();

const rebuilt = async (vouchers: Vouchers) =>
  expect(await outcome(vouchers.rebuild(), 10_000), 'rebuild').toBeUndefined();

/** Codes that look random and are the same in each run. */
const codes = (prefix: string, count: number) =>
  Array.from({ length: count }, (_, at) => {
    const digest = createHash('md5').update(`${prefix}${at}`).digest('hex').toUpperCase();
    return `${prefix}${digest.slice(0, 10)}`;
  });

const some = (count: number): Voucher[] => codes('V', count).map((code) => ({ code, percent: 10 }));

/** As another program does, past the filter. */
const insert = (...vouchers: readonly Voucher[]) =>
  servers.db.query('INSERT INTO vouchers (code, percent) VALUES ?', [
    vouchers.map(({ code, percent }) => [code, percent]),
  ]);

async function inTurns(all: readonly string[], action: (code: string) => Promise<unknown>): Promise<void> {
  for (let at = 0; at < all.length; at += 60) await Promise.all(all.slice(at, at + 60).map(action));
}

/** Of vouchers that are all in MySQL. */
async function unknownOf(vouchers: readonly Voucher[]): Promise<string[]> {
  const process = other();
  const unknown: string[] = [];
  await inTurns(
    vouchers.map(({ code }) => code),
    async (code) => {
      if ((await outcome(process.find(code))) === null) unknown.push(code);
    },
  );
  return unknown;
}

const ours = async () => (await watcher.keys('*')).filter((key) => !key.startsWith('caching-deep-dive:'));

const keysThatStay = async () => {
  const keys = (await ours()).sort();
  const ttls = await Promise.all(keys.map((key) => watcher.pttl(key)));
  return keys.filter((_, at) => ttls[at] === -1);
};

/** Keys with a TTL live `ms` from now on, at the longest. */
async function shortenLives(ms: number): Promise<void> {
  for (const key of await ours()) if ((await watcher.pttl(key)) > ms) await watcher.pexpire(key, ms);
}

const longestLife = async () =>
  Math.max(...(await Promise.all((await ours()).map((key) => watcher.pttl(key)))));

async function memory(): Promise<{ keys: number; bytes: number }> {
  const keys = (await ours()).filter((key) => key !== FILTER_KEY);
  const sizes = await Promise.all(keys.map((key) => watcher.memory('USAGE', key)));
  return { keys: keys.length, bytes: sizes.reduce<number>((sum, size) => sum + Number(size ?? 0), 0) };
}

/** What has a TTL expires: entries, absences, a lock. */
async function passTime(longestMs = Number.POSITIVE_INFINITY): Promise<void> {
  const keys = await ours();
  const ttls = await Promise.all(keys.map((key) => watcher.pttl(key)));
  const expiring = keys.filter((_, at) => Number(ttls[at]) > 0 && Number(ttls[at]) <= longestMs);
  if (expiring.length > 0) await watcher.del(expiring);
}

/** Time for many requests, however busy the machine is. */
async function rounds<T>(result: T): Promise<T> {
  await sleep(200);
  for (let round = 0; round < 50; round++) {
    await servers.db.query('SELECT 1');
    await servers.redis.ping();
  }
  return result;
}

/** No rebuild of one voucher needs as many requests. */
const MOST_STEPS = 40;

type Strike = (action: () => Promise<unknown>) => Promise<void>;

/**
 * Runs `scene` for request 1, 2, … of a rebuild of one voucher, until it has no such request. What is given to its
 * `strike` runs before that request.
 */
async function atEachStep(scene: (step: number, strike: Strike) => Promise<void>): Promise<void> {
  const rebuilder = await openRebuilder();
  // A rebuild of many requests has many that are alike.
  for (let step = 1, more = true; more && step <= MOST_STEPS; step += step < 8 ? 1 : 3) {
    await servers.db.query('DELETE FROM vouchers');
    await insert(...some(1));
    await passTime();
    await scene(step, async (action) => {
      more = await rebuilder.rebuildWith(step, action);
      // Beyond its last request: as if it had come right after it.
      if (!more) await action();
    });
  }
}

/** A process whose requests can be held. */
async function openRebuilder() {
  const proxies = [await openProxy(servers.redisUrl), await openProxy(servers.mysqlUrl)] as const;
  const redis = servers.connectRedis({}, proxies[0].url);
  const db = servers.connectDb({ connectionLimit: 1 }, proxies[1].url);
  await Promise.all([connected(redis), db.query('SELECT 1')]);
  onTestFinished(() => leave(redis));
  return {
    /** @returns whether a rebuild came to request number `step`, before which `action` ran */
    async rebuildWith(step: number, action: () => Promise<unknown>): Promise<boolean> {
      let sent = 0;
      let struck: Promise<unknown> | undefined;
      for (const proxy of proxies) {
        proxy.schedule(async () => {
          if (++sent === step) struck = rejectionOf(action);
          await struck;
        });
      }
      await outcome(open({ redis, db }).rebuild(), 3000);
      for (const proxy of proxies) proxy.schedule();
      const failure = await struck;
      if (failure !== undefined) throw failure;
      return struck !== undefined;
    },
  };
}

let asked = 0;

/** Asks until unknown codes do not reach MySQL any more. */
async function expectRebuilt(vouchers: Vouchers, lookups: () => number, scene: string): Promise<void> {
  const lookupsOf10 = async () => {
    await vouchers.find('SUMMER10');
    lookups();
    await inTurns(codes(`B${++asked}`, 10), (code) => vouchers.find(code));
    return lookups();
  };
  await until(async () => (await lookupsOf10()) < 3);
  expect(
    await lookupsOf10(),
    `SELECTs for 10 unknown codes: finds must have started a rebuild of the filter; ${scene}`,
  ).toBeLessThan(3);
}

/** A process has built the first half when Redis loses it. Another one begins anew, and the first one goes on. */
async function expectHalfIsNotUsed(): Promise<void> {
  await servers.db.query('DELETE FROM vouchers');
  await insert(...some(150));
  const [first, second] = [await heldScan(SECOND_PAGE), await heldScan()];
  const rebuilding = outcome(open({ db: first.db }).rebuild(), 3000);
  await soon(first.build.arrived);
  await watcher.flushdb();
  const rebuildingAgain = outcome(open({ db: second.db }).rebuild(), 3000);
  await soon(second.build.arrived);
  first.build.release();
  await rebuilding;
  expect(
    await unknownOf(some(150)),
    'vouchers that find calls unknown: Redis lost the first half of a rebuild, and a second rebuild began before the first one ended',
  ).toEqual([]);
  second.build.release();
  await rebuildingAgain;
}

/** A creation is slow: Redis loses the filter, and it is rebuilt, before the INSERT has reached MySQL. */
async function expectOvertaken(): Promise<void> {
  const proxy = await openProxy(servers.mysqlUrl);
  const db = servers.connectDb({}, proxy.url);
  const insertion = proxy.hold(/INSERT INTO vouchers/i);
  const creation = open({ db }).create(SUMMER);
  await soon(Promise.race([insertion.arrived, creation]));
  await watcher.flushdb();
  await rebuilt(other());
  insertion.release();
  expect(await outcome(creation), 'create: its INSERT took long').toBeUndefined();
  await passTime();
  expect(
    await unknownOf([SUMMER]),
    'vouchers that find calls unknown: before the INSERT had reached MySQL, Redis lost the filter, and it was rebuilt',
  ).toEqual([]);
}

/** A pool that counts its requests: the SELECTs of one voucher, as a rule. */
async function countedDb(counted = LOOKUP) {
  const proxy = await openProxy(servers.mysqlUrl);
  const db = servers.connectDb({}, proxy.url);
  await db.query('SELECT 1');
  let requests = 0;
  proxy.schedule(async (request) => {
    if (counted.test(request)) requests++;
  });
  return {
    db,
    /** Since the last call. */
    lookups() {
      const seen = requests;
      requests = 0;
      return seen;
    },
  };
}

/** A pool of which one page of a scan waits at a gate. */
async function heldScan(page = SCAN) {
  const proxy = await openProxy(servers.mysqlUrl);
  const db = servers.connectDb({}, proxy.url);
  await db.query('SELECT 1');
  const others = { scans: 0 };
  const build = proxy.hold(page);
  proxy.schedule(async (request) => {
    if (SCAN.test(request)) others.scans++;
  });
  return { db, build, others };
}

/** Its SELECT is answered. What it sends to Redis then waits for `release`. */
async function slowReader() {
  const proxies = { redis: await openProxy(servers.redisUrl), mysql: await openProxy(servers.mysqlUrl) };
  const redis = servers.connectRedis({}, proxies.redis.url);
  const db = servers.connectDb({ connectionLimit: 1 }, proxies.mysql.url);
  await Promise.all([connected(redis), db.query('SELECT 1')]);
  const [select, storing, opening] = [signal(), signal(), signal()];
  onTestFinished(() => {
    opening.fire();
    leave(redis);
  });
  proxies.mysql.schedule(async (request) => {
    if (LOOKUP.test(request)) select.fire();
  });
  proxies.redis.schedule(async () => {
    if (!select.fired) return;
    storing.fire();
    await opening.promise;
  });
  return { finder: open({ redis, db }), storing: storing.promise, release: opening.fire };
}
