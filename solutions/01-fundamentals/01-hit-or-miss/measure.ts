import { type Claim, defineMeasure, median } from '#claims';
import { seeded } from '#kit/random';
import { profileKey } from './given';
import { createProfileCache } from './hit-or-miss';

const USERS = 2000;
const PRODUCTS = 10_000;
const TTL_MS = 60_000;

const HIT_RATES = [0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99];

const PROFILE = 'SELECT id, email, name, locale FROM users WHERE id = ?';

const BEST_SELLERS = `SELECT product_id, COUNT(*) AS sold, SUM(amount) AS revenue FROM events
  WHERE kind = 'purchase' GROUP BY product_id ORDER BY revenue DESC LIMIT 20`;

/** The five queries of a product page; each takes the product's id. */
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

    const { hit, miss } = cache.stats().latencies ?? {};
    const get = median(times.get);
    const profile: Cost = { bare: median(times.select), hit: hit?.p50Ms ?? 0, miss: miss?.p50Ms ?? 0 };
    const behind = (load: number[], read: number[], fill: number[]): Cost => ({
      bare: median(load),
      hit: median(read),
      miss: median(read) + median(load) + median(fill),
    });
    const wholePage = behind(times.page, times.pageGet, times.pageSet);
    const groupBy = behind(sellers, times.sellersGet, times.sellersSet);

    const claims: Claim[] = [
      {
        ...figure(
          'break-even-profile',
          'hit rate above which a cache of one row saves time',
          100 * breakEven(profile),
          '%',
        ),
        atLeast: 10,
      },
      {
        ...figure(
          'break-even-aggregate',
          'hit rate above which a cache of a GROUP BY over 200,000 rows saves time',
          100 * breakEven(groupBy),
          '%',
        ),
        atMost: 5,
      },
      {
        ...figure(
          'select-over-get',
          'a SELECT by primary key against a GET: median time',
          profile.bare / get,
          '×',
        ),
        atMost: 25,
      },
      {
        ...figure(
          'page-over-get',
          'a page of five queries against one GET of it: median time',
          wholePage.bare / wholePage.hit,
          '×',
        ),
        atLeast: 2,
      },
      {
        ...figure(
          'aggregate-over-get',
          'a GROUP BY over 200,000 rows against a GET of its result: median time',
          groupBy.bare / groupBy.hit,
          '×',
        ),
        atLeast: 40,
      },
      {
        ...figure(
          'half-over-99',
          'time that a cache of the GROUP BY saves at a hit rate of 50 %, against a cache of one row at 99 %',
          saved(groupBy, 0.5) / Math.abs(saved(profile, 0.99)),
          '×',
        ),
        atLeast: 10,
      },
      figure(
        'throughput',
        'GETs a second against SELECTs by primary key a second, 50 of them at once',
        throughput,
        '×',
      ),
      {
        ...figure(
          'top-keys',
          'requests for the most popular 1 % of 10,000 keys, under Zipf with skew 1',
          100 * shareOfTop(100, PRODUCTS),
          '%',
        ),
        atLeast: 50,
        atMost: 56,
      },
      figure('get-p50', 'a GET of one row: median time', get * 1000, 'µs'),
      figure('select-p50', 'a SELECT by primary key: median time', profile.bare * 1000, 'µs'),
      figure('aggregate-p50', 'a GROUP BY over 200,000 rows: median time', groupBy.bare, 'ms'),
    ];
    const relative = (of: Cost) =>
      HIT_RATES.map((rate) => [100 * rate, behindCache(of, rate) / of.bare] as const);
    return {
      claims,
      plots: [
        {
          name: 'hit-rate',
          title: 'Mean latency with a cache against without: it depends on what a miss costs',
          x: { label: 'hit rate (%)', scale: 'linear' },
          y: { label: 'mean latency / latency without a cache', scale: 'log' },
          series: [
            { name: 'no cache', points: HIT_RATES.map((rate) => [100 * rate, 1] as const) },
            { name: 'one row, through the lab', points: relative(profile) },
            { name: 'page of five queries', points: relative(wholePage) },
            { name: 'GROUP BY', points: relative(groupBy) },
          ],
        },
      ],
    };
  },
});

/** Under Zipf with skew 1 the key of rank r is asked for in proportion to 1 / r. */
function shareOfTop(top: number, keys: number): number {
  const harmonic = (n: number) =>
    Array.from({ length: n }, (_, rank) => 1 / (rank + 1)).reduce((a, b) => a + b);
  return harmonic(top) / harmonic(keys);
}

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
