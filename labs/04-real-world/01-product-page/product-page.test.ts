import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import type { Redis } from 'ioredis';
import type { RowDataPacket } from 'mysql2/promise';
import { describe, expect, test } from 'vitest';
import { expectTtl } from '#kit/expect-ttl';
import { connected, redisBehindProxy, refusingRedis } from '#kit/faulty-redis';
import { lateness } from '#kit/lateness';
import { type FaultyProxy, openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { outcome, rejectionOf, until } from '#kit/waiting';
import {
  CACHE_CLIENT,
  DEADLINE_MS,
  encode,
  InvalidSearchError,
  idOf,
  LARGEST,
  PARTS,
  type Part,
  POPULAR_VIEWS,
  partKey,
  TTL_MS,
} from './given';
import { createShop } from './product-page';

const servers = useServers('products', 'categories', 'brands', 'reviews');

const [KITCHEN, LIGHTING] = [1, 2];
const [MUG, BOARD, LAMP, NOTHING] = [1, 2, 3, 999];
const MUG_PAGE = { category: KITCHEN, product: MUG };
const BOARD_PAGE = { category: KITCHEN, product: BOARD };
const LAMP_PAGE = { category: LIGHTING, product: LAMP };

describe('Core', () => {
  test('a page is put together from MySQL once, and from Redis after that', async () => {
    const proxy = await openProxy(servers.mysqlUrl);
    const db = servers.connectDb({}, proxy.url);
    // On a busy machine it takes time to open a connection for each part.
    await Promise.all(PARTS.map(() => db.query('SELECT 1')));
    const shop = openShop(servers.redis, db);
    const queries = [proxy.hold(/FROM reviews/i), proxy.hold(/WHERE category_id/i)];
    const cold = await counted(async () => {
      const viewing = outcome(shop.page(MUG_PAGE), 3000);
      const all = Promise.all(queries.map(({ arrived }) => arrived)).then(() => true);
      const atOnce = await Promise.race([all, sleep(1500, false)]);
      for (const query of queries) query.release();
      const page = await viewing;
      expect(atOnce, 'the queries for rating and list must wait for MySQL at the same time').toBe(true);
      return page;
    });
    expect(cold.result, 'the page of a product, put together from MySQL').toEqual({
      core: {
        id: MUG,
        name: 'Enamel mug, 350 ml',
        price: '12.90',
        description: 'White, with a blue rim.',
        brand: 'Nordlys',
        categoryId: KITCHEN,
      },
      stock: { left: 140, views: 0 },
      category: { id: KITCHEN, name: 'Kitchen' },
      rating: { average: expect.closeTo(14 / 3), count: 3 },
      list: [
        { id: MUG, name: 'Enamel mug, 350 ml', price: '12.90' },
        { id: BOARD, name: 'Beech cutting board', price: '34.00' },
      ],
    });
    expect(cold.selects, 'SELECTs of the first view: one for each part').toBeLessThanOrEqual(PARTS.length);
    await cached(...keysOf(MUG_PAGE));
    const warm = await counted(() => shop.page(MUG_PAGE));
    expect(warm.result, 'the second view must give the same page').toEqual(cold.result);
    expect(warm.selects, 'SELECTs of the second view: all parts are in Redis').toBe(0);
    const elsewhere = await shop.page({ category: LIGHTING, product: MUG });
    expect(elsewhere, 'this product is in another category: its page here must be null').toBeNull();
    expect(await shop.page({ category: KITCHEN, product: NOTHING }), 'no such product: null').toBeNull();
    await cached(partKey('core', NOTHING));
    const again = await counted(() => shop.page({ category: KITCHEN, product: NOTHING }));
    expect(again, 'no such product: null, and its absence is cached').toEqual({ result: null, selects: 0 });
  });

  test('a page from Redis takes one round trip', async () => {
    const delayMs = 40;
    await openShop().page(MUG_PAGE);
    await cached(...keysOf(MUG_PAGE));
    const { lateMs } = await lateness({
      open: async () => {
        const { proxy, redis } = await redisBehindProxy(servers);
        proxy.delay(delayMs);
        return { redis };
      },
      call: ({ redis }) => openShop(redis).page(MUG_PAGE),
      reference: () => sleep(delayMs),
      toleratedMs: delayMs / 2,
    });
    expect(
      lateMs,
      `ms beyond one round trip, which takes ${delayMs} ms here: Redis must be asked for all parts at once`,
    ).toBeLessThan(delayMs / 2);
  });

  test('each part gets its own TTL, once, from the command that stores it', async () => {
    const proxy = await openProxy(servers.redisUrl);
    const redis = servers.connectRedis({}, proxy.url);
    await connected(redis);
    const keys = [...keysOf(MUG_PAGE), partKey('core', NOTHING)];
    let bare: string | undefined;
    proxy.schedule(async (request) => {
      const lives = await Promise.all(keys.map((key) => servers.redis.pttl(key)));
      if (lives.includes(-1)) bare ??= request;
    });
    const shop = openShop(redis);
    await shop.page(MUG_PAGE);
    await shop.page({ category: KITCHEN, product: NOTHING });
    await cached(...keys);
    for (const part of PARTS) {
      await expectTtl(
        servers.redis,
        keyOf(part, MUG_PAGE),
        TTL_MS[part],
        `the part ${part} must live for TTL_MS`,
      );
    }
    const absent = 'a part that is null must live for TTL_MS.absent';
    await expectTtl(servers.redis, partKey('core', NOTHING), TTL_MS.absent, absent);
    expect(
      bare,
      'a part had no TTL when this command was sent: if the process dies before it, the part stays forever',
    ).toBeUndefined();
    await servers.redis.pexpire(partKey('core', MUG), 60_000);
    await shop.page(MUG_PAGE);
    await expectTtl(servers.redis, partKey('core', MUG), 60_000, 'a hit must not change the TTL');
  });

  test('after a write, only the parts that show it are loaded again', async () => {
    const shop = openShop();
    const elsewhere = openShop(servers.connectRedis());
    const view = async (what: string, atMost: number) => {
      const { result, selects } = await counted(() => shop.page(MUG_PAGE));
      expect(selects, `SELECTs of a view after ${what}: only the parts that show it`).toBeLessThanOrEqual(
        atMost,
      );
      await cached(...keysOf(MUG_PAGE));
      return result;
    };
    await shop.page(MUG_PAGE);
    await shop.page(BOARD_PAGE);
    await cached(...keysOf(MUG_PAGE), ...keysOf(BOARD_PAGE));

    await elsewhere.setPrice(MUG, '9.50');
    const cheaper = await view('a new price', 2);
    expect(cheaper?.core.price, 'price on the page after setPrice').toBe('9.50');
    expect(cheaper?.list?.[0]?.price, 'price in the list of the category').toBe('9.50');
    const other = await counted(() => shop.page(BOARD_PAGE));
    expect(other.result?.list?.[0]?.price, 'price of the mug in the list on the page of the board').toBe(
      '9.50',
    );
    expect(other.selects, 'SELECTs of another page of this category: the list is shared').toBe(0);
    // Unlike those of the mug, the ids of the board and of its category differ.
    await elsewhere.setPrice(BOARD, '31.00');
    expect((await shop.page(BOARD_PAGE))?.list?.[1]?.price, 'price of the board in the list').toBe('31.00');

    await elsewhere.addReview(MUG, { user: 1, rating: 2, body: 'Too small.' });
    expect((await view('a review', 1))?.rating, 'rating after addReview').toEqual({ average: 4, count: 4 });
    expect(await elsewhere.buy(MUG, 2), '140 are left: buy must return true').toBe(true);
    expect((await view('a sale', 1))?.stock.left, 'stock after two of 140 are sold').toBe(138);
    expect(await elsewhere.buy(MUG, 139), '138 are left: buy must return false').toBe(false);
    expect(await elsewhere.buy(NOTHING, 1), 'there is no such product: buy must return false').toBe(false);
    expect((await view('a refused sale', 1))?.stock.left, 'stock after a sale that was refused').toBe(138);
  });

  test('a view during a write leaves nothing old behind', async () => {
    const proxy = await openProxy(servers.mysqlUrl);
    const redisProxy = await openProxy(servers.redisUrl);
    const redis = servers.connectRedis({}, redisProxy.url);
    await connected(redis);
    const shop = openShop(redis, servers.connectDb({}, proxy.url));
    const review = { user: 1, rating: 1, body: 'Too small.' };
    const writes: readonly [string, RegExp, Part, () => Promise<unknown>][] = [
      ['setPrice', /UPDATE products SET/i, 'core', () => shop.setPrice(MUG, '9.50')],
      ['addReview', /INSERT INTO reviews/i, 'rating', () => shop.addReview(MUG, review)],
      ['buy', /UPDATE products SET/i, 'stock', () => shop.buy(MUG, 2)],
      ['move', /UPDATE products SET/i, 'core', () => shop.move(MUG, LIGHTING)],
    ];
    for (const [name, sql, part, write] of writes) {
      const update = proxy.hold(sql);
      const writing = write().then(() => 'resolved');
      await Promise.race([update.arrived, writing]);
      // MySQL still has the old row.
      await openShop().page(MUG_PAGE);
      await cached(...keysOf(MUG_PAGE));
      const del = redisProxy.hold(new RegExp(partKey(part, MUG)));
      update.release();
      await Promise.race([del.arrived, writing]);
      const meanwhile = await Promise.race([writing, sleep(30, 'waiting')]);
      const early = await stored(part, MUG);
      del.release();
      await writing;
      const page = await openShop().page(MUG_PAGE);
      await servers.redis.del(keysOf(MUG_PAGE));
      expect(
        page,
        `page after ${name}: a reader had stored the old ${part} before MySQL committed; it must be what MySQL has`,
      ).toEqual(await openShop().page(MUG_PAGE));
      expect(
        early && meanwhile,
        `${name} while Redis still has the old ${part}: the writer may view the page next, so it must be waiting`,
      ).not.toBe('resolved');
    }
  });

  test('a page of search results comes from MySQL once, the most viewed first', async () => {
    await servers.db.query('UPDATE products SET view_count = id * 10');
    const shop = openShop();
    const search = (page: number, size: number) => counted(() => shop.search({ text: 'a', page, size }));
    const first = await search(1, 2);
    expect(first.result, 'products with an "a" in their name, the most viewed first').toEqual([
      { id: LAMP, name: 'Reading lamp, brass', price: '119.95' },
      { id: BOARD, name: 'Beech cutting board', price: '34.00' },
    ]);
    const key = await keyOfSearch();
    await expectTtl(servers.redis, key, TTL_MS.list, 'the results must be stored, for TTL_MS.list');
    expect(await search(1, 2), 'the same search again: from Redis').toEqual({ ...first, selects: 0 });
    expect(idsOf((await search(2, 2)).result), 'ids on page 2 of 2 a page').toEqual([MUG]);
    expect(idsOf((await search(1, 1)).result), 'ids on page 1 of 1 a page').toEqual([LAMP]);
    expect(idsOf((await search(1, 12)).result), 'ids on page 1 of 12 a page').toEqual([LAMP, BOARD, MUG]);
    expect((await search(11, 2)).result, 'page 11 of 2 a page, after page 1 of 12').toEqual([]);

    await servers.redis.del(key);
    const failing = openShop(servers.redis, failingFor(/LIKE/));
    expect(
      await outcome(failing.search({ text: 'a', page: 1, size: 2 })),
      'MySQL fails: nobody knows what there is, so the search must reject',
    ).toEqual(expect.stringMatching(/^rejected/));
    const late = await search(1, 2);
    expect(late.selects, 'SELECTs of a search whose entry has expired').toBe(1);
    expect(late.result, 'its results').toEqual(first.result);
  });
});

describe('In production', () => {
  test('without Redis, a page costs one deadline, and a write succeeds', async () => {
    const faults: Readonly<Record<string, (proxy: FaultyProxy) => unknown>> = {
      'refuses connections': (proxy) => proxy.refuse(),
      'answers after 5 s': (proxy) => proxy.delay(5000),
      'is a black hole': (proxy) => proxy.blackHole(),
    };
    await Promise.all(
      Object.entries(faults).map(async ([fault, strike]) => {
        const [errors, fills]: [unknown[], string[]] = [[], []];
        const open = async () => {
          const { proxy, redis } = await redisBehindProxy(servers, CACHE_CLIENT);
          proxy.schedule(
            async (request) => void (/Reading lamp|Enamel mug/.test(request) && fills.push(request)),
          );
          await strike(proxy);
          return { redis, shop: openShop(redis, servers.db, (error) => errors.push(error)) };
        };
        const { result, lateMs } = await lateness({
          open,
          call: ({ shop }) => shop.page(LAMP_PAGE),
          reference: () => sleep(DEADLINE_MS).then(() => openShop(servers.redis).page(LAMP_PAGE)),
          toleratedMs: DEADLINE_MS / 2,
        });
        expect(result, `Redis ${fault}: the page must come from MySQL`).toMatchObject({ core: { id: LAMP } });
        expect(lateMs, `ms beyond one deadline that a page takes while Redis ${fault}`).toBeLessThan(
          DEADLINE_MS / 2,
        );
        expect(errors.length, `errors reported while Redis ${fault}`).toBeGreaterThan(0);
        const { shop } = await open();
        const found = outcome(shop.search({ text: 'mug', page: 1, size: 5 }));
        expect(idsOf(await found), `ids found while Redis ${fault}`).toEqual([MUG]);
        expect(fills, `values sent while Redis ${fault}: each could cost a deadline of its own`).toEqual([]);
        const done = `MySQL has committed: the writes must succeed while Redis ${fault}`;
        expect(await writesOf(shop), done).toEqual([undefined, undefined, undefined, true]);
      }),
    );

    const errors: unknown[] = [];
    const { redis } = await refusingRedis(servers);
    const shop = openShop(redis, servers.db, (error) => errors.push(error));
    const full = 'Redis answers reads and refuses each write, as when it is full';
    expect(await outcome(shop.page(LAMP_PAGE)), `the page, while ${full}`).toMatchObject({
      core: { id: LAMP },
    });
    const found = await outcome(shop.search({ text: 'mug', page: 1, size: 5 }));
    expect(idsOf(found), `ids found while ${full}`).toEqual([MUG]);
    errors.length = 0;
    const done = await writesOf(shop);
    expect(done, `four writes while ${full}`).toEqual([undefined, undefined, undefined, true]);
    expect(errors.length, 'errors reported, of four writes whose DEL was refused').toBeGreaterThanOrEqual(4);
  });

  test('a damaged part is reported, and only this part is loaded again', async () => {
    const errors: unknown[] = [];
    const shop = openShop(servers.redis, servers.db, (error) => errors.push(error));
    const page = await shop.page(MUG_PAGE);
    const entries = {
      'an HTML page': '<html>502 Bad Gateway</html>',
      'another shape': '{"sku":"M-350"}',
      'not UTF-8': Buffer.from('fffe00', 'hex'),
    };
    for (const part of PARTS) {
      for (const [kind, bytes] of Object.entries(entries)) {
        await cached(...keysOf(MUG_PAGE));
        await servers.redis.set(keyOf(part, MUG_PAGE), bytes);
        errors.length = 0;
        const damaged = await counted(() => outcome(shop.page(MUG_PAGE)));
        expect(
          damaged,
          `the part ${part} is damaged (${kind}): its SELECT alone makes the page whole`,
        ).toEqual({
          result: page,
          selects: 1,
        });
        expect(errors.length, `calls of onCacheError for the damaged part ${part} (${kind})`).toBe(1);
        await until(async () => (await servers.redis.pttl(keyOf(part, MUG_PAGE))) > 0);
        const after = await counted(() => shop.page(MUG_PAGE));
        expect(after.selects, `SELECTs of the next view: the damaged part ${part} must be replaced`).toBe(0);
      }
    }
    const search = () => outcome(shop.search({ text: 'mug', page: 1, size: 5 }));
    const found = await search();
    const key = await keyOfSearch();
    for (const bytes of Object.values(entries)) {
      await servers.redis.set(key, bytes);
      expect(await search(), 'results of a search whose entry is damaged: MySQL has them').toEqual(found);
      await until(async () => (await servers.redis.pttl(key)) > 0);
      expect(
        (await counted(search)).selects,
        'SELECTs of the next search: a damaged entry must be replaced',
      ).toBe(0);
    }
  });

  test('a page leaves out the optional part that MySQL does not give in time', async () => {
    const [proxy, loadMs] = [await openProxy(servers.mysqlUrl), 50];
    const shop = openShop(servers.redis, servers.connectDb({}, proxy.url), undefined, loadMs);
    const whole = await openShop().page(MUG_PAGE);
    await cached(...keysOf(MUG_PAGE));
    await servers.redis.del(partKey('rating', MUG));
    const reviews = proxy.hold(/FROM reviews/i);
    expect(
      await outcome(shop.page(MUG_PAGE)),
      'MySQL does not answer for the rating: the page must come without it',
    ).toEqual({ ...whole, rating: null });
    expect(await stored('rating', MUG), 'the rating in Redis: nothing is known about it').toBeUndefined();
    reviews.release();
    expect(await openShop().page(MUG_PAGE), 'MySQL answers again: the rating must be back').toEqual(whole);

    const failing = openShop(servers.redis, failingFor(/FROM categories|WHERE category_id/i));
    await servers.redis.del(partKey('category', KITCHEN), partKey('list', KITCHEN));
    expect(
      await outcome(failing.page(MUG_PAGE)),
      'MySQL fails for category and list: the page must come without them',
    ).toEqual({ ...whole, category: null, list: null });
    expect(await stored('category', KITCHEN), 'the category in Redis: its query has failed').toBeUndefined();

    for (const [part, sql] of [
      ['core', /FROM products p\b/i],
      ['stock', /SELECT stock/i],
    ] as const) {
      await openShop().page(MUG_PAGE);
      await cached(...keysOf(MUG_PAGE));
      await servers.redis.del(partKey(part, MUG));
      proxy.hold(sql);
      expect(
        await outcome(shop.page(MUG_PAGE)),
        `MySQL does not answer for the ${part}: without it there is no page, so this must reject, and in time`,
      ).toEqual(expect.stringMatching(/^rejected/));
    }
    proxy.hold(/LIKE/);
    expect(
      await outcome(shop.search({ text: 'mug', page: 1, size: 5 })),
      'MySQL does not answer a search: it must reject, and in time',
    ).toEqual(expect.stringMatching(/^rejected/));
  });

  test('a moved product leaves the list of its old category and is in that of the new one', async () => {
    const shop = openShop();
    const pages = [MUG_PAGE, BOARD_PAGE, LAMP_PAGE];
    for (const at of pages) await shop.page(at);
    await cached(...pages.flatMap(keysOf));
    await shop.move(MUG, LIGHTING);
    const [mug, board, lamp] = [
      await shop.page(MUG_PAGE),
      await shop.page(BOARD_PAGE),
      await shop.page(LAMP_PAGE),
    ];
    expect(mug, 'the page of the mug at its old address: it has moved').toBeNull();
    expect(idsOf(board?.list), 'ids in the list of the category that the mug has left').toEqual([BOARD]);
    expect(idsOf(lamp?.list), 'ids in the list of the category that the mug has come to').toEqual([
      MUG,
      LAMP,
    ]);
    const moved = await shop.page({ category: LIGHTING, product: MUG });
    expect(moved?.category?.id, 'category on the page of the mug at its new address').toBe(LIGHTING);
  });

  test('a low stock gets the short TTL, even if the product is popular', async () => {
    const views = POPULAR_VIEWS + 1;
    const cases = [
      { left: 140, views: 0, ttlMs: TTL_MS.stock },
      { left: 140, views, ttlMs: TTL_MS.popularStock },
      { left: 3, views: 0, ttlMs: TTL_MS.lowStock },
      { left: 3, views, ttlMs: TTL_MS.lowStock },
      { left: 0, views, ttlMs: TTL_MS.lowStock },
    ];
    for (const { left, views, ttlMs } of cases) {
      await servers.db.query('UPDATE products SET stock = ?, view_count = ? WHERE id = ?', [
        left,
        views,
        MUG,
      ]);
      await servers.redis.del(partKey('stock', MUG));
      await openShop().page(MUG_PAGE);
      await cached(partKey('stock', MUG));
      await expectTtl(
        servers.redis,
        partKey('stock', MUG),
        ttlMs,
        `ms that the stock must live: ${left} are left, ${views} views`,
      );
    }
  });

  test('a sale asks MySQL for the stock, not Redis', async () => {
    const shop = openShop();
    await storeStock(MUG, 50);
    await setStock(MUG, 0);
    expect(await shop.buy(MUG, 1), 'Redis says 50, MySQL has 0: buy must return false').toBe(false);
    expect(await stockOf(MUG), 'stock in MySQL after a sale that was refused').toBe(0);
    await storeStock(MUG, 0);
    await setStock(MUG, 5);
    expect(await shop.buy(MUG, 1), 'Redis says 0, MySQL has 5: buy must return true').toBe(true);

    for (const pieces of [-3, 0.5]) {
      const sold = await outcome(shop.buy(MUG, pieces));
      expect(sold, `a sale of ${pieces} pieces must be refused`).not.toBe(true);
      expect(await stockOf(MUG), `stock in MySQL after 4 were left, and a sale of ${pieces}`).toBe(4);
    }

    const proxy = await openProxy(servers.mysqlUrl);
    const slow = openShop(servers.redis, servers.connectDb({}, proxy.url));
    const update = proxy.hold(/UPDATE products/i);
    const late = outcome(slow.buy(MUG, 4));
    await Promise.race([update.arrived, late]);
    const quick = outcome(shop.buy(MUG, 4));
    // A lock of the other buyer may hold it up.
    await Promise.race([quick, sleep(100)]);
    update.release();
    const sold = [await quick, await late].filter((each) => each === true);
    expect(sold.length, 'sales of 4 pieces out of 4 that were left, by two buyers at once').toBe(1);
    expect(await stockOf(MUG), 'stock in MySQL after it').toBe(0);
  });

  test('what a reader types is text: % and _ are not wildcards', async () => {
    const names = [
      'Towel 100% cotton',
      'Towel 100 cm',
      'Cable usb_c',
      'Cable usb-c',
      'Path C:\\mugs',
      "Rock'n'roll",
    ];
    await addProducts(names);
    for (const text of ['100%', '%', 'usb_c', '_', 'C:\\mugs', '\\', "k'n"]) {
      const found = await outcome(openShop().search({ text, page: 1, size: 50 }));
      expect(
        typeof found === 'string' ? found : found.map(({ name }) => name).sort(),
        `names found for ${inspect(text)}: those that contain it`,
      ).toEqual(names.filter((name) => name.includes(text)).sort());
    }
  });

  test('spellings that MySQL takes for the same share an entry, others do not', async () => {
    await addProducts([
      'Café',
      'Tabu и',
      'Tabu й',
      'Smorrebrod',
      'Smørrebrød',
      'Strasse',
      'Straße',
      'iglu',
      'ıglu',
    ]);
    const shop = openShop();
    const search = (text: string) => counted(() => shop.search({ text, page: 1, size: 20 }));
    const first = await search('cafe');
    await keyOfSearch();
    for (const text of ['CAFE', 'café', 'CAFÉ']) {
      expect(
        await search(text),
        `"${text}" after "cafe": the same question, answered by the same entry`,
      ).toEqual({
        result: first.result,
        selects: 0,
      });
    }
    for (const text of [
      'й',
      'и',
      'smorre',
      'smørre',
      'strasse',
      'straße',
      'iglu',
      'ıglu',
      'mug',
      'mug ',
      'mu',
      'mug:1',
    ]) {
      expect(
        idsOf((await search(text)).result).sort(),
        `ids found for "${text}", as MySQL finds them without a cache: other spellings had been asked before`,
      ).toEqual(await idsInMySql(text));
    }
  });

  test('a search that is too large is refused before any request', async () => {
    const [redisProxy, mysqlProxy] = [await openProxy(servers.redisUrl), await openProxy(servers.mysqlUrl)];
    const redis = servers.connectRedis({}, redisProxy.url);
    await connected(redis);
    const requests: string[] = [];
    for (const proxy of [redisProxy, mysqlProxy])
      proxy.schedule(async (request) => void requests.push(request));
    const shop = openShop(redis, servers.connectDb({}, mysqlProxy.url));
    const usual = { text: 'mug', page: 1, size: 10 };
    const wrong = [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY];
    const searches = [
      ...[...wrong, LARGEST.page + 1].map((page) => ({ ...usual, page })),
      ...[...wrong, LARGEST.size + 1].map((size) => ({ ...usual, size })),
      { ...usual, text: 'm'.repeat(LARGEST.text + 1) },
    ];
    for (const search of searches) {
      expect(
        await rejectionOf(() => shop.search(search)),
        `${inspect(search)} must be refused with InvalidSearchError`,
      ).toBeInstanceOf(InvalidSearchError);
    }
    expect(requests, 'requests that were sent for these searches').toEqual([]);
    const largest = { ...LARGEST, text: 'm'.repeat(LARGEST.text) };
    expect(await outcome(shop.search(largest)), 'the largest search that is allowed').toEqual([]);
  });

  test('products with equal views are on one page of results each', async () => {
    const names = Array.from({ length: 40 }, (_, i) => `Spoon ${i}`);
    await addProducts(names);
    const shop = openShop();
    for (const size of [5, 10]) {
      const found: unknown[] = [];
      for (let page = 1; page <= names.length / size; page++) {
        found.push(...idsOf(await shop.search({ text: 'spoon', page, size })));
      }
      expect(
        new Set(found).size,
        `different products on the ${names.length / size} pages of ${names.length} with equal views`,
      ).toBe(names.length);
    }
  });
});

type Shop = ReturnType<typeof createShop>;

function openShop(
  redis: Redis = servers.redis,
  db = servers.db,
  onCacheError = (_: unknown) => {},
  loadMs?: number,
): Shop {
  return createShop({ redis, db, onCacheError, ...(loadMs === undefined ? {} : { loadMs }) });
}

/** What a call gives, and how many SELECTs it caused. */
async function counted<T>(call: () => Promise<T>): Promise<{ result: T; selects: number }> {
  const results: T[] = [];
  const work = await servers.work(async () => results.push(await call()));
  return { result: results[0] as T, selects: work.sql('select') };
}

const keyOf = (part: Part, at: typeof MUG_PAGE) => partKey(part, idOf(part, at));
const keysOf = (at: typeof MUG_PAGE) => PARTS.map((part) => keyOf(part, at));

/** Waits for fills, for which a caller need not wait. */
const cached = (...keys: string[]) => until(async () => (await servers.redis.exists(keys)) === keys.length);

/** Under which the results of the first search are stored. */
async function keyOfSearch(): Promise<string> {
  let found: string | undefined;
  await until(async () => {
    const keys = await servers.redis.keys('*');
    found = keys.find((key) => !/^(page|caching-deep-dive):/.test(key));
    return found !== undefined;
  });
  return found ?? 'no key at all';
}

async function stored(part: Part, id: number): Promise<string | undefined> {
  return (await servers.redis.get(partKey(part, id))) ?? undefined;
}

const idsOf = (found: unknown): unknown[] =>
  Array.isArray(found) ? found.map((each) => Object(each).id) : [found];

/** A pool on which some SELECTs fail. */
function failingFor(pattern: RegExp) {
  const db = servers.connectDb();
  const { query } = db;
  Object.assign(db, {
    query: async (...request: [unknown]) => {
      if (pattern.test(inspect(request[0]))) throw new Error('the table is marked as crashed');
      return Reflect.apply(query, db, request);
    },
  });
  return db;
}

/** One of each kind, at once. */
const writesOf = (shop: Shop) =>
  Promise.all(
    [
      shop.setPrice(MUG, '9.50'),
      shop.addReview(MUG, { user: 1, rating: 5, body: 'Fine.' }),
      shop.move(BOARD, LIGHTING),
      shop.buy(BOARD, 1),
    ].map((write) => outcome<unknown>(write)),
  );

/** Stores a stock, as another process would have some seconds ago. */
const storeStock = (id: number, left: number) =>
  servers.redis.set(partKey('stock', id), encode({ left, views: 0 }), 'PX', 20_000);

const setStock = (id: number, left: number) =>
  servers.db.query('UPDATE products SET stock = ? WHERE id = ?', [left, id]);

async function stockOf(id: number): Promise<number> {
  const [[row]] = await servers.db.query<RowDataPacket[]>('SELECT stock FROM products WHERE id = ?', [id]);
  return row?.stock;
}

const addProducts = (names: readonly string[]) =>
  servers.db.query(
    `INSERT INTO products (id, name, price, stock, category_id, updated_at)
     VALUES ${names.map(() => '(?, ?, 5, 1, 3, NOW(3))')}`,
    names.flatMap((name, i) => [100 + i, name]),
  );

/** Without a cache; the texts have no wildcards. */
async function idsInMySql(text: string): Promise<unknown[]> {
  const [rows] = await servers.db.query<RowDataPacket[]>('SELECT id FROM products WHERE name LIKE ?', [
    `%${text}%`,
  ]);
  return idsOf(rows).sort();
}
