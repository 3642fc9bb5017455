import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import type { Redis } from 'ioredis';
import { beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { connected, leave, redisBehindProxy, refusingRedis } from '#kit/faulty-redis';
import { lateness } from '#kit/lateness';
import { ownRedis } from '#kit/own-redis';
import type { FaultyProxy } from '#kit/proxy';
import { nameRequests } from '#kit/requests';
import { useServers } from '#kit/servers';
import { outcome, rejectionOf } from '#kit/waiting';
import {
  DEADLINE_MS,
  type Decision,
  EvictingRedisError,
  InvalidOptionError,
  MAX_LIMIT,
  RETRY_MS,
} from './given';
import { type Options, openRateLimiter } from './rate-limits';

const servers = useServers();

/** Looks at keys, so the red screen leaves it out. */
let watcher: Redis;
beforeAll(() => {
  watcher = servers.connectRedis();
  nameRequests(watcher, '');
});

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
/** A deadline that no busy machine misses. */
const PATIENT_MS = 20_000;
const ALLOWED = { allowed: true, retryAfterMs: 0 };

describe('Core', () => {
  test('each user is allowed as many calls as the limit, and the next one is refused', async () => {
    const limiter = await open({ limit: 3 });
    for (const nth of [1, 2, 3]) {
      expect(await limiter.take('acme', 'ann'), `call ${nth} of 3: it must be allowed`).toEqual(ALLOWED);
    }
    expect(await limiter.take('acme', 'ann'), 'call 4, and the limit is 3').toMatchObject({ allowed: false });
    const first = 'first call of this user: another user has used up a quota, and it must be allowed';
    expect(await limiter.take('acme', 'bob'), first).toEqual(ALLOWED);
    expect(await limiter.take('umbrella', 'ann'), `${first} (the same name, of another tenant)`).toEqual(
      ALLOWED,
    );
  });

  test('calls of several processes at once share one limit', async () => {
    const clients = [servers.redis, servers.connectRedis(), servers.connectRedis()];
    await Promise.all(clients.map((client) => client.ping()));
    const limiters = await Promise.all(clients.map((redis) => open({ redis, limit: 10 })));
    const calls = limiters.flatMap((limiter) =>
      Array.from({ length: 20 }, () => limiter.take('acme', 'ann')),
    );
    expect(
      allowedOf(await Promise.all(calls)),
      'calls allowed of 60 by three clients at once: the limit is 10',
    ).toBe(10);
  });

  test('no window of any position sees more calls than the limit', async () => {
    const seen = await acrossTheBoundary(20);
    expect(seen.early, 'calls allowed of 20 in the first 0.75 of a window: the limit is 20').toBe(20);
    expect(
      seen.late,
      'calls allowed of 20 at 1.1 windows: the first call has left the window, and 19 others are less than half a window old',
    ).toBe(1);

    const { allowed, most, ms } = await inBatches(20);
    expect(allowed, `calls allowed in ${ms} ms: the limit is 1 in a window of 20 ms`).toBeLessThanOrEqual(
      most,
    );
  });

  test('a refused caller learns when to come back, and its refused calls do not count', async () => {
    const limiter = await open({ limit: 2, windowMs: MINUTE_MS });
    const oldest = await timedTake(limiter);
    await sleep(50);
    await limiter.take('acme', 'ann');
    expectRetry(await timedTake(limiter), oldest, MINUTE_MS);

    expect(
      await afterRefusedCalls(),
      'a refused caller has called again and again until its first retryAfterMs was over: its next call must be allowed',
    ).toEqual(ALLOWED);
  });

  test('after the limit was lowered, a refused caller learns when there is room under the new one', async () => {
    const before = await open({ limit: 5, windowMs: MINUTE_MS });
    for (let nth = 1; nth <= 3; nth++) await before.take('acme', 'ann');
    await sleep(50);
    const deciding = await timedTake(before);
    await before.take('acme', 'ann');
    const after = await open({ limit: 2, windowMs: MINUTE_MS });
    expectRetry(await timedTake(after), deciding, MINUTE_MS);
  });

  test('the log of a user is bounded by the limit, and expires when the user is idle', async () => {
    const limit = 20;
    const reference = await open({ name: 'reference', limit });
    for (let nth = 1; nth <= limit; nth++) await reference.take('acme', 'ann');
    const enough = 1.3 * (await bytesOf(await keys())) + 100;

    const busy = await bytesAddedBy(async (added) => {
      const limiter = await open({ name: 'reference-2', limit, windowMs: 60 });
      let most = 0;
      for (let nth = 1; nth <= 100; nth++) {
        await limiter.take('acme', 'ann');
        if (nth % 5 === 0) most = Math.max(most, await added());
        await sleep(2);
      }
      return most;
    });
    const message = 'bytes of the log: it must keep no more calls than the limit, which is 20';
    expect(busy, `${message}; 100 calls came in several windows`).toBeLessThan(enough);
    const refusing = await bytesAddedBy(async (added) => {
      const limiter = await open({ name: 'reference-3', limit });
      for (let nth = 1; nth <= 120; nth++) await limiter.take('acme', 'ann');
      return added();
    });
    expect(refusing, `${message}; 20 calls were allowed, and 100 refused`).toBeLessThan(enough);
    for (const key of await keys()) {
      const ttl = await watcher.pttl(key);
      expect(
        ttl === -2 || (ttl >= 0 && ttl < 3 * MINUTE_MS),
        `ms to live of ${key}: ${ttl}. The window is a minute, and the key must expire soon after it`,
      ).toBe(true);
    }
  });
});

describe('In production', () => {
  test("the clock of Redis decides, whatever the caller's clock says", async () => {
    for (const [what, user, hours] of [
      ['an hour ahead', 'ann', 1],
      ['an hour behind', 'bob', -1],
    ] as const) {
      const limiter = await open({ limit: 2, windowMs: MINUTE_MS });
      await withClock(hours === -1 ? -HOUR_MS : 0, async () => {
        for (let nth = 1; nth <= 2; nth++) await limiter.take('acme', user);
      });
      const third = await withClock(hours === 1 ? HOUR_MS : 0, () => limiter.take('acme', user));
      expect(third.allowed, `allowed: the clock of one process is ${what}, and the limit is used up`).toBe(
        false,
      );
      expect(third.retryAfterMs, `retryAfterMs: the clock of one process is ${what}`).toBeLessThanOrEqual(
        MINUTE_MS + 5,
      );
    }
  });

  test('a script that fails half-way leaves no key without a TTL', async () => {
    const { url } = await ownRedis();
    const admin = servers.connectRedis({}, url);
    nameRequests(admin, '');
    // Each command that gives a TTL is refused, one after another, as a rule for another team's commands would.
    const commands = ['pexpire', 'expire', 'pexpireat', 'expireat'].map((command) => `-${command}`);
    await admin.acl('SETUSER', 'shop', 'on', 'nopass', '~*', '&*', '+@all', ...commands);
    const asShop = Object.assign(new URL(url), { username: 'shop', password: 'any' }).href;
    const redis = servers.connectRedis({}, asShop);
    onTestFinished(() => [redis, admin].forEach(leave));
    await connected(redis);

    const limiter = await open({ redis, limit: 2, windowMs: MINUTE_MS });
    await outcome(limiter.take('acme', 'ann'));
    for (const key of await admin.keys('*')) {
      expect(
        await admin.pttl(key),
        `ms to live of ${key}: -1 is none. Redis refused the command that gives the TTL, and this user stays refused forever`,
      ).not.toBe(-1);
    }
    const repaired = await open({ redis: admin, limit: 2, windowMs: MINUTE_MS });
    const calls: unknown[] = [];
    for (const asked of [repaired, limiter, repaired, repaired]) {
      calls.push(await outcome(asked.take('acme', 'bob')));
    }
    expect(
      calls.filter(isAllowed).length,
      'calls allowed of four: the limit is 2. In the second call Redis refused the command that gives the TTL: it must count if it is allowed, and the first call must still count',
    ).toBe(2);
  });

  test('names that look alike do not share a quota', async () => {
    const names = [
      ['login', 'a:b', 'c'],
      ['login', 'a', 'b:c'],
      ['login:a', 'b', 'c'],
      ['login', 'a%3Ab', 'c'],
      ['login', '', 'a:b:c'],
      ['login', '{a}', 'b'],
      ['login', 'a', 'b'],
      ['login', 'A', 'b'],
      ['login', 'a', 'b '],
      ['login', 'a', 'é'],
      ['login', 'a', 'e\u0301'],
      ['search', 'a', 'b'],
      ['login', 'a', `${LONG}1`],
      ['login', 'a', `${LONG}2`],
    ] as const;
    for (const [name, tenant, user] of names) {
      const limiter = await open({ name, limit: 1 });
      expect(
        await outcome(limiter.take(tenant, user)),
        `first call of tenant ${shown(tenant)} and user ${shown(user)} at the limiter ${shown(name)}`,
      ).toEqual(ALLOWED);
    }
    const slots = (await keys()).filter((key) => /\{.+\}/.test(key));
    expect(
      slots,
      'keys in which braces of a user choose the slot: a bot can fill one node of a cluster',
    ).toEqual([]);
    const half = await open({ name: 'login', limit: 1, whenRedisFails: 'closed' });
    expect(await outcome(half.take('a', '\ud800')), 'half of a surrogate pair as a user').toEqual(ALLOWED);
  });

  test('a Redis that does not answer costs a call one deadline, and the call is decided as told', async () => {
    const faults: Readonly<Record<string, (proxy: FaultyProxy) => unknown>> = {
      'refuses connections': (proxy) => proxy.refuse(),
      stalls: (proxy) => proxy.stall(),
    };
    const scenes = Object.entries(faults).flatMap(([fault, strike]) =>
      (['open', 'closed'] as const).map(async (told) => {
        const taken = await lateness({
          open: () => struck(strike, { whenRedisFails: told }),
          call: ({ limiter }) => limiter.take('acme', 'ann'),
          reference: () => sleep(DEADLINE_MS),
          toleratedMs: TOLERATED_MS,
        });
        expectDecision(taken.result, told, `Redis ${fault}`);
        expect(taken.lateMs, `ms beyond one deadline that a call takes while Redis ${fault}`).toBeLessThan(
          TOLERATED_MS,
        );
      }),
    );
    await Promise.all([...scenes, expectPatience(), expectStart('open'), expectStart('closed')]);
  });

  test('a Redis that refuses the command is reported, and the call is decided as told', async () => {
    const { redis, admin, permit } = await refusingRedis(servers);
    const errors: unknown[] = [];
    for (const told of ['open', 'closed'] as const) {
      const limiter = await open({ redis, whenRedisFails: told, onError: (error) => errors.push(error) });
      expect(errors, 'errors reported: Redis has refused nothing so far').toEqual([]);
      expectDecision(await outcome(limiter.take('acme', 'ann')), told, 'Redis refuses the command (NOPERM)');
      expect(errors.length, 'errors given to onError: Redis has refused a command').toBeGreaterThan(0);
      errors.length = 0;
    }
    const before = await open({ redis });
    expectDecision(
      await outcome(before.take('acme', 'bob')),
      'closed',
      'Redis refuses, and onError is absent',
    );
    await permit();
    await expect
      .poll(() => outcome(before.take('acme', 'bob')), {
        timeout: 3000,
        message: 'Redis works again: the limiter that has seen the failure must ask it, and allow a call',
      })
      .toEqual(ALLOWED);
    const limiter = await open({ redis, limit: 2 });
    for (const event of ['works again', 'was restarted, and has lost its scripts']) {
      expect(await outcome(limiter.take('acme', 'ann')), `Redis ${event}: the call must be allowed`).toEqual(
        ALLOWED,
      );
      await admin.script('FLUSH');
    }
  });

  test('a Redis that may evict a quota is refused at the start', async () => {
    const { url } = await ownRedis({ maxmemory: '64mb' });
    const redis = servers.connectRedis({}, url);
    onTestFinished(() => leave(redis));
    for (const policy of ['allkeys-lru', 'volatile-ttl', 'volatile-lru', 'allkeys-random']) {
      await redis.config('SET', 'maxmemory-policy', policy);
      expect(
        await rejectionOf(() => open({ redis })),
        `maxmemory is set, and the policy is ${policy}: a quota may be evicted, and start again at 0`,
      ).toBeInstanceOf(EvictingRedisError);
    }
    await redis.config('SET', 'maxmemory-policy', 'noeviction');
    expect(
      await outcome(open({ redis }).then((limiter) => limiter.take('acme', 'ann'))),
      'the policy is noeviction: the limiter must start and allow a first call',
    ).toEqual(ALLOWED);
  });

  test('a limit or a window that is not a positive integer is refused at the start', async () => {
    for (const value of [Number.NaN, 0, -1, 0.5, 100 / 3, Number.POSITIVE_INFINITY, '10', undefined]) {
      for (const option of ['limit', 'windowMs']) {
        expect(
          await rejectionOf(() => open({ [option]: value })),
          `${option} is ${inspect(value)}: it must be refused with InvalidOptionError`,
        ).toBeInstanceOf(InvalidOptionError);
      }
    }
    const large =
      'a limit over MAX_LIMIT: its log is too large, and it must be refused with InvalidOptionError';
    expect(await rejectionOf(() => open({ limit: MAX_LIMIT + 1 })), large).toBeInstanceOf(InvalidOptionError);
    const most = await outcome(open({ limit: MAX_LIMIT }).then((limiter) => limiter.take('acme', 'ann')));
    expect(most, 'first call under a limit of MAX_LIMIT').toEqual(ALLOWED);
  });
});

/** Beyond one deadline. */
const TOLERATED_MS = DEADLINE_MS * 0.8;

/** As long as an address of a web page. */
const LONG = 'x'.repeat(300);
const shown = (name: string) =>
  name.length < 100 ? inspect(name) : `of ${name.length} letters that ends with ${inspect(name.at(-1))}`;

type Limiter = Awaited<ReturnType<typeof open>>;

const SETTINGS = { name: 'api', limit: 10, windowMs: MINUTE_MS, whenRedisFails: 'closed' } as const;

const open = (options: Partial<Options> = {}) =>
  openRateLimiter({ redis: servers.redis, ...SETTINGS, deadlineMs: PATIENT_MS, ...options });

const isAllowed = (result: unknown) => (result as Partial<Decision>).allowed === true;

const allowedOf = (decisions: readonly Decision[]) => decisions.filter(isAllowed).length;

/** A limiter that was opened before its Redis failed, and what was reported since. Its deadline is DEADLINE_MS if absent. */
async function struck(strike: (proxy: FaultyProxy) => unknown, options: Partial<Options>) {
  const { proxy, redis } = await redisBehindProxy(servers);
  const errors: unknown[] = [];
  const onError = (error: unknown) => {
    errors.push(error);
  };
  const reopen = () => openRateLimiter({ ...SETTINGS, ...options, redis, onError });
  const limiter = (await outcome(reopen())) as Limiter;
  expect(limiter, 'a limiter must start, also on a Redis that is slow').toHaveProperty('take');
  await strike(proxy);
  errors.length = 0;
  return { proxy, redis, limiter, reopen, errors };
}

/** A call with a long deadline waits for a Redis that stalls longer than DEADLINE_MS. */
async function expectPatience(): Promise<void> {
  const { proxy, limiter } = await struck((proxy) => proxy.stall(), { deadlineMs: PATIENT_MS });
  const call = limiter.take('acme', 'ann');
  const scene = `Redis stalls for ${2 * DEADLINE_MS} ms, and deadlineMs is ${PATIENT_MS}: the call`;
  expect(await outcome(call, 2 * DEADLINE_MS), `${scene} before Redis answers`).toBe('still waiting');
  await proxy.heal();
  expect(await outcome(call), `${scene} when Redis has answered`).toEqual(ALLOWED);
}

/** A process that starts while Redis stalls reports it, starts, and decides as told. */
async function expectStart(told: Options['whenRedisFails']): Promise<void> {
  const { limiter, reopen, errors } = await struck((proxy) => proxy.stall(), {
    whenRedisFails: told,
    deadlineMs: DEADLINE_MS,
  });
  await outcome(limiter.take('acme', 'ann'));
  expect(errors.length, 'errors given to onError: Redis stalls, and a call met its deadline').toBeGreaterThan(
    0,
  );
  errors.length = 0;
  const started = await outcome(reopen());
  const starts = `a process starts while Redis stalls, told to fail ${told}`;
  expect(errors.length, `${starts}: errors given to onError at its start`).toBeGreaterThan(0);
  expect(started, `${starts}: it must start`).toHaveProperty('take');
  expectDecision(
    await outcome((started as Limiter).take('acme', 'ann')),
    told,
    `Redis stalls since the start`,
  );
}

/** `times` calls at once. */
const burst = async (limiter: Limiter, times: number) =>
  allowedOf(await Promise.all(Array.from({ length: times }, () => limiter.take('acme', 'ann'))));

/** One call at 0 and the others at 0.75 of a window: `early`. `limit` calls at 1.1: `late`. */
async function acrossTheBoundary(limit: number) {
  for (let tries = 1; ; tries++) {
    const asked = performance.now();
    const windowMs = await windowThatEndsAt(0.9);
    const limiter = await open({ name: `boundary-${tries}`, limit, windowMs });
    const first = await burst(limiter, 1);
    const start = performance.now();
    const at = (share: number) => sleep(Math.max(0, start + share * windowMs - performance.now()));
    await at(0.75);
    const second = performance.now();
    const rest = await burst(limiter, limit - 1);
    const inFirst = performance.now() - asked < 0.88 * windowMs;
    await at(1.1);
    const late = await burst(limiter, limit);
    // On a busy machine the second batch may come too late, or all of it may have left the window.
    const inTime = inFirst && performance.now() - second < windowMs - 5;
    if (inTime || tries === 10) return { early: first + rest, late };
  }
}

/** Calls under a limit of 1, in batches, so that some come in the last ms of a window: how many pass, and may pass at most. */
async function inBatches(windowMs: number) {
  const limiter = await open({ name: 'short', limit: 1, windowMs });
  const start = performance.now();
  const counted = { allowed: 0, most: 1, ms: 0 };
  let unsureMs = 0;
  for (
    let batch = 1;
    counted.allowed <= counted.most && (batch <= 30 || counted.ms < 4 * windowMs);
    batch++
  ) {
    const sent = performance.now();
    const passed = await burst(limiter, 30);
    const answered = performance.now();
    counted.allowed += passed;
    counted.ms = Math.ceil(answered - start);
    // In Core the clock of the caller may decide, while the key ends by the clock of Redis: they differ by a batch at most.
    if (passed > 0) unsureMs += 2 * (answered - sent);
    // 1 ms less, for limiters that count in ms.
    counted.most = Math.floor((answered - start + unsureMs) / (windowMs - 1)) + 1;
  }
  return counted;
}

/** The next call of a caller that was refused until its first `retryAfterMs` was over. */
async function afterRefusedCalls(): Promise<Decision> {
  for (let tries = 1; ; tries++) {
    const limiter = await open({ name: `refused-${tries}`, limit: 1, windowMs: 100 });
    await limiter.take('acme', 'ann');
    const refused = await timedTake(limiter);
    const over = refused.sent + refused.retryAfterMs;
    do await limiter.take('acme', 'ann');
    while (performance.now() < over - 40);
    const inTime = performance.now() < over - 5;
    await sleep(Math.max(0, refused.answered + refused.retryAfterMs + 2 - performance.now()));
    const next = await limiter.take('acme', 'ann');
    // On a busy machine one of the calls may have found room, and was counted.
    if (inTime || tries === 10) return next;
  }
}

/** A window length for which counters that begin at multiples of it begin anew at this share of a window from now. */
async function windowThatEndsAt(share: number): Promise<number> {
  const [seconds, micros] = await watcher.time();
  const now = Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
  const lengths = Array.from({ length: 100 }, (_, index) => 200 + index);
  const miss = (windowMs: number) => Math.abs((now % windowMs) / windowMs - (1 - share));
  return lengths.reduce((best, length) => (miss(length) < miss(best) ? length : best));
}

interface Timed extends Decision {
  readonly sent: number;
  readonly answered: number;
}

async function timedTake(limiter: Limiter): Promise<Timed> {
  const sent = performance.now();
  const decision = await limiter.take('acme', 'ann');
  return { ...decision, sent, answered: performance.now() };
}

/** `deciding` must leave the window before a call is allowed. The times of the caller bound those of Redis. */
function expectRetry(refused: Timed, deciding: Timed, windowMs: number): void {
  expect(refused.allowed, 'allowed: the limit is used up').toBe(false);
  expect(Number.isInteger(refused.retryAfterMs), `retryAfterMs is ${refused.retryAfterMs}, an integer`).toBe(
    true,
  );
  const message = 'retryAfterMs: the ms until a call can be allowed';
  expect(refused.retryAfterMs, message).toBeGreaterThanOrEqual(
    windowMs - (refused.answered - deciding.sent) - 5,
  );
  expect(refused.retryAfterMs, message).toBeLessThanOrEqual(
    windowMs - (refused.sent - deciding.answered) + 5,
  );
}

/** All but the mark of the course. */
const keys = async () => (await watcher.keys('*')).filter((key) => !key.startsWith('caching-deep-dive:'));

/** @param action is given the bytes of the keys that were not there before */
async function bytesAddedBy(action: (added: () => Promise<number>) => Promise<number>): Promise<number> {
  const known = await keys();
  return action(async () => bytesOf((await keys()).filter((key) => !known.includes(key))));
}

async function bytesOf(names: readonly string[]): Promise<number> {
  const sizes = await Promise.all(names.map((name) => watcher.memory('USAGE', name)));
  return sizes.reduce<number>((sum, size) => sum + Number(size ?? 0), 0);
}

/** Runs `action` in a process whose clocks are wrong by `ms`. */
async function withClock<T>(ms: number, action: () => Promise<T>): Promise<T> {
  const { now } = performance;
  // Never negative: no process has seen that.
  const monotonic = vi
    .spyOn(performance, 'now')
    .mockImplementation(() => now.call(performance) + HOUR_MS + ms);
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + ms });
  try {
    return await action();
  } finally {
    vi.useRealTimers();
    monotonic.mockRestore();
  }
}

function expectDecision(decision: unknown, told: Options['whenRedisFails'], scene: string): void {
  const message = `${scene}, and whenRedisFails is ${told}`;
  if (told === 'open') expect(decision, `${message}: the call must be allowed`).toEqual(ALLOWED);
  else {
    const refused = { allowed: false, retryAfterMs: RETRY_MS };
    expect(decision, `${message}: the call must be refused, with RETRY_MS to come back`).toEqual(refused);
  }
}
