import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster, Redis } from 'ioredis';
import { type Claim, defineMeasure, redisVersion } from '#claims';
import { startCluster } from '../../../course/servers/cluster';
import { clientOptions, PARTS, PREFIX, SLOTS } from './given';
import { createPageCache, partKey, skewOf, slotOf } from './redis-cluster';

export default defineMeasure({
  async run({ quick }) {
    const cluster = await startCluster({ replicas: 1, nodeTimeoutMs: 500 });
    const { client, nodes, close } = connect(cluster.nodes);
    try {
      const version = await versionOf(nodes);
      // Until it knows the slots, it takes the replicas for masters.
      if (client.status !== 'ready') await once(client, 'ready');
      const spread = await distribution(client, quick ? 500 : 3_000);
      const moves = keysMoved(quick ? 5_000 : 100_000);
      const falseMisses = await duringAMove(client, nodes, quick ? 10 : 100);
      const failover = await lostPrimary(client, nodes, quick ? 20 : 200);
      const added = 'keys that change their node when 10 nodes become 11:';
      const onSlot =
        'keys that exist and are answered as absent, in slots of which one of three keys has moved:';
      const claims: Claim[] = [
        {
          name: 'false-pipeline',
          says: `${onSlot} a pipeline of three GETs`,
          value: falseMisses.pipeline,
          unit: '%',
          atLeast: 60,
        },
        {
          name: 'false-cache',
          says: `${onSlot} read() of this lab`,
          value: falseMisses.cache,
          unit: '%',
          atMost: 0,
        },
        {
          name: 'undone-del',
          says: 'acknowledged deletes that a failover undoes: DEL, while the replica is not connected',
          value: failover.undone,
          unit: '%',
          atLeast: 100,
        },
        {
          name: 'undone-wait',
          says: 'acknowledged deletes that a failover undoes: DEL, and WAIT has counted one replica',
          value: failover.undoneConfirmed,
          unit: '%',
          atMost: 0,
        },
        {
          name: 'moved-slots',
          says: `${added} slots of Redis Cluster`,
          value: moves.slots,
          unit: '%',
          atMost: 12,
        },
        {
          name: 'moved-modulo',
          says: `${added} hash modulo nodes`,
          value: moves.modulo,
          unit: '%',
          atLeast: 80,
        },
        {
          name: 'moved-ring',
          says: `${added} ring, 160 points a node`,
          value: moves.ring,
          unit: '%',
          atMost: 20,
        },
        {
          name: 'ring-one',
          says: 'fullest of 11 nodes against the mean: ring, 1 point a node',
          value: moves.skewOne,
          unit: '×',
          atLeast: 1.5,
        },
        {
          name: 'ring-many',
          says: 'fullest of 11 nodes against the mean: ring, 160 points a node',
          value: moves.skewMany,
          unit: '×',
          atMost: 1.5,
        },
        {
          name: 'slots-skew',
          says: 'fullest of 11 nodes against the mean: slots of Redis Cluster',
          value: moves.skewSlots,
          unit: '×',
          atMost: 1.3,
        },
        {
          name: 'skew-tags',
          says: 'fullest of three masters against the mean: a hash tag for each product',
          value: spread.tags,
          unit: '×',
          atMost: 1.2,
        },
        {
          name: 'skew-one-tag',
          says: 'fullest of three masters against the mean: one hash tag for all products',
          value: spread.oneTag,
          unit: '×',
          atLeast: 2.9,
        },
        {
          name: 'stale-replica',
          says: 'reads of the replica that give the old value after the DEL was acknowledged, while it is not connected',
          value: failover.staleReads,
          unit: '%',
          atLeast: 100,
        },
        {
          name: 'confirmed',
          says: 'deletes that WAIT counts as confirmed while the replica is not connected',
          value: failover.confirmed,
          unit: '%',
          atMost: 0,
        },
      ];
      if (!quick) {
        claims.push({
          name: 'without-master',
          says: 'time from the end of a master to the first answer of its promoted replica, with a node timeout of 500 ms',
          value: failover.withoutMasterMs,
          unit: 'ms',
        });
      }
      return {
        claims,
        plots: quick
          ? []
          : [
              {
                name: 'moved',
                title: 'Keys that change their node when 10 nodes become 11',
                label: 'keys that change their node (%)',
                bars: [
                  ['hash modulo nodes', moves.modulo],
                  ['ring, 1 point a node', moves.ringOne],
                  ['ring, 160 points a node', moves.ring],
                  ['slots of Redis Cluster', moves.slots],
                ] as const,
              },
            ],
        servers: [version],
      };
    } finally {
      close();
      await cluster.close();
    }
  },
});

async function versionOf([first]: readonly Redis[]): Promise<string> {
  if (!first) throw new Error('the cluster has no node');
  return redisVersion(first);
}

function connect(urls: readonly string[]) {
  const { password } = new URL(urls[0] ?? '');
  const client = new Cluster(
    urls.map((url) => ({ host: '127.0.0.1', port: Number(new URL(url).port) })),
    { ...clientOptions, redisOptions: { ...clientOptions.redisOptions, password } },
  );
  const nodes = urls.map((url) => new Redis(url, { retryStrategy: null }));
  for (const one of [client, ...nodes]) one.on('error', () => {});
  const close = () => {
    for (const one of [client, ...nodes]) one.disconnect();
  };
  return { client, nodes, close };
}

/** Fills three masters with pages, then with pages that share one tag. */
async function distribution(client: Cluster, products: number) {
  const fill = async (keyOf: (id: number) => string) => {
    await Promise.all(client.nodes('master').map((node) => node.flushall()));
    const keys = Array.from({ length: products }, (_, id) => keyOf(id));
    for (let at = 0; at < keys.length; at += 1_000) {
      await Promise.all(keys.slice(at, at + 1_000).map((key) => client.set(key, 'x')));
    }
    return (await skewOf(client, 5_000)).ratio;
  };
  const tags = await fill((id) => partKey(String(id), 'price'));
  const oneTag = await fill((id) => `${PREFIX}{pages}:${id}:price`);
  await Promise.all(client.nodes('master').map((node) => node.flushall()));
  return { tags, oneTag };
}

/** Where a key is before and after an eleventh node, by each method; computed, no server needed. */
function keysMoved(count: number) {
  const keys = Array.from({ length: count }, (_, id) => partKey(String(id), 'price'));
  const hashes = keys.map(hash32);
  const share = (before: (at: number) => number, after: (at: number) => number) => {
    const loads = new Array<number>(11).fill(0);
    let moved = 0;
    for (let at = 0; at < count; at++) {
      const node = after(at);
      loads[node] = (loads[node] ?? 0) + 1;
      if (before(at) !== node) moved++;
    }
    return { moved: (100 * moved) / count, skew: (11 * Math.max(...loads)) / count };
  };
  const ringOf = (nodes: number, points: number) => {
    const ring = ringPoints(nodes, points);
    return (at: number) => nodeOnRing(ring, hashes[at] ?? 0);
  };
  const modulo = share(
    (at) => (hashes[at] ?? 0) % 10,
    (at) => (hashes[at] ?? 0) % 11,
  );
  const one = share(ringOf(10, 1), ringOf(11, 1));
  const many = share(ringOf(10, 160), ringOf(11, 160));
  const slots = keys.map(slotOf);
  const table = slotTables();
  const redis = share(
    (at) => table.before[slots[at] ?? 0] ?? 0,
    (at) => table.after[slots[at] ?? 0] ?? 0,
  );
  return {
    modulo: modulo.moved,
    ring: many.moved,
    ringOne: one.moved,
    slots: redis.moved,
    skewOne: one.skew,
    skewMany: many.skew,
    skewSlots: redis.skew,
  };
}

/** FNV-1a with a finalizer (the end of MurmurHash3): its high bits have to be good on a ring. */
function hash32(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

type Ring = readonly (readonly [point: number, node: number])[];

const ringPoints = (nodes: number, points: number): Ring =>
  Array.from({ length: nodes }, (_, node) =>
    Array.from({ length: points }, (_, point) => [hash32(`node ${node} point ${point}`), node] as const),
  )
    .flat()
    .sort(([a], [b]) => a - b);

/** The node of the first point at or after the hash. */
function nodeOnRing(ring: Ring, hash: number): number {
  let [low, high] = [0, ring.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ring[middle]?.[0] ?? 0) < hash) low = middle + 1;
    else high = middle;
  }
  return ring[low % ring.length]?.[1] ?? 0;
}

/** Ten masters with equal ranges; the eleventh takes an equal part of each. */
function slotTables() {
  const before = Array.from({ length: SLOTS }, (_, slot) => Math.floor((slot * 10) / SLOTS));
  const given = new Array<number>(10).fill(0);
  const each = Math.floor(SLOTS / 11 / 10);
  const after = before.map((node) => {
    if ((given[node] ?? 0) >= each) return node;
    given[node] = (given[node] ?? 0) + 1;
    return 10;
  });
  return { before, after };
}

/** Slots between two masters, one of three keys moved: how many keys that exist are answered as absent. */
async function duringAMove(client: Cluster, nodes: readonly Redis[], products: number) {
  const cache = createPageCache({ client, deadlineMs: 5_000 });
  let [pipeline, read] = [0, 0];
  for (let id = 0; id < products; id++) {
    const keys = PARTS.map((part) => partKey(String(id), part));
    await Promise.all(keys.map((key) => client.set(key, 'x')));
    const slot = slotOf(keys[0] ?? '');
    const at = Math.floor((slot * 3) / SLOTS);
    const [from, to] = [nodes[at], nodes[(at + 1) % 3]];
    if (!from || !to) continue;
    await to.cluster('SETSLOT', slot, 'IMPORTING', String(await from.cluster('MYID')));
    await from.cluster('SETSLOT', slot, 'MIGRATING', String(await to.cluster('MYID')));
    const { port, password } = to.options;
    await from.call(
      'MIGRATE',
      '127.0.0.1',
      String(port),
      '',
      '0',
      '5000',
      'AUTH',
      String(password),
      'KEYS',
      keys[0] ?? '',
    );
    const asked = client.pipeline();
    for (const key of keys) asked.get(key);
    pipeline += ((await asked.exec()) ?? []).filter(([error, value]) => !error && value === null).length;
    read += (await cache.read(keys)).filter(({ kind }) => kind === 'miss').length;
    await Promise.all(keys.map((key) => client.del(key)));
    await Promise.all([from, to].map((node) => node.cluster('SETSLOT', slot, 'STABLE')));
  }
  const share = (count: number) => (100 * count) / (PARTS.length * products);
  return { pipeline: share(pipeline), cache: share(read) };
}

const WAIT_MS = 100;

/**
 * A master deletes and acknowledges while the connection to its replica is broken, and the replica (stopped meanwhile)
 * cannot connect again. Then the master dies, and the replica is promoted.
 */
async function lostPrimary(client: Cluster, nodes: readonly Redis[], count: number) {
  const [primary, replica] = [nodes[0], nodes[3]];
  if (!primary || !replica) throw new Error('the cluster has no replica');
  const ids = Array.from({ length: 20 * count }, (_, id) => String(id)).filter(
    (id) => slotOf(partKey(id, 'price')) < SLOTS / 3 - 1,
  );
  const keys = ids.slice(0, 3 * count).map((id) => partKey(id, 'price'));
  const [plain, waited, early] = [keys.slice(0, count), keys.slice(count, 2 * count), keys.slice(2 * count)];
  await Promise.all(keys.map((key) => client.set(key, 'old')));
  await Promise.all(early.map((key) => primary.del(key)));
  if (Number(await primary.call('WAIT', '1', '5000')) < 1) throw new Error('the replica is not connected');
  const pid = async (node: Redis) => Number(/process_id:(\d+)/.exec(await node.info('server'))?.[1]);
  const [primaryPid, replicaPid] = [await pid(primary), await pid(replica)];

  let confirmed = 0;
  process.kill(replicaPid, 'SIGSTOP');
  try {
    // Without this, the deletes would wait in the buffer of the socket, and the replica would still get them.
    await primary.call('CLIENT', 'KILL', 'TYPE', 'replica');
    await Promise.all(plain.map((key) => primary.del(key)));
    await Promise.all(waited.map((key) => primary.del(key)));
    if (Number(await primary.call('WAIT', '1', String(WAIT_MS))) >= 1) confirmed = count;
    process.kill(primaryPid, 'SIGKILL');
  } finally {
    process.kill(replicaPid, 'SIGCONT');
  }
  const began = performance.now();
  await replica.readonly();
  const stale = await Promise.all(plain.map((key) => replica.get(key)));
  while (!/^role:master/m.test(await replica.info('replication'))) await sleep(10);
  const answered = async () => (await client.get(plain[0] ?? '').catch(() => undefined)) !== undefined;
  while (!(await answered())) await sleep(10);
  const withoutMasterMs = performance.now() - began;
  const shareOfOld = (values: readonly (string | null)[]) =>
    (100 * values.filter((value) => value === 'old').length) / values.length;
  const read = (some: readonly string[]) => Promise.all(some.map((key) => client.get(key)));
  return {
    undone: shareOfOld(await read(plain)),
    undoneConfirmed: shareOfOld(await read(early)),
    confirmed: (100 * confirmed) / count,
    staleReads: shareOfOld(stale),
    withoutMasterMs,
  };
}
