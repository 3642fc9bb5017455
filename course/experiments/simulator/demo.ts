import { seeded } from '../../kit/random';
import { zipf } from '../../kit/workload';
import type { Input } from './input';

const REQUESTS = 300_000;
const PRODUCTS = 20_000;
/** A report reads this many products in order, of which most are hardly asked for otherwise … */
const REPORT = 8_000;
/** … and comes again after so many requests of readers. */
const BETWEEN_REPORTS = 25_000;
const CHUNK = 10_000;

/** For readers without a trace: a shop whose products are asked for by Zipf's law, and a report that scans them. */
export const demoInput = (): Input => ({ name: 'the demo', bytes: chunks() });

async function* chunks(): AsyncGenerator<Buffer> {
  let lines: string[] = [];
  for (const product of requests()) {
    lines.push(`product:${product}\n`);
    if (lines.length < CHUNK) continue;
    yield Buffer.from(lines.join(''));
    lines = [];
  }
  yield Buffer.from(lines.join(''));
}

function* requests(): Generator<number> {
  const popular = zipf({ n: PRODUCTS, skew: 0.9, random: seeded(6) });
  for (let made = 0; made < REQUESTS; made++) {
    if (made > 0 && made % BETWEEN_REPORTS === 0) {
      for (let product = PRODUCTS - REPORT; product < PRODUCTS; product++) yield product;
    }
    yield popular();
  }
}
