import type { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { type Claim, defineMeasure, median } from '#claims';
import { SCHEMA } from '../../../course/kit/data/schema';
import { APPLIED_WRITES, STREAM, selectProduct, work } from './given';
import { createPendingWrites } from './pending-writes';

const PRODUCTS = 100;
const REFUSALS = 50;
const WAITING = 9_000;
const PENDING = 1_000;

type View = ReturnType<typeof createPendingWrites>;

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redis, db } = servers();
    const putBack = await ownProducts(db);
    try {
      const view = createPendingWrites({ redis, db, deadlineMs: 30_000 });
      const missed = await readsAfterWrites(redis, db, view, quick ? 100 : 1000);
      const refusals = await refuseBesideBacklog(redis, view, quick);
      const sizes = quick ? [0, PENDING] : [0, 10, 30, 100, 300, PENDING];
      const reads = await readsByPending(redis, view, sizes, quick ? 100 : 500);
      const [none = Number.NaN, most = Number.NaN] = [reads.get(0), reads.get(PENDING)];
      const beside = `${REFUSALS} refusals beside ${WAITING.toLocaleString('en')} waiting writes: time in which Redis answers nobody else`;
      const claims: Claim[] = [
        {
          name: 'missed-row',
          says: 'reads after an accepted write that do not show it, while the worker runs: the row in MySQL',
          value: missed.row,
          unit: '%',
        },
        {
          name: 'missed-view',
          says: 'reads after an accepted write that do not show it, while the worker runs: the view',
          value: missed.view,
          unit: '%',
          atMost: 0,
        },
        {
          name: 'refusals',
          says: `${beside}, by one field for each write`,
          value: refusals.fields,
          unit: 'ms',
          atMost: 50,
        },
        {
          name: 'read-many',
          says: `a read of a product with ${PENDING.toLocaleString('en')} pending writes against one with none, median`,
          value: most / none,
          unit: '×',
          atLeast: 2,
        },
      ];
      if (!quick) {
        claims.splice(3, 0, {
          name: 'walk',
          says: `${beside}, by a walk over the stream`,
          value: refusals.walk,
          unit: 'ms',
        });
      }
      const plot = {
        name: 'reads',
        title: 'Time of a read, by how many writes of the product are pending',
        x: { label: 'pending writes of the product', scale: 'log' as const },
        y: { label: 'ms, median', scale: 'log' as const },
        series: [{ name: 'read', points: [...reads].filter(([size]) => size > 0) }],
      };
      return { claims, plots: quick ? [] : [plot] };
    } finally {
      await putBack();
    }
  },
});

/** The large shop may be there and be wanted again by the next measure: it is put aside. */
async function ownProducts(db: Pool): Promise<() => Promise<void>> {
  const [there] = await db.query<RowDataPacket[]>("SHOW TABLES LIKE 'products'");
  if (there.length > 0) await db.query('RENAME TABLE products TO products_aside');
  await db.query(SCHEMA.products.create);
  await db.query(APPLIED_WRITES);
  const rows = Array.from({ length: PRODUCTS }, (_, at) => [at + 1, 'Mug', '10.00', 0, 1, new Date()]);
  await db.query('INSERT INTO products (id, name, price, stock, category_id, updated_at) VALUES ?', [rows]);
  return async () => {
    await db.query('DROP TABLE products, applied_writes');
    if (there.length > 0) await db.query('RENAME TABLE products_aside TO products');
  };
}

/** How many of the reads miss the write that was accepted right before, in percent. */
async function readsAfterWrites(redis: Redis, db: Pool, view: View, writes: number) {
  let isDone = false;
  const worker = (async () => {
    while (!isDone) await work(redis, db, view, 10);
  })();
  let [row, seen] = [0, 0];
  for (let stock = 1; stock <= writes; stock++) {
    const id = 1 + (stock % PRODUCTS);
    await view.accept(id, { stock });
    if ((await selectProduct(db, id))?.stock !== stock) row++;
    if ((await view.read(id))?.stock !== stock) seen++;
  }
  isDone = true;
  await worker;
  await work(redis, db, view);
  return { row: (100 * row) / writes, view: (100 * seen) / writes };
}

/** What a view costs that knows its pending writes only from the stream. */
const WALK = `
  for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do
    if entry[2][2] == ARGV[1] then redis.call('HSET', KEYS[2], entry[1], entry[2][4]) end
  end`;

/** Milliseconds that Redis spends in the scripts, as it counts them: median of the rounds. */
async function refuseBesideBacklog(redis: Redis, view: View, quick: boolean) {
  const accepted = Array.from({ length: WAITING }, (_, at) =>
    view.accept(1 + (at % PRODUCTS), { stock: at }),
  );
  await Promise.all(accepted);
  const [fields, walk]: number[][] = [[], []];
  for (let round = 0; round < 3; round++) {
    const entries = await redis.xrange(STREAM, '-', '+', 'COUNT', (round + 1) * REFUSALS);
    const writes = entries
      .slice(-REFUSALS)
      .map(([id, entry]) => ({ id, product: Number(entry[1]), changes: {} }));
    fields?.push(await scriptMs(redis, () => Promise.all(writes.map((write) => view.refused(write)))));
    if (quick) continue;
    walk?.push(
      await scriptMs(redis, () =>
        Promise.all(writes.map((w) => redis.eval(WALK, 2, STREAM, 'walk', w.product))),
      ),
    );
  }
  await redis.del(STREAM, 'walk', ...(await redis.keys('{products}:*')));
  return { fields: median(fields ?? []), walk: median(walk ?? []) };
}

async function scriptMs(redis: Redis, action: () => Promise<unknown>): Promise<number> {
  const spent = async () =>
    Number(/^cmdstat_eval:calls=\d+,usec=(\d+)/m.exec(await redis.info('commandstats'))?.[1] ?? 0);
  const before = await spent();
  await action();
  return ((await spent()) - before) / 1000;
}

/** Median milliseconds of a read by the number of pending writes. */
async function readsByPending(redis: Redis, view: View, sizes: readonly number[], times: number) {
  const medians = new Map<number, number>();
  for (const [at, size] of sizes.entries()) {
    const id = at + 1;
    await Promise.all(Array.from({ length: size }, (_, stock) => view.accept(id, { stock })));
    await view.read(id);
    const took: number[] = [];
    for (let time = 0; time < times; time++) {
      const start = performance.now();
      await view.read(id);
      took.push(performance.now() - start);
    }
    medians.set(size, median(took));
  }
  await redis.del(STREAM, ...(await redis.keys('{products}:*')));
  return medians;
}
