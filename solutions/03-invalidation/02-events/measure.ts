import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { type Claim, defineMeasure, forkScript, type MeasureServers, median, percentile } from '#claims';
import { startProxy } from '#kit/faulty-proxy';
import { seeded } from '#kit/random';
import {
  CREATE_OUTBOX,
  categoryKey,
  productKey,
  selectCategory,
} from '../../../labs/03-invalidation/02-events/given';
import { createCatalogue, createRelay, type Relay } from './events';

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers: opened }) {
    const servers = opened();
    await servers.loadShop();
    await servers.db.query(CREATE_OUTBOX);
    const claims: Claim[] = [];
    for (const measure of [killed, outage, latency, moved, beside]) {
      claims.push(...(await measure(servers, quick)));
      await servers.db.query('DELETE FROM outbox');
    }
    return { claims };
  },
});

const figure = (name: string, says: string, value: number, unit: string): Claim => ({
  name,
  says,
  value,
  unit,
});

const nothing = (name: string, says: string, value: number, unit: string): Claim => ({
  ...figure(name, says, value, unit),
  atMost: 0,
});

async function drain(relay: Relay, db: Pool, table = 'outbox'): Promise<void> {
  for (;;) {
    await relay.pass();
    const [[row]] = await db.query<RowDataPacket[]>('SELECT COUNT(*) AS left_over FROM ??', [table]);
    if (Number(row?.left_over) === 0) return;
  }
}

/** Requests of the lab's pass and the plain one. So each of their requests comes twice among 24 kills. */
const CYCLE = 11;

/** In waves: some processes pass at once, and each is killed before a request of its own. */
async function killed({ redis, db, redisUrl, mysqlUrl }: MeasureServers, quick: boolean): Promise<Claim[]> {
  const kills = quick ? 2 : 24;
  const atOnce = quick ? 2 : 4;
  const plainTable = 'outbox_plain';
  await db.query('DROP TABLE IF EXISTS ??', [plainTable]);
  await db.query('CREATE TABLE ?? LIKE outbox', [plainTable]);
  let emitted = 0;
  /** Each event has a key of its own, that Redis holds. */
  const emit = async (count: number) => {
    const numbers = Array.from({ length: count }, () => emitted++);
    for (const [table, prefix] of [
      ['outbox', 'killed'],
      [plainTable, 'plain'],
    ] as const) {
      await redis.mset(numbers.flatMap((n) => [`${prefix}:${n}`, 'old']));
      const rows = numbers.map((n) => [`${prefix}:${n}`]);
      await db.query('INSERT INTO ?? (cache_key) VALUES ?', [table, rows]);
    }
  };
  for (let killedSoFar = 0; killedSoFar < kills; killedSoFar += atOnce) {
    const doomed = await Promise.all(
      Array.from({ length: atOnce }, () => openDoomed({ redisUrl, mysqlUrl }, plainTable)),
    );
    await emit(150 * atOnce);
    await Promise.all(doomed.map((relay, n) => relay.runUntil(CYCLE + 1 + killedSoFar + n)));
  }
  await drain(createRelay({ redis, db }), db);
  // What is still in the other table waits for its relay. All else that Redis still holds is lost.
  const [pending] = await db.query<RowDataPacket[]>('SELECT cache_key FROM ??', [plainTable]);
  const keys = (prefix: string) => Array.from({ length: emitted }, (_, n) => `${prefix}:${n}`);
  const [left, plainLeft] = [await redis.exists(keys('killed')), await redis.exists(keys('plain'))];
  await redis.del([...keys('killed'), ...keys('plain')]);
  await db.query('DROP TABLE ??', [plainTable]);
  return [
    figure(
      'kills',
      'relays killed, before each of their requests in turn, four at work at once',
      kills,
      'kills',
    ),
    figure('killed-events', 'events that waited for these relays', emitted, 'events'),
    nothing(
      'killed-lost',
      'keys never deleted, by killed relays that delete the key, then the event',
      left,
      'keys',
    ),
    figure(
      'killed-lost-plain',
      'keys never deleted, by killed relays that delete the event, then the key',
      plainLeft - pending.length,
      'keys',
    ),
  ];
}

/** A process that passes until it is killed: just before one of its requests reaches a server. */
async function openDoomed(urls: { redisUrl: string; mysqlUrl: string }, plainTable: string) {
  const proxies = await Promise.all([startProxy(urls.redisUrl), startProxy(urls.mysqlUrl)]);
  const [redis, mysql] = proxies.map(({ url }) => url);
  const child = forkScript(join(import.meta.dirname, 'relay.ts'), [redis ?? '', mysql ?? '', plainTable]);
  await once(child, 'message');
  return {
    async runUntil(nth: number): Promise<void> {
      let sent = 0;
      const die = async () => {
        if (++sent !== nth) return;
        child.kill('SIGKILL');
        await Promise.all(proxies.map((proxy) => proxy.refuse()));
      };
      for (const proxy of proxies) proxy.schedule(die);
      const gone = once(child, 'exit');
      child.send('go');
      await gone;
      await Promise.all(proxies.map((proxy) => proxy.close()));
    },
  };
}

/** Updates go on while the relay cannot reach Redis. */
async function outage({ redis, db, redisUrl }: MeasureServers, quick: boolean): Promise<Claim[]> {
  const proxy = await startProxy(redisUrl);
  const far = new Redis(proxy.url, {
    commandTimeout: 200,
    enableOfflineQueue: false,
    retryStrategy: () => 20,
  });
  far.on('error', () => {});
  await once(far, 'ready');
  const catalogue = createCatalogue({ db, redis });
  const stop = new AbortController();
  const running = createRelay({ db, redis: far }).run(stop.signal);
  try {
    await proxy.refuse();
    const end = performance.now() + (quick ? 80 : 1500);
    let updates = 0;
    for (; performance.now() < end; updates++) await catalogue.update(1 + (updates % 100), { price: '9.90' });
    const [rows] = await db.query<RowDataPacket[]>('SELECT DISTINCT cache_key FROM outbox');
    const keys = rows.map((row) => String(row.cache_key));
    await redis.mset(keys.flatMap((key) => [key, 'old']));
    await proxy.heal();
    const healed = performance.now();
    for (let left = keys.length; left > 0; await sleep(2)) {
      const [[now]] = await db.query<RowDataPacket[]>('SELECT COUNT(*) AS n FROM outbox');
      left = Number(now?.n);
    }
    const caughtUp = performance.now() - healed;
    return [
      figure('outage-updates', 'updates while the relay could not reach Redis', updates, 'updates'),
      figure('outage-caught-up', 'Redis is back after 1.5 s: until the outbox is empty', caughtUp, 'ms'),
      nothing('outage-lost', 'old keys in Redis after that', await redis.exists(keys), 'keys'),
    ];
  } finally {
    stop.abort();
    await running;
    far.disconnect();
    await proxy.close();
  }
}

/** From the answer of an update to the moment at which Redis does not hold its key any more, by the relay's pause. */
async function latency({ redis, db }: MeasureServers, quick: boolean): Promise<Claim[]> {
  const catalogue = createCatalogue({ db, redis });
  const random = seeded(7);
  const claims: Claim[] = [];
  for (const pauseMs of quick ? [5] : [5, 20]) {
    const stop = new AbortController();
    const running = createRelay({ db, redis, pauseMs }).run(stop.signal);
    const taken: number[] = [];
    for (let n = 1; n <= (quick ? 12 : 150); n++) {
      await redis.set(productKey(n), 'old');
      await sleep(random() * 15);
      await catalogue.update(n, { price: '9.90' });
      const acknowledged = performance.now();
      while (await redis.exists(productKey(n)));
      taken.push(performance.now() - acknowledged);
    }
    const says = (part: string) => `commit to invalid, a relay that pauses ${pauseMs} ms: ${part}`;
    claims.push(
      figure(`latency-p50-${pauseMs}`, says('p50'), median(taken), 'ms'),
      figure(`latency-p99-${pauseMs}`, says('p99'), percentile(taken, 0.99), 'ms'),
    );
    stop.abort();
    await running;
  }
  return claims;
}

/** Products that move, with the lists of both categories cached: as a common version does it, and by the outbox. */
async function moved({ redis, db }: MeasureServers, quick: boolean): Promise<Claim[]> {
  const moves = quick ? 3 : 20;
  const catalogue = createCatalogue({ db, redis });
  const relay = createRelay({ db, redis });
  const asIsCommon = async (id: number, categoryId: number) => {
    await db.query('UPDATE products SET category_id = ? WHERE id = ?', [categoryId, id]);
    await redis.del(productKey(id));
    const [[product]] = await db.query<RowDataPacket[]>('SELECT category_id FROM products WHERE id = ?', [
      id,
    ]);
    await redis.del(categoryKey(product?.category_id));
  };
  const byTheOutbox = async (id: number, categoryId: number) => {
    await catalogue.update(id, { categoryId });
    await drain(relay, db);
  };
  const stale = { common: 0, outbox: 0 };
  for (const [who, move] of [
    ['common', asIsCommon],
    ['outbox', byTheOutbox],
  ] as const) {
    for (let n = 0; n < moves; n++) {
      const id = 3000 + n;
      const [left, entered] = [9001, 9002];
      await db.query('UPDATE products SET category_id = ? WHERE id = ?', [left, id]);
      await redis.del(categoryKey(left), categoryKey(entered));
      await catalogue.category(left);
      await catalogue.category(entered);
      await move(id, entered);
      const listed = (await catalogue.category(left)).some((product) => product.id === id);
      if (listed && !(await selectCategory(db, left)).some((product) => product.id === id)) stale[who]++;
    }
  }
  return [
    {
      ...figure(
        'moved-common',
        'moved products that their old list still shows, category read after the UPDATE',
        (100 * stale.common) / moves,
        '%',
      ),
      atLeast: 100,
    },
    nothing(
      'moved-outbox',
      'moved products that their old list still shows, by the outbox',
      (100 * stale.outbox) / moves,
      '%',
    ),
  ];
}

/** How long an update takes while a relay has claimed all events and waits for Redis. */
async function beside({ db, redis }: MeasureServers, quick: boolean): Promise<Claim[]> {
  const holdMs = 50;
  const catalogue = createCatalogue({ db, redis });
  const beside = async (isolation: string) => {
    await db.query('DELETE FROM outbox');
    await catalogue.update(1, { price: '9.90' });
    const relay = await db.getConnection();
    await relay.query(`SET TRANSACTION ISOLATION LEVEL ${isolation}`);
    await relay.beginTransaction();
    await relay.query('SELECT id FROM outbox ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED');
    const start = performance.now();
    const updating = catalogue.update(2, { price: '9.90' });
    await Promise.race([updating, sleep(holdMs)]);
    await relay.rollback();
    relay.release();
    await updating;
    return performance.now() - start;
  };
  const taken = { committed: [] as number[], repeatable: [] as number[] };
  for (let round = 0; round < (quick ? 2 : 9); round++) {
    taken.committed.push(await beside('READ COMMITTED'));
    taken.repeatable.push(await beside('REPEATABLE READ'));
  }
  return [
    figure(
      'beside-committed',
      `median of an update while a relay waits ${holdMs} ms for Redis, under READ COMMITTED`,
      median(taken.committed),
      'ms',
    ),
    figure(
      'beside-repeatable',
      `median of an update while a relay waits ${holdMs} ms for Redis, under REPEATABLE READ`,
      median(taken.repeatable),
      'ms',
    ),
    {
      ...figure(
        'beside-ratio',
        'an update beside a waiting relay: REPEATABLE READ against READ COMMITTED',
        median(taken.repeatable) / median(taken.committed),
        '×',
      ),
      atLeast: 2,
    },
  ];
}
