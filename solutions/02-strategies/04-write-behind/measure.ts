import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import {
  type Claim,
  defineMeasure,
  forkScript,
  type MeasureServers,
  median,
  type Plot,
  redisVersion,
} from '#claims';
import { seeded } from '#kit/random';
import { SCHEMA } from '../../../course/kit/data/schema';
import { startRedis } from '../../../course/servers/redis';
import { CREATE_APPLIED_WRITES, DEAD_LETTERS, GROUP, STREAM } from './given';
import { createWorker, createWriter, type Writer } from './write-behind';

const PRODUCTS = 1000;
/** Of so many, the busy ones of "coalesced". */
const BUSY = 20;

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const it = servers();
    const putBack = await ownProducts(it.db);
    try {
      const kills = quick ? 2 : 25;
      const killed = await killWorkers(it, kills);
      const rates = await drainRates(it, quick ? 3 : 7, quick ? 80 : 300);
      const durability = await appendOnly(quick ? 3 : 9, quick ? 15 : 60);
      const refusals = await refuseMany(it, quick ? 1 : 3);
      const claims: Claim[] = [
        {
          name: 'lost',
          says: 'products without their last acknowledged write, after the worker was killed again and again with SIGKILL at random moments',
          value: killed.lost,
          unit: 'products',
          atMost: 0,
        },
        { name: 'kills', says: 'how often the worker was killed with SIGKILL', value: kills, unit: 'kills' },
        {
          name: 'killed-writes',
          says: 'writes that were acknowledged meanwhile',
          value: killed.writes,
          unit: 'writes',
        },
        {
          name: 'midway',
          says: 'share of the kills that left a batch taken and unfinished',
          value: killed.midway,
          unit: '%',
        },
        {
          name: 'transaction',
          says: 'rows a second: UPDATEs in one transaction against a COMMIT for each',
          value: rates.each / rates.transaction,
          unit: '×',
          atLeast: 1.1,
        },
        {
          name: 'upsert',
          says: 'rows a second: one statement of many rows against one UPDATE and COMMIT each',
          value: rates.each / rates.upsert,
          unit: '×',
          atLeast: 3,
        },
        {
          name: 'batched',
          says: 'writes a second, all products different: the worker against one UPDATE and COMMIT each',
          value: rates.each / rates.batched,
          unit: '×',
          atLeast: 1.3,
        },
        {
          name: 'coalesced',
          says: `writes a second, of ${BUSY} products: the worker against one UPDATE and COMMIT each`,
          value: rates.each / rates.coalesced,
          unit: '×',
          atLeast: 1.5,
        },
        {
          name: 'update-rate',
          says: 'writes a second as one UPDATE and COMMIT each, one after the other',
          value: 1000 / rates.each,
          unit: 'writes/s',
        },
        {
          name: 'coalesced-rate',
          says: `writes a second that the worker commits, of ${BUSY} products`,
          value: 1000 / rates.coalesced,
          unit: 'writes/s',
        },
        {
          name: 'acknowledged',
          says: 'median time until the caller is answered: an UPDATE with its COMMIT against write()',
          value: rates.update / rates.write,
          unit: '×',
          atLeast: 0.3,
        },
        ...refusals,
        ...durability.claims,
      ];
      const plots = quick ? [] : [await byBatchSize(it)];
      return { claims, plots, servers: [durability.server] };
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
  await db.query(CREATE_APPLIED_WRITES);
  const rows = Array.from({ length: PRODUCTS }, (_, i) => [
    i + 1,
    `Product ${i + 1}`,
    '10.00',
    0,
    1,
    new Date(),
  ]);
  await db.query('INSERT INTO products (id, name, price, stock, category_id, updated_at) VALUES ?', [rows]);
  return async () => {
    await db.query('DROP TABLE products, applied_writes');
    if (there.length > 0) await db.query('RENAME TABLE products_aside TO products');
  };
}

/** Workers are killed one after the other, each some milliseconds into its work, while writes go on. */
async function killWorkers(servers: MeasureServers, kills: number) {
  const { redis, db } = servers;
  const random = seeded(24);
  const writer = createWriter({ redis, maxBacklog: 1_000_000, deadlineMs: 10_000 });
  const written = new Map<number, number>();
  // Two at a time: the next one loads while this one works.
  let next = startWorker(servers, 0);
  let midway = 0;
  for (let round = 0; round < kills; round++) {
    const worker = await next;
    if (round + 1 < kills) next = startWorker(servers, round + 1);
    for (let i = 0; i < 200; i++) {
      const id = 1 + Math.floor(random() * 40);
      const stock = (written.get(id) ?? 0) + 1;
      await writer.write(id, { stock });
      written.set(id, stock);
    }
    worker.send('work');
    // Some batches later, and some way into the next one.
    const target = (await redis.xlen(STREAM)) - 20 * Math.floor(1 + random() * 7);
    for (const end = Date.now() + 5000; (await redis.xlen(STREAM)) > target && Date.now() < end; )
      await sleep(1);
    await sleep(random() * 5);
    const gone = once(worker, 'exit');
    worker.kill('SIGKILL');
    await gone;
    const [pending] = (await redis.xpending(STREAM, GROUP).catch(() => [0])) as [number];
    if (pending > 0) midway += 1;
  }
  await drain(redis, db, 500);

  const [rows] = await db.query<RowDataPacket[]>('SELECT id, stock FROM products');
  const lost = rows.filter(({ id, stock }) => stock !== (written.get(Number(id)) ?? 0)).length;
  return { lost, writes: kills * 200, midway: (100 * midway) / kills };
}

async function startWorker({ redisUrl, mysqlUrl }: MeasureServers, nth: number): Promise<ChildProcess> {
  const script = join(import.meta.dirname, 'killed-worker.ts');
  const worker = forkScript(script, [redisUrl, mysqlUrl, `worker-${nth}`]);
  const ended = once(worker, 'exit').then(() => {
    throw new Error('the working process ended by itself');
  });
  ended.catch(() => {});
  await Promise.race([once(worker, 'message'), ended]);
  return worker;
}

const REFUSED = 50;

/** Writes that MySQL refuses: how long Redis is busy with the scripts, alone and beside a long backlog. */
async function refuseMany({ redis, db }: MeasureServers, rounds: number): Promise<Claim[]> {
  const busy: Record<number, number[]> = { 0: [], 9000: [] };
  const writer = createWriter({ redis, maxBacklog: 100_000, deadlineMs: 10_000 });
  for (let round = 0; round < rounds; round++) {
    for (const backlog of [0, 9000]) {
      await write(
        writer,
        Array.from({ length: REFUSED }, () => PRODUCTS + 1),
      );
      await write(
        writer,
        Array.from({ length: backlog }, (_, i) => 1 + (i % PRODUCTS)),
      );
      const before = await scriptMs(redis);
      const worker = createWorker({ redis, db, name: 'refuser', batchSize: REFUSED, claimIdleMs: 0 });
      await worker.step();
      busy[backlog]?.push((await scriptMs(redis)) - before);
      await redis.del(STREAM, DEAD_LETTERS);
    }
  }
  const [alone, beside] = [median(busy[0] ?? []), median(busy[9000] ?? [])];
  return [
    {
      name: 'refused-beside-backlog',
      says: `time that Redis spends on ${REFUSED} dead letters: beside 9,000 waiting writes against beside none`,
      value: beside / alone,
      unit: '×',
      atMost: 5,
    },
    {
      name: 'refused-ms',
      says: `time that Redis spends on ${REFUSED} dead letters beside 9,000 waiting writes`,
      value: beside,
      unit: 'ms',
    },
  ];
}

/** Of all scripts so far, as Redis counts it. */
async function scriptMs(redis: Redis): Promise<number> {
  const stats = await redis.info('commandstats');
  return Number(/^cmdstat_eval:.*?usec=(\d+)/m.exec(stats)?.[1] ?? 0) / 1000;
}

/** Milliseconds a write, medians over the rounds; `update` and `write` are what one caller waits. */
async function drainRates({ redis, db }: MeasureServers, rounds: number, writes: number) {
  const writer = createWriter({ redis, deadlineMs: 10_000 });
  const ids = Array.from({ length: writes }, (_, i) => 1 + (i % PRODUCTS));
  const took = { each: [], transaction: [], upsert: [], batched: [], coalesced: [], write: [] } as Record<
    'each' | 'transaction' | 'upsert' | 'batched' | 'coalesced' | 'write',
    number[]
  >;
  for (let round = 0; round < rounds; round++) {
    took.each.push(
      await timed(async () => {
        for (const id of ids)
          await db.execute('UPDATE products SET stock = ? WHERE id = ?', [round + id, id]);
      }),
    );
    took.transaction.push(
      await timed(async () => {
        const connection = await db.getConnection();
        await connection.beginTransaction();
        for (const id of ids) {
          await connection.execute('UPDATE products SET stock = ? WHERE id = ?', [round - id, id]);
        }
        await connection.commit();
        connection.release();
      }),
    );
    const values = ids.map((id) => [id, '', '10.00', round + 2 * id, 1, new Date()]);
    took.upsert.push(
      await timed(() =>
        db.query(
          `INSERT INTO products (id, name, price, stock, category_id, updated_at) VALUES ?
           ON DUPLICATE KEY UPDATE stock = VALUES(stock)`,
          [values],
        ),
      ),
    );
    took.write.push(
      await timed(async () => {
        for (const id of ids) await writer.write(id, { stock: round + 3 * id });
      }),
    );
    took.batched.push(await timed(() => drain(redis, db, writes)));
    await write(
      writer,
      ids.map((id) => 1 + (id % BUSY)),
    );
    took.coalesced.push(await timed(() => drain(redis, db, writes)));
  }
  const perWrite = (samples: readonly number[]) => median(samples) / writes;
  return {
    each: perWrite(took.each),
    transaction: perWrite(took.transaction),
    upsert: perWrite(took.upsert),
    batched: perWrite(took.batched),
    coalesced: perWrite(took.coalesced),
    write: perWrite(took.write),
    update: perWrite(took.each),
  };
}

/** What the append-only file costs a write, and what is left of the acknowledged writes when Redis is killed. */
async function appendOnly(rounds: number, writes: number) {
  const contenders = await Promise.all(
    Object.entries(SETTINGS).map(async ([name, settings]) => {
      const folder = await mkdtemp(join(tmpdir(), 'write-behind-'));
      const server = await startRedis({ ...settings, dir: folder });
      const redis = quiet(server.url);
      const pid = Number(/^process_id:(\d+)/m.exec(await redis.info('server'))?.[1]);
      const writer = createWriter({ redis, maxBacklog: 1_000_000, deadlineMs: 10_000 });
      return { name, settings, folder, server, redis, pid, writer, took: [] as number[] };
    }),
  );
  const version = contenders[0] ? await redisVersion(contenders[0].redis) : '';
  for (let round = 0; round < rounds; round++) {
    for (const { writer, took } of contenders) {
      took.push(
        await timed(async () => {
          for (let i = 0; i < writes; i++) await writer.write(1 + (i % PRODUCTS), { stock: i });
        }),
      );
    }
  }
  const gone = await Promise.all(
    contenders.map(async ({ name, settings, folder, server, redis, pid }) => {
      redis.disconnect();
      // Ours: started above.
      process.kill(pid, 'SIGKILL');
      await server.close();
      const second = await startRedis({ ...settings, dir: folder });
      const again = quiet(second.url);
      const kept = await again.xlen(STREAM);
      again.disconnect();
      await second.close();
      await rm(folder, { recursive: true, force: true });
      return {
        name: `killed-${name}`,
        says: `share of the acknowledged writes that are gone when Redis was killed and started again: ${NAMES[name]}`,
        value: 100 * (1 - kept / (rounds * writes)),
        unit: '%',
        // With everysec Redis may put the file's write off while an fsync runs, and answer all the same.
        ...(name === 'off' ? { atLeast: 100 } : { atMost: name === 'always' ? 0 : 20 }),
      };
    }),
  );
  const [off, ...files] = contenders.map(({ name, took }) => ({ name, ms: median(took) }));
  const costs = files.map(({ name, ms }) => ({
    name: `cost-${name}`,
    says: `time of a write(): ${NAMES[name]} against no append-only file`,
    value: ms / (off?.ms ?? Number.NaN),
    unit: '×',
  }));
  return { claims: [...gone, ...costs] as Claim[], server: version };
}

const SETTINGS: Record<string, Record<string, string>> = {
  off: { appendonly: 'no' },
  everysec: { appendonly: 'yes', appendfsync: 'everysec' },
  always: { appendonly: 'yes', appendfsync: 'always' },
};

const NAMES: Record<string, string> = {
  off: 'no append-only file',
  everysec: 'appendfsync everysec',
  always: 'appendfsync always',
};

function quiet(url: string): Redis {
  const redis = new Redis(url);
  redis.on('error', () => {});
  return redis;
}

/** How fast a worker is by the size of its batches. */
async function byBatchSize({ redis, db }: MeasureServers): Promise<Plot> {
  const writer = createWriter({ redis, deadlineMs: 10_000 });
  const points = async (products: number) => {
    const result: [number, number][] = [];
    for (const size of [1, 3, 10, 30, 100, 300, 1000]) {
      // A thousand commits take seconds, and each is like the next one.
      const writes = size < 10 ? 100 : 1000;
      const took: number[] = [];
      for (let round = 0; round < 2; round++) {
        await write(
          writer,
          Array.from({ length: writes }, (_, i) => 1 + (i % products)),
        );
        took.push(await timed(() => drain(redis, db, size)));
      }
      result.push([size, (1000 * writes) / median(took)]);
    }
    return result;
  };
  return {
    name: 'batch',
    title: 'Writes committed in a second, by how many a batch takes in.',
    x: { label: 'writes in a batch', scale: 'log' },
    y: { label: 'writes/s', scale: 'log' },
    series: [
      { name: 'all products different', points: await points(PRODUCTS) },
      { name: `${BUSY} products`, points: await points(BUSY) },
    ],
  };
}

async function drain(redis: Redis, db: Pool, batchSize: number): Promise<void> {
  const worker = createWorker({ redis, db, name: 'drain', batchSize, claimIdleMs: 0, deadlineMs: 10_000 });
  while ((await worker.step()) > 0);
}

const write = (writer: Writer, ids: readonly number[]) =>
  Promise.all(ids.map((id, i) => writer.write(id, { stock: i })));

async function timed(action: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await action();
  return performance.now() - start;
}
