import type { ChildProcess } from 'node:child_process';
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
  createCatalogue,
  createListener,
  createRelay,
  productKey,
  type Relay,
  STREAM,
  selectCategory,
} from './events';

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers: opened }) {
    const servers = opened();
    await servers.loadShop();
    await servers.db.query(CREATE_OUTBOX);
    const claims: Claim[] = [];
    for (const measure of [killed, outage, latency, away, moved, beside]) {
      claims.push(...(await measure(servers, quick)));
      await servers.db.query('DELETE FROM outbox');
      await servers.redis.del(STREAM);
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

/** In waves: some processes pass at once, and each is killed at a moment of its own. */
async function killed({ redis, db, redisUrl, mysqlUrl }: MeasureServers, quick: boolean): Promise<Claim[]> {
  const kills = quick ? 2 : 50;
  const atOnce = quick ? 2 : 5;
  const plain = { table: 'outbox_plain', stream: 'invalidations:plain' };
  const random = seeded(32);
  await db.query('DROP TABLE IF EXISTS ??', [plain.table]);
  await db.query('CREATE TABLE ?? LIKE outbox', [plain.table]);
  const emit = async (events: number) => {
    const rows = Array.from({ length: events }, () => {
      const product = Math.floor(random() * 20);
      return [`product:${product}`, `killed:${product}`];
    });
    for (const table of ['outbox', plain.table]) {
      await db.query('INSERT INTO ?? (entity, cache_key) VALUES ?', [table, rows]);
    }
    return events;
  };
  let emitted = 0;
  for (let killedSoFar = 0; killedSoFar < kills; killedSoFar += atOnce) {
    const children = Array.from({ length: atOnce }, () =>
      forkScript(join(import.meta.dirname, 'relay.ts'), [redisUrl, mysqlUrl, plain.table, plain.stream]),
    );
    try {
      await Promise.all(children.map((child) => once(child, 'message')));
      emitted += await emit(150 * atOnce);
      for (const child of children) child.send('go');
      await Promise.all(children.map((child) => killAfter(child, 20 + 60 * random())));
    } finally {
      for (const child of children) child.kill('SIGKILL');
    }
  }
  await drain(createRelay({ redis, db, streamMaxLen: 1_000_000 }), db);
  const [[left]] = await db.query<RowDataPacket[]>('SELECT COUNT(*) AS n FROM ??', [plain.table]);
  const plainIds = (await redis.xrange(plain.stream, '-', '+')).map(([, [, id]]) => id);
  const entries = (await redis.xrange(STREAM, '-', '+')).map(([, fields]) => ({
    id: Number(fields[1]),
    entity: String(fields[3]),
  }));
  const seen = new Set<number>();
  const newest = new Map<string, number>();
  let overtaken = 0;
  for (const { id, entity } of entries) {
    if (seen.has(id)) continue;
    seen.add(id);
    if (id < (newest.get(entity) ?? 0)) overtaken++;
    newest.set(entity, Math.max(id, newest.get(entity) ?? 0));
  }
  await redis.del(plain.stream);
  await db.query('DROP TABLE ??', [plain.table]);
  return [
    figure('kills', 'relays killed at random moments, several at work at once', kills, 'kills'),
    figure('killed-events', 'events that were waiting for them', emitted, 'events'),
    nothing('killed-lost', 'events lost', emitted - seen.size, 'events'),
    nothing('killed-order', 'events that overtook an earlier one of their product', overtaken, 'events'),
    figure('killed-twice', 'events that came a second time', entries.length - seen.size, 'events'),
    figure(
      'killed-lost-plain',
      'the same kills, rows deleted before Redis is told: events lost',
      emitted - Number(left?.n) - new Set(plainIds).size,
      'events',
    ),
  ];
}

async function killAfter(child: ChildProcess, ms: number): Promise<void> {
  await sleep(ms);
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
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
    const [[row]] = await db.query<RowDataPacket[]>('SELECT COUNT(*) AS n FROM outbox');
    const waited = Number(row?.n);
    await proxy.heal();
    const healed = performance.now();
    for (let left = waited; left > 0; await sleep(2)) {
      const [[now]] = await db.query<RowDataPacket[]>('SELECT COUNT(*) AS n FROM outbox');
      left = Number(now?.n);
    }
    const caughtUp = performance.now() - healed;
    const ids = (await redis.xrange(STREAM, '-', '+')).map(([, fields]) => fields[1]);
    return [
      figure('outage-updates', 'updates while Redis was away', updates, 'updates'),
      figure('outage-caught-up', 'Redis is back: until the outbox is empty', caughtUp, 'ms'),
      nothing('outage-lost', 'of their events, lost', waited - new Set(ids).size, 'events'),
    ];
  } finally {
    stop.abort();
    await running;
    far.disconnect();
    await proxy.close();
  }
}

/** From the answer of an update to the moment at which a listener has heard of its key, by the relay's pause. */
async function latency({ redis, db, redisUrl }: MeasureServers, quick: boolean): Promise<Claim[]> {
  const catalogue = createCatalogue({ db, redis });
  const random = seeded(7);
  const claims: Claim[] = [];
  for (const pauseMs of quick ? [5] : [5, 20, 100]) {
    await redis.del(STREAM);
    const hears = new Redis(redisUrl);
    const heard = new Map<string, number>();
    const listener = createListener({
      redis: hears,
      apply: (key) => heard.set(key, performance.now()),
      clear: () => heard.clear(),
    });
    const stop = new AbortController();
    const running = [createRelay({ db, redis, pauseMs }).run(stop.signal)];
    await catalogue.update(2000, { price: '1.00' });
    for (let known = 0; known === 0; ) known = await listener.poll(50);
    running.push(listener.run(stop.signal));
    const acknowledged = new Map<string, number>();
    for (let n = 1; n <= (quick ? 12 : 150); n++) {
      await catalogue.update(n, { price: '9.90' });
      acknowledged.set(productKey(n), performance.now());
      await sleep(random() * 15);
    }
    while ([...acknowledged.keys()].some((key) => !heard.has(key))) await sleep(2);
    const taken = [...acknowledged].map(([key, at]) => Math.max(0, (heard.get(key) ?? 0) - at));
    claims.push(
      figure(
        `latency-p50-${pauseMs}`,
        `commit to invalid, a relay that pauses ${pauseMs} ms: p50`,
        median(taken),
        'ms',
      ),
      figure(`latency-p99-${pauseMs}`, 'the same: p99', percentile(taken, 0.99), 'ms'),
    );
    stop.abort();
    await Promise.all(running);
    hears.disconnect();
  }
  return claims;
}

/** Two listeners that are away for the middle third of the events. */
async function away({ redis, db, redisUrl }: MeasureServers, quick: boolean): Promise<Claim[]> {
  const third = quick ? 50 : 300;
  const subscriber = new Redis(redisUrl, { lazyConnect: true });
  const channel = 'invalidated';
  const byPubSub = new Set<string>();
  subscriber.on('message', (_channel, key) => byPubSub.add(key));
  const byStream = new Set<string>();
  const reader = redis.duplicate();
  let clears = 0;
  const listener = createListener({
    redis: reader,
    apply: (key) => byStream.add(key),
    clear: () => clears++,
  });
  const relay = createRelay({ db, redis });
  const emit = async (part: string) => {
    const keys = Array.from({ length: third }, (_, n) => `away:${part}:${n}`);
    await db.query('INSERT INTO outbox (entity, cache_key) VALUES ?', [
      keys.map((key) => ['product:1', key]),
    ]);
    await drain(relay, db);
    for (const key of keys) await redis.publish(channel, key);
  };
  const poll = async () => {
    while ((await listener.poll()) > 0);
  };
  await emit('before');
  await poll();
  clears = 0;
  await subscriber.connect();
  await subscriber.subscribe(channel);
  await emit('first');
  await poll();
  subscriber.disconnect();
  await emit('second');
  await subscriber.connect();
  await subscriber.subscribe(channel);
  await emit('third');
  await poll();
  await subscriber.ping();
  subscriber.disconnect();
  reader.disconnect();
  const share = (heard: Set<string>) => (100 * (3 * third - heard.size)) / (3 * third);
  return [
    {
      ...figure(
        'away-pubsub',
        'a Pub/Sub listener, away for a third of the events: share lost',
        share(byPubSub),
        '%',
      ),
      atLeast: 30,
    },
    nothing(
      'away-stream',
      'a listener of the stream, away for the same third: share lost',
      share(byStream),
      '%',
    ),
    nothing('away-clears', 'how often it had to clear everything', clears, 'times'),
  ];
}

/** Products that move, with the lists of both categories cached: as the guide does it, and by the outbox. */
async function moved({ redis, db }: MeasureServers, quick: boolean): Promise<Claim[]> {
  const moves = quick ? 3 : 20;
  const catalogue = createCatalogue({ db, redis });
  const relay = createRelay({ db, redis });
  let receivers = 0;
  const asTheGuideDoes = async (id: number, categoryId: number) => {
    await db.query('UPDATE products SET category_id = ? WHERE id = ?', [categoryId, id]);
    await redis.del(productKey(id));
    const [[product]] = await db.query<RowDataPacket[]>('SELECT category_id FROM products WHERE id = ?', [
      id,
    ]);
    await redis.del(categoryKey(product?.category_id));
    receivers += await redis.publish('product:updated', String(id));
  };
  const byTheOutbox = async (id: number, categoryId: number) => {
    await catalogue.update(id, { categoryId });
    await drain(relay, db);
  };
  const stale = { guide: 0, outbox: 0 };
  for (const [who, move] of [
    ['guide', asTheGuideDoes],
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
        'moved-guide',
        "products that were moved by the guide's code: still in the list they left",
        (100 * stale.guide) / moves,
        '%',
      ),
      atLeast: 100,
    },
    nothing('moved-outbox', 'the same, by the outbox', (100 * stale.outbox) / moves, '%'),
    figure('guide-receivers', "receivers of the guide's PUBLISH", receivers, 'receivers'),
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
      `an update while a relay holds its claim for ${holdMs} ms, READ COMMITTED: p50`,
      median(taken.committed),
      'ms',
    ),
    figure('beside-repeatable', 'the same, a claim under REPEATABLE READ', median(taken.repeatable), 'ms'),
    {
      ...figure(
        'beside-ratio',
        'the second against the first',
        median(taken.repeatable) / median(taken.committed),
        '×',
      ),
      atLeast: 2,
    },
  ];
}
