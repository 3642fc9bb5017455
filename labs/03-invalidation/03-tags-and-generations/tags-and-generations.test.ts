import type { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { expect, onTestFinished, test, vi } from 'vitest';
import { explore } from '#kit/explore';
import { openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { soon } from '#kit/waiting';
import {
  BumpError,
  createTaggedCache,
  generationKey,
  LoadTimeoutError,
  type TaggedCache,
} from './tags-and-generations';

const servers = useServers('products');

const NAME = 'search';
const TTL_MS = 50_000;
const GENERATION_TTL_MS = 500_000;
/** Longer than any test: what a failed test has left behind must not reject later. */
const LOAD_DEADLINE_MS = 600_000;

const over = (
  redis: Redis,
  name = NAME,
  loadDeadlineMs = LOAD_DEADLINE_MS,
  create = createTaggedCache,
): TaggedCache => create({ redis, name, ttlMs: TTL_MS, generationTtlMs: GENERATION_TTL_MS, loadDeadlineMs });

/** A loader that counts, and answers with what it is told to. */
function source(page: unknown = 'page') {
  const state = { page, loads: 0 };
  const load = async () => {
    state.loads++;
    return state.page;
  };
  return Object.assign(state, { load });
}

/** A loader that answers when it is told what. */
function slowSource() {
  let begin = (): void => {};
  let finish = (_page: unknown): void => {};
  const begun = new Promise<void>((resolve) => {
    begin = resolve;
  });
  const page = new Promise<unknown>((resolve) => {
    finish = resolve;
  });
  const load = () => {
    begin();
    return page;
  };
  return { begun, finish, load };
}

/** As another process has it: nothing that this one keeps in its variables. */
async function inNewProcess(redis: Redis): Promise<TaggedCache> {
  vi.resetModules();
  const { createTaggedCache: create } = await import('./tags-and-generations');
  return over(redis, NAME, LOAD_DEADLINE_MS, create);
}

/** All keys but the mark by which the kit knows this database as the course's. */
const keys = async () =>
  (await servers.redis.keys('*')).filter((key) => !key.startsWith('caching-deep-dive:'));
const pages = async () => (await keys()).filter((key) => !key.includes(':generation:'));

async function forgetAll(): Promise<void> {
  const all = await keys();
  if (all.length > 0) await servers.redis.del(all);
}

/** What became of it, as something that an assertion can show. */
const said = (answer: Promise<unknown>): Promise<unknown> =>
  answer.catch((error: unknown) => `rejected: ${(error as Error).message}`);

test('a page is found again by the same question, and by no other', async () => {
  const cache = over(servers.redis);
  const { load } = source();
  const asked = source();
  await cache.get({ text: 'mug', page: 1 }, ['kitchen', 'mugs'], load);
  const tags = ['mugs', 'kitchen', 'mugs'];
  await cache.get({ page: 1, text: 'mug' }, tags, asked.load);
  expect(asked.loads, 'the order of names and tags, and a tag named twice, must not make another page').toBe(
    0,
  );
  expect(tags, 'the tags are the caller’s: get must not sort them where they are').toEqual([
    'mugs',
    'kitchen',
    'mugs',
  ]);

  const changing = { text: 'lamp', page: 1 };
  const changingTags = ['lamps'];
  const asking = cache.get(changing, changingTags, load);
  changing.page = 2;
  changingTags[0] = 'mugs';
  await asking;
  await cache.get({ text: 'lamp', page: 1 }, ['lamps'], asked.load);
  expect(
    asked.loads,
    'the question and its tags must be read before get returns its promise: the caller may change them then',
  ).toBe(0);

  for (const page of [0, false, '', null]) {
    await cache.get({ answer: String(page) }, ['lamps'], source(page).load);
    expect(
      await cache.get({ answer: String(page) }, ['lamps'], source('loaded again').load),
      `a stored ${JSON.stringify(page)} is a page: it must not be loaded again`,
    ).toBe(page);
  }

  const others: [Parameters<TaggedCache['get']>[0], string[]][] = [
    [{ text: 'mug', page: '1' }, ['kitchen', 'mugs']],
    [{ text: 'mug' }, ['kitchen', 'mugs']],
    [{ title: 'mug', page: 1 }, ['kitchen', 'mugs']],
    [{ text: 'mug","page:1', page: 1 }, ['kitchen', 'mugs']],
    [{ text: 'mug:page', page: 1 }, ['kitchen', 'mugs']],
    [{ text: 'mug', page: 1 }, ['kitchen']],
    [{ text: 'mug', page: 1 }, ['mugs']],
    [{ text: 'mug', page: 1 }, ['kitchen,mugs']],
    [{ text: 'mug', page: 1 }, ['kitchen', 'mugs', 'sale']],
  ];
  for (const [question, tags] of others) {
    const other = source();
    await cache.get(question, tags, other.load);
    const shown = `${JSON.stringify(question)} with ${tags.join(' and ')}`;
    expect(other.loads, `${shown} is another page: it must not be answered with the first one`).toBe(1);
  }
  const answer = await cache.get({ text: 'mug' }, [], load).catch((error: unknown) => error);
  expect(answer, 'a page without a tag can never be bumped: get must refuse it').toBeInstanceOf(RangeError);
  const tenant = source();
  await over(servers.redis, 'search-of-another').get(
    { text: 'mug', page: 1 },
    ['kitchen', 'mugs'],
    tenant.load,
  );
  expect(tenant.loads, 'a cache of another name must not find the pages of this one').toBe(1);

  const proxy = await openProxy(servers.redisUrl);
  const far = servers.connectRedis({}, proxy.url);
  await far.ping();
  const twenty = Array.from({ length: 20 }, (_, tag) => `tag ${tag}`);
  await over(far).get({ page: 1 }, twenty, load);
  await far.ping();
  let requests = 0;
  proxy.schedule(async () => {
    requests++;
  });
  await over(far).get({ page: 1 }, twenty, load);
  proxy.schedule();
  expect(
    requests,
    'a hit must be two requests to Redis, however many tags: the generations, the page',
  ).toBeLessThanOrEqual(2);
});

test('a bump hides all pages of its tag, and costs the same for 10 as for 500', async () => {
  const cache = over(servers.redis);
  const fill = (tag: string, count: number, load: () => Promise<unknown>) =>
    Promise.all(Array.from({ length: count }, (_, page) => cache.get({ page }, [tag, 'all'], load)));
  const { load } = source();
  await fill('few', 10, load);
  await fill('many', 500, load);
  await servers.redis.ping();
  const few = await servers.work(() => cache.bump(['few']));
  const many = await servers.work(() => cache.bump(['many']));
  const commands = (work: typeof few) => work.redis();
  expect(commands(many), 'the cost of a bump must not grow with the pages it hides').toBe(commands(few));
  expect(
    many.redis('keys', 'scan'),
    'a bump must not look for keys: KEYS and SCAN walk the whole server',
  ).toBe(0);

  const again = source();
  await fill('few', 10, again.load);
  await fill('many', 500, again.load);
  expect(again.loads, 'after the bump every page of the tag must be loaded anew').toBe(510);
  const kept = source();
  await cache.get({ page: 0 }, ['quiet'], kept.load);
  await cache.bump(['few', 'many']);
  await cache.get({ page: 0 }, ['quiet'], kept.load);
  expect(kept.loads, 'pages without the tag must stay').toBe(1);
  await fill('few', 1, kept.load);
  await fill('many', 1, kept.load);
  expect(kept.loads, 'a bump of several tags must hide the pages of each').toBe(3);
});

test('a load begun before a bump is not seen after it', async () => {
  const [cache, elsewhere] = [over(servers.redis), over(servers.connectRedis())];
  const old = slowSource();
  const slow = cache.get({ page: 1 }, ['mugs'], old.load);
  // Where this test fails, nobody ends the load.
  slow.catch(() => {});
  await old.begun;
  await elsewhere.bump(['mugs']);
  const fresh = source('new');
  const joined = await soon(cache.get({ page: 1 }, ['mugs'], fresh.load));
  expect(joined, 'a call after the bump must not wait for a load from before it').toBe('new');
  old.finish('old');
  expect(await slow, 'who asked before the bump gets what he came for').toBe('old');
  await servers.redis.ping();
  const later = source('newer');
  for (const reader of [cache, elsewhere]) {
    expect(
      await reader.get({ page: 1 }, ['mugs'], later.load),
      'the page of the load that the bump overtook must stay hidden: its name is from before the load',
    ).toBe('new');
  }
});

test('no interleaving shows an old page after an acknowledged bump', async () => {
  const ask = (redis: Redis, db: Pool) =>
    over(redis).get({ id: 1 }, ['mugs'], async () => {
      const [rows] = await db.query<RowDataPacket[]>('SELECT name FROM products WHERE id = 1');
      return rows[0]?.name as string;
    });
  await explore(servers, {
    runs: 40,
    seed: 2,
    async prepare() {
      await forgetAll();
      await over(servers.redis).bump(['mugs']);
      await servers.db.query("UPDATE products SET name = 'old' WHERE id = 1");
    },
    actors: {
      reader: ({ redis, db }) => ask(redis, db),
      async writer({ redis, db }) {
        await db.query("UPDATE products SET name = 'new' WHERE id = 1");
        await over(redis).bump(['mugs']);
      },
      eviction: ({ redis }) => redis.del(generationKey(NAME, 'mugs')),
    },
    async verdict() {
      const seen = await ask(servers.redis, servers.db);
      return seen === 'new' ? undefined : 'a call after the bump must not get the page from before it';
    },
  });
});

test('a generation that was evicted takes its pages with it for ever', async () => {
  // Clocks differ between processes, stand still and step back.
  vi.useFakeTimers({ toFake: ['Date'] });
  onTestFinished(() => {
    vi.useRealTimers();
  });
  const shelf = source();
  for (const page of ['first', 'second', 'third', 'fourth']) {
    shelf.page = page;
    const cache = await inNewProcess(servers.redis);
    expect(
      await cache.get({ page: 1 }, ['mugs'], shelf.load),
      'a new generation must be one that no page has ever carried: a counter that begins again, in Redis or in a process, finds the old pages, and so does a clock',
    ).toBe(page);
    if (page === 'second') await cache.bump(['mugs']);
    else await servers.redis.del(generationKey(NAME, 'mugs'));
    if (page === 'third') await cache.bump(['mugs']);
  }

  const proxy = await openProxy(servers.redisUrl);
  const far = servers.connectRedis({}, proxy.url);
  await far.ping();
  for (const page of ['fifth', 'sixth']) {
    shelf.page = page;
    await servers.redis.del(generationKey(NAME, 'mugs'));
    let requests = 0;
    proxy.schedule(async () => {
      requests++;
      if (requests >= 2 && requests <= 4) await servers.redis.del(generationKey(NAME, 'mugs'));
    });
    expect(
      await over(far).get({ page: 1 }, ['mugs'], shelf.load),
      'a generation that is evicted between two commands of a read must not leave a name without one: two such pages are one',
    ).toBe(page);
    proxy.schedule();
  }
});

test('callers who meet at a new tag agree on its generation, and share one load', async () => {
  const caches = [over(servers.connectRedis()), over(servers.connectRedis()), over(servers.redis)];
  const shelf = source({ items: ['mug'] });
  for (const cache of caches.slice(0, 2)) await cache.get({ other: true }, ['warm'], shelf.load);
  const proxy = await openProxy(servers.redisUrl);
  const late = over(servers.connectRedis({}, proxy.url));
  await late.get({ other: true }, ['warm'], shelf.load);
  // The late one has found no generation, and is held before it gives one.
  const gate = proxy.hold(/generation:(?!warm)[\s\S]*|generation:mugs/);
  const first = late.get({ page: 1 }, ['mugs'], shelf.load);
  await gate.arrived;
  await caches[2]?.get({ page: 1 }, ['mugs'], shelf.load);
  gate.release();
  await first;
  const again = source('loaded again');
  for (const cache of caches) {
    expect(
      await cache.get({ page: 1 }, ['mugs'], again.load),
      'who finds no generation and comes second must take the first one’s, or its page is lost to all others',
    ).toEqual({ items: ['mug'] });
  }
  for (const tags of [
    ['aprons', 'mugs'],
    ['mugs', 'plates'],
  ]) {
    await caches[2]?.get({ page: 1 }, tags, shelf.load);
    expect(
      await caches[2]?.get({ page: 1 }, tags, again.load),
      'each generation must have the same place in the name, whether it was found or has just been given',
    ).toEqual({ items: ['mug'] });
  }

  const crowd = source({ items: ['lamp'], at: new Date(0) });
  const answers = await Promise.all(
    Array.from({ length: 100 }, () => caches[2]?.get({ page: 2 }, ['lamps'], crowd.load)),
  );
  expect(crowd.loads, 'calls of one page that meet in a process must share one load').toBe(1);
  expect(new Set(answers).size, 'callers must not share an object').toBe(100);
  for (const answer of answers) {
    expect(
      answer,
      'each caller must get what JSON makes of the page, who loads it too: a later hit looks the same',
    ).toEqual({ items: ['lamp'], at: '1970-01-01T00:00:00.000Z' });
  }
});

test('pages and generations end by themselves, from the command that stores them on', async () => {
  const proxy = await openProxy(servers.redisUrl);
  const redis = servers.connectRedis({}, proxy.url);
  await redis.ping();
  const immortal = new Set<string>();
  proxy.schedule(async () => {
    for (const key of await keys()) if ((await servers.redis.pttl(key)) === -1) immortal.add(key);
  });
  const cache = over(redis);
  await cache.get({ page: 1 }, ['mugs', 'kitchen'], source().load);
  await cache.bump(['mugs']);
  await cache.get({ page: 1 }, ['mugs', 'kitchen'], source().load);
  await redis.ping();
  proxy.schedule();
  expect([...immortal], 'no key may be without an expiry, not even between two commands').toEqual([]);
  for (const key of await pages()) {
    const left = await servers.redis.pttl(key);
    expect(left, 'a page lives for ttlMs').toBeGreaterThan(TTL_MS - 10_000);
    expect(left, 'a page lives for ttlMs').toBeLessThanOrEqual(TTL_MS);
  }
  for (const tag of ['mugs', 'kitchen']) {
    const left = await servers.redis.pttl(generationKey(NAME, tag));
    expect(left, 'a generation lives for generationTtlMs').toBeGreaterThan(GENERATION_TTL_MS - 10_000);
    expect(left, 'a generation lives for generationTtlMs').toBeLessThanOrEqual(GENERATION_TTL_MS);
  }

  const aged = await keys();
  for (const key of aged) await servers.redis.pexpire(key, TTL_MS / 2);
  await cache.get({ page: 1 }, ['mugs', 'kitchen'], source().load);
  await cache.get({ page: 2 }, ['mugs', 'plates'], source().load);
  await redis.ping();
  for (const key of aged) {
    expect(
      await servers.redis.pttl(key),
      'a read must not make the life of a page or of a generation longer: it counts from its birth',
    ).toBeLessThanOrEqual(TTL_MS / 2);
  }
});

test('a load that fails or hangs is told to its callers, and forgotten', async () => {
  const cache = over(servers.redis);
  const broken = () => Promise.reject(new Error('the source is down'));
  const answers = await Promise.allSettled([
    cache.get({ page: 1 }, ['mugs'], broken),
    cache.get({ page: 1 }, ['mugs'], broken),
  ]);
  for (const answer of answers) {
    expect(
      answer.status === 'rejected' && answer.reason.message,
      'the error of the load is the callers’',
    ).toBe('the source is down');
  }
  let loads = 0;
  await said(
    cache.get({ page: 3 }, ['mugs'], () => {
      loads++;
      return broken();
    }),
  );
  expect(loads, 'one call must load once at most: whether to try again is for the caller to say').toBe(1);
  const mended = source('mended');
  expect(
    await said(cache.get({ page: 1 }, ['mugs'], mended.load)),
    'a failed load must be forgotten: the next call loads again',
  ).toBe('mended');

  const hasty = over(servers.redis, NAME, 50);
  let signal: AbortSignal | undefined;
  const hung = await soon(
    hasty
      .get({ page: 2 }, ['mugs'], (given) => {
        signal = given;
        return new Promise<string>(() => {});
      })
      .catch((error: unknown) => error),
    1500,
  );
  expect(hung, 'a load that hangs must end with a LoadTimeoutError after loadDeadlineMs').toBeInstanceOf(
    LoadTimeoutError,
  );
  expect(signal?.aborted, 'the signal of a load that is late must be aborted').toBe(true);
  expect(
    await soon(said(hasty.get({ page: 2 }, ['mugs'], mended.load))),
    'a load that hung must be forgotten: the next call loads again',
  ).toBe('mended');

  for (const key of await pages()) await servers.redis.set(key, '{damaged', 'PX', TTL_MS);
  expect(
    await said(cache.get({ page: 1 }, ['mugs'], source('anew').load)),
    'a stored text that is no JSON is no page: load it again, and keep no load that is over',
  ).toBe('anew');
  const kept = source();
  await cache.get({ page: 1 }, ['mugs'], kept.load);
  expect(kept.loads, 'the damaged text must be replaced').toBe(0);
});

test('without Redis, get loads and stores nothing, and a bump says that it failed', async () => {
  const proxy = await openProxy(servers.redisUrl);
  const redis = servers.connectRedis(
    {
      commandTimeout: 30,
      maxRetriesPerRequest: 0,
      retryStrategy: () => 1,
      enableReadyCheck: false,
      disableClientInfo: true,
    },
    proxy.url,
  );
  const heard: unknown[] = [];
  const cache = createTaggedCache({
    redis,
    name: NAME,
    ttlMs: TTL_MS,
    generationTtlMs: GENERATION_TTL_MS,
    loadDeadlineMs: LOAD_DEADLINE_MS,
    onCacheError: (error) => {
      heard.push(error);
      throw new Error('a listener that fails');
    },
  });
  const gate = proxy.hold(/generation:second/);
  const failure = await soon(
    cache.bump(['first', 'second']).then(
      () => 'confirmed',
      (error: unknown) => error,
    ),
    1000,
  );
  expect(
    failure,
    'a bump must reject with a BumpError as long as Redis has not confirmed each of its tags',
  ).toBeInstanceOf(BumpError);
  gate.release();
  await cache.get({ page: 1 }, ['mugs'], source('cached').load);

  proxy.stall();
  expect(
    await soon(said(cache.get({ page: 1 }, ['mugs'], source({ at: new Date(0) }).load))),
    'a Redis that does not answer must not hold the page back: load it, and answer with what JSON makes of it',
  ).toEqual({ at: '1970-01-01T00:00:00.000Z' });
  expect(heard.length, 'onCacheError must hear that Redis has failed').toBeGreaterThan(0);
  const hung = over(redis, NAME, 20)
    .get({ page: 1 }, ['mugs'], () => new Promise<string>(() => {}))
    .catch((error: unknown) => error);
  expect(await soon(hung), 'without Redis too, a load has loadDeadlineMs').toBeInstanceOf(LoadTimeoutError);
  const elsewhere = over(servers.redis);
  const old = slowSource();
  const slow = cache.get({ page: 1 }, ['mugs'], old.load);
  await old.begun;
  await elsewhere.bump(['mugs']);
  expect(
    await soon(cache.get({ page: 1 }, ['mugs'], source('new').load)),
    'without the generations, no load may be shared: a bump that this process cannot hear of may lie between two calls',
  ).toBe('new');
  old.finish('old');
  await slow;
  await proxy.heal();

  // Redis fails at one request of a read, and is back before the load is done.
  const back = async () => {
    proxy.schedule();
    while ((await redis.ping().catch(() => 'away')) !== 'PONG');
  };
  const strike = async (failing: number, ask: () => Promise<unknown>) => {
    await back();
    await servers.redis.del(generationKey(NAME, 'lamps'));
    heard.length = 0;
    let seen = 0;
    proxy.schedule(async () => {
      if (++seen === failing) proxy.cut();
    });
    const answer = await soon(
      ask().catch((error: unknown) => error),
      1500,
    );
    await back();
    return { answer, struck: seen >= failing };
  };
  for (const failing of [1, 2, 3]) {
    await back();
    await cache.get({ failing }, ['lamps'], source('from before the bump').load);
    await elsewhere.bump(['lamps']);
    await back();
    const before = (await pages()).sort();
    const { answer, struck } = await strike(failing, () =>
      cache.get({ failing }, ['lamps'], async () => {
        await back();
        return 'loaded';
      }),
    );
    expect(
      answer,
      'a read of Redis that failed must end with a load: not with its error, nor with a page from before a bump',
    ).toBe('loaded');
    // A read that is content with fewer requests was not struck.
    if (!struck) break;
    expect(heard.length, 'onCacheError must hear of each read of Redis that failed').toBeGreaterThan(0);
    expect(
      (await pages()).sort(),
      'after a read of Redis that failed, nothing may be stored: nobody knows the generations',
    ).toEqual(before);
    const hanging = await strike(failing, () =>
      over(redis, NAME, 20).get({ hanging: failing }, ['lamps'], () => new Promise<string>(() => {})),
    );
    expect(hanging.answer, 'after a read of Redis that failed too, a load has loadDeadlineMs').toBeInstanceOf(
      LoadTimeoutError,
    );
  }

  heard.length = 0;
  const unstored = await soon(
    said(
      cache.get({ page: 2 }, ['lamps'], async () => {
        proxy.stall();
        return 'loaded';
      }),
    ),
    1000,
  );
  expect(unstored, 'a page that cannot be stored must be returned all the same').toBe('loaded');
  await expect
    .poll(() => heard.length, { message: 'onCacheError must hear of a page that could not be stored' })
    .toBeGreaterThan(0);
});
