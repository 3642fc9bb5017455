import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import * as starter from './starter';

/** One caller, no fault: such a test most of us would write for each program. True where the starter passes it. */
export async function plainTests(redis: Redis, subscriber: Redis, db: Pool): Promise<boolean[]> {
  const product = { id: 1, name: 'Mug', price: { cents: 1000, currency: 'EUR' }, badges: [] };
  const ann = { tenant: 'acme', userId: '1', name: 'Ann', locale: 'en' };
  const text = async () => 'text';
  const twice = async <T>(call: () => Promise<T>) => [await call(), await call()];

  const rates = new starter.ExchangeRates(async () => 1.25);
  const catalogue = new starter.Catalogue(async () => product);
  await starter.holdSeats(redis, 'ann', ['A1']);
  const near = new starter.NearPrices(redis, subscriber);
  await near.start();
  await starter.publishPrice(redis, 'mug', '10');
  const before = (await starter.priceOf(db, redis, 1)) ?? '';
  await starter.changePrice(db, redis, 1, '1.00', 1);
  const changed = await starter.priceOf(db, redis, 1);
  await starter.changePrice(db, redis, 1, before, 1);
  const results: readonly (readonly [seen: unknown, wanted: unknown])[] = [
    [await twice(() => starter.stockOf(redis, 1, async () => 7)), [7, 7]],
    [(await catalogue.offer(1, { isMember: true })).price.cents, 900],
    [await twice(() => rates.rateOf('SEK')), [1.25, 1.25]],
    [await twice(() => starter.accountPage(redis, ann, '/orders', text)), ['text', 'text']],
    [await starter.changeSeats(redis, 'ann', ['B1']), true],
    [await starter.allowCall(redis, 'ann'), true],
    [await twice(() => starter.runReport(redis, 'sales', text)), ['text', 'text']],
    [changed, '1.00'],
    [await twice(() => starter.brandPage(redis, 'fern', 'mug', text)), ['text', 'text']],
    [await twice(() => near.priceOf('mug')), ['10', '10']],
  ];
  return results.map(([seen, wanted]) => JSON.stringify(seen) === JSON.stringify(wanted));
}
