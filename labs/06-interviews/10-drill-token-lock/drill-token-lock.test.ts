import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { expectTtl } from '#kit/expect-ttl';
import { leave, redisBehindProxy } from '#kit/faulty-redis';
import { begun, type HeldLoad, heldLoad } from '#kit/loads';
import { useServers } from '#kit/servers';
import { drained, strikeAtEachStep } from '#kit/strikes';
import { outcome, rejectionOf, soon, unhandledRejections, until } from '#kit/waiting';
import { withLock } from './drill-token-lock';
import { LockedError, LostLockError, lockKey } from './given';

const servers = useServers();

const NAME = 'nightly-report';
/** Where nothing is to be renewed during the test. */
const LONG_MS = 29_700;
/** Where real time passes. */
const TTL_MS = 180;
/** A renewal that comes later may find that the lock has expired. */
const LATE_MS = 0.85 * TTL_MS;
const OTHER = 'the token of another process';

describe('Core', () => {
  test('one call holds the lock, and another one gets a LockedError at once', async () => {
    const { proxy, redis } = await redisBehindProxy(servers);
    let bare: string | undefined;
    proxy.schedule(async (request) => {
      if ((await servers.redis.pttl(lockKey(NAME))) === -1) bare ??= request;
    });
    const work = heldWork();
    const first = lock(work, { redis });
    await begun(work, first);
    await expectTtl(servers.redis, lockKey(NAME), LONG_MS, 'the lock must live for ttlMs');
    const token = await servers.redis.get(lockKey(NAME));
    const second = heldWork();
    expect(
      await soon(
        rejectionOf(() => withLock({ redis: servers.redis, name: NAME, ttlMs: LONG_MS }, second.run)),
      ),
      'another call holds the lock',
    ).toBeInstanceOf(LockedError);
    expect(second.loads, 'times that the work of the second call ran').toBe(0);
    expect(await servers.redis.get(lockKey(NAME)), 'the lock after a call that did not get it').toBe(token);
    expect(await lock(ended(), { name: 'another' }), 'a lock of another name is free').toBe('done');
    work.end();
    expect(await first, 'the call must return what its work returned').toBe('done');
    expect(
      bare,
      'when this command was sent, the lock had no TTL: if the process dies before it, the lock stays forever',
    ).toBeUndefined();
    await until(isFree);
    expect(await lock(ended()), 'the first call has ended: the next one must get the lock').toBe('done');
    const away = servers.redis.duplicate({ lazyConnect: true });
    away.disconnect();
    const third = ended();
    const error = await soon(
      rejectionOf(() => withLock({ redis: away, name: NAME, ttlMs: LONG_MS }, third.run)),
    );
    expect(error, 'Redis cannot be asked: an error, and not that another call holds the lock').toBeInstanceOf(
      Error,
    );
    expect(
      error,
      'Redis cannot be asked: an error, and not that another call holds the lock',
    ).not.toBeInstanceOf(LockedError);
    expect(third.loads, 'times that the work ran without a lock').toBe(0);
  });

  test('work that fails releases the lock, and its error reaches the caller', async () => {
    const failure = new Error('disk full');
    const failing = {
      rejects: () => Promise.reject(failure),
      throws: () => {
        throw failure;
      },
    };
    for (const [how, work] of Object.entries(failing)) {
      const call = () => withLock({ redis: servers.redis, name: NAME, ttlMs: LONG_MS }, work);
      expect(await soon(rejectionOf(call)), `the work ${how}: its caller must get that error`).toBe(failure);
      await until(isFree);
      expect(await isFree(), `whether the lock is free after work that ${how}`).toBe(true);
    }
  });

  test('a holder whose lock has expired leaves the lock of the next holder alone', async () => {
    // Two calls on one connection: an EXEC of one of them ends the WATCH of the other.
    const names = [NAME, 'weekly-report'] as const;
    const behind = await redisBehindProxy(servers);
    await strikeAtEachStep(behind, {
      async begin() {
        await servers.redis.del(...names.map(lockKey));
        const pairs = names.map((name) => {
          const work = heldWork();
          return { work, call: lock(work, { redis: behind.redis, name }) };
        });
        await Promise.all(pairs.map(({ work, call }) => begun(work, call)));
        return {
          call: Promise.all(pairs.map(({ call }) => call)),
          endLoad() {
            for (const { work } of pairs) work.end();
          },
        };
      },
      strike: () => Promise.all(names.map((name) => servers.redis.set(lockKey(name), OTHER, 'PX', LONG_MS))),
      look: () => servers.redis.mget(names.map(lockKey)),
      check(step, { left }) {
        const when = step === 0 ? 'while the work ran' : `before command ${step} after the work`;
        expect(
          left,
          `the locks of two calls expired and another process took them, ${when}: they must stay`,
        ).toEqual([OTHER, OTHER]);
      },
    });
    await servers.redis.del(lockKey(NAME));
    const [early, late] = [heldWork(), heldWork()];
    const first = lock(early);
    await begun(early, first);
    await servers.redis.del(lockKey(NAME));
    const second = lock(late);
    await begun(late, second);
    early.end();
    await first;
    await drained(servers.redis);
    expect(
      await isFree(),
      'whether the lock is free: its holder works. An earlier call of the same process, whose lock had expired, has ended',
    ).toBe(false);
    late.end();
    await second;
  });

  test('two processes never use the same token', async () => {
    // As in two containers on two machines: one process id, and calls at the same time.
    vi.spyOn(Date, 'now').mockReturnValue(Date.now());
    vi.spyOn(performance, 'now').mockReturnValue(performance.now());
    onTestFinished(() => void vi.restoreAllMocks());
    const tokens: (string | null)[] = [];
    for (let started = 0; started < 2; started++) {
      vi.resetModules();
      const { withLock: take } = await import('./drill-token-lock');
      const look = async () => tokens.push(await servers.redis.get(lockKey(NAME)));
      await soon(rejectionOf(() => take({ redis: servers.redis, name: NAME, ttlMs: LONG_MS }, look)));
      await until(isFree);
    }
    expect(tokens, 'the values of the locks of two calls').toEqual([expect.any(String), expect.any(String)]);
    expect(
      tokens[0],
      'the token of a call in another process, which has the same process id, at the same time',
    ).not.toBe(tokens[1]);
  });

  test('the lock is renewed while the work runs, and no longer', async () => {
    const { proxy, redis } = await redisBehindProxy(servers);
    const seen = await undisturbed(
      async () => {
        await servers.redis.del(lockKey(NAME));
        const work = heldWork();
        const call = lock(work, { redis, ttlMs: TTL_MS });
        await begun(work, call);
        let requests = 0;
        const count = async (request: string) => {
          if (/lock:|EVAL/i.test(request)) requests++;
        };
        proxy.schedule(count);
        const start = performance.now();
        const renewedAfter: number[] = [];
        for (let renewal = 0; renewal < 4; renewal++) renewedAfter.push(await msUntilRenewed());
        const requestsEachThird = requests / ((performance.now() - start) / (TTL_MS / 3));
        // A call that does not get the lock leaves nothing behind either.
        await lock(ended(), { redis, ttlMs: TTL_MS });
        work.end();
        const result = await call;
        await drained(redis);
        requests = 0;
        await sleep(0.7 * TTL_MS);
        proxy.schedule();
        return { renewedAfter, requestsEachThird, result, requests };
      },
      ({ renewedAfter, result }) => renewedAfter.every((ms) => ms < LATE_MS) && result === 'done',
    );
    const message = `ms until a renewal, with a ttlMs of ${TTL_MS}: it must come in time, also when one fails`;
    for (const ms of seen.renewedAfter) expect(ms, message).toBeLessThan(LATE_MS);
    expect(seen.result, 'the work took longer than ttlMs, and its lock was renewed').toBe('done');
    expect(
      seen.requestsEachThird,
      'requests about the lock in a third of ttlMs, while the work ran: one renewal is enough',
    ).toBeLessThan(5);
    expect(seen.requests, 'requests about the lock after all calls have ended').toBe(0);
  });

  test('a holder that has lost its lock gets a signal, and leaves the lock of the next holder alone', async () => {
    const work = heldWork();
    const call = lock(work);
    await begun(work, call);
    await servers.redis.set(lockKey(NAME), OTHER, 'PX', LONG_MS);
    work.end();
    expect(
      await call,
      'what the call throws, although the work has a result: another process has the lock, which the release sees',
    ).toBeInstanceOf(LostLockError);
    const scenes = [1, 2].flatMap((request) => [
      { request, by: 'another process took the lock', left: OTHER },
      { request, by: 'the lock expired, and another process may have had it since', left: null },
    ]);
    const seen = await undisturbed(
      () => Promise.all(scenes.map(losing)),
      (all) => all.every(({ scene, error, left }) => error instanceof LostLockError && left === scene.left),
    );
    for (const { scene, work, wasTold, error, left, leftMs } of seen) {
      const struck = `${scene.by}, before request ${scene.request} that followed the SET`;
      expect(wasTold, `whether the signal of the work is aborted, within three TTLs: ${struck}`).toBe(true);
      expect(work.signal?.reason, 'the reason of the signal').toBeInstanceOf(LostLockError);
      expect(error, `what the call throws, although the work has a result: ${struck}`).toBeInstanceOf(
        LostLockError,
      );
      expect(left, `the lock: ${struck}`).toBe(scene.left);
      if (scene.left === null) continue;
      expect(leftMs, `ms to live of that lock, of ${LONG_MS}: ${struck}`).toBeGreaterThan(LONG_MS / 2);
    }
  });

  test('when Redis falls silent, the signal comes before the lock expires, and the call ends', async () => {
    const unhandled = unhandledRejections();
    const slow = ['no answer', 'the SET', 'a renewal'] as const;
    const seen = await undisturbed(
      () => Promise.all(slow.map(fallingSilent)),
      (all) => all.every(({ signalMs, error }) => signalMs < 1.3 * TTL_MS && error instanceof LostLockError),
    );
    for (const { slow, signalMs, error } of seen) {
      const scene = `${slow} was answered slowly, and then nothing`;
      expect(
        signalMs,
        `ms until the signal was aborted, after the lock of ${TTL_MS} ms was taken or renewed: ${scene}`,
      ).toBeLessThan(1.3 * TTL_MS);
      expect(error, `the error of the call, within two seconds: ${scene}`).toBeInstanceOf(LostLockError);
    }
    expect(unhandled(), 'unhandled rejections: a renewal has failed, and they end the process').toEqual([]);
  });

  test('a release without an answer does not cost the caller its result', async () => {
    const faults = {
      'does not answer': ({ proxy }: Behind) => proxy.stall(),
      'is out of reach': ({ redis }: Behind) => redis.disconnect(),
    };
    for (const [fault, strike] of Object.entries(faults)) {
      const seen = await undisturbed(
        async () => {
          await servers.redis.del(lockKey(NAME));
          const behind = await redisBehindProxy(servers);
          const run = async () => {
            strike(behind);
            return 'done';
          };
          return outcome(withLock({ redis: behind.redis, name: NAME, ttlMs: TTL_MS }, run), 800);
        },
        (result) => result === 'done',
      );
      expect(seen, `the work has ended, and for the release Redis ${fault}`).toBe('done');
    }
  });
});

type Behind = Awaited<ReturnType<typeof redisBehindProxy>>;

interface Work extends HeldLoad<string> {
  /** What the call gave it. */
  signal: AbortSignal | undefined;
  run(signal?: AbortSignal): Promise<string>;
}

/** It ends when the test says so, and does not heed its signal. */
function heldWork(): Work {
  const source = heldLoad('done');
  const work: Work = Object.assign(source, {
    signal: undefined,
    run(signal?: AbortSignal) {
      work.signal = signal;
      return source.load();
    },
  });
  return work;
}

function ended(): Work {
  const work = heldWork();
  work.end();
  return work;
}

/** What the call returns, or the error that it throws. */
const lock = (
  { run }: Work,
  {
    redis = servers.redis,
    name = NAME,
    ttlMs = LONG_MS,
  }: { redis?: Redis; name?: string; ttlMs?: number } = {},
) =>
  soon(
    rejectionOf(() => withLock({ redis, name, ttlMs }, run)),
    2_000,
  );

const isFree = async () => !(await servers.redis.exists(lockKey(NAME)));

/** The lock is lost before that request of a renewal. The work ends at the signal, or after three TTLs. */
async function losing(scene: { request: number; by: string; left: string | null }) {
  const name = `${scene.request}: ${scene.by}`;
  await servers.redis.del(lockKey(name));
  const { proxy, redis } = await redisBehindProxy(servers);
  const work = heldWork();
  const call = soon(
    rejectionOf(() => withLock({ redis, name, ttlMs: TTL_MS }, work.run)),
    2_000,
  );
  await begun(work, call);
  let requests = 0;
  proxy.schedule(async (sent) => {
    if (/^PING/i.test(sent) || ++requests !== scene.request) return;
    if (scene.left === null) await servers.redis.del(lockKey(name));
    else await servers.redis.set(lockKey(name), scene.left, 'PX', LONG_MS);
  });
  await soon(
    until(() => work.signal?.aborted === true),
    3 * TTL_MS,
  );
  const wasTold = work.signal?.aborted;
  work.end();
  const error = await call;
  await drained(redis);
  const [left, leftMs] = await Promise.all([
    servers.redis.get(lockKey(name)),
    servers.redis.pttl(lockKey(name)),
  ]);
  return { scene, work, wasTold, error, left, leftMs };
}

/**
 * Redis answers to the SET, or to the first renewal, after a part of the TTL, and then no more. The time counts from before
 * that request, as the life of the lock does at the latest.
 */
async function fallingSilent(slow: 'no answer' | 'the SET' | 'a renewal') {
  const name = `slow: ${slow}`;
  await servers.redis.del(lockKey(name));
  const { proxy, redis } = await redisBehindProxy(servers);
  const work = heldWork();
  if (slow === 'the SET') proxy.delay(0.6 * TTL_MS);
  let start = performance.now();
  const call = soon(
    rejectionOf(() => withLock({ redis, name, ttlMs: TTL_MS }, work.run)),
    2_000,
  );
  await begun(work, call);
  let requests = 0;
  if (slow === 'a renewal') {
    proxy.schedule(async () => {
      if (++requests === 1) start = performance.now();
      proxy.delay(requests === 1 ? 0.45 * TTL_MS : 1_000);
    });
  } else proxy.stall();
  await soon(
    until(() => work.signal?.aborted === true),
    3 * TTL_MS,
  );
  const signalMs = work.signal?.aborted ? performance.now() - start : Number.POSITIVE_INFINITY;
  work.end();
  const error = await call;
  leave(redis);
  await drained(servers.redis);
  return { slow, signalMs, error };
}

/** The lock cannot expire meanwhile: the test gives it a minute, which a renewal takes back. */
async function msUntilRenewed(): Promise<number> {
  const start = performance.now();
  await servers.redis.pexpire(lockKey(NAME), 60_000);
  await soon(
    until(async () => (await servers.redis.pttl(lockKey(NAME))) <= TTL_MS),
    2 * TTL_MS,
  );
  return performance.now() - start;
}

/**
 * A scene in which real time counts. A busy machine makes the code late, never early: the scene is played again if it was
 * not fine and the machine stood still for a part of a TTL.
 */
async function undisturbed<T>(scene: () => Promise<T>, isFine: (seen: T) => boolean): Promise<T> {
  const start = performance.now();
  for (;;) {
    let [isOver, longestMs] = [false, 0];
    const watching = (async () => {
      while (!isOver) {
        const before = performance.now();
        await sleep(4);
        await servers.redis.ping();
        longestMs = Math.max(longestMs, performance.now() - before);
      }
    })();
    const seen = await scene().finally(() => {
      isOver = true;
    });
    await watching;
    if (isFine(seen) || longestMs < TTL_MS / 5 || performance.now() - start > 4_000) return seen;
  }
}
