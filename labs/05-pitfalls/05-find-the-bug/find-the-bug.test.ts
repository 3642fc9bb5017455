import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { RowDataPacket } from 'mysql2/promise';
import { beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { connected, leave, redisBehindProxy } from '#kit/faulty-redis';
import { begun, countedLoad, heldLoad } from '#kit/loads';
import { ownRedis } from '#kit/own-redis';
import { type FaultyProxy, openProxy } from '#kit/proxy';
import { nameRequests } from '#kit/requests';
import { useServers } from '#kit/servers';
import { outcome, rejectionOf, soon, unhandledRejections, until } from '#kit/waiting';
import {
  accountPage,
  allowCall,
  brandPage,
  Catalogue,
  changePrice,
  changeSeats,
  ExchangeRates,
  holdSeats,
  NearPrices,
  priceOf,
  publishPrice,
  refreshBrand,
  stockOf,
} from './find-the-bug';
import { CALLS_A_MINUTE, HOLD_MS, keyOf, PRICE_CHANGED, type Product, type Visitor } from './given';

const servers = useServers('products', 'events');

/** Looks at keys, so the red screen leaves it out. */
let watcher: Redis;
beforeAll(() => {
  watcher = servers.connectRedis();
  nameRequests(watcher, '');
});

describe('Core', () => {
  test('a stock of 0 is a hit', async () => {
    for (const [productId, units] of [7, 0].entries()) {
      const counts: number[] = [];
      const ask = () =>
        stockOf(servers.redis, productId, async (id) => {
          counts.push(id);
          return units;
        });
      const answers = [await ask(), await ask(), await ask()];
      expect(answers, `three answers for a product of which there are ${units}`).toEqual([
        units,
        units,
        units,
      ]);
      expect(counts, `counts of the warehouse for three questions; there are ${units} units`).toEqual([
        productId,
      ]);
      const ttl = await watcher.ttl(keyOf('stock', productId));
      expect(ttl > 0 && ttl <= 60, `seconds to live of a stock of ${units}: ${ttl}, and 60 are meant`).toBe(
        true,
      );
    }
  });

  test('the offer to one customer changes the price of nobody else', async () => {
    const source = countedLoad(0);
    const catalogue = new Catalogue(async (id) => {
      await source.load();
      return mug(id);
    });
    const offer = (isMember: boolean) => catalogue.offer(1, { isMember });
    const seen: unknown[] = [];
    for (const isMember of [true, false, true, true]) {
      const { price, badges } = await offer(isMember);
      seen.push([isMember ? 'member' : 'guest', price.cents, badges.join()]);
    }
    expect(seen, 'offers of a mug of 1000 cents, one after another').toEqual([
      ['member', 900, 'new,member price'],
      ['guest', 1000, 'new'],
      ['member', 900, 'new,member price'],
      ['member', 900, 'new,member price'],
    ]);
    for (const isMember of [true, false]) {
      const scribbled = await offer(isMember);
      // The page of one customer. A frozen offer refuses it, which protects the others too.
      await outcome((async () => scribbled.badges.push('only for you'))());
      await outcome((async () => Object.assign(scribbled.price, { cents: 1 }))());
    }
    expect(await offer(false), 'the offer to a guest, after the pages of others wrote into theirs').toEqual(
      mug(1),
    );
    expect((await catalogue.offer(2, { isMember: false })).id, 'the id of another product').toBe(2);
    expect(source.loads, 'loads for two products: one each').toBe(2);
  });

  test('a rate is asked for again after its request failed', async () => {
    const unhandled = unhandledRejections();
    const requests = [0, 1.25, 1.4, 1.5, 1.6, 1.7].map(heldLoad);
    let sent = 0;
    const rates = new ExchangeRates(async () => (requests[sent++] ?? heldLoad(0)).load());
    const ask = () => Array.from({ length: 3 }, () => outcome(rates.rateOf('SEK')));

    const failing = ask();
    expect(sent, 'requests for three calls at the same time').toBe(1);
    requests[0]?.fail(new Error('503'));
    const failed = expect.stringContaining('503');
    expect(await Promise.all(failing), 'three calls that share a failed request').toEqual([
      failed,
      failed,
      failed,
    ]);
    const working = ask();
    requests[1]?.end();
    expect(
      await Promise.all(working),
      'three calls after the service has come back: its request failed once',
    ).toEqual([1.25, 1.25, 1.25]);
    expect(await outcome(rates.rateOf('SEK')), 'a later call').toBe(1.25);
    expect(sent, 'requests of the day: one that failed, and one for all calls since').toBe(2);

    rates.startDay();
    const before = outcome(rates.rateOf('SEK'));
    rates.startDay();
    requests[2]?.end();
    expect(await before, 'a rate that was asked for before midnight').toBe(1.4);
    requests[3]?.end();
    expect(await outcome(rates.rateOf('SEK')), 'the rate of the next day').toBe(1.5);

    rates.startDay();
    const late = outcome(rates.rateOf('SEK'));
    rates.startDay();
    const today = outcome(rates.rateOf('SEK'));
    requests[4]?.fail(new Error('503'));
    await late;
    await sleep(1);
    const joined = outcome(rates.rateOf('SEK'));
    expect(sent, 'requests, of which one is of today: the failure of a request of yesterday came then').toBe(
      6,
    );
    requests[5]?.end();
    expect(await Promise.all([today, joined]), 'two calls after midnight').toEqual([1.7, 1.7]);
    // Node looks for them between two turns of its loop.
    await sleep(1);
    expect(unhandled(), 'rejections that nobody has caught: Node ends the process').toEqual([]);
  });

  test('nobody sees the account page of another person', async () => {
    const ann: Visitor = { tenant: 'acme', userId: '1', name: 'Ann', locale: 'en' };
    const visitors: readonly Visitor[] = [
      ann,
      { ...ann, userId: '2', name: 'Bob' },
      { ...ann, userId: '3' },
      { ...ann, tenant: 'umbrella' },
      { ...ann, locale: 'sv' },
      { ...ann, tenant: 'acme:1', userId: '1' },
      { ...ann, tenant: 'acme', userId: '1:1' },
      { ...ann, tenant: 'acme1', userId: '1' },
      { ...ann, tenant: 'acme', userId: '11' },
    ];
    let renders = 0;
    const text = (visitor: Visitor, path: string) => JSON.stringify([visitor, path]);
    const visit = (visitor: Visitor, path: string) =>
      accountPage(servers.redis, visitor, path, async () => {
        renders++;
        return text(visitor, path);
      });
    for (const time of ['first', 'second']) {
      for (const visitor of visitors) {
        for (const path of ['/orders', '/address']) {
          const page = await visit(visitor, path);
          expect(page, `the ${time} visit of ${text(visitor, path)}: what is shown`).toBe(
            text(visitor, path),
          );
        }
      }
    }
    expect(renders, 'pages rendered: each visitor looks twice at two pages within a minute').toBe(
      visitors.length * 2,
    );
    for (const ttl of await ttlsOf('orders')) {
      expect(ttl > 0 && ttl <= 60_000, `ms to live of a page: ${ttl}, and a minute is meant`).toBe(true);
    }
  });

  test('changed seats are free when their hold ends, not later and not earlier', async () => {
    const left = (customer: string) => watcher.pttl(keyOf('seats', customer));
    const seats = (customer: string) => watcher.get(keyOf('seats', customer));
    /** The customer has thought for ten of the fifteen minutes. */
    const holdFor = async (customer: string) => {
      await holdSeats(servers.redis, customer, ['A1']);
      expect(HOLD_MS - (await left(customer)), 'ms since a hold began').toBeLessThan(60_000);
      await watcher.pexpire(keyOf('seats', customer), HOLD_MS / 3);
    };
    const expectLeft = async (customer: string, what: string) => {
      const message = `ms until ${what} are free: 5 of 15 minutes were left, and -1 is never`;
      expect(await left(customer), message).toBeGreaterThan(HOLD_MS / 3 - 60_000);
      expect(await left(customer), message).toBeLessThanOrEqual(HOLD_MS / 3);
    };
    await holdFor('ann');
    for (const seat of ['B1', 'B2']) {
      expect(await changeSeats(servers.redis, 'ann', [seat]), 'a change within the hold').toBe(true);
      expect(await seats('ann'), 'the seats that are held').toBe(`["${seat}"]`);
    }
    await expectLeft('ann', 'changed seats');
    expect(await changeSeats(servers.redis, 'bob', ['A1']), 'a change without a hold').toBe(false);

    const call = (redis: Redis) => changeSeats(redis, 'cleo', ['B1']);
    await atEachStep({
      before: () => holdFor('cleo'),
      call,
      strike: () => watcher.del(keyOf('seats', 'cleo')),
      check: async (when) =>
        expect(await seats('cleo'), `seats that are held, although the hold ended ${when}`).toBe(null),
    });
    await atEachStep({
      before: () => holdFor('cleo'),
      call,
      strike: (proxy) => proxy.cut(),
      check: (when) => expectLeft('cleo', `seats whose process died ${when}`),
    });
  });

  test('a user is let in again after a minute, also when a process died', async () => {
    const answers: boolean[] = [];
    for (let nth = 1; nth <= CALLS_A_MINUTE + 2; nth++) answers.push(await allowCall(servers.redis, 'ann'));
    expect(answers, `answers to ${answers.length} calls: the limit is ${CALLS_A_MINUTE}`).toEqual(
      answers.map((_, index) => index < CALLS_A_MINUTE),
    );
    expect(await allowCall(servers.redis, 'bob'), 'the first call of another user').toBe(true);
    const atOnce = await Promise.all(Array.from({ length: 12 }, () => allowCall(servers.redis, 'cleo')));
    expect(atOnce.filter(Boolean).length, 'calls allowed of 12 at the same time').toBe(CALLS_A_MINUTE);

    for (const key of await keysWith('ann')) await watcher.pexpire(key, 5_000);
    await allowCall(servers.redis, 'ann');
    const message = 'ms until a user is let in again who calls on: 5 seconds of the minute were left';
    for (const ttl of await ttlsOf('ann')) expect(ttl, message).toBeLessThanOrEqual(5_000);

    const forget = async () => {
      for (const key of await keysWith('dora')) await watcher.del(key);
    };
    const strikes: readonly (readonly [what: string, earlier: number, strike: Struck['strike']])[] = [
      ['a process died', 0, (proxy) => proxy.cut()],
      ['the minute ended', 0, forget],
      ['the minute ended', 1, forget],
    ];
    for (const [what, earlier, strike] of strikes) {
      await atEachStep({
        before: async () => {
          await forget();
          for (let nth = 1; nth <= earlier; nth++) await allowCall(servers.redis, 'dora');
        },
        call: (redis) => allowCall(redis, 'dora'),
        strike,
        check: async (when) => {
          await allowCall(servers.redis, 'dora');
          for (const ttl of await ttlsOf('dora')) {
            const told = `ms until a user is let in again, whose minute has just begun; ${what} ${when}. -1 is never`;
            expect(ttl, told).toBeGreaterThan(30_000);
            expect(ttl, told).toBeLessThanOrEqual(60_000);
          }
        },
      });
    }
  });

  test('a report that overran does not let a third one run beside the second', async () => {
    // Processes on two machines: one process id, calls at the same time, and each has run nothing before.
    vi.useFakeTimers({ toFake: ['Date'] });
    onTestFinished(() => void vi.useRealTimers());
    let worker = await newProcess();
    const run = <T>(report: () => Promise<T>, redis = servers.redis) =>
      worker.runReport(redis, 'sales', report);
    const value = (text: string) => async () => text;
    const first = heldLoad('first');
    const running = run(first.load);
    await begun(first, running);
    expect(await outcome(run(value('second'))), 'a second report beside the first').toBe(undefined);
    for (const ttl of await ttlsOf('sales')) {
      expect(ttl, 'ms until the lock of a process that died is free; -1 is never').toBeGreaterThan(0);
    }
    first.end();
    expect(await outcome(running), 'the first report').toBe('first');
    expect(
      await rejectionOf(() => run(() => Promise.reject(new Error('disk full')))),
      'a report after the first has ended: it fails',
    ).toMatchObject({ message: 'disk full' });
    expect(await outcome(run(value('next'))), 'a report after another one has failed').toBe('next');

    let second = heldLoad('second');
    let beside: Promise<unknown> = Promise.resolve();
    await atEachStep({
      before: async () => {
        second = heldLoad('second');
        worker = await newProcess();
      },
      call: (redis, arm) =>
        run(async () => {
          arm();
          return 'overran';
        }, redis),
      strike: async () => {
        for (const key of await keysWith('sales')) await watcher.del(key);
        worker = await newProcess();
        beside = run(second.load);
        await begun(second, beside);
      },
      check: async (when) => {
        const third = await outcome(run(value('third')));
        second.end();
        expect(
          third,
          `a third report beside the second. The first overran: its lease ended ${when}, counted from the end of its work`,
        ).toBe(undefined);
        expect(await outcome(beside), 'the second report').toBe('second');
        expect(await outcome(run(value('fourth'))), 'a report after all others').toBe('fourth');
      },
    });
  });

  test('the old price does not come back after a change', async () => {
    const { url } = await ownRedis();
    const redis = servers.connectRedis({}, url);
    const admin = servers.connectRedis({}, url);
    onTestFinished(() => [redis, admin].forEach(leave));
    const proxy = await openProxy(servers.mysqlUrl);
    const writer = servers.connectDb({}, proxy.url);
    const read = (from = redis) => priceOf(servers.db, from, 1);
    const change = (price: string, from = redis, db = servers.db) => changePrice(db, from, 1, price, 2);

    const work = await servers.work(async () => {
      for (const _ of [1, 2, 3]) expect(await read(), 'the price at first').toBe('12.90');
    });
    expect(work.sql('select'), 'queries for three reads of a price').toBe(1);

    const gate = proxy.hold(/^commit/i);
    const changing = change('13.50', redis, writer);
    await soon(Promise.race([gate.arrived.catch(() => {}), changing]));
    expect(await read(), 'the price for a reader that comes before the change is committed').toBe('12.90');
    gate.release();
    await changing;
    expect(await read(), 'the price after the change; a reader came before its COMMIT').toBe('13.50');

    // Redis itself holds back writes for a moment, and answers reads.
    await admin.client('PAUSE', 5_000, 'WRITE');
    const late = change('14.00');
    await soon(late, 40);
    const inRedis = await admin.get(keyOf('price', 1));
    const isDone = (await soon(late, 0)) !== 'still waiting';
    await admin.client('UNPAUSE');
    expect(
      isDone && inRedis === '13.50',
      'the change is done while Redis, which is slow for a moment, still answers with the old price',
    ).toBe(false);
    await late;
    expect(await read(), 'the price after another change').toBe('14.00');

    const [rows] = await servers.db.query("SELECT amount FROM events WHERE kind = 'price' ORDER BY id");
    expect(rows, 'the history of the price').toEqual([{ amount: '13.50' }, { amount: '14.00' }]);

    await atEachStep({
      before: () => change('15.00', servers.redis),
      call: (connection) => change('16.00', connection),
      strike: async () => {
        // Before the commit, the row is locked, and another change has to wait.
        if ((await priceInMySql()) === '16.00') await change('17.00', servers.redis);
      },
      check: async (when) =>
        expect(
          await read(servers.redis),
          `the price after a change to 16.00, and another one to 17.00 ${when} to Redis`,
        ).toBe(await priceInMySql()),
    });
  });

  test('a page that was refreshed does not come back when Redis evicts keys', async () => {
    const scenes: Readonly<Record<string, readonly ('show' | 'refresh' | 'show and refresh' | 'evict')[]>> = {
      plain: ['show', 'show', 'refresh', 'show', 'show'],
      late: ['show', 'refresh', 'show', 'evict', 'show'],
      early: ['show', 'refresh', 'evict', 'show'],
      twice: ['show', 'refresh', 'show', 'evict', 'refresh', 'show'],
      between: ['show', 'evict', 'refresh', 'evict', 'show', 'show'],
      after: ['show', 'refresh', 'evict', 'show', 'evict', 'refresh', 'show'],
      meanwhile: ['show and refresh', 'show'],
    };
    for (const [brand, steps] of Object.entries(scenes)) {
      let version = 1;
      let renders = 0;
      const show = (path = 'mug') =>
        brandPage(servers.redis, brand, path, async () => {
          renders++;
          return `${path}, version ${version}`;
        });
      const acts = {
        show: async () =>
          expect(await show(), `what is shown at the end of: ${done.join(', ')}`).toBe(
            `mug, version ${version}`,
          ),
        refresh: async () => {
          version++;
          await refreshBrand(servers.redis, brand);
        },
        'show and refresh': () =>
          brandPage(servers.redis, brand, 'mug', async () => {
            const page = `mug, version ${version}`;
            await acts.refresh();
            return page;
          }),
        // Redis needs memory. It keeps the pages, which were used last.
        evict: async () => {
          for (const key of await keysWith(brand)) if (!key.includes('mug')) await watcher.del(key);
        },
      };
      const done: string[] = [];
      for (const step of steps) {
        done.push(step);
        await acts[step]();
      }
      const before = renders;
      await Promise.all([show(), show()]);
      expect(renders - before, `renders of a page that has just been shown, after: ${done.join(', ')}`).toBe(
        0,
      );
      expect(await show('cup'), 'another page of the brand').toBe(`cup, version ${version}`);
    }
    await expectRefreshedAlone('other', 'plain');
    for (const key of await keysWith('mug')) {
      expect(await watcher.ttl(key), 'seconds to live of a page').toBeGreaterThan(0);
    }
  });

  test('a process that was cut off does not show old prices after it is back', async () => {
    const { proxy, redis: subscriber } = await redisBehindProxy(servers, { retryStrategy: () => 10 });
    const prices = new NearPrices(servers.redis, subscriber);
    await prices.start();
    const expectPrice = async (product: string, price: string, when: string) => {
      // Rounds and no time: on a busy machine they take longer.
      for (let round = 0; round < 40 && (await prices.priceOf(product)) !== price; round++) await sleep(5);
      expect(await prices.priceOf(product), `the price of the ${product}, soon after ${when}`).toBe(price);
    };
    const gets = (product: string) => getsOfTenReads(prices, product);
    const near = async (product: string) => {
      await until(async () => (await gets(product)) === 0);
      expect(await gets(product), `GETs for ten reads of a known price (${product})`).toBe(0);
    };
    for (const product of ['mug', 'lamp']) {
      await publishPrice(servers.redis, product, '10');
      await expectPrice(product, '10', 'it was published');
      await near(product);
    }
    await publishPrice(servers.redis, 'mug', '11');
    await expectPrice('mug', '11', 'it was changed');
    expect(await gets('lamp'), 'GETs for ten reads of the lamp, after the mug has changed').toBe(0);

    const cutOff = async () => {
      await proxy.refuse();
      await until(() => subscriber.status !== 'ready');
    };
    for (const [mug, lamp] of [
      ['12', '22'],
      ['13', '23'],
    ] as const) {
      await cutOff();
      await publishPrice(servers.redis, 'mug', mug);
      await prices.priceOf('lamp');
      await publishPrice(servers.redis, 'lamp', lamp);
      await proxy.heal();
      await connected(subscriber);
      await until(async () => Number((await watcher.pubsub('NUMSUB', PRICE_CHANGED))[1]) === 1);
      await expectPrice('mug', mug, 'the connection is back: it changed meanwhile');
      await expectPrice('lamp', lamp, 'the connection is back: it was read and changed meanwhile');
      for (const product of ['lamp', 'mug']) await near(product);
    }
    await publishPrice(servers.redis, 'mug', '14');
    await expectPrice('mug', '14', 'it was changed again');

    await cutOff();
    const subscribing = proxy.hold(/^subscribe/i);
    await proxy.heal();
    await soon(subscribing.arrived);
    await prices.priceOf('mug');
    await publishPrice(servers.redis, 'mug', '15');
    subscribing.release();
    await expectPrice('mug', '15', 'it subscribed again: it was read and changed before that');
  });
});

/** The programs as in a process that has just started. */
async function newProcess(): Promise<typeof import('./find-the-bug')> {
  vi.resetModules();
  return import('./find-the-bug');
}

interface Struck {
  before(): Promise<unknown>;
  /** Requests count from the call of `arm`; from the first one by default. */
  call(redis: Redis, arm: () => void): Promise<unknown>;
  strike(proxy: FaultyProxy): unknown;
  check(when: string): Promise<unknown>;
}

/** Strikes before each request of a call, in a new call on a new connection each time. */
async function atEachStep({ before, call, strike, check }: Struck): Promise<void> {
  let struck = true;
  for (let step = 1; struck && step < 10; step++) {
    const { proxy, redis } = await redisBehindProxy(servers, { retryStrategy: () => null });
    await before();
    struck = false;
    let sent = 0;
    const arm = () =>
      proxy.schedule(async () => {
        if (++sent !== step) return;
        struck = true;
        await strike(proxy);
      });
    if (call.length < 2) arm();
    await outcome(call(redis, arm));
    proxy.schedule();
    leave(redis);
    if (struck) await check(step === 1 ? 'before its first request' : `before its request ${step}`);
  }
}

/** The refresh of one brand must leave the pages of another. */
async function expectRefreshedAlone(brand: string, refreshed: string): Promise<void> {
  const source = countedLoad('lamp');
  const lamp = () => brandPage(servers.redis, brand, 'lamp', source.load);
  await lamp();
  await refreshBrand(servers.redis, refreshed);
  await lamp();
  expect(source.loads, 'renders of a page, after another brand was refreshed').toBe(1);
}

async function getsOfTenReads(prices: NearPrices, product: string): Promise<number> {
  const work = await servers.work(async () => {
    for (let read = 0; read < 10; read++) await prices.priceOf(product);
  });
  return work.redis('get');
}

const priceInMySql = async (): Promise<string> => {
  const [rows] = await servers.db.query<RowDataPacket[]>('SELECT price FROM products WHERE id = 1');
  return rows[0]?.price;
};

const keysWith = async (text: string): Promise<string[]> =>
  (await watcher.keys('*')).filter((key) => key.includes(text)).sort();

const ttlsOf = async (text: string): Promise<number[]> =>
  Promise.all((await keysWith(text)).map((key) => watcher.pttl(key)));

const mug = (id: number): Product => ({
  id,
  name: 'Enamel mug',
  price: { cents: 1000, currency: 'EUR' },
  badges: ['new'],
});
