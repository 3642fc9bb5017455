import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis, RedisOptions } from 'ioredis';
import { describe, expect, onTestFinished, test } from 'vitest';
import { fakeClock } from '#kit/clock';
import { usedMb } from '#kit/effort';
import { connected, leave } from '#kit/faulty-redis';
import { ownRedis } from '#kit/own-redis';
import { type FaultyProxy, openProxy } from '#kit/proxy';
import { nameRequests } from '#kit/requests';
import { useServers } from '#kit/servers';
import { outcome, unhandledRejections, until } from '#kit/waiting';
import { INVALIDATIONS } from './given';
import { createTwoTier, type Options } from './two-tier';

const servers = useServers();

const KEY = 'product:1';
const OTHER = 'product:2';
/** Longer than any pause of a busy machine. */
const NEVER_SILENT_MS = 600_000;
const REJECTION = expect.stringMatching(/^rejected/);
/** Half of what 400 keys of 25 kB take. */
const KEPT_MB_AT_MOST = 5;

describe('Core', () => {
  test('a hit in L1 asks nobody', async () => {
    const tiers = await openTiers();
    await servers.redis.mset(KEY, 'mug', OTHER, '');
    const texts = { [KEY]: 'mug', [OTHER]: '', 'product:none': null };
    for (const [key, text] of Object.entries(texts)) {
      expect(await tiers.cache.get(key), `${key}: a miss must give what Redis holds`).toBe(text);
      await keptInL1(tiers, key);
      expect(await tiers.cache.get(key), `${key}: a hit must give what the miss gave`).toBe(text);
    }
    const before = tiers.asked();
    for (let i = 0; i < 100; i++) for (const key of Object.keys(texts)) await tiers.cache.get(key);
    expect(
      tiers.asked() - before,
      'commands sent for 300 hits of a text, an empty text and an absence: a hit must ask nobody',
    ).toBe(0);
  });

  test('a write drops its key from L1, by whichever client it came', async () => {
    const tiers = await openTiers();
    await keepOld(tiers, KEY);
    const writes: Readonly<Record<string, () => Promise<unknown>>> = {
      'SET new, by another client': () => servers.redis.set(KEY, 'new'),
      'APPEND !, by the same client': () => tiers.redis.append(KEY, '!'),
      'DEL, by another client': () => servers.redis.del(KEY),
      'SETNX again, by another client': () => servers.redis.setnx(KEY, 'again'),
    };
    for (const [how, write] of Object.entries(writes)) {
      await keptInL1(tiers, KEY);
      await write();
      const text = await servers.redis.get(KEY);
      await until(async () => (await tiers.cache.get(KEY)) === text);
      expect(await tiers.cache.get(KEY), `a second after ${how}: L1 must have dropped the key`).toBe(text);
    }
  });

  test('a write of twenty keys drops the twenty, and no other key', async () => {
    const tiers = await openTiers();
    const keys = Array.from({ length: 20 }, (_, n) => `product:many:${n}`);
    for (const key of [...keys, OTHER]) await keepOld(tiers, key);
    await servers.redis.mset(keys.flatMap((key) => [key, 'new']));
    const old = async () => {
      const texts = await Promise.all(keys.map((key) => tiers.cache.get(key)));
      return keys.filter((_, at) => texts[at] !== 'new');
    };
    await until(async () => (await old()).length === 0);
    expect(await old(), 'keys that are old a second after one MSET of twenty keys').toEqual([]);
    expect(await asksFor(tiers, OTHER), 'commands sent for a key that nobody wrote: it must stay in L1').toBe(
      0,
    );
  });

  test('L1 keeps maxKeys keys, and drops the least recently used', async () => {
    const tiers = await openTiers({ maxKeys: 3 });
    for (const key of ['product:a', 'product:b', 'product:c']) await keepOld(tiers, key);
    await tiers.cache.get('product:a');
    await keepOld(tiers, 'product:d');
    for (const key of ['product:a', 'product:c', 'product:d']) {
      expect(
        await asksFor(tiers, key),
        `commands sent for ${key}, one of the 3 last used: maxKeys is 3`,
      ).toBe(0);
    }
    expect(
      await asksFor(tiers, 'product:b'),
      'commands sent for product:b, used before 3 other keys: maxKeys is 3, so L1 must have dropped it',
    ).toBeGreaterThan(0);
    expect(
      await mbKeptOfLongKeys(tiers),
      'MB kept after one read of each of 400 keys of 25 kB: maxKeys is 3, so nothing may be kept of the others',
    ).toBeLessThan(KEPT_MB_AT_MOST);
  });

  test('a key that does not begin with the prefix is read from Redis each time', async () => {
    const tiers = await openTiers();
    await keepOld(tiers, KEY);
    await servers.redis.set('session:1', 'old');
    for (let i = 0; i < 3; i++) expect(await tiers.cache.get('session:1')).toBe('old');
    await servers.redis.set('session:1', 'new');
    await sleep(20);
    expect(
      await tiers.cache.get('session:1'),
      'text of a key outside of the prefix after a write: no message comes for it, so L1 must not keep it',
    ).toBe('new');
    expect(
      tiers.heard('session:1'),
      'messages about a key outside of the prefix: each process would handle every write in Redis',
    ).toBe(0);
  });

  test('close ends the channel, and get asks Redis after it', async () => {
    const tiers = await openTiers({ maxSilenceMs: 200 });
    await keepOld(tiers, KEY);
    tiers.cache.close();
    await servers.redis.set(KEY, 'new');
    expect(await tiers.cache.get(KEY), 'text after close and a write: no message comes any more').toBe('new');
    await sleep(120);
    const states = () => tiers.channels.map(({ status }) => status);
    await until(() => states().every((status) => status === 'end'));
    expect(new Set(states()), 'states of the connections of the channel after close').toEqual(
      new Set(['end']),
    );
  });
});

describe('In production', () => {
  test('a read that races an invalidation is not kept', async () => {
    const tiers = await openTiers();
    await keepOld(tiers, 'product:0');
    await written(tiers, KEY, 'old');
    const alone = await heldReply(tiers, KEY);
    await written(tiers, KEY, 'new');
    alone.deliver();
    await alone.reading;
    expect(
      await tiers.cache.get(KEY),
      'text: Redis answered a read, the key was written, the message came, and only then the reply of the read; L1 must not keep it',
    ).toBe('new');

    const absent = await heldReply(tiers, 'product:created');
    await written(tiers, 'product:created', 'new');
    absent.deliver();
    await absent.reading;
    expect(
      await tiers.cache.get('product:created'),
      'text: Redis answered a read with an absence, the key was created, the message came, and only then the reply; L1 must not keep the absence',
    ).toBe('new');

    await written(tiers, OTHER, 'old');
    const first = await heldReply(tiers, OTHER);
    await written(tiers, OTHER, 'new');
    const second = outcome(tiers.cache.get(OTHER));
    first.deliver();
    await first.reading;
    expect(
      await second,
      'text for a call that began after the message: it must not share the read that began before it',
    ).toBe('new');
    expect(
      await tiers.cache.get(OTHER),
      'text: one read began before the message and one after it; L1 must not keep what the first one got',
    ).toBe('new');
    await beforeEachRequest(async (tiers, step) => {
      expect(
        await tiers.cache.get(KEY),
        `text: a write and its message came before request ${step} of a read; L1 must not keep what was read before it`,
      ).toBe('new');
    });
  });

  test('a key with a comma is dropped like any other', async () => {
    const tiers = await openTiers();
    const keys = ['product:mugs,red', 'product:a,product:b', 'product:größe,ü', 'product:,'];
    for (const key of keys) await keepOld(tiers, key);
    await servers.redis.mset(keys.flatMap((key) => [key, 'new']));
    for (const key of keys) {
      await until(async () => (await tiers.cache.get(key)) === 'new');
      expect(await tiers.cache.get(key), `text of ${key} a second after a write`).toBe('new');
    }
  });

  test('FLUSHDB empties L1, and stops reads under way from being kept', async () => {
    const tiers = await openTiers();
    await keepOld(tiers, KEY);
    await written(tiers, OTHER, 'old');
    const held = await heldReply(tiers, OTHER);
    await servers.redis.flushdb();
    await until(() => tiers.heard('') > 0);
    held.deliver();
    await held.reading;
    await until(async () => (await tiers.cache.get(KEY)) === null);
    expect(await tiers.cache.get(KEY), 'text of a key of L1, a second after FLUSHDB').toBeNull();
    expect(
      await tiers.cache.get(OTHER),
      'text of a key that was being read during FLUSHDB: its reply came later, so L1 must not keep it',
    ).toBeNull();
  });

  test('a channel that was cut empties L1, and is tracked again', async () => {
    const tiers = await openTiers();
    await keepOld(tiers, KEY);
    for (const time of ['first', 'second']) {
      await tiers.channelProxy.refuse();
      await until(() => tiers.channels.every(({ status }) => status !== 'ready'));
      await servers.redis.set(KEY, `${time} new`);
      expect(
        await tiers.cache.get(KEY),
        'text while the channel is down: no message can come, so L1 must not be used',
      ).toBe(`${time} new`);
      await tiers.channelProxy.heal();
      await keptInL1(tiers, KEY, ` after the ${time} cut of the channel`);
      expect(
        await tiers.cache.get(KEY),
        'text when L1 is used again: the key was written while the channel was down',
      ).toBe(`${time} new`);
      await servers.redis.set(KEY, 'newer');
      await until(async () => (await tiers.cache.get(KEY)) === 'newer');
      expect(
        await tiers.cache.get(KEY),
        `text a second after a write: the ${time} cut is over, and the channel must be tracked again`,
      ).toBe('newer');
    }
    const early = await openTiers({}, (proxy) => proxy.hold(/SUBSCRIBE/i));
    await Promise.race([early.held?.arrived, sleep(1000)]);
    early.channelProxy.cut();
    early.held?.release();
    await keepOld(early, KEY, ' after a cut before SUBSCRIBE was answered');
    await servers.redis.set(KEY, 'new');
    await until(async () => (await early.cache.get(KEY)) === 'new');
    expect(
      await early.cache.get(KEY),
      'text a second after a write: a cut came before SUBSCRIBE was answered, and the next connection must be tracked',
    ).toBe('new');
  });

  test('a read that began before the channel was tracked is not kept', async () => {
    for (const command of ['TRACKING', 'SUBSCRIBE']) {
      const tiers = await openTiers({}, (proxy) => proxy.hold(new RegExp(command, 'i')));
      await Promise.race([tiers.held?.arrived, sleep(1000)]);
      await servers.redis.set(KEY, 'old');
      const early = await heldReply(tiers, KEY);
      await servers.redis.set(KEY, 'new');
      tiers.held?.release();
      await untilTracked(tiers);
      early.deliver();
      await early.reading;
      expect(
        await tiers.cache.get(KEY),
        `text: the key was read and then written before Redis had got ${command}, so no message came; L1 must not keep it`,
      ).toBe('new');
    }
    const tiers = await openTiers();
    await untilTracked(tiers);
    await written(tiers, KEY, 'old');
    const earlier = await heldReply(tiers, KEY);
    await tiers.channelProxy.refuse();
    await until(() => tiers.channels.every(({ status }) => status !== 'ready'));
    await servers.redis.set(KEY, 'new');
    await tiers.channelProxy.heal();
    await untilTracked(tiers);
    earlier.deliver();
    await earlier.reading;
    expect(
      await tiers.cache.get(KEY),
      'text: the key was read, the channel was cut, the key was written, the channel is tracked again; L1 must not keep the read',
    ).toBe('new');
  });

  test('L1 is not used when the channel is silent, and the channel is replaced', async () => {
    const unhandled = unhandledRejections();
    const before = await subscribers();
    const tiers = await openTiers({ maxSilenceMs: 100 });
    await keepOld(tiers, KEY);
    const silent = tiers.channels.map(({ stream }) => stream.pause());
    onTestFinished(() => {
      for (const stream of silent) stream.resume();
    });
    await servers.redis.set(KEY, 'new');
    await sleep(250);
    expect(
      await tiers.cache.get(KEY),
      'text 250 ms after a write: the channel is connected and has been silent all the time, maxSilenceMs is 100',
    ).toBe('new');
    await expect
      .poll(() => asksFor(tiers, KEY), {
        timeout: 3500,
        interval: 20,
        message: 'commands sent for a read: the silent connection must be replaced, so that L1 is used again',
      })
      .toBe(0);
    expect(tiers.errors.length, 'calls of onError: the channel was silent').toBeGreaterThan(0);
    await until(async () => (await subscribers()) <= before + 1);
    expect(
      await subscribers(),
      'connections that Redis sends messages to: the silent one must end',
    ).toBeLessThanOrEqual(before + 1);
    expect(unhandled(), 'rejections that nobody has caught').toEqual([]);
  });

  test('a process that was paused does not use L1 before it has heard from Redis', async () => {
    const clock = fakeClock(1_000);
    const tiers = await openTiers({ maxSilenceMs: undefined, now: clock.now });
    await keepOld(tiers, KEY);
    for (const channel of tiers.channels) channel.stream.pause();
    await servers.redis.set(KEY, 'new');
    clock.advance(1_001);
    const paused =
      'a pause of 1,001 ms by `now`, without maxSilenceMs, which is 1,000 then: messages wait in the socket';
    expect(
      await tiers.cache.get(KEY),
      `text for the first call after ${paused}, and no timer has fired yet`,
    ).toBe('new');
    await sleep(300);
    expect(
      await tiers.cache.get(KEY),
      `text 300 ms after ${paused}; a PING that was sent proves nothing before its answer`,
    ).toBe('new');
    for (const channel of tiers.channels) channel.stream.resume();
    await keptInL1(tiers, KEY, ` after ${paused}, and they have come`);
  });

  test('L1 keeps a text no longer than Redis does', async () => {
    const clock = fakeClock(1_000);
    const tiers = await openTiers({ maxSilenceMs: NEVER_SILENT_MS, now: clock.now });
    await keepOld(tiers, OTHER);
    await servers.redis.set(KEY, 'old', 'PX', 57_300);
    await keptInL1(tiers, KEY);
    clock.advance(50_000);
    expect(await asksFor(tiers, KEY), 'commands sent after 50,000 of 57,300 ms: the text is still good').toBe(
      0,
    );
    clock.advance(7_300);
    expect(
      await asksFor(tiers, KEY),
      'commands sent after 57,300 ms: the text has expired in Redis, and the message about it may come later',
    ).toBeGreaterThan(0);
    expect(await asksFor(tiers, OTHER), 'commands sent for a text without a TTL: it must stay in L1').toBe(0);

    await written(tiers, 'product:3', 'old', 57_300);
    const slow = await heldReply(tiers, 'product:3');
    clock.advance(30_000);
    slow.deliver();
    await slow.reading;
    expect(await asksFor(tiers, 'product:3'), 'commands sent after 30,000 of 57,300 ms').toBe(0);
    clock.advance(27_300);
    expect(
      await asksFor(tiers, 'product:3'),
      'commands sent 57,300 ms after a read whose reply took 30,000 of them: Redis counts from before the reply',
    ).toBeGreaterThan(0);
  });

  test('while Redis is down get rejects, and L1 is used again after it', async () => {
    const unhandled = unhandledRejections();
    const proxy = await openProxy(servers.redisUrl);
    const before = await openTiers({}, undefined, proxy);
    await keepOld(before, KEY);
    await servers.redis.rpush('product:list', 'no text');
    expect(
      await outcome(before.cache.get('product:list')),
      'get of a list, while the channel is tracked: Redis refuses the read, so get must reject',
    ).toEqual(REJECTION);
    await proxy.refuse();
    const during = await openTiers({}, undefined, proxy);
    await until(() => [...before.channels, before.redis].every(({ status }) => status !== 'ready'));
    await servers.redis.set(KEY, 'new');
    for (const [when, tiers] of Object.entries({ before, during })) {
      expect(
        await outcome(tiers.cache.get(KEY)),
        `Redis is away (the cache was created ${when} the outage): nobody knows the text, so get must reject`,
      ).toEqual(REJECTION);
      await until(() => tiers.errors.length > 0);
      expect(tiers.errors.length, 'calls of onError while Redis is away').toBeGreaterThan(0);
    }
    await proxy.heal();
    for (const [when, tiers] of Object.entries({ before, during })) {
      await connected(tiers.redis);
      await keptInL1(tiers, KEY, ` after Redis came back (the cache was created ${when} the outage)`);
      expect(await tiers.cache.get(KEY), 'text after Redis came back').toBe('new');
    }
    expect(unhandled(), 'rejections that nobody has caught').toEqual([]);
  });

  test('while Redis refuses to track L1 is not used, and the refusal is reported', async () => {
    const unhandled = unhandledRejections();
    const { url } = await ownRedis();
    const admin = servers.connectRedis({}, url);
    onTestFinished(() => leave(admin));
    await admin.acl('SETUSER', 'shop', 'on', 'nopass', '+@all', '-client|tracking', '~*', '&*');
    const asShop = Object.assign(new URL(url), { username: 'shop', password: 'any' }).href;
    const proxy = await openProxy(asShop);
    const tiers = await openTiers({ maxSilenceMs: 200 }, undefined, proxy);
    const refusals = () => tiers.errors.filter((error) => String(error).includes('NOPERM'));
    await until(() => refusals().length > 0);
    expect(refusals().length, 'calls of onError with NOPERM: CLIENT TRACKING was refused').toBeGreaterThan(0);
    await admin.set(KEY, 'old');
    for (let i = 0; i < 3; i++) await tiers.cache.get(KEY);
    await admin.set(KEY, 'new');
    expect(
      await tiers.cache.get(KEY),
      'text after a write: the channel is not tracked, so L1 must not be used',
    ).toBe('new');
    await admin.acl('SETUSER', 'shop', '+@all');
    await keptInL1(tiers, KEY, ' after CLIENT TRACKING was permitted');
    expect(await tiers.cache.get(KEY), 'text when L1 is used for the first time').toBe('new');
    expect(unhandled(), 'rejections that nobody has caught').toEqual([]);
  });
});

/** A cache, and what its test knows of its connections. The channel has a proxy of its own, unless `both` is given. */
async function openTiers<Held = undefined>(
  options: Partial<Options> = {},
  prepare: (channelProxy: FaultyProxy) => Held | undefined = () => undefined,
  both?: FaultyProxy,
) {
  const channelProxy = both ?? (await openProxy(servers.redisUrl));
  const held = prepare(channelProxy);
  const redis = servers.connectRedis(
    { commandTimeout: 500, enableOfflineQueue: false, maxRetriesPerRequest: 0, retryStrategy: () => 10 },
    both?.url,
  );
  if (!both) await connected(redis);
  else if (redis.status !== 'ready') await Promise.race([connected(redis).catch(() => {}), sleep(50)]);
  // The wrapper below is in this file, and would pass for the sender.
  nameRequests(redis, 'your code');
  let asked = 0;
  const { sendCommand } = redis;
  redis.sendCommand = (...args) => {
    asked++;
    return Reflect.apply(sendCommand, redis, args);
  };
  const channels: Redis[] = [];
  const errors: unknown[] = [];
  const heard = new Map<string, number>();
  const connect = (channelOptions: RedisOptions) => {
    const channel = servers.connectRedis({ retryStrategy: () => 10, ...channelOptions }, channelProxy.url);
    nameRequests(channel, 'channel');
    channel.on('messageBuffer', (_name: Buffer, message: unknown) => {
      const keys = Array.isArray(message) ? message.map(String) : [''];
      for (const key of keys) heard.set(key, (heard.get(key) ?? 0) + 1);
    });
    channels.push(channel);
    return channel;
  };
  const { maxSilenceMs, ...others } = { maxSilenceMs: 5_000, ...options };
  const cache = createTwoTier({
    redis,
    connect,
    prefix: 'product:',
    maxKeys: 1_000,
    ...(maxSilenceMs !== undefined && { maxSilenceMs }),
    onError: (error) => {
      errors.push(error);
    },
    ...others,
  });
  onTestFinished(() => {
    cache.close();
    for (const client of [redis, ...channels]) leave(client);
  });
  return {
    cache,
    redis,
    channels,
    channelProxy,
    held,
    errors,
    /** Commands that the client for reads was given. */
    asked: () => asked,
    /** Messages that the channel has got about the key; '' stands for a flush. */
    heard: (key: string) => heard.get(key) ?? 0,
  };
}

type Tiers = Pick<Awaited<ReturnType<typeof openTiers>>, 'cache' | 'redis' | 'asked' | 'heard'>;

/** Connections that Redis sends the messages to. */
const subscribers = async () => Number((await servers.redis.pubsub('NUMSUB', INVALIDATIONS))[1]);

/** Many reads, each of a key of its own. */
async function mbKeptOfLongKeys({ cache, redis }: Tiers): Promise<number> {
  // What is recorded for the red screen would be kept.
  nameRequests(redis, '');
  const before = usedMb();
  for (let from = 0; from < 400; from += 10) {
    // On a busy machine a read may meet the time limit of its client.
    await Promise.all(
      Array.from({ length: 10 }, (_, n) => outcome(cache.get(`product:${'x'.repeat(25_000)}${from + n}`))),
    );
  }
  const kept = () => usedMb() - before;
  // A command that met its limit is in memory until its late answer comes.
  await until(async () => kept() < KEPT_MB_AT_MOST);
  return kept();
}

/** Commands that one read sends. */
async function asksFor({ cache, asked }: Tiers, key: string): Promise<number> {
  const before = asked();
  await cache.get(key);
  return asked() - before;
}

/** Reads until L1 answers. */
async function keptInL1(tiers: Tiers, key: string, when = ''): Promise<void> {
  const asks = () => asksFor(tiers, key).catch(() => Number.NaN);
  await until(async () => (await asks()) === 0);
  expect(await asks(), `commands sent for a read of ${key}: L1 must keep it within a second${when}`).toBe(0);
}

async function keepOld(tiers: Tiers, key: string, when?: string): Promise<void> {
  await servers.redis.set(key, 'old');
  await keptInL1(tiers, key, when);
  await until(async () => (await tiers.cache.get(key)) === 'old');
}

/** Another client writes, and the channel has got the message. */
async function written({ heard }: Tiers, key: string, text: string, ttlMs = 600_000): Promise<void> {
  const before = heard(key);
  await servers.redis.set(key, text, 'PX', ttlMs);
  await until(() => heard(key) > before);
}

/** Reads of KEY: a write and its message come before the first request of a read, before its second, and so on. */
async function beforeEachRequest(check: (tiers: Tiers, step: number) => Promise<void>): Promise<void> {
  const proxy = await openProxy(servers.redisUrl);
  const tiers = await openTiers({}, undefined, proxy);
  await keepOld(tiers, 'product:0');
  for (let step = 1, sent = 0; sent >= step - 1; step++) {
    sent = 0;
    await written(tiers, KEY, 'old');
    proxy.schedule(async (request) => {
      if (request.includes(KEY) && ++sent === step) await written(tiers, KEY, 'new');
    });
    await tiers.cache.get(KEY);
    proxy.schedule();
    if (sent >= step) await check(tiers, step);
  }
}

/** Writes until the channel gets a message. */
async function untilTracked({ heard }: Tiers): Promise<void> {
  const before = heard(OTHER);
  await until(async () => {
    await servers.redis.set(OTHER, 'anything');
    return heard(OTHER) > before;
  });
}

/** A read that Redis has answered, and whose reply has not been read from the socket. */
async function heldReply({ cache, redis }: Tiers, key: string) {
  const before = await lookups();
  redis.stream.pause();
  const reading = outcome(cache.get(key));
  await until(async () => (await lookups()) > before);
  return { reading, deliver: () => redis.stream.resume() };
}

/** How many keys Redis has looked up for reads. */
async function lookups(): Promise<number> {
  const stats = await servers.redis.info('stats');
  const counts = stats.matchAll(/^keyspace_(?:hits|misses):(\d+)/gm);
  return Array.from(counts, ([, count]) => Number(count)).reduce((sum, count) => sum + count, 0);
}
