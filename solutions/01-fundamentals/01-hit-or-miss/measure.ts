import { type Claim, defineMeasure, median, percentile } from '#claims';
import { seeded } from '#kit/random';
import { createProfileCache, profileKey } from './hit-or-miss';

const USERS = 2000;
const PRODUCTS = 10_000;
const TTL_MS = 60_000;

/** A typical round trip on a 1 Gbit/s network (ms), from Redis' documentation on latency; loopback has none. */
const ROUND_TRIP_MS = 0.2;

const HIT_RATES = [0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99];

const PROFILE = 'SELECT id, email, name, locale FROM users WHERE id = ?';

const BEST_SELLERS = `SELECT product_id, COUNT(*) AS sold, SUM(amount) AS revenue FROM events
  WHERE kind = 'purchase' GROUP BY product_id ORDER BY revenue DESC LIMIT 20`;

/** The five queries of the guide's product page; each takes the product's id. */
const PAGE = [
  'SELECT id, name, price, stock, description FROM products WHERE id = ?',
  'SELECT rating, body, created_at FROM reviews WHERE product_id = ? ORDER BY created_at DESC LIMIT 10',
  'SELECT warehouse, on_hand FROM inventory WHERE product_id = ?',
  `SELECT other.id, other.name, other.price FROM products this
     JOIN products other ON other.category_id = this.category_id AND other.id <> this.id
     WHERE this.id = ? ORDER BY other.id LIMIT 6`,
  'SELECT url FROM product_images WHERE product_id = ? ORDER BY position',
];

/** What a read costs (ms): straight from MySQL, and behind the cache as a hit and as a miss. */
interface Cost {
  readonly bare: number;
  readonly hit: number;
  readonly miss: number;
}

const behindCache = ({ hit, miss }: Cost, hitRate: number) => hitRate * hit + (1 - hitRate) * miss;

/** The hit rate at which the cache takes as long as no cache. */
const breakEven = ({ bare, hit, miss }: Cost) => (miss - bare) / (miss - hit);

const saved = (cost: Cost, hitRate: number) => cost.bare - behindCache(cost, hitRate);

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redis, db, loadShop } = servers();
    await loadShop();
    const random = seeded(11);
    const anyOf = (n: number) => 1 + Math.floor(random() * n);

    const page = async (id: number) => {
      const parts: unknown[] = [];
      for (const sql of PAGE) parts.push((await db.execute(sql, [id]))[0]);
      return parts;
    };
    const store = (key: string, value: unknown) => redis.set(key, JSON.stringify(value), 'PX', TTL_MS);
    const read = async (key: string) => JSON.parse((await redis.get(key)) ?? 'null') as unknown;
    const aProfile = (await db.execute(PROFILE, [1]))[0];
    const aPage = await page(1);
    const bestSellers = (await db.query(BEST_SELLERS))[0];
    await store('measure:profile', aProfile);
    await store('measure:page', aPage);
    await store('measure:best-sellers', bestSellers);

    const cache = createProfileCache({ redis, db });
    const times = await interleaved(
      {
        missThenHit: async () => {
          const id = anyOf(USERS);
          await redis.del(profileKey(id));
          await cache.get(id);
          await cache.get(id);
        },
        get: () => read('measure:profile'),
        select: () => db.execute(PROFILE, [anyOf(USERS)]),
        pageGet: () => read('measure:page'),
        pageSet: () => store('measure:set', aPage),
        page: () => page(anyOf(PRODUCTS)),
        pageAtOnce: () => Promise.all(PAGE.map((sql) => db.execute(sql, [anyOf(PRODUCTS)]))),
        sellersGet: () => read('measure:best-sellers'),
        sellersSet: () => store('measure:set', bestSellers),
      },
      quick ? 100 : 1500,
    );
    const { sellers } = await interleaved({ sellers: () => db.query(BEST_SELLERS) }, quick ? 3 : 40);
    const throughput = await inFlight(
      quick ? 200 : 5000,
      () => read('measure:profile'),
      () => db.execute(PROFILE, [anyOf(USERS)]),
    );
    await redis.del('measure:profile', 'measure:page', 'measure:best-sellers', 'measure:set');

    const { hit, miss } = cache.stats();
    const get = median(times.get);
    const profile: Cost = { bare: median(times.select), hit: hit.p50Ms ?? 0, miss: miss.p50Ms ?? 0 };
    const behind = (load: number[], read: number[], fill: number[]): Cost => ({
      bare: median(load),
      hit: median(read),
      miss: median(read) + median(load) + median(fill),
    });
    const wholePage = behind(times.page, times.pageGet, times.pageSet);
    const groupBy = behind(sellers, times.sellersGet, times.sellersSet);
    const against = (slow: number[], fast: number[], p: number) => percentile(slow, p) / percentile(fast, p);

    const claims: Claim[] = [
      figure('get-p50', 'Redis GET of a profile, p50', get * 1000, 'µs'),
      figure('select-p50', 'SELECT of the profile by primary key, p50', profile.bare * 1000, 'µs'),
      figure('page-p50', 'product page, five queries in turn, p50', wholePage.bare * 1000, 'µs'),
      figure('aggregate-p50', 'GROUP BY over 200,000 events, p50', groupBy.bare, 'ms'),
      {
        ...figure('select-over-get', 'SELECT by primary key against GET, p50', profile.bare / get, '×'),
        atMost: 25,
      },
      figure('select-over-get-p99', 'the same, p99', against(times.select, times.get, 0.99), '×'),
      {
        ...figure(
          'page-over-get',
          'page of five queries in turn against one GET, p50',
          wholePage.bare / wholePage.hit,
          '×',
        ),
        atLeast: 2,
      },
      figure('page-over-get-p99', 'the same, p99', against(times.page, times.pageGet, 0.99), '×'),
      figure(
        'page-at-once-over-get',
        'page of five queries at once against one GET, p50',
        against(times.pageAtOnce, times.pageGet, 0.5),
        '×',
      ),
      {
        ...figure(
          'aggregate-over-get',
          'GROUP BY against GET of its result, p50',
          groupBy.bare / groupBy.hit,
          '×',
        ),
        atLeast: 40,
      },
      figure('aggregate-over-get-p99', 'the same, p99', against(sellers, times.sellersGet, 0.99), '×'),
      {
        ...figure(
          'miss-over-miss',
          'GROUP BY against SELECT by primary key, p50',
          groupBy.bare / profile.bare,
          '×',
        ),
        atLeast: 15,
      },
      figure(
        'select-over-get-network',
        'SELECT by primary key against GET, with 0.2 ms of network for each',
        (profile.bare + ROUND_TRIP_MS) / (get + ROUND_TRIP_MS),
        '×',
      ),
      figure(
        'page-over-get-network',
        'page of five queries in turn against one GET, with 0.2 ms of network for each',
        (wholePage.bare + PAGE.length * ROUND_TRIP_MS) / (wholePage.hit + ROUND_TRIP_MS),
        '×',
      ),
      figure(
        'throughput',
        'GETs a second against SELECTs by primary key a second, 50 in flight',
        throughput,
        '×',
      ),
      {
        ...figure(
          'break-even-profile',
          'hit rate at which a cache of profiles breaks even',
          100 * breakEven(profile),
          '%',
        ),
        atLeast: 10,
      },
      {
        ...figure(
          'break-even-aggregate',
          'hit rate at which a cache of the GROUP BY breaks even',
          100 * breakEven(groupBy),
          '%',
        ),
        atMost: 5,
      },
      figure(
        'profile-at-80',
        'mean latency with a hit rate of 80 % against no cache: profile, through the lab',
        behindCache(profile, 0.8) / profile.bare,
        '×',
      ),
      {
        ...figure('aggregate-at-80', 'the same: GROUP BY', behindCache(groupBy, 0.8) / groupBy.bare, '×'),
        atMost: 0.4,
      },
      {
        ...figure(
          'half-over-99',
          'time saved by a cache of the GROUP BY with a hit rate of 50 % against one of profiles with 99 %',
          saved(groupBy, 0.5) / Math.abs(saved(profile, 0.99)),
          '×',
        ),
        atLeast: 10,
      },
    ];
    const relative = (of: Cost) =>
      HIT_RATES.map((rate) => [100 * rate, behindCache(of, rate) / of.bare] as const);
    return {
      claims,
      plots: [
        {
          name: 'hit-rate',
          title:
            'Mean latency behind a cache against none: what a hit rate is worth depends on what a miss costs',
          x: { label: 'hit rate (%)', scale: 'linear' },
          y: { label: 'mean latency / latency without a cache', scale: 'log' },
          series: [
            { name: 'no cache', points: HIT_RATES.map((rate) => [100 * rate, 1] as const) },
            { name: 'profile, through the lab', points: relative(profile) },
            { name: 'page of five queries', points: relative(wholePage) },
            { name: 'GROUP BY', points: relative(groupBy) },
          ],
        },
      ],
    };
  },
});

const figure = (name: string, says: string, value: number, unit: string): Claim => ({
  name,
  says,
  value,
  unit,
});

/** Latencies (ms) of each contender, one of each a round: what disturbs one disturbs all. */
async function interleaved<Name extends string>(
  contenders: Record<Name, () => Promise<unknown>>,
  rounds: number,
): Promise<Record<Name, number[]>> {
  const names = Object.keys(contenders) as Name[];
  const times = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>;
  for (let round = -Math.ceil(rounds / 5); round < rounds; round++) {
    for (const name of names) {
      const start = performance.now();
      await contenders[name]();
      if (round >= 0) times[name].push(performance.now() - start);
    }
  }
  return times;
}

/** How many times as many operations a second `one` does as `other`, 50 in flight. */
async function inFlight(operations: number, one: () => Promise<unknown>, other: () => Promise<unknown>) {
  const timed = async (operation: () => Promise<unknown>) => {
    let left = operations;
    const worker = async () => {
      while (left-- > 0) await operation();
    };
    const start = performance.now();
    await Promise.all(Array.from({ length: 50 }, worker));
    return performance.now() - start;
  };
  const ratios: number[] = [];
  for (let round = 0; round < 5; round++) {
    const first = await timed(one);
    ratios.push((await timed(other)) / first);
  }
  return median(ratios);
}
