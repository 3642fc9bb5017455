import type { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { type Claim, defineMeasure, median } from '#claims';
import { type Contender, createBlob, loadPage } from './blob';
import { type Address, PARTS, type Part, TTL_MS } from './given';
import { createShop } from './product-page';

const SALES_A_MINUTE = [0, 1, 3, 6, 12, 30, 60];
/** What the page is in the claims: sold every ten seconds. */
const USUAL_SALES = 6;

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redis, db, loadShop } = servers();
    await loadShop();
    const at = await productOf(db);
    const parts = createShop({ redis, db });
    const blob = createBlob(redis, db);
    const bare = { page: (address: Address) => loadPage(db, address) };

    const times = await p50s([bare, parts, blob], at, quick ? 150 : 1500);
    const [none = Number.NaN, composed = Number.NaN, whole = Number.NaN] = times;

    const seconds = quick ? 60 : 300;
    const rates = quick ? [0, USUAL_SALES] : SALES_A_MINUTE;
    const points: { sales: number; parts: number; blob: number }[] = [];
    for (const sales of rates) {
      points.push({
        sales,
        parts: await selectsPerView(parts, { redis, db, at, seconds, sales }),
        blob: await selectsPerView(blob, { redis, db, at, seconds, sales }),
      });
    }
    const still = points.find(({ sales }) => sales === 0);
    const sold = points.find(({ sales }) => sales === USUAL_SALES);
    const [stillParts, stillBlob] = [still?.parts ?? Number.NaN, still?.blob ?? Number.NaN];
    const [soldParts, soldBlob] = [sold?.parts ?? Number.NaN, sold?.blob ?? Number.NaN];
    const oneView = 'SELECTs for 100 views, one a second';
    const claims: Claim[] = [
      {
        name: 'ratio',
        says: `${oneView}: one blob against parts`,
        value: stillBlob / stillParts,
        unit: '×',
        atLeast: 3,
      },
      {
        name: 'sold-ratio',
        says: `${oneView}, and a sale every 10 s: one blob against parts`,
        value: soldBlob / soldParts,
        unit: '×',
        atLeast: 3,
      },
      {
        name: 'model-ratio',
        says: `${oneView}: parts, measured against the model (the sum of 1 / TTL)`,
        value: stillParts / modelParts(seconds),
        unit: '×',
        atLeast: 0.8,
        atMost: 1.25,
      },
      {
        name: 'none-vs-parts',
        says: 'time of a view: five queries at once against parts from Redis, p50',
        value: none / composed,
        unit: '×',
        atLeast: 1.2,
      },
      {
        name: 'parts-vs-blob',
        says: 'time of a view: parts from Redis against one blob from Redis, p50',
        value: composed / whole,
        unit: '×',
        atMost: 5,
      },
      { name: 'parts', says: `${oneView}: parts`, value: 100 * stillParts, unit: 'SELECTs' },
      { name: 'blob', says: `${oneView}: one blob`, value: 100 * stillBlob, unit: 'SELECTs' },
      {
        name: 'sold-parts',
        says: `${oneView}, and a sale every 10 s: parts`,
        value: 100 * soldParts,
        unit: 'SELECTs',
      },
      {
        name: 'sold-blob',
        says: `${oneView}, and a sale every 10 s: one blob`,
        value: 100 * soldBlob,
        unit: 'SELECTs',
      },
      { name: 'none-p50', says: 'time of a view: five queries at once, p50', value: 1000 * none, unit: 'µs' },
      {
        name: 'parts-p50',
        says: 'time of a view: parts from Redis, p50',
        value: 1000 * composed,
        unit: 'µs',
      },
      { name: 'blob-p50', says: 'time of a view: one blob from Redis, p50', value: 1000 * whole, unit: 'µs' },
    ];
    return {
      claims,
      plots: quick
        ? []
        : [
            {
              name: 'sales',
              title: 'SELECTs for 100 views of a page, one view a second, by how often the product is sold',
              x: { label: 'sales a minute', scale: 'linear' },
              y: { label: 'SELECTs for 100 views', scale: 'linear' },
              series: [
                { name: 'no cache', points: points.map(({ sales }) => [sales, 100 * PARTS.length] as const) },
                {
                  name: 'one blob',
                  points: points.map(({ sales, blob: each }) => [sales, 100 * each] as const),
                },
                {
                  name: 'parts',
                  points: points.map(({ sales, parts: each }) => [sales, 100 * each] as const),
                },
              ],
            },
          ],
    };
  },
});

/** A product with stock for all sales, that few have viewed. */
async function productOf(db: Pool): Promise<Address> {
  const product = 7;
  await db.query('UPDATE products SET stock = 1000000, view_count = 0 WHERE id = ?', [product]);
  const [[row]] = await db.query<RowDataPacket[]>('SELECT category_id FROM products WHERE id = ?', [product]);
  return { product, category: row?.category_id };
}

/** The median time of a view (ms), warm, the contenders in turn. */
async function p50s(
  contenders: readonly Pick<Contender, 'page'>[],
  at: Address,
  views: number,
): Promise<number[]> {
  for (const { page } of contenders) await page(at);
  const samples = contenders.map((): number[] => []);
  for (let view = 0; view < views; view++) {
    for (const [i, { page }] of contenders.entries()) {
      const start = performance.now();
      await page(at);
      samples[i]?.push(performance.now() - start);
    }
  }
  return samples.map(median);
}

/** Makes all entries a second older. */
const AGE = `
  for _, key in ipairs(redis.call('KEYS', '*:*')) do
    local left = redis.call('PTTL', key)
    if left > 1000 then redis.call('PEXPIRE', key, left - 1000) elseif left >= 0 then redis.call('DEL', key) end
  end`;

interface Run {
  readonly redis: Redis;
  readonly db: Pool;
  readonly at: Address;
  readonly seconds: number;
  /** A minute. */
  readonly sales: number;
}

/** SELECTs for each view, as the server counts them: one view a second, from warm. The seconds pass at once. */
async function selectsPerView(contender: Contender, { redis, db, at, seconds, sales }: Run): Promise<number> {
  await redis.flushdb();
  await contender.page(at);
  const before = await selects(db);
  let due = 0;
  for (let second = 0; second < seconds; second++) {
    await redis.eval(AGE, 0);
    for (due += sales / 60; due >= 1 - 1e-9; due--) await contender.buy(at.product, 1);
    await contender.page(at);
  }
  return ((await selects(db)) - before) / seconds;
}

async function selects(db: Pool): Promise<number> {
  const [[row]] = await db.query<RowDataPacket[]>("SHOW GLOBAL STATUS LIKE 'Com_select'");
  return Number(row?.Value);
}

/** At one view a second: a part is loaded once in each TTL. */
function modelParts(seconds: number): number {
  const loads = (part: Part) => Math.floor((seconds * 1000) / TTL_MS[part]);
  return PARTS.reduce((sum, part) => sum + loads(part), 0) / seconds;
}
