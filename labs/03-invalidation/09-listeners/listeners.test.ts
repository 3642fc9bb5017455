import { setTimeout as sleep } from 'node:timers/promises';
import type { RedisOptions } from 'ioredis';
import { describe, expect, onTestFinished, test } from 'vitest';
import { redisBehindProxy } from '#kit/faulty-redis';
import { heldLoad } from '#kit/loads';
import type { FaultyProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { outcome, soon, until } from '#kit/waiting';
import { BATCH, publish, RETRY_AT_MOST_MS, STREAM } from './given';
import { createLocalCache, type LocalCache, type Options } from './listeners';

const servers = useServers();

const KEY = 'product:1';
const OTHER = 'product:2';

describe('Core', () => {
  test('get loads a value once and keeps it; a load that fails keeps nothing', async () => {
    const cache = openCache();
    await cache.poll();
    expect(await read(cache, KEY, 'first'), 'a miss must give what was loaded').toBe('first');
    expect(await read(cache, KEY, 'second'), 'a hit must give what was kept').toBe('first');
    expect(await read(cache, OTHER, null), 'a miss must give what was loaded').toBeNull();
    expect(await read(cache, OTHER, 'second'), 'null is a value: it must be kept').toBeNull();
    const failing = cache.get('product:3', async () => {
      throw new Error('deadlock');
    });
    expect(await outcome(failing), 'the load failed: get must reject with its error').toBe(
      'rejected: Error: deadlock',
    );
    expect(await read(cache, 'product:3', 'second'), 'the call after a failed load must load').toBe('second');
  });

  test('an event drops its key in every process, and no other key', async () => {
    const caches = [openCache(), openCache()];
    await publish(servers.redis, ['product:0']);
    for (const cache of caches) {
      await catchUp(cache);
      await keepOld(cache, KEY, OTHER);
    }
    await publish(servers.redis, [KEY]);
    for (const [at, cache] of caches.entries()) {
      expect(await outcome(catchUp(cache)), `events read by process ${at + 1} of 2`).toBe(1);
      expect(await read(cache, KEY), `process ${at + 1} of 2: the key has changed, get must load`).toBe(
        'new',
      );
    }
    await publish(servers.redis, [KEY]);
    for (const cache of caches) {
      await catchUp(cache);
      expect(await read(cache, KEY, 'newer'), 'the key has changed again: get must load').toBe('newer');
    }
    expect(await read(caches[1], OTHER), 'no event named this key: it must stay').toBe('old');
  });

  test('a listener that was disconnected reads on where it stopped', async () => {
    const cache = openCache();
    await cache.poll();
    await keepOld(cache, OTHER);
    await cache.poll();
    expect(await read(cache, OTHER), 'the stream is empty: a poll must drop nothing').toBe('old');
    await publish(servers.redis, ['product:0']);
    await catchUp(cache);
    const missed = Array.from({ length: 2 * BATCH + 50 }, (_, n) => `missed:${n}`);
    await keepOld(cache, OTHER, ...missed);
    await publish(servers.redis, missed);
    expect(await outcome(catchUp(cache)), 'events read by poll after poll, until one reads 0').toBe(250);
    const left = [];
    for (const key of missed) if ((await read(cache, key)) !== 'new') left.push(key);
    expect(left, 'keys that changed while the listener was away, and were still kept').toEqual([]);
    expect(await read(cache, OTHER), 'no event named this key, and none was missed: it must stay').toBe(
      'old',
    );
  });

  test('a listener whose place was trimmed clears everything', async () => {
    const cache = openCache();
    await publish(servers.redis, ['product:0']);
    await catchUp(cache);
    await keepOld(cache, KEY, OTHER);
    await publish(servers.redis, [KEY, 'product:3', 'product:4']);
    await servers.redis.xtrim(STREAM, 'MAXLEN', 1);
    // Twice: a poll that finds its place gone may read nothing.
    await catchUp(cache);
    await catchUp(cache);
    const when = 'the event of this key was trimmed before it was read';
    expect(await read(cache, KEY), `${when}: get must load`).toBe('new');
    expect(await read(cache, OTHER), 'events were trimmed, nobody knows which: clear this key too').toBe(
      'new',
    );
    await publish(servers.redis, ['product:3']);
    await catchUp(cache);
    expect(await read(cache, KEY, 'newer'), 'it has a place again: keep what no event names').toBe('new');

    const young = openCache();
    await keepOld(young, KEY);
    await publish(servers.redis, [KEY, 'product:3']);
    await servers.redis.xtrim(STREAM, 'MAXLEN', 1);
    await catchUp(young);
    expect(await read(young, KEY), `a process that had read nothing, and ${when}: get must load`).toBe('new');
  });

  test('a poll that fails rejects, and the next one misses nothing', async () => {
    const { cache, proxy } = await behindProxy();
    await publish(servers.redis, ['product:0']);
    await catchUp(cache);
    for (let nth = 1, sent = 0; sent >= nth - 1; nth++) {
      await keepOld(cache, KEY);
      await publish(servers.redis, [KEY]);
      sent = 0;
      proxy.schedule(async () => {
        if (++sent === nth) proxy.cut();
      });
      const broken = await outcome(cache.poll());
      proxy.schedule();
      const when = `the connection broke before request ${nth} of a poll`;
      if (sent >= nth) expect(String(broken), `${when}: poll must reject`).toMatch(/^rejected/);
      await until(async () => (await cache.poll().catch(() => 1)) === 0);
      expect(await read(cache, KEY), `${when}: the next one must drop the key of its event`).toBe('new');
      await publish(servers.redis, [KEY]);
      await until(async () => (await cache.poll().catch(() => 1)) === 0);
    }
  });

  test('run waits in Redis for events, and drops their keys', async () => {
    const { cache, proxy } = await behindProxy();
    await publish(servers.redis, ['product:0']);
    await catchUp(cache);
    await keepOld(cache, KEY);
    let requests = 0;
    proxy.schedule(async (request) => {
      if (READS.test(request)) requests++;
    });
    start(cache);
    await until(() => requests > 0);
    await soon(
      until(() => requests >= 12),
      150,
    );
    expect(requests, 'reads in 150 ms without an event: each one must wait in Redis').toBeLessThan(12);
    await publish(servers.redis, [KEY]);
    await until(async () => (await read(cache, KEY)) === 'new');
    expect(await read(cache, KEY, 'newer'), 'the key has changed: run must drop it').not.toBe('old');
    await publish(servers.redis, [KEY]);
    await until(async () => (await read(cache, KEY, 'newer')) === 'newer');
    expect(await read(cache, KEY, 'newer'), 'the key has changed again: run must go on').toBe('newer');
  });
});

describe('In production', () => {
  test('a fill that was overtaken by an event or a clear is not kept', async () => {
    const losses: Readonly<Record<string, (cache: LocalCache) => Promise<unknown>>> = {
      async 'an event of the key was read'(cache) {
        await publish(servers.redis, [KEY]);
        await catchUp(cache);
      },
      async 'an event without a key was read'(cache) {
        await servers.redis.xadd(STREAM, '*', 'product', '1');
        await catchUp(cache);
      },
      async 'the place was trimmed, and all was cleared,'(cache) {
        await publish(servers.redis, [KEY, 'product:3']);
        await servers.redis.xtrim(STREAM, 'MAXLEN', 1);
        await catchUp(cache);
      },
    };
    for (const [what, lose] of Object.entries(losses)) {
      const cache = openCache();
      await publish(servers.redis, ['product:0']);
      await catchUp(cache);
      const [before, after] = [heldLoad('old'), heldLoad('new')];
      const first = outcome(cache.get(KEY, before.load));
      await soon(before.begun);
      await lose(cache);
      const when = `${what} while the value was being loaded`;
      const second = outcome(cache.get(KEY, after.load));
      await soon(Promise.race([after.begun, second]), 100);
      after.end();
      expect(await second, `${when}: a call that begins later must not join that load`).toBe('new');
      before.end();
      expect(await first, `${when}: its caller must get what was loaded for it`).toBe('old');
      expect(await read(cache, KEY, 'new'), `${when}: the old value must not be kept`).toBe('new');

      const again = heldLoad('old');
      await lose(cache);
      const third = outcome(cache.get(KEY, again.load));
      await soon(again.begun);
      await lose(cache);
      again.end();
      await third;
      expect(await read(cache, KEY), `${when}: what it loaded must not be kept`).toBe('new');
    }
  });

  test('a stream that is trimmed during a poll hides nothing', async () => {
    const { cache, proxy } = await behindProxy();
    for (let nth = 1, sent = nth; sent >= nth; nth++) {
      await publish(servers.redis, ['product:0']);
      await catchUp(cache);
      await keepOld(cache, KEY);
      await publish(servers.redis, ['product:3']);
      sent = 0;
      proxy.schedule(async () => {
        if (++sent !== nth) return;
        await publish(servers.redis, [KEY, 'product:4']);
        await servers.redis.xtrim(STREAM, 'MAXLEN', 1);
      });
      await outcome(cache.poll());
      proxy.schedule();
      await catchUp(cache);
      if (sent < nth) break;
      expect(
        await read(cache, KEY),
        `the event of this key was added and trimmed before request ${nth} of a poll: get must load`,
      ).toBe('new');
      await publish(servers.redis, [KEY]);
      await catchUp(cache);
    }
  });

  test('a stream that was lost clears everything, once', async () => {
    const cache = openCache();
    await publish(servers.redis, ['product:0']);
    await catchUp(cache);
    await keepOld(cache, KEY);
    await servers.redis.del(STREAM);
    await catchUp(cache);
    expect(
      await read(cache, KEY),
      'the stream is gone, and with it the events that were not read: get must load',
    ).toBe('new');
    await catchUp(cache);
    await catchUp(cache);
    expect(
      await read(cache, KEY, 'newer'),
      'the stream is still empty, and all was cleared: later polls must keep what was loaded since',
    ).toBe('new');
    await publish(servers.redis, [KEY]);
    await catchUp(cache);
    expect(await read(cache, KEY, 'newer'), 'the first event of the new stream must drop its key').toBe(
      'newer',
    );
  });

  test('a stream in which the place is not found any more clears everything', async () => {
    const histories: Readonly<Record<string, readonly string[]>> = {
      'ends before the place': ['9-0'],
      'goes on behind the place': ['9-0', '11-0'],
      'was begun again with lower ids': ['2-0', '3-0'],
    };
    for (const [what, ids] of Object.entries(histories)) {
      const cache = openCache();
      await servers.redis.del(STREAM);
      for (const id of ['7-0', '8-0', '10-0']) await addWithId(id, 'product:0');
      await catchUp(cache);
      await keepOld(cache, KEY);
      // After a failover: the new primary had not received 10-0, and its clock is behind.
      await servers.redis.del(STREAM);
      if (ids[0] === '9-0') for (const id of ['7-0', '8-0']) await addWithId(id, 'product:0');
      for (const id of ids) await addWithId(id, id === ids[0] ? KEY : 'product:3');
      await catchUp(cache);
      expect(
        await read(cache, KEY),
        `the place was 10-0; after a failover the stream ${what}, and ${ids[0]} names this key: get must load`,
      ).toBe('new');
      await servers.redis.xadd(STREAM, '*', 'key', KEY);
      await catchUp(cache);
      expect(await read(cache, KEY, 'newer'), `the stream ${what}: later events must drop their keys`).toBe(
        'newer',
      );
    }
  });

  test('an event that cannot be read clears everything, and is skipped', async () => {
    const events: Readonly<Record<string, readonly (string | Buffer)[]>> = {
      'without a key': ['product', '1'],
      'with a key that is not UTF-8': ['key', Buffer.from('fffe00', 'hex')],
    };
    for (const [kind, fields] of Object.entries(events)) {
      const cache = openCache();
      await publish(servers.redis, ['product:0']);
      await catchUp(cache);
      await keepOld(cache, KEY);
      await servers.redis.call('XADD', STREAM, '*', ...fields);
      await publish(servers.redis, ['product:3']);
      expect(
        await outcome(catchUp(cache)),
        `events read, the first one ${kind}: poll must not stop there`,
      ).toBe(2);
      expect(await read(cache, KEY), `an event ${kind} may mean any key: get must load`).toBe('new');
      await publish(servers.redis, [KEY]);
      await catchUp(cache);
      expect(await read(cache, KEY, 'newer'), `after an event ${kind}: later events must be applied`).toBe(
        'newer',
      );
    }
  });

  test('no value is given out after maxSilenceMs without a successful read', async () => {
    const clock = fakeClock();
    const { cache, proxy } = await behindProxy({ clock, maxSilenceMs: 2_900 });
    await cache.poll();
    await keepOld(cache, KEY, OTHER, 'product:3');
    await proxy.refuse();
    clock.ms += 2_800;
    await cache.poll().catch(() => {});
    expect(await read(cache, KEY), 'silent for 2,800 of 2,900 ms: what is kept must be given out').toBe(
      'old',
    );
    clock.ms += 200;
    await cache.poll().catch(() => {});
    expect(await read(cache, KEY), 'silent for 3,000 of 2,900 ms, each poll failed: get must load').toBe(
      'new',
    );
    expect(
      await read(cache, 'product:3'),
      'another key was loaded meanwhile, and no event was read: get must load',
    ).toBe('new');
    clock.ms += 3_000;
    expect(
      await read(cache, KEY, 'newer'),
      'loaded during the silence, 3,000 of 2,900 ms ago: get must load again',
    ).toBe('newer');
    await proxy.heal();
    await publish(servers.redis, [OTHER]);
    await until(async () => (await cache.poll().catch(() => 1)) === 0);
    expect(await read(cache, OTHER), 'changed during the silence: get must load').toBe('new');
    expect(await read(cache, OTHER, 'newer'), 'the channel is back: what is kept must be given out').toBe(
      'new',
    );

    const young = openCache({ clock, maxSilenceMs: 2_900 });
    await keepOld(young, KEY);
    clock.ms += 3_000;
    expect(await read(young, KEY), 'it has never read, and is 3,000 ms old: get must load').toBe('new');

    const usual = openCache({ clock });
    await usual.poll();
    await keepOld(usual, KEY);
    clock.ms += 5_001;
    expect(
      await read(usual, KEY),
      'silent for 5,001 ms; without maxSilenceMs it is 5,000: get must load',
    ).toBe('new');
  });

  test('after a silence no value is given out before all missed events are read', async () => {
    const clock = fakeClock();
    const cache = openCache({ clock, maxSilenceMs: 2_900 });
    await publish(servers.redis, ['product:0']);
    await catchUp(cache);
    const missed = Array.from({ length: 2 * BATCH + 50 }, (_, n) => `missed:${n}`);
    await keepOld(cache, ...missed);
    await publish(servers.redis, missed);
    clock.ms += 3_000;
    await cache.poll();
    expect(
      await read(cache, 'missed:249'),
      'silent for 3,000 of 2,900 ms, 250 events were missed, one poll has read: this key was the last one, get must load',
    ).toBe('new');
    await catchUp(cache);
    await keepOld(cache, OTHER);
    expect(await read(cache, OTHER), 'all is read: what is kept must be given out').toBe('old');
    for (const step of [1, 2]) {
      clock.ms += 2_000;
      await publish(servers.redis, ['product:3']);
      await cache.poll();
      expect(
        await read(cache, OTHER),
        `read ${step} of 2 in 4,000 ms brought one event, less than BATCH: all is read`,
      ).toBe('old');
    }
  });

  test('run reads again after each failure, with pauses that grow to RETRY_AT_MOST_MS', async () => {
    const clock = fakeClock();
    const errors: unknown[] = [];
    const connectionName = `fails-${process.pid}`;
    const { cache, proxy } = await behindProxy(
      { clock, onError: (error) => errors.push(error) },
      { connectionName, commandTimeout: 100 },
    );
    await publish(servers.redis, ['product:0']);
    await catchUp(cache);
    await keepOld(cache, KEY);
    await started(cache, proxy);
    await proxy.refuse();
    await until(() => clock.pauses.length >= 12);
    expect(clock.pauses.length, 'pauses by clock.sleep while Redis was away').toBeGreaterThanOrEqual(12);
    const first = clock.pauses.slice(0, 12);
    expect(errors.length, 'calls of onError before the 12th pause').toBeGreaterThanOrEqual(12);
    expect(Math.max(...first), 'ms of the longest of 12 pauses').toBeLessThanOrEqual(RETRY_AT_MOST_MS);
    expect(Math.min(...first), 'ms of the shortest of 12 pauses').toBeGreaterThan(1);
    expect(first[11], 'ms of pause 12: Redis is away for long, ask less often').toBeGreaterThan(100);
    expect(
      await read(cache, KEY),
      'reads failed, for less than maxSilenceMs: what is kept must be given out',
    ).toBe('old');
    await publish(servers.redis, [KEY]);
    await proxy.heal();
    await until(async () => (await read(cache, KEY)) === 'new');
    expect(await read(cache, KEY), 'Redis is back: run must read what it missed').toBe('new');

    // Nothing is answered on this connection again. A new one works.
    await soon(proxy.hold(/\bBLOCK\b/i).arrived);
    await publish(servers.redis, [KEY]);
    await expect
      .poll(() => read(cache, KEY, 'newer'), {
        timeout: 3000,
        interval: 5,
        message: 'the connection is open and silent: run must end the read, and read by a new connection',
      })
      .toBe('newer');
    const connections = async () =>
      (await clientsOfRedis()).filter(({ name }) => name === connectionName).length;
    await until(async () => (await connections()) <= 2);
    expect(
      await connections(),
      'connections after these failures: that of the application, and the one that waits',
    ).toBeLessThanOrEqual(2);
  });

  test('the read that waits has a connection and a timeout of its own', async () => {
    const errors: unknown[] = [];
    const connectionName = `listeners-${process.pid}`;
    const { cache, proxy } = await behindProxy(
      { onError: (error) => errors.push(error) },
      { connectionName, commandTimeout: 80 },
    );
    const application = (await clientsOfRedis()).find(({ name }) => name === connectionName)?.id;
    const { stop, running, reads } = await started(cache, proxy);
    let blocked: number[] = [];
    await until(async () => {
      blocked = (await clientsOfRedis()).filter(({ flags }) => flags.includes('b')).map(({ id }) => id);
      return blocked.length > 0;
    });
    expect(blocked.length, 'clients that wait in Redis: run must read with BLOCK').toBeGreaterThan(0);
    expect(
      blocked,
      'clients that wait in Redis: the commands of the application would wait too',
    ).not.toContain(application);
    await until(() => reads() >= 5);
    expect(
      errors.length,
      'failed reads of a quiet stream: the commandTimeout of the application is shorter than BLOCK_MS',
    ).toBeLessThan(2);
    stop();
    await outcome(running);
    const left = async () => (await clientsOfRedis()).filter(({ name }) => name === connectionName).length;
    await until(async () => (await left()) === 1);
    expect(await left(), 'connections after run has ended, that of the application included').toBe(1);
  });

  test('run ends soon after the abort, whatever it waits for', async () => {
    const states: Readonly<Record<string, (proxy: FaultyProxy, clock: FakeClock) => Promise<unknown>>> = {
      'for an event': async () => {},
      'for an answer that does not come': async (proxy) => proxy.blackHole(),
      'in a pause after a failure': async (proxy, clock) => {
        await proxy.refuse();
        await until(() => clock.pauses.length > 0);
      },
    };
    for (const [what, reach] of Object.entries(states)) {
      const clock = fakeClock();
      clock.sleep = (ms, signal) => {
        clock.pauses.push(ms);
        return new Promise<unknown>((resolve) => {
          signal?.addEventListener('abort', resolve);
          if (signal?.aborted) resolve(undefined);
        });
      };
      const { cache, proxy } = await behindProxy({ clock });
      const { stop, running } = await started(cache, proxy);
      await reach(proxy, clock);
      stop();
      expect(await outcome(running), `aborted while it waits ${what}: run must resolve`).toBeUndefined();
    }
    expect(
      await outcome(openCache().run(AbortSignal.abort()), 3_000),
      'aborted before run was called: run must resolve',
    ).toBeUndefined();
  });
});

/** Commands that read a stream. */
const READS = /^(XREAD|XRANGE|XINFO|EVAL|EVALSHA|MULTI)\b/i;

function openCache(options: Partial<Options> = {}): LocalCache {
  return createLocalCache({ redis: servers.connectRedis(), ...options });
}

/** A cache whose Redis can be taken away. The connection is up. */
async function behindProxy(options: Partial<Options> = {}, client: RedisOptions = {}) {
  const { redis, proxy } = await redisBehindProxy(servers, {
    commandTimeout: 300,
    maxRetriesPerRequest: 0,
    retryStrategy: () => 5,
    ...client,
  });
  return { cache: createLocalCache({ redis, ...options }), proxy };
}

/** What get gives: what is kept, else `value`. */
const read = (cache: LocalCache | undefined, key: string, value: unknown = 'new'): Promise<unknown> =>
  outcome((cache as LocalCache).get(key, async () => value));

async function keepOld(cache: LocalCache, ...keys: string[]) {
  for (const key of keys) await cache.get(key, async () => 'old');
}

/** Polls until nothing is left to read. @returns how many events it has read */
async function catchUp(cache: LocalCache): Promise<number> {
  let sum = 0;
  for (let polls = 0; polls < 20; polls++) {
    const count = await cache.poll();
    sum += count;
    if (count === 0) break;
  }
  return sum;
}

function start(cache: LocalCache) {
  const abort = new AbortController();
  const running = cache.run(abort.signal);
  running.catch(() => {});
  onTestFinished(() => abort.abort());
  return { running, stop: () => abort.abort() };
}

/** `run`, after its first read has reached the proxy. */
async function started(cache: LocalCache, proxy: FaultyProxy) {
  let reads = 0;
  proxy.schedule(async (request) => {
    if (READS.test(request)) reads++;
  });
  const run = start(cache);
  await until(() => reads > 0);
  return { ...run, reads: () => reads };
}

type FakeClock = ReturnType<typeof fakeClock>;

/** Time that the test moves. A pause takes next to no time. */
function fakeClock() {
  const clock = {
    ms: 1_000,
    pauses: [] as number[],
    now: () => clock.ms,
    sleep(ms: number, _signal?: AbortSignal): Promise<unknown> {
      clock.pauses.push(ms);
      return sleep(1);
    },
  };
  return clock;
}

const addWithId = (id: string, key: string) => servers.redis.xadd(STREAM, id, 'key', key);

async function clientsOfRedis() {
  const list = String(await servers.redis.client('LIST'));
  return [...list.matchAll(/^id=(\d+) .* name=(\S*) .* flags=(\w+)/gm)].map(([, id, name, flags]) => ({
    id: Number(id),
    name,
    flags: String(flags),
  }));
}
