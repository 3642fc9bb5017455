import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { expectTtl } from '#kit/expect-ttl';
import { redisBehindProxy } from '#kit/faulty-redis';
import { signal } from '#kit/gate';
import { countedLoad, heldLoad, hungLoad } from '#kit/loads';
import { type FaultyProxy, openProxy } from '#kit/proxy';
import { nameRequests } from '#kit/requests';
import { useServers } from '#kit/servers';
import { outcome, rejectionOf, soon, unhandledRejections, until } from '#kit/waiting';
import { generationKey, LoadTimeoutError, type Question } from './given';
import { createTaggedCache, type TaggedCache } from './tags-and-generations';

const servers = useServers();

/** Looks into Redis, so the red screen leaves it out. */
let watcher: Redis;
beforeAll(() => {
  watcher = servers.connectRedis();
  nameRequests(watcher, '');
});

const NAME = 'search';
const TTL_MS = 57_300;
const GENERATION_TTL_MS = 612_000;
const MUGS = { text: 'mug', page: 1 };
const TWENTY = Array.from({ length: 20 }, (_, at) => `tag ${at}`);
/** A command that can make a generation. */
const MAKES_GENERATION = /^(?!M?GET\b)\w+ .*:generation:/is;

describe('Core', () => {
  test('a miss loads the page and stores it for ttlMs, a hit is at most two requests and changes nothing', async () => {
    const { proxy, cache } = await cacheBehindProxy();
    let requests = 0;
    let bare: string | undefined;
    proxy.schedule(async (request) => {
      requests++;
      if ((await lives(await pages())).includes(-1)) bare ??= request;
    });
    const source = countedLoad({ items: ['mug'], since: new Date(0), next: null });
    const miss = await cache.get(MUGS, TWENTY, source.load);
    expect(miss, 'a miss must give what was loaded').toMatchObject({ items: ['mug'], next: null });
    const page = await storedPage();
    await expectTtl(watcher, page, TTL_MS, 'ms to live: the stored page must live for ttlMs');
    expect(
      bare,
      'the page had no TTL when this command was sent: if the process dies before it, the page stays forever',
    ).toBeUndefined();
    await watcher.pexpire(page, 20_000);
    requests = 0;
    expect(
      await cache.get(MUGS, TWENTY, source.load),
      'a hit and a miss must give the same: what JSON makes of the page',
    ).toEqual(miss);
    expect(source.loads, 'loads after a miss and a hit: a hit must not load').toBe(1);
    expect(
      requests,
      'requests of a hit with twenty tags: all generations, then the page',
    ).toBeLessThanOrEqual(2);
    await expectTtl(
      watcher,
      page,
      20_000,
      'ms to live after a hit, of 20,000 before it: a hit must not change the TTL',
    );
    for (const value of [null, false, 0, '']) {
      await forgetPages();
      await cache.get({ value: String(value) }, ['lamps'], async () => value);
      await storedPage();
      expect(
        await cache.get<unknown>({ value: String(value) }, ['lamps'], async () => 'loaded again'),
        `${JSON.stringify(value)} is a page like any other: it must be found again`,
      ).toBe(value);
    }
  });

  test('the same question with the same tags is one page, and any other is not', async () => {
    const cache = openCache();
    const tags = ['kitchen', 'mugs'];
    await cache.get(MUGS, tags, async () => 'page');
    await storedPage();
    expect(
      await cache.get({ page: 1, text: 'mug' }, ['mugs', 'kitchen'], async () => 'loaded again'),
      'the order of fields and of tags must not make another page',
    ).toBe('page');
    const others: readonly (readonly [Question, readonly string[]])[] = [
      [{ text: 'mug', page: '1' }, tags],
      [{ text: 'mug' }, tags],
      [{ title: 'mug', page: 1 }, tags],
      [{ text: 'mug","page:1', page: 1 }, tags],
      [{ text: 'mug:page', page: 1 }, tags],
      [{ text: 'mug,page=1' }, tags],
      [{ text: 'Mug', page: 1 }, tags],
      [{ text: ' mug', page: 1 }, tags],
      [{ text: 'mug', page: true }, tags],
      [{ text: 'mug', page: 'true' }, tags],
      [{ text: '{mug}', page: 1 }, tags],
      [{ text: '}mug{', page: 1 }, tags],
      [MUGS, ['kitchen']],
      [MUGS, ['mugs']],
      [MUGS, ['kitchen,mugs']],
      [MUGS, ['kitchen', 'mugs', 'sale']],
    ];
    for (const [at, [question, otherTags]] of others.entries()) {
      expect(
        await cache.get(question, otherTags, async () => `page ${at}`),
        `${JSON.stringify(question)} with the tags ${otherTags.join(' and ')}: no other question may have this page`,
      ).toBe(`page ${at}`);
    }
    expect(
      await openCache(servers.redis, { name: 'another' }).get(MUGS, tags, async () => 'of its own'),
      'a cache of another name must not find the pages of this one',
    ).toBe('of its own');
    await forgetPages();
    for (const letter of 'abc') await cache.get({ text: letter.repeat(100) }, tags, async () => 'page');
    await until(async () => (await pages()).length === 3);
    const differing = differingLength(await pages());
    expect(
      differing,
      'characters in which the keys of three pages differ: with a digest of 32 bits, two of 100,000 questions share a page',
    ).toBeGreaterThanOrEqual(11);
  });

  test('a bump hides all pages of its tags, and costs the same for 7 pages as for 300', async () => {
    const cache = openCache();
    const fill = async (tag: string, count: number, version: string) => {
      const questions = Array.from({ length: count }, (_, page) => ({ page }));
      return Promise.all(questions.map((question) => cache.get(question, [tag, 'all'], async () => version)));
    };
    await Promise.all([fill('few', 7, 'old'), fill('many', 300, 'old'), fill('quiet', 1, 'old')]);
    await until(async () => (await pages()).length === 308);
    const few = await servers.work(() => cache.bump(['few']));
    const many = await servers.work(() => cache.bump(['many']));
    expect(
      many.redis('keys', 'scan'),
      'KEYS and SCAN of a bump: they walk over all keys of the database',
    ).toBe(0);
    expect(many.redis(), 'commands of a bump of 300 pages: as many as for 7 pages').toBe(few.redis());
    expect(
      new Set([...(await fill('few', 7, 'new')), ...(await fill('many', 300, 'new'))]),
      'pages of the bumped tags: all must be loaded again',
    ).toEqual(new Set(['new']));
    expect(await fill('quiet', 1, 'new'), 'a page without the tag must stay').toEqual(['old']);
    await cache.bump(['few', 'many']);
    expect(
      [...(await fill('few', 1, 'newer')), ...(await fill('many', 1, 'newer'))],
      'a bump of two tags must hide the pages of both',
    ).toEqual(['newer', 'newer']);
  });

  test('a load that began before a bump is neither stored for nor shared with a later call', async () => {
    const writer = openCache();
    let row = '';
    const change = async () => {
      row = 'new';
      await writer.bump(['mugs']);
    };
    await beforeEachRequest({
      async prepare() {
        row = 'old';
      },
      call: (cache, page, inLoad) =>
        cache.get({ page }, ['kitchen', 'mugs'], async () => {
          const seen = row;
          await inLoad();
          return seen;
        }),
      intrude: change,
      async check(when, { cache, step }) {
        for (const reader of [cache, writer]) {
          expect(
            await reader.get({ page: step }, ['kitchen', 'mugs'], async () => row),
            `page of a call after a bump that came ${when}: it must not be the page from before the bump`,
          ).toBe('new');
        }
      },
    });
    const { proxy, redis, cache } = await cacheBehindProxy();
    const before = heldLoad('old');
    const first = outcome(cache.get(MUGS, ['mugs'], before.load));
    await begun(before, first);
    await change();
    const second = outcome(cache.get(MUGS, ['mugs'], async () => row));
    await Promise.race([second, sleep(20)]);
    before.end();
    expect(await second, 'page of a call after a bump: it must not share a load from before it').toBe('new');
    expect(await first, 'page of a call before the bump: it gets its own load').toBe('old');

    const read = () => cache.get(MUGS, ['mugs'], async () => row);
    let late: Promise<unknown> | undefined;
    await whileAnswerIsLate({ proxy, redis }, read, async () => {
      row = 'newer';
      await writer.bump(['mugs']);
      late = outcome(read());
    });
    expect(
      await late,
      'page of a call after a bump: Redis had answered an earlier call before the bump, and that answer must not be used',
    ).toBe('newer');
  });

  test('a bump rejects unless Redis has confirmed it for each tag', async () => {
    const { proxy, cache } = await cacheBehindProxy({ commandTimeout: 50 });
    const bumping = openCache().bump(['first', 'second']);
    expect(await outcome(bumping), 'Redis has confirmed: resolve').toBeUndefined();
    expect(await outcome(openCache().bump([])), 'there is no tag to confirm: resolve').toBeUndefined();
    for (const tag of ['first', 'second']) {
      const unanswered = proxy.hold(new RegExp(`:generation:${tag}`));
      expect(
        await outcome(cache.bump(['first', 'second'])),
        `Redis did not answer for the ${tag} tag: the bump must reject, or the writer believes that no old page is shown`,
      ).toEqual(expect.stringMatching(/^rejected/));
      unanswered.release();
    }
    // The text of another version: INCR fails, and in a MULTI only its own reply says so. DEL and SET work.
    const another = 'v2-8f3a';
    for (const tag of ['third', 'fourth']) {
      const key = generationKey(NAME, tag);
      await watcher.set(key, another);
      const bumped = await outcome(openCache().bump(['third', 'fourth']));
      if (bumped === undefined) {
        expect(
          await watcher.get(key),
          `a bump of two tags resolved: the generation of the ${tag} tag was the text ${another} of another version, which INCR refuses, and it must have changed`,
        ).not.toBe(another);
      }
      await watcher.del(key);
    }
  });

  test('processes that meet at a new tag find the pages of each other', async () => {
    const [other, third] = [openCache(servers.connectRedis()), openCache(servers.connectRedis())];
    await other.bump(['a', 'z']);
    await other.get({ warm: true }, ['a', 'z'], async () => 'page');
    const tags = (step: number) => ['a', `new ${step}`, 'z'];
    await beforeEachRequest({
      call: (cache, step) => cache.get({ page: 1 }, tags(step), async () => 'page 1'),
      async intrude(step) {
        await other.get({ page: 2 }, tags(step), async () => 'page 2');
        await until(async () => (await pages()).length > 1);
      },
      async check(when, { step }) {
        for (const page of [1, 2]) {
          expect(
            await outcome(third.get({ page }, tags(step), async () => 'loaded again')),
            `page ${page} of a tag without a generation: process A asked for page 1, process B for page 2 ${when} of A. Both pages must be found after that`,
          ).toBe(`page ${page}`);
        }
      },
    });
  });
});

describe('In production', () => {
  test('a generation that has ended never comes back', async () => {
    const evict = () => watcher.del(generationKey(NAME, 'mugs'));
    const bump = (cache: TaggedCache) => cache.bump(['mugs']);
    const ends: Readonly<Record<string, (cache: TaggedCache) => Promise<unknown>>> = {
      'its generation was evicted': evict,
      'a bump came': bump,
      'its generation was evicted, and a bump came': (cache) => evict().then(() => bump(cache)),
      'two bumps came': (cache) => bump(cache).then(() => bump(cache)),
    };
    let version = 0;
    const thaw = freezeClock();
    // Each of them twice: the second time, numbers of the first time may come back.
    for (const [what, end] of [...Object.entries(ends), ...Object.entries(ends)]) {
      const cache = await inNewProcess();
      await cache.get(MUGS, ['mugs'], async () => version);
      await servers.redis.ping();
      await end(cache);
      version++;
      expect(
        await cache.get(MUGS, ['mugs'], async () => version),
        `number of the page in a new process, after ${what}: with an older number, a generation has been given twice`,
      ).toBe(version);
    }
    thaw();
    for (const round of ['first', 'second']) {
      await beforeEachRequest({
        prepare: evict,
        call: (cache) => cache.get(MUGS, ['mugs'], async () => ++version),
        intrude: evict,
        async check(when, { result }) {
          expect(
            result,
            `number of the page: its generation was evicted ${when}, in the ${round} round`,
          ).toBe(version);
        },
      });
    }
    await openCache().get(MUGS, ['mugs'], async () => 'page');
    await expectFreshAfterSecondSending('a bump', bump);
    await evict();
    await expectFreshAfterSecondSending('a read', (cache, load) => cache.get(MUGS, ['mugs'], load));
  });

  test('a generation expires generationTtlMs after it was made', async () => {
    const { proxy, redis, cache } = await cacheBehindProxy();
    const tags = ['mugs', 'kitchen'];
    const keys = tags.map((tag) => generationKey(NAME, tag));
    let bare: string | undefined;
    proxy.schedule(async (request) => {
      if ((await lives(keys)).includes(-1)) bare ??= request;
    });
    for (const bumps of [0, 1]) {
      if (bumps > 0) await cache.bump(['mugs']);
      await cache.get(MUGS, tags, async () => 'page');
      await redis.ping();
      expect(
        bare,
        'a generation had no TTL when this command was sent: each tag that was ever used stays in memory forever',
      ).toBeUndefined();
      for (const key of keys) {
        await expectTtl(
          watcher,
          key,
          GENERATION_TTL_MS,
          `ms to live of a generation after ${bumps} bumps: generationTtlMs`,
        );
      }
    }
  });

  test('the pages of a cache are spread over the slots of a cluster', async () => {
    const cache = openCache();
    for (let page = 1; page <= 20; page++) await cache.get({ page }, ['mugs'], async () => 'page');
    await until(async () => (await pages()).length === 20);
    const hashed = (await pages()).map((key) => /\{([^}]+)\}/.exec(key)?.[1] ?? key);
    expect(
      new Set(hashed).size,
      `texts that 20 page keys are placed by, the first is "${hashed[0]}": Redis places a key by what stands in its braces, so keys that share it are all on one node`,
    ).toBe(20);
  });

  test('a page is stored under question and tags as they were at the call', async () => {
    const cache = openCache();
    await cache.get(MUGS, ['warm'], async () => 'page');
    const question = { text: 'lamp', page: 1 };
    const tags = ['lamps', 'brass'];
    const asking = cache.get(question, tags, async () => 'page 1');
    expect(tags, 'the tags belong to the caller: get must not change their order').toEqual([
      'lamps',
      'brass',
    ]);
    question.page = 2;
    tags[0] = 'mugs';
    await asking;
    await until(async () => (await pages()).length > 1);
    expect(
      await cache.get({ text: 'lamp', page: 2 }, ['mugs', 'brass'], async () => 'page 2'),
      'the caller asked for page 1, and changed its objects for page 2 without waiting: page 2 must not be page 1',
    ).toBe('page 2');
    expect(
      await cache.get({ text: 'lamp', page: 1 }, ['lamps', 'brass'], async () => 'loaded again'),
      'the caller asked for page 1, and changed its objects after the call: page 1 must be stored as page 1',
    ).toBe('page 1');
  });

  test('calls of one page share one load, and no object', async () => {
    const errors: unknown[] = [];
    const cache = openCache(servers.redis, { onCacheError: (error) => void errors.push(error) });
    const source = heldLoad({ items: ['lamp'] });
    const calls = Array.from({ length: 100 }, () => outcome(cache.get(MUGS, ['lamps'], source.load)));
    await begun(source, Promise.all(calls));
    await Promise.race([sleep(30), until(() => source.loads > 1)]);
    expect(source.loads, 'loads for 100 concurrent calls of one page').toBe(1);
    source.end();
    const answers = await Promise.all(calls);
    expect(answers, 'answers of the calls that waited').toEqual(Array(100).fill({ items: ['lamp'] }));
    expect(
      new Set(answers).size,
      'objects for 100 calls: a change by one caller must not reach the others',
    ).toBe(100);

    const failing = heldLoad('never');
    const failed = [1, 2].map(() => outcome(cache.get({ page: 2 }, ['lamps'], failing.load)));
    await begun(failing, Promise.all(failed));
    failing.fail(new Error('deadlock'));
    expect(await Promise.all(failed), 'the load failed: each call that waited must get its error').toEqual(
      Array(2).fill('rejected: Error: deadlock'),
    );
    expect(failing.loads, 'loads of two calls whose load failed: one, or each failure doubles the load').toBe(
      1,
    );
    for (const what of ['failed', 'succeeded']) {
      expect(
        await outcome(cache.get({ page: 2 }, ['lamps'], async () => `after it ${what}`)),
        `the load has ${what}, and nothing is stored: the next call must load`,
      ).toBe(`after it ${what}`);
      await storedPage();
      await forgetPages();
    }
    expect(errors, 'calls of onCacheError: the error of the load went to its callers').toEqual([]);
  });

  test('a load that hangs ends after loadDeadlineMs, and holds up no later call', async () => {
    const unhandled = unhandledRejections();
    const cache = openCache(servers.redis, { loadDeadlineMs: 40 });
    const { proxy, cache: unanswered } = await cacheBehindProxy({ commandTimeout: 40, loadDeadlineMs: 40 });
    proxy.stall();
    for (const [where, each, heeds] of [
      ['', cache, false],
      [', and rejects when its signal is aborted', cache, true],
      [', and Redis does not answer', unanswered, false],
    ] as const) {
      const hung = hungLoad(50, { heedsSignal: heeds });
      expect(
        await soon(rejectionOf(() => each.get({ where }, ['mugs'], hung.load))),
        `the load hangs${where}: after loadDeadlineMs the caller must get a LoadTimeoutError`,
      ).toBeInstanceOf(LoadTimeoutError);
      expect(hung.signal?.aborted, `the load is late${where}: its signal must be aborted`).toBe(true);
      expect(hung.stillRan, `the load still ran after 50 ms${where}, loadDeadlineMs is 40`).toBe(false);
      expect(
        await outcome(each.get({ where }, ['mugs'], async () => 'page')),
        `an earlier load hung${where}: the next call must load`,
      ).toBe('page');
      hung.fail(new Error('killed'));
    }
    expect(unhandled(), 'a load that was given up fails later: that must not end the process').toEqual([]);
  });

  test('a page that cannot be decoded is reported, and replaced', async () => {
    const errors: unknown[] = [];
    const cache = openCache(servers.redis, { onCacheError: (error) => void errors.push(error) });
    await cache.get(MUGS, ['mugs'], async () => 'page');
    const key = await storedPage();
    const damaged = {
      'JSON that was cut off': Buffer.from('{"items":["mu'),
      'not UTF-8': Buffer.from('fffe00', 'hex'),
      'JSON whose text is not UTF-8': Buffer.from('{"text":"\xff"}', 'latin1'),
      'no bytes at all': Buffer.alloc(0),
    };
    expect(errors, 'errors reported: nothing has failed so far').toEqual([]);
    for (const [kind, bytes] of Object.entries(damaged)) {
      await watcher.set(key, bytes, 'PX', TTL_MS);
      errors.length = 0;
      expect(
        await outcome(cache.get(MUGS, ['mugs'], async () => 'page')),
        `the stored page is damaged (${kind}): it must be loaded again`,
      ).toBe('page');
      expect(errors.length, `calls of onCacheError for a damaged page (${kind})`).toBe(1);
      await until(async () => !(await watcher.getBuffer(key))?.equals(bytes));
      expect(
        await outcome(cache.get(MUGS, ['mugs'], async () => 'loaded again')),
        `the damaged page (${kind}) must be replaced, or each call loads`,
      ).toBe('page');
    }
  });

  test('a command that Redis does not answer fails no read', async () => {
    const strike = async (fault: 'cut' | 'blackHole', failing: number) => {
      const { proxy, cache, errors } = await cacheBehindProxy({ commandTimeout: 40 });
      const tags = [`${fault} ${failing}`];
      const source = countedLoad('loaded');
      let sent = 0;
      proxy.schedule(async () => {
        if (++sent === failing) proxy[fault]();
      });
      const when = `command ${failing} of the call had no answer (${fault})`;
      expect(await outcome(cache.get(MUGS, tags, source.load)), `${when}: the caller must get its page`).toBe(
        'loaded',
      );
      expect(source.loads, `loads of one call: ${when}`).toBe(1);
      await until(() => errors.length > 0 || sent < failing);
      if (sent >= failing) expect(errors.length, `calls of onCacheError: ${when}`).toBeGreaterThan(0);
      return sent >= failing;
    };
    for (const fault of ['cut', 'blackHole'] as const) {
      for (let failing = 1; await strike(fault, failing); failing++);
    }
  });

  test('a call that could not read the generations uses no stored page, shares no load and stores nothing', async () => {
    const writer = openCache();
    const { proxy, redis, cache } = await cacheBehindProxy({ commandTimeout: 80 });
    await writer.get(MUGS, ['mugs'], async () => 'old');
    await storedPage();
    // On a slow machine this read may be late, too.
    await outcome(cache.get(MUGS, ['mugs'], async () => 'old'));
    await writer.bump(['mugs']);
    const before = await pages();
    // Answers about generations come after their deadline, and all others in time.
    proxy.schedule(async (request) => proxy.delay(/:generation:/.test(request) ? 110 : 0));
    expect(
      await outcome(cache.get(MUGS, ['mugs'], async () => 'new')),
      'the generations did not come in time, and another process has bumped the tag: load, and do not use an old page',
    ).toBe('new');
    // Behind all answers that were held back; more than one of them makes it late itself.
    await until(() => redis.ping().then(Boolean, () => false));
    proxy.schedule();
    expect(
      await pages(),
      'page keys: the generations were not known before the load, so nothing may be stored',
    ).toEqual(before);
    proxy.stall();
    const source = heldLoad('old');
    const first = outcome(cache.get(MUGS, ['mugs'], source.load));
    await begun(source, first);
    await writer.bump(['mugs']);
    const second = outcome(cache.get(MUGS, ['mugs'], async () => 'new'));
    await Promise.race([second, sleep(150)]);
    source.end();
    expect(
      await second,
      'Redis does not answer this process, and a bump came between two calls: the second must not share the load of the first',
    ).toBe('new');
    expect(await first, 'the call before the bump gets its own load').toBe('old');
  });
});

interface OpenOptions {
  readonly name?: string;
  readonly loadDeadlineMs?: number;
  readonly onCacheError?: (error: unknown) => void;
}

/** The deadline is longer than any test: what a failed test leaves behind must not reject later. */
const openCache = (redis: Redis = servers.redis, options: OpenOptions = {}, create = createTaggedCache) =>
  create({
    redis,
    name: NAME,
    ttlMs: TTL_MS,
    generationTtlMs: GENERATION_TTL_MS,
    loadDeadlineMs: 600_000,
    ...options,
  });

/** As another process has it: with nothing that this one keeps in its variables. */
async function inNewProcess(): Promise<TaggedCache> {
  vi.resetModules();
  const { createTaggedCache: create } = await import('./tags-and-generations');
  return openCache(servers.redis, {}, create);
}

/** Clocks of processes differ, stand still and step back. */
function freezeClock(): () => void {
  vi.useFakeTimers({ toFake: ['Date'] });
  onTestFinished(() => void vi.useRealTimers());
  return () => void vi.useRealTimers();
}

/** A cache whose Redis can be taken away. The connection is up. */
async function cacheBehindProxy({ commandTimeout = 3000, loadDeadlineMs = 600_000 } = {}) {
  const { proxy, redis } = await redisBehindProxy(servers, {
    commandTimeout,
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    enableReadyCheck: false,
    disableClientInfo: true,
    retryStrategy: () => 5,
  });
  const errors: unknown[] = [];
  const cache = openCache(redis, { loadDeadlineMs, onCacheError: (error) => void errors.push(error) });
  return { proxy, redis, cache, errors };
}

/** All but the generations, and the key by which the kit knows this database as the course's. */
const pages = async (): Promise<string[]> =>
  (await watcher.keys('*'))
    .filter((key) => !key.startsWith('caching-deep-dive:') && !/^\{\w+\}:generation:/.test(key))
    .sort();

const lives = (keys: readonly string[]): Promise<number[]> =>
  Promise.all(keys.map((key) => watcher.pttl(key)));

/** The key of the one page in Redis; a fill that the caller did not wait for has ended too. */
async function storedPage(): Promise<string> {
  await until(async () => (await pages()).length > 0);
  const [page] = await pages();
  expect(page, 'key of the page in Redis: a page that was loaded must be stored').toBeDefined();
  return page ?? '';
}

/** How many characters of the longest key are neither its beginning nor its end in all others. */
function differingLength(keys: readonly string[]): number {
  const [first = ''] = keys;
  const shared = (texts: readonly string[]) => {
    let length = 0;
    while (length < first.length && texts.every((text) => text[length] === texts[0]?.[length])) length++;
    return length;
  };
  const reversed = keys.map((key) => [...key].reverse().join(''));
  return Math.max(...keys.map(({ length }) => length)) - shared(keys) - shared(reversed);
}

async function forgetPages(): Promise<void> {
  const keys = await pages();
  if (keys.length > 0) await watcher.del(keys);
}

/** Waits until the load has begun; a call that ends without it, or never begins it, does not hang the test. */
const begun = (source: { readonly begun: Promise<void> }, call: Promise<unknown>) =>
  soon(Promise.race([source.begun, call]));

interface Scene {
  /** Before each call. */
  readonly prepare?: () => Promise<unknown>;
  /** `inLoad` is to be called by its load. */
  call(cache: TaggedCache, step: number, inLoad: () => Promise<unknown>): Promise<unknown>;
  intrude(step: number): Promise<unknown>;
  check(when: string, seen: { cache: TaggedCache; step: number; result: unknown }): Promise<unknown>;
}

/**
 * Runs a call again and again, each time in another step. `intrude` comes during its load (step 0), then before its first
 * request, then before its second, until there is no such request.
 */
async function beforeEachRequest({ prepare, call, intrude, check }: Scene): Promise<void> {
  const { proxy, redis, cache } = await cacheBehindProxy();
  for (let step = 0, sent = 0; sent >= step; step++) {
    await prepare?.();
    let when = '';
    const intrudeAt = async (at: string) => {
      when = at;
      await intrude(step);
    };
    sent = 0;
    proxy.schedule(async () => {
      if (++sent === step) await intrudeAt(`before command ${step}`);
    });
    const inLoad = async () => step === 0 && intrudeAt('during the load');
    const result = await outcome(call(cache, step, inLoad));
    // A fill that the caller did not wait for has been answered too.
    await redis.ping();
    proxy.schedule();
    if (when !== '') await check(when, { cache, step, result });
  }
}

/** A read whose generations Redis has answered in time, and the answer comes late. `meanwhile` runs before it comes. */
async function whileAnswerIsLate(
  { proxy, redis }: { proxy: FaultyProxy; redis: Redis },
  read: () => Promise<unknown>,
  meanwhile: () => Promise<unknown>,
): Promise<void> {
  const executed = signal();
  proxy.schedule(async (request) => {
    if (/^ping/i.test(request)) executed.fire();
  });
  proxy.delay(60);
  void outcome(read());
  await sleep(1);
  // The proxy passes it on when the request before it has been answered.
  void outcome(redis.ping());
  await executed.promise;
  await meanwhile();
  proxy.schedule();
  await proxy.heal();
}

/**
 * Redis executes what makes a generation, and the connection breaks before the answer: the client sends it again. Between
 * the two another process stores a page, and bumps.
 */
async function expectFreshAfterSecondSending(
  what: string,
  call: (cache: TaggedCache, load: () => Promise<string>) => Promise<unknown>,
): Promise<void> {
  const proxy = await openProxy(servers.redisUrl);
  const redis = servers.connectRedis({ retryStrategy: () => 1 }, proxy.url);
  onTestFinished(() => redis.disconnect());
  await redis.ping();
  const fresh = async () => 'fresh';
  const generation = () => watcher.get(generationKey(NAME, 'mugs'));
  const before = await generation();
  const making = proxy.hold(MAKES_GENERATION);
  const calling = outcome(call(openCache(redis), fresh), 3000);
  await Promise.race([making.arrived, calling]);
  proxy.delay(5000);
  making.release();
  await until(async () => (await generation()) !== before);
  const other = openCache();
  await forgetPages();
  await other.get(MUGS, ['mugs'], async () => 'from between');
  await storedPage();
  await other.bump(['mugs']);
  proxy.cut();
  await proxy.heal();
  await calling;
  expect(
    await other.get(MUGS, ['mugs'], fresh),
    `page after a bump: the client had sent ${what} twice, before and after it, and the page from between must stay hidden`,
  ).toBe('fresh');
}
