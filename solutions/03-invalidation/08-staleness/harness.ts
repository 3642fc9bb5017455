import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { percentile } from '#claims';
import { startProxy } from '#kit/faulty-proxy';
import { openPool } from '#kit/pool';
import { seeded } from '#kit/random';
import { zipf } from '#kit/workload';
import { cacheClientOptions } from '../../02-strategies/01-cache-aside/cache-aside';

/** One application server: its own connections, its own objects, the same Redis and the same MySQL as the others. */
export interface Servers {
  readonly redis: Redis;
  readonly db: Pool;
}

export interface Application {
  /** @returns the version of the product that was read */
  read(id: number): Promise<number>;
  /** Commits `version` of the product. It is acknowledged when this resolves: a failure of the cache is not the writer's. */
  write(id: number, version: number): Promise<void>;
  close?(): void | Promise<void>;
}

export interface Strategy {
  readonly id: string;
  readonly name: string;
  /** What ends an old value when nothing else does. */
  readonly bound: string;
  /** What holds for the share of stale reads (%) wherever this runs. */
  readonly staleShare?: { readonly atLeast?: number; readonly atMost?: number };
  open(servers: Servers): Application;
}

/** What the readers of one strategy saw. */
export interface Seen {
  readonly reads: number;
  /** Reads that began when a newer version had been acknowledged, as a share of all. */
  readonly stale: number;
  /** How long before such a read the newer version had been acknowledged (ms). 0 when there was none. */
  readonly p99AgeMs: number;
  readonly maxAgeMs: number;
  /** SELECTs that reached MySQL for 100 reads. */
  readonly queries: number;
  readonly p99LatencyMs: number;
  readonly p99WriteMs: number;
}

export interface Workload {
  readonly redisUrl: string;
  readonly mysqlUrl: string;
  readonly forMs: number;
  /** In the middle third all that is sent to Redis is lost. */
  readonly outage: boolean;
}

export const PRODUCTS = 100;
const READERS = 10;
const WRITERS = 2;
const READ_PAUSE_MS = 4;
const WRITE_PAUSE_MS = 20;
/** The way to the servers, which loopback does not have. */
const REDIS_AWAY_MS = 1;
/** One application lies near to MySQL, one far: what the far one reads can be overtaken by what the near one writes. */
const MYSQL_AWAY_MS = [1, 20];

/** Lets two applications read and write the same products through a strategy, and sets each read against what had been acknowledged when it began. */
export async function watch(strategy: Strategy, admin: Servers, workload: Workload): Promise<Seen> {
  await reset(admin);
  const redisProxy = await startProxy(workload.redisUrl);
  const mysqlProxies = await Promise.all(MYSQL_AWAY_MS.map(() => startProxy(workload.mysqlUrl)));
  const servers = mysqlProxies.map((mysqlProxy) => ({
    redis: new Redis(redisProxy.url, cacheClientOptions()).on('error', () => {}),
    db: openPool(mysqlProxy.url, { connectionLimit: READERS + WRITERS }),
  }));
  await Promise.all(servers.map(({ redis, db }) => Promise.all([ready(redis), db.query('SELECT 1')])));
  redisProxy.delay(REDIS_AWAY_MS);
  for (const [index, ms] of MYSQL_AWAY_MS.entries()) mysqlProxies[index]?.delay(ms);

  const applications = servers.map((own) => strategy.open(own));
  const log = new Log();
  const before = await selects(admin.db);
  const end = performance.now() + workload.forMs;
  const goesOn = () => performance.now() < end;
  const work = applications.flatMap((application, index) => [
    ...Array.from({ length: READERS }, (_, n) => readOn(application, log, goesOn, 100 * index + n)),
    ...Array.from({ length: WRITERS }, (_, n) => writeOn(application, log, goesOn, 1000 + 100 * index + n)),
  ]);
  if (workload.outage) {
    await sleep(workload.forMs / 3);
    redisProxy.blackHole();
    await sleep(workload.forMs / 3);
    await redisProxy.heal();
    redisProxy.delay(REDIS_AWAY_MS);
  }
  await Promise.all(work);
  const queries = (await selects(admin.db)) - before;

  for (const application of applications) await application.close?.();
  for (const { redis } of servers) redis.disconnect();
  await Promise.all(servers.map(({ db }) => db.end()));
  await Promise.all([redisProxy, ...mysqlProxies].map((proxy) => proxy.close()));
  return log.seen(queries);
}

/** When each version of a product was acknowledged, and what the readers made of it. */
class Log {
  /** By product: the moment at which version 1, 2, 3… was acknowledged. */
  readonly #acknowledged = Array.from({ length: PRODUCTS + 1 }, () => [0]);
  readonly #writing = new Set<number>();
  readonly #ages: number[] = [];
  readonly #latencies: number[] = [];
  readonly #writes: number[] = [];

  /** Writes the product's next version, unless another writer is at it. */
  async write(id: number, application: Application): Promise<void> {
    if (this.#writing.has(id)) return;
    this.#writing.add(id);
    const began = performance.now();
    await application.write(id, this.#versions(id).length + 1);
    this.#versions(id).push(performance.now());
    this.#writes.push(performance.now() - began);
    this.#writing.delete(id);
  }

  // #region read
  async read(id: number, application: Application): Promise<void> {
    const began = performance.now();
    const newest = this.#versions(id).length;
    const version = await application.read(id);
    this.#latencies.push(performance.now() - began);
    // Index n holds version n + 1: the first that this reader should have seen and did not.
    if (version < newest) this.#ages.push(began - (this.#versions(id)[version] ?? began));
  }
  // #endregion

  seen(queries: number): Seen {
    const reads = this.#latencies.length;
    return {
      reads,
      stale: (100 * this.#ages.length) / reads,
      p99AgeMs: this.#ages.length > 0 ? percentile(this.#ages, 0.99) : 0,
      maxAgeMs: Math.max(0, ...this.#ages),
      queries: (100 * queries) / reads,
      p99LatencyMs: percentile(this.#latencies, 0.99),
      p99WriteMs: percentile(this.#writes, 0.99),
    };
  }

  #versions(id: number): number[] {
    const versions = this.#acknowledged[id];
    if (!versions) throw new RangeError(`no product ${id}`);
    return versions;
  }
}

async function readOn(
  application: Application,
  log: Log,
  goesOn: () => boolean,
  seed: number,
): Promise<void> {
  const random = seeded(seed);
  const rank = zipf({ n: PRODUCTS, skew: 1, random });
  while (goesOn()) {
    await log.read(rank() + 1, application);
    await sleep(2 * READ_PAUSE_MS * random());
  }
}

async function writeOn(
  application: Application,
  log: Log,
  goesOn: () => boolean,
  seed: number,
): Promise<void> {
  const random = seeded(seed);
  const rank = zipf({ n: PRODUCTS, skew: 1, random });
  while (goesOn()) {
    await log.write(rank() + 1, application);
    await sleep(2 * WRITE_PAUSE_MS * random());
  }
}

/** Whether or not its first attempt, on a busy machine, keeps to its own deadlines. */
const ready = (redis: Redis): Promise<void> => new Promise((resolve) => redis.once('ready', resolve));

async function reset({ redis, db }: Servers): Promise<void> {
  await redis.flushdb();
  await db.query("UPDATE products SET name = '1', price = 1, version = 1");
  await db.query("UPDATE articles SET title = '1', version = 1");
  await db.query("UPDATE users SET name = '1', version = 1");
}

async function selects(db: Pool): Promise<number> {
  const [rows] = await db.query<RowDataPacket[]>("SHOW GLOBAL STATUS LIKE 'Com_select'");
  return Number(rows[0]?.Value);
}
