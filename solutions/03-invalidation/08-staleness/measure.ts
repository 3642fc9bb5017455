import { type Bars, type Claim, defineMeasure, type Matrix } from '#claims';
import { SCHEMA } from '#kit/data/schema';
import { CREATE_OUTBOX } from '../../../labs/03-invalidation/02-events/given';
import { PRODUCTS, type Seen, type Servers, type Strategy, type Workload, watch } from './harness';
import { strategies } from './strategies';

const CALM_MS = 1200;
const OUTAGE_MS = 900;
const QUICK_MS = 150;

const CREATE_ARTICLES = `CREATE TABLE articles (
  id BIGINT UNSIGNED PRIMARY KEY, title VARCHAR(200) NOT NULL, version BIGINT UNSIGNED NOT NULL, deleted_at DATETIME(3) NULL)`;

interface Row {
  readonly strategy: Strategy;
  readonly calm: Seen;
  /** Left out of the quick mode. */
  readonly outage?: Seen;
}

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redis, db, redisUrl, mysqlUrl } = servers();
    await createTables({ redis, db });
    const run = (strategy: Strategy, workload: Pick<Workload, 'forMs' | 'outage'>) =>
      watch(strategy, { redis, db }, { redisUrl, mysqlUrl, ...workload });
    const rows: Row[] = [];
    for (const strategy of quick ? strategies.filter(isBounded) : strategies) {
      const calm = await run(strategy, { forMs: quick ? QUICK_MS : CALM_MS, outage: false });
      if (quick) rows.push({ strategy, calm });
      else rows.push({ strategy, calm, outage: await run(strategy, { forMs: OUTAGE_MS, outage: true }) });
    }
    return {
      claims: rows.flatMap(claimsOf),
      ...(!quick && { matrices: [shortMatrix(rows), fullMatrix(rows)], plots: [shares(rows)] }),
    };
  },
});

const isBounded = ({ staleShare }: Strategy): boolean => staleShare !== undefined;

function claimsOf({ strategy, calm, outage }: Row): Claim[] {
  const { id, name, staleShare } = strategy;
  return [
    { name: `${id}-stale`, says: `stale reads, ${name}`, value: calm.stale, unit: '%', ...staleShare },
    ...(outage
      ? [
          { name: `${id}-oldest`, says: `oldest stale read, ${name}`, value: calm.maxAgeMs, unit: 'ms' },
          {
            name: `${id}-oldest-outage`,
            says: `oldest stale read, ${name}, with Redis lost for ${OUTAGE_MS / 3} ms`,
            value: outage.maxAgeMs,
            unit: 'ms',
          },
        ]
      : []),
  ];
}

const ms = (value: number) => (value === 0 ? '–' : `${value.toFixed(0)} ms`);
const share = (value: number) => (value === 0 ? '0' : `${value.toFixed(value < 0.1 ? 2 : 1)} %`);

/** What a reader of the lesson compares first. */
const shortMatrix = (rows: readonly Row[]): Matrix => ({
  name: 'stale',
  columns: ['stale reads', 'oldest', 'oldest, Redis lost for a while'],
  rows: rows.map(({ strategy, calm, outage = calm }) => [
    strategy.name,
    share(calm.stale),
    ms(calm.maxAgeMs),
    ms(outage.maxAgeMs),
  ]),
});

const shares = (rows: readonly Row[]): Bars => ({
  name: 'shares',
  title: 'How many reads were stale, in one run of each strategy',
  label: 'stale reads, calm (%)',
  bars: rows.map(({ strategy, calm }) => [strategy.name, calm.stale]),
});

const fullMatrix = (rows: readonly Row[]): Matrix => ({
  name: 'cost',
  columns: [
    'what ends an old value',
    'age of stale reads, p99',
    'stale reads, Redis lost for a while',
    'SELECTs for 100 reads',
    'read, p99',
    'write, p99',
  ],
  rows: rows.map(({ strategy, calm, outage = calm }) => [
    strategy.name,
    strategy.bound,
    ms(calm.p99AgeMs),
    share(outage.stale),
    calm.queries.toFixed(0),
    ms(calm.p99LatencyMs),
    ms(calm.p99WriteMs),
  ]),
});

async function createTables({ db }: Servers): Promise<void> {
  await db.query(CREATE_OUTBOX);
  const ids = Array.from({ length: PRODUCTS }, (_, index) => index + 1);
  for (const table of ['products', 'users'] as const) {
    await db.query('DROP TABLE IF EXISTS ??', [table]);
    await db.query(SCHEMA[table].create);
  }
  await db.query('INSERT INTO products (id, name, price, stock, category_id, updated_at) VALUES ?', [
    ids.map((id) => [id, '1', '1.00', 1, 1, new Date()]),
  ]);
  await db.query('DROP TABLE IF EXISTS articles');
  await db.query(CREATE_ARTICLES);
  await db.query('INSERT INTO articles (id, title, version) VALUES ?', [ids.map((id) => [id, '1', 1])]);
  await db.query('INSERT INTO users (id, email, name, locale, created_at) VALUES ?', [
    ids.map((id) => [id, `${id}@example.org`, '1', 'en-GB', new Date()]),
  ]);
}
