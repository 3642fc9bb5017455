import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { nameRequests } from '#kit/requests';
import { useServers } from '#kit/servers';
import { outcome, until } from '#kit/waiting';
import { allow, type Decision } from './drill-sliding-window';

const servers = useServers();

/** Looks at keys, so the red screen leaves it out. */
let watcher: Redis;
beforeAll(() => {
  watcher = servers.connectRedis();
  nameRequests(watcher, '');
});

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const KEY = 'limit:ann';
const REFUSED = { allowed: false, remaining: 0 };

describe('Core', () => {
  test('a key has as many calls as the limit, and sees how many are left', async () => {
    for (const remaining of [2, 1, 0]) {
      expect(await ask(3), `call ${3 - remaining} of 3`).toEqual({
        allowed: true,
        remaining,
        retryAfterMs: 0,
      });
    }
    expect(await ask(3), 'call 4, and the limit is 3').toMatchObject(REFUSED);
    expect(
      await allow(servers.redis, 'limit:bob', 3, MINUTE_MS),
      'the first call of another key, after the calls of the first key were used up',
    ).toEqual({ allowed: true, remaining: 2, retryAfterMs: 0 });
    const short = () => allow(servers.redis, 'limit:short', 3, 40);
    await short();
    await sleep(25);
    await short();
    await sleep(20);
    const third = await short();
    const message = `answer to a call when the first of two earlier calls has left the window, and the limit is 3: ${JSON.stringify(third)}`;
    expect(third.allowed, message).toBe(true);
    // On a busy machine, the second call may have left it too.
    expect(third.remaining, message).toBeGreaterThanOrEqual(1);
  });

  test('calls within one millisecond are as many calls', async () => {
    const decisions = await Promise.all(Array.from({ length: 300 }, () => ask(200)));
    expect(allowedOf(decisions), 'calls allowed of 300 that were sent at once: the limit is 200').toBe(200);
    expect(
      new Set(decisions.filter(isAllowed).map(({ remaining }) => remaining)).size,
      'different numbers of calls left, told to 200 allowed calls: from 199 to 0',
    ).toBe(200);
  });

  test('clients that call at once share one limit', async () => {
    const clients = [servers.redis, servers.connectRedis(), servers.connectRedis()];
    await Promise.all(clients.map((client) => client.ping()));
    for (const key of ['limit:ann', 'limit:bob']) {
      const calls = clients.flatMap((client) =>
        Array.from({ length: 20 }, () => allow(client, key, 10, MINUTE_MS)),
      );
      expect(
        allowedOf(await Promise.all(calls)),
        'calls allowed of 60 by three clients at once: the limit is 10',
      ).toBe(10);
    }
    const decisions: Decision[] = [];
    for (const client of clients) {
      // Loaded anew, as in a process that has just started.
      vi.resetModules();
      const fresh = await import('./drill-sliding-window');
      for (let calls = 1; calls <= 4; calls++) {
        decisions.push(await fresh.allow(client, 'limit:eve', 10, MINUTE_MS));
      }
    }
    expect(
      allowedOf(decisions),
      'calls allowed of 12, four in each of three processes that have just started: the limit is 10',
    ).toBe(10);
  });

  test('no window of any position sees more calls than the limit', async () => {
    const calls = await acrossTheBoundary();
    const allowed = calls.filter(({ decision }) => decision.allowed);
    const spans = allowed.flatMap(({ sentAt }, at) => {
      const last = allowed[at + LIMIT];
      return last ? [last.answeredAt - sentAt] : [];
    });
    expect(
      Math.round(Math.min(...spans, WINDOW_MS)),
      `the shortest time (ms) in which ${LIMIT + 1} calls were allowed: the limit is ${LIMIT} in ${WINDOW_MS} ms`,
      // 1 ms less, for clocks that count in ms.
    ).toBeGreaterThanOrEqual(WINDOW_MS - 1);
    expect(
      allowed.length,
      `calls allowed, one of them at 0 and ${LIMIT - 1} at 0.6 windows, until 1.6 windows: the first one leaves at 1, and makes room for another`,
    ).toBeGreaterThan(LIMIT);
  });

  test('a refused caller learns when to come back, and its refused calls do not count', async () => {
    const oldest = await timed(() => ask(2));
    await sleep(40);
    await ask(2);
    const refused = await timed(() => ask(2));
    expect(refused.decision, 'the third call, and the limit is 2').toMatchObject(REFUSED);
    const { retryAfterMs } = refused.decision;
    const message = `retryAfterMs is ${retryAfterMs}: an integer, the time until the first of two calls is a minute old`;
    expect(Number.isInteger(retryAfterMs), message).toBe(true);
    // The times of the caller bound those of Redis.
    const shortest = MINUTE_MS - (refused.answeredAt - oldest.sentAt) - 5;
    expect(retryAfterMs, message).toBeGreaterThanOrEqual(shortest);
    expect(retryAfterMs, message).toBeLessThanOrEqual(MINUTE_MS - (refused.sentAt - oldest.answeredAt) + 5);

    expect(
      await afterManyRefusals(),
      'allowed: a refused caller has called again and again, until its first retryAfterMs was over',
    ).toBe(true);

    let least = Number.POSITIVE_INFINITY;
    const enough = performance.now() + 60;
    while (performance.now() < enough) {
      const { allowed, retryAfterMs } = await allow(servers.redis, 'limit:tight', 1, 5);
      if (!allowed) least = Math.min(least, retryAfterMs);
    }
    expect(
      least,
      'the least retryAfterMs of a refused call, when a client calls all the time: with 0 it would call again at once',
    ).toBeGreaterThanOrEqual(1);
  });

  test('the clock of Redis decides, whatever the clock of the caller says', async () => {
    for (const [scene, before, after] of [
      ['an hour behind in the first two calls', -HOUR_MS, 0],
      ['an hour ahead in the third call', 0, HOUR_MS],
    ] as const) {
      const call = () => allow(servers.redis, `limit:${scene}`, 2, MINUTE_MS);
      await withClock(before, async () => {
        await call();
        await call();
      });
      const third = await withClock(after, call);
      expect(third, `the third call, the limit is 2, and the clock of the caller is ${scene}`).toMatchObject(
        REFUSED,
      );
      expect(
        third.retryAfterMs,
        `retryAfterMs, when the clock of the caller is ${scene}`,
        // A clock in ms may add one.
      ).toBeLessThanOrEqual(MINUTE_MS + 1);
    }
  });

  test('an error of Redis reaches the caller', async () => {
    const client = servers.connectRedis();
    await allow(client, KEY, 3, MINUTE_MS);
    client.disconnect();
    const call = allow(client, KEY, 3, MINUTE_MS).then(({ allowed }) => `allowed: ${allowed}`);
    expect(
      await outcome(call),
      'a call without a connection: the caller decides what that means, so it needs the error',
    ).toMatch(/^rejected/);
  });

  test('one script decides, and its only key is that of the caller', async () => {
    const key = 'limit:{shop 7}:ann/bob';
    const call = () => allow(servers.redis, key, 5, MINUTE_MS);
    // Redis may not know the script yet.
    await call();
    const sent = await commandsOf(servers.redis, call);
    expect(
      sent.map((args) => [args[0]?.toUpperCase().replace(/^(EVAL|FCALL).*/, 'script'), ...args.slice(2, 4)]),
      'the commands of one call: the script, the number of its keys, its first key. In a cluster, the declared key finds the node',
    ).toEqual([['script', '1', key]]);
    await watcher.script('FLUSH');
    const { allowed } = await call().catch((error) => ({ allowed: String(error) }));
    expect(allowed, 'allowed: the third call of 5, after Redis has lost all scripts, as in a restart').toBe(
      true,
    );
    const keys = (await watcher.keys('*')).filter((each) => !each.startsWith('caching-deep-dive:'));
    expect(keys, 'keys in Redis: a script may use no key that it does not declare').toEqual([key]);
  });

  test('the log is as long as the limit at most, and expires with its last call', async () => {
    const limit = 20;
    await ask(limit);
    await sleep(30);
    const last = performance.now();
    for (let calls = 1; calls < limit; calls++) await ask(limit);
    const enough = 1.3 * (await bytesOf(KEY)) + 100;
    for (let calls = 0; calls < 100; calls++) await ask(limit);
    expect(
      await bytesOf(KEY),
      'bytes of the log after 20 allowed and 100 refused calls: it must be as long as the limit, 20, at most',
    ).toBeLessThan(enough);
    const ttl = await watcher.pttl(KEY);
    const message = `ms to live of the log: ${ttl}. Its last call must count for a minute, and the key must expire soon after that`;
    expect(ttl, message).toBeGreaterThanOrEqual(MINUTE_MS - (performance.now() - last) - 2);
    expect(ttl, message).toBeLessThan(3 * MINUTE_MS);
    const start = performance.now();
    await allow(servers.redis, 'limit:fraction', limit, 1_900);
    const left = await watcher.pttl('limit:fraction');
    expect(
      left,
      `ms to live of a log with a window of 1,900 ms: ${left}. Its call must count for all of them`,
    ).toBeGreaterThanOrEqual(1_900 - (performance.now() - start) - 2);

    let most = 0;
    for (let calls = 0; calls < 50; calls++) {
      await Promise.all([1, 2].map(() => allow(servers.redis, 'limit:busy', limit, 20)));
      if (calls % 5 === 0) most = Math.max(most, await bytesOf('limit:busy'));
      await sleep(1);
    }
    expect(most, 'bytes of the log of a user who is never idle: 100 calls in several windows').toBeLessThan(
      enough,
    );
  });
});

const ask = (limit: number) => allow(servers.redis, KEY, limit, MINUTE_MS);

const isAllowed = ({ allowed }: Decision) => allowed;
const allowedOf = (decisions: readonly Decision[]) => decisions.filter(isAllowed).length;

interface Timed {
  readonly decision: Decision;
  readonly sentAt: number;
  readonly answeredAt: number;
}

async function timed(call: () => Promise<Decision>): Promise<Timed> {
  const sentAt = performance.now();
  const decision = await call();
  return { decision, sentAt, answeredAt: performance.now() };
}

const LIMIT = 5;
const WINDOW_MS = 150;

/** One call at 0, four at 0.6 of a window, and then as many as are allowed until 1.6. A counter forgets the four on its way. */
async function acrossTheBoundary(): Promise<Timed[]> {
  for (let tries = 1; ; tries++) {
    const call = () => timed(() => allow(servers.redis, `limit:boundary-${tries}`, LIMIT, WINDOW_MS));
    const calls = [await call()];
    const start = performance.now();
    await sleep(0.6 * WINDOW_MS);
    for (let nth = 2; nth <= LIMIT; nth++) calls.push(await call());
    const inTime = performance.now() - start < 0.9 * WINDOW_MS;
    while (performance.now() - start < 1.55 * WINDOW_MS) {
      calls.push(await call());
      await sleep(2);
    }
    // However late it is, the first call has left the window.
    calls.push(await call());
    // On a busy machine all of it may have left the window: a counter would look right.
    if (inTime || tries === 10) return calls;
  }
}

/** Whether a refused caller gets in at its first retryAfterMs, although it has called again and again until then. */
async function afterManyRefusals(): Promise<boolean> {
  for (let tries = 1; ; tries++) {
    const call = () => allow(servers.redis, `limit:again-${tries}`, 1, 80);
    await call();
    const second = await call();
    const end = performance.now() + second.retryAfterMs + 2;
    let tooLate = second.allowed;
    while (performance.now() < end - 30) tooLate ||= (await call()).allowed;
    await sleep(Math.max(0, end - performance.now()));
    const last = await call();
    tooLate ||= performance.now() > end + 25;
    // On a busy machine a later call has the place of the first one, or all of them have left.
    if (!tooLate || tries === 10) return last.allowed;
  }
}

/** Runs `action` in a process whose clocks are wrong by `ms`. */
async function withClock<T>(ms: number, action: () => Promise<T>): Promise<T> {
  const { now } = performance;
  const monotonic = vi.spyOn(performance, 'now').mockImplementation(() => now.call(performance) + ms);
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + ms });
  try {
    return await action();
  } finally {
    vi.useRealTimers();
    monotonic.mockRestore();
  }
}

const bytesOf = async (key: string) => Number((await watcher.memory('USAGE', key)) ?? 0);

/** The commands that a client sends during `action`, without those of scripts. */
async function commandsOf(client: Redis, action: () => Promise<unknown>): Promise<string[][]> {
  const address = /\baddr=(\S+)/.exec(String(await client.client('INFO')))?.[1];
  const monitor = await watcher.monitor();
  onTestFinished(() => monitor.disconnect());
  const seen: string[][] = [];
  let isOver = false;
  monitor.on('monitor', (_time: string, args: string[], source: string) => {
    if (args[1] === 'the action is over') isOver = true;
    else if (!isOver && source === address) seen.push(args);
  });
  await action();
  await watcher.echo('the action is over');
  await until(() => isOver);
  return seen;
}
