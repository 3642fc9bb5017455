import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { defineMeasure, median } from '#claims';
import { Bloom, bestHashes, type Shape, theory } from './bloom';
import { createVouchers as createCore } from './core';
import { BITS_PER_CODE, CAPACITY, CREATE_VOUCHERS, FILTER_KEY, HASHES, hash } from './given';
import { createVouchers, type Vouchers } from './penetration';

const BITS = [4, 6, 8, 10, 12, 14, 16];
/** No deadline that a busy machine can miss. */
const PATIENT_MS = 20_000;

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redis, db } = servers();
    const size = quick
      ? { codes: 4000, probes: 10_000, finds: 600 }
      : { codes: 20_000, probes: 100_000, finds: 3000 };
    const entered = hashes('IN', size.codes);
    const others = hashes('OUT', size.probes);
    const rates = (bitsPerCode: number, shape: Omit<Shape, 'bits'>) =>
      ratesOf({ ...shape, bits: Math.round(size.codes * bitsPerCode) }, entered, others);
    const curve = (hashesFor: (bits: number) => number) =>
      BITS.map((bits) => [bits, rates(bits, { hashes: hashesFor(bits) }).passed] as const);

    const filter = rates(BITS_PER_CODE, { hashes: HASHES });
    const signed = rates(BITS_PER_CODE, { hashes: HASHES, signed: true });
    const live = await againstBots(redis, db, size.finds);
    const cost = await costs(redis, quick ? 100 : 3000);
    return {
      claims: [
        {
          name: 'negatives-only',
          says: 'random codes that reach MySQL: absences are cached, without a filter',
          value: live.negativesOnly,
          unit: '%',
          atLeast: 90,
        },
        {
          name: 'with-filter',
          says: 'random codes that reach MySQL: the filter of this lab',
          value: live.withFilter,
          unit: '%',
          atMost: 2.5,
        },
        {
          name: 'bytes',
          says: 'memory of one absence under a key of its own, against one code in the filter',
          value: live.bytes,
          unit: '×',
          atLeast: 10,
        },
        {
          name: 'fp10',
          says: 'random codes that pass a filter of 10 bits for each code, 7 hashes',
          value: filter.passed,
          unit: '%',
          atLeast: 0.4,
          atMost: 1.4,
        },
        {
          name: 'one-hash',
          says: 'random codes that pass a filter of 10 bits for each code, one hash',
          value: rates(BITS_PER_CODE, { hashes: 1 }).passed,
          unit: '%',
          atLeast: 7,
        },
        {
          name: 'lost',
          says: 'codes in the filter that it calls absent',
          value: filter.lost,
          unit: '%',
          atMost: 0,
        },
        {
          name: 'signed-lost',
          says: 'codes in the filter that it calls absent, with signed positions',
          value: signed.lost,
          unit: '%',
          atLeast: 10,
        },
        {
          name: 'signed-passed',
          says: 'random codes that pass a filter with signed positions',
          value: signed.passed,
          unit: '%',
        },
        {
          name: 'overfull',
          says: 'random codes that pass a filter with three times the codes that it was planned for',
          value: rates(BITS_PER_CODE / 3, { hashes: HASHES }).passed,
          unit: '%',
          atLeast: 20,
        },
        {
          name: 'bitfield',
          says: 'time of one BITFIELD_RO with eight bits against a GET: median',
          value: cost.bitfield,
          unit: '×',
        },
        {
          name: 'getbits',
          says: 'time of eight GETBITs in a pipeline against a GET: median',
          value: cost.getbits,
          unit: '×',
        },
      ],
      plots: [
        {
          name: 'rate',
          title: 'Random codes that pass the filter, by its size',
          x: { label: 'bits for each code', scale: 'linear' },
          y: { label: '% that pass', scale: 'log' },
          series: [
            { name: 'one hash', points: curve(() => 1) },
            { name: 'best number of hashes', points: curve(bestHashes) },
            {
              name: 'theory',
              points: BITS.map((bits) => [bits, 100 * theory(bits, bestHashes(bits))] as const),
            },
          ],
        },
      ],
    };
  },
});

const hashes = (prefix: string, count: number) =>
  Array.from({ length: count }, (_, nth) => hash(`${prefix}${nth}`));

/** Both in %: random codes that pass, and codes of the filter that do not. */
function ratesOf(shape: Shape, entered: readonly Buffer[], others: readonly Buffer[]) {
  const filter = new Bloom(shape);
  for (const each of entered) filter.add(each);
  const passing = (all: readonly Buffer[]) => all.filter((each) => filter.mayHave(each)).length / all.length;
  return { passed: 100 * passing(others), lost: 100 * (1 - passing(entered)) };
}

async function againstBots(redis: Redis, db: Pool, finds: number) {
  await db.query(CREATE_VOUCHERS);
  try {
    await db.query('DELETE FROM vouchers');
    await db.query('INSERT INTO vouchers (code, percent) VALUES ?', [
      Array.from({ length: CAPACITY }, (_, nth) => [`VOUCHER${nth}`, 10]),
    ]);
    const common = { redis, absentTtlMs: 600_000 };
    // No filter was built: the core version lets all codes pass.
    const negatives = countedPool(db);
    const core = createCore({ ...common, db: negatives.db });
    const negativesOnly = await shareOfSelects(core, negatives, finds);
    const bytes = Number(await redis.memory('USAGE', 'voucher:BOT1'));
    await redis.flushdb();

    const filtered = countedPool(db);
    const vouchers = createVouchers({ ...common, db: filtered.db, deadlineMs: PATIENT_MS });
    await vouchers.rebuild();
    const withFilter = await shareOfSelects(vouchers, filtered, finds);
    const filterBytes = Number(await redis.memory('USAGE', FILTER_KEY));
    return { negativesOnly, withFilter, bytes: bytes / (filterBytes / CAPACITY) };
  } finally {
    await db.query('DROP TABLE vouchers');
  }
}

/** @returns % of random codes for which a SELECT was sent */
async function shareOfSelects(
  vouchers: Pick<Vouchers, 'find'>,
  counted: { queries: number },
  finds: number,
): Promise<number> {
  counted.queries = 0;
  for (let from = 0; from < finds; from += 50) {
    await Promise.all(Array.from({ length: 50 }, (_, nth) => vouchers.find(`BOT${from + nth}`)));
  }
  return (100 * counted.queries) / finds;
}

function countedPool(pool: Pool) {
  const counted = { queries: 0, db: Object.create(pool) as Pool };
  counted.db.query = ((...query: Parameters<Pool['query']>) => {
    counted.queries++;
    return pool.query(...query);
  }) as Pool['query'];
  return counted;
}

async function costs(redis: Redis, times: number) {
  await redis.set('cost', 'A'.repeat(60));
  const positions = Array.from({ length: HASHES + 1 }, (_, nth) => nth * 997);
  const ways = {
    get: () => redis.get('cost'),
    bitfield: () =>
      redis.call('BITFIELD_RO', FILTER_KEY, ...positions.flatMap((position) => ['GET', 'u1', position])),
    getbits: () => {
      const pipeline = redis.pipeline();
      for (const position of positions) pipeline.getbit(FILTER_KEY, position);
      return pipeline.exec();
    },
  };
  const samples = { get: [] as number[], bitfield: [] as number[], getbits: [] as number[] };
  // In turn, so that a busy moment meets all of them.
  for (let nth = 0; nth < times; nth++) {
    for (const way of ['get', 'bitfield', 'getbits'] as const) {
      const start = performance.now();
      await ways[way]();
      samples[way].push(performance.now() - start);
    }
  }
  const get = median(samples.get);
  return { bitfield: median(samples.bitfield) / get, getbits: median(samples.getbits) / get };
}
