import { once } from 'node:events';
import { connect as connectSocket } from 'node:net';
import { Cluster, Redis } from 'ioredis';
import { type Claim, defineMeasure, median, redisVersion } from '#claims';
import { seeded } from '#kit/random';
import { startCluster } from '../../../course/servers/cluster';
import { baseKey, copyKey, slotMapOf, slotOf } from './given';
import { copyKeys, createDetector, createHotCache } from './hot-keys';

const CELEBRITY = 'celebrity';
const VALUE = Buffer.from('a page');
/** Nobody stores it. */
const ABSENT = 'absent-here';

export default defineMeasure({
  async run({ quick }) {
    const cluster = await startCluster();
    const { client, nodes, close } = connect(cluster.nodes);
    try {
      if (client.status !== 'ready') await once(client, 'ready');
      const reads = quick ? 1_500 : 30_000;
      const single = await skewOf(nodes, reads, await readerBy(client, 'single'));
      const copied = await skewOf(nodes, reads, await readerBy(client, 'copies'));
      const oneTag = await skewOf(nodes, reads, await readerOf(client, oneTagCopies));
      const asTheyCome = await skewOf(nodes, reads, await readerOf(client, copiesOnTwo(client)));
      const suffixes = await suffixesAsTheyCome(client, quick ? 500 : 5_000);
      const found = detection(quick ? 20_000 : 300_000);
      const stale = await staleReads(client, quick ? 60 : 600);
      const busiest =
        'reads of the busiest of three masters against the mean, 60 % of all reads for one key:';
      const claims: Claim[] = [
        { name: 'skew-single', says: `${busiest} one entry`, value: single, unit: '×', atLeast: 1.9 },
        {
          name: 'skew-copies',
          says: `${busiest} a copy on every master`,
          value: copied,
          unit: '×',
          atMost: 1.25,
        },
        {
          name: 'skew-tag',
          says: `${busiest} three copies with one hash tag`,
          value: oneTag,
          unit: '×',
          atLeast: 1.9,
        },
        {
          name: 'skew-two',
          says: `${busiest} three copies, two of them on one master`,
          value: asTheyCome,
          unit: '×',
          atLeast: 1.25,
        },
        {
          name: 'suffixes-missed',
          says: 'keys whose copies 0, 1 and 2 leave a master without one',
          value: suffixes.missed,
          unit: '%',
          atLeast: 35,
        },
        {
          name: 'suffixes-tried',
          says: 'suffixes that are looked at until each of three masters has a copy, mean',
          value: suffixes.tried,
          unit: 'suffixes',
        },
        {
          name: 'top-found',
          says: 'of the 10 keys read most, found by 100 counters',
          value: found.top,
          unit: '%',
          atLeast: 80,
        },
        {
          name: 'counters-share',
          says: 'keys that have a counter, of all keys that were read',
          value: found.kept,
          unit: '%',
          atMost: 5,
        },
        {
          name: 'hot-inherited',
          says: 'keys that a crawler reads once and that are held for hot: whole count, 100 counters, hotReads 100',
          value: found.inherited,
          unit: '%',
          atLeast: 50,
        },
        {
          name: 'hot-certain',
          says: 'keys that a crawler reads once and that are held for hot: count less error',
          value: found.certain,
          unit: '%',
          atMost: 0,
        },
        {
          name: 'stale-one',
          says: 'reads of the old value after an invalidation: base key and one copy deleted',
          value: stale.one,
          unit: '%',
          atLeast: 50,
        },
        {
          name: 'stale-all',
          says: 'reads of the old value after an invalidation: invalidate() of this lab',
          value: stale.all,
          unit: '%',
          atMost: 0,
        },
        ...(await monitored(urlOf(client.slots[slotOf(ABSENT)]?.[0], cluster.nodes), quick)),
      ];
      return {
        claims,
        plots: quick
          ? []
          : [
              {
                name: 'skew',
                title: 'Reads of the busiest of three masters, 60 % of all reads for one key',
                label: 'reads of the busiest master, against the mean (×)',
                bars: [
                  ['one entry', single],
                  ['three copies, one hash tag', oneTag],
                  ['three copies, two on one master', asTheyCome],
                  ['a copy on every master', copied],
                ] as const,
              },
            ],
        servers: [await redisVersion(nodes[0] ?? missing())],
      };
    } finally {
      close();
      await cluster.close();
    }
  },
});

function missing(): never {
  throw new Error('the cluster has no node');
}

function connect(urls: readonly string[]) {
  const { password } = new URL(urls[0] ?? '');
  const client = new Cluster(
    urls.map((url) => ({ host: '127.0.0.1', port: Number(new URL(url).port) })),
    { redisOptions: { password } },
  );
  const nodes = urls.map((url) => new Redis(url, { retryStrategy: null }));
  for (const each of [client, ...nodes]) each.on('error', () => {});
  return {
    client,
    nodes,
    close() {
      for (const each of [client, ...nodes]) each.disconnect();
    },
  };
}

type Read = (key: string) => Promise<unknown>;

/** Reads of a batch come from as many processes: those of one process would share a GET. */
const PROCESSES = 500;

/** Reads of the solution, with what it reads stored already. */
async function readerBy(client: Cluster, entries: 'single' | 'copies'): Promise<Read> {
  const isHot = (key: string) => entries === 'copies' && key === CELEBRITY;
  const options = { client, detector: { record() {}, isHot }, copyTtlMs: 60_000, deadlineMs: 5_000 };
  const processes = Array.from({ length: PROCESSES }, () => createHotCache(options));
  await fillOthers(client);
  const load = async () => VALUE;
  await processes[0]?.get(CELEBRITY, load);
  let turn = 0;
  return (key) => processes[turn++ % PROCESSES]?.get(key, load) ?? load();
}

/** Reads where the copies have other names. */
async function readerOf(client: Cluster, copies: readonly string[]): Promise<Read> {
  await fillOthers(client);
  for (const copy of copies) await client.set(copy, VALUE);
  return (key) =>
    client.getBuffer(
      key === CELEBRITY ? (copies[Math.floor(Math.random() * copies.length)] ?? '') : baseKey(key),
    );
}

const OTHERS = 3_000;

const fillOthers = async (client: Cluster) => {
  await Promise.all(Array.from({ length: OTHERS }, (_, id) => client.set(baseKey(`product ${id}`), VALUE)));
};

const oneTagCopies = [0, 1, 2].map((n) => `{${baseKey(CELEBRITY)}}:${n}`);

/** What three suffixes give in most cases. */
function copiesOnTwo(client: Cluster): string[] {
  const owner = (n: number) => client.slots[slotOf(copyKey(CELEBRITY, n))]?.[0];
  const all = Array.from({ length: 50 }, (_, n) => n);
  const same = all.find((n) => n > 0 && owner(n) === owner(0)) ?? 0;
  const other = all.find((n) => owner(n) !== owner(0)) ?? 0;
  return [0, same, other].map((n) => copyKey(CELEBRITY, n));
}

/** 60 % of the reads are for the celebrity, the others for all keys alike. As the masters count them. */
async function skewOf(nodes: readonly Redis[], reads: number, read: Read): Promise<number> {
  for (const node of nodes) await node.config('RESETSTAT');
  const random = seeded(6);
  for (let done = 0; done < reads; done += PROCESSES) {
    await Promise.all(
      Array.from({ length: PROCESSES }, () =>
        read(random() < 0.6 ? CELEBRITY : `product ${Math.floor(random() * OTHERS)}`),
      ),
    );
  }
  const calls = await Promise.all(
    nodes.map(async (node) =>
      Number(/cmdstat_get:calls=(\d+)/.exec(await node.info('commandstats'))?.[1] ?? 0),
    ),
  );
  for (const node of nodes) await node.flushall();
  return (calls.length * Math.max(...calls)) / calls.reduce((sum, each) => sum + each, 0);
}

async function suffixesAsTheyCome(client: Cluster, keys: number) {
  const map = await slotMapOf(client);
  const owner = (redisKey: string) => map.ownerOf(slotOf(redisKey));
  let [missed, tried] = [0, 0];
  for (let id = 0; id < keys; id++) {
    const key = `product ${id}`;
    if (new Set([0, 1, 2].map((n) => owner(copyKey(key, n)))).size < 3) missed++;
    tried += 1 + Math.max(...copyKeys(key, map).map((copy) => Number(copy.split(':').at(-1))));
  }
  return { missed: (100 * missed) / keys, tried: tried / keys };
}

/** A skewed stream of 5,000 keys; then a crawler that reads 20,000 others once. */
function detection(reads: number) {
  const detector = createDetector({ counters: 100, hotReads: 100, windowMs: 3_600_000 });
  const truth = new Map<string, number>();
  const random = seeded(46);
  for (let at = 0; at < reads; at++) {
    const key = `product ${Math.floor(5_000 * random() ** 6)}`;
    detector.record(key);
    truth.set(key, (truth.get(key) ?? 0) + 1);
  }
  const top = [...truth]
    .sort(([, a], [, b]) => b - a)
    .slice(0, 10)
    .map(([key]) => key);
  const seen = new Set(detector.top(10).map(({ key }) => key));
  let [inherited, certain] = [0, 0];
  const pages = 20_000;
  for (let at = 0; at < pages; at++) {
    const key = `page ${at}`;
    detector.record(key);
    if ((detector.top(100).find((counted) => counted.key === key)?.count ?? 0) >= 100) inherited++;
    if (detector.isHot(key)) certain++;
  }
  return {
    top: 10 * top.filter((key) => seen.has(key)).length,
    kept: 10_000 / truth.size,
    inherited: (100 * inherited) / pages,
    certain: (100 * certain) / pages,
  };
}

/** Each round: a hot key with its copies, an invalidation, a read by another process. */
async function staleReads(client: Cluster, rounds: number) {
  const detector = { record() {}, isHot: () => true };
  const options = { client, detector, copyTtlMs: 60_000, deadlineMs: 5_000 };
  const [writer, reader] = [createHotCache(options), createHotCache(options)];
  const old = { one: 0, all: 0 };
  for (let round = 0; round < rounds; round++) {
    for (const way of ['one', 'all'] as const) {
      const key = `${way} ${round}`;
      const copies = copyKeys(key, await slotMapOf(client));
      for (const redisKey of [baseKey(key), ...copies]) await client.set(redisKey, 'old');
      if (way === 'all') await writer.invalidate(key);
      else for (const redisKey of [baseKey(key), copies[0] ?? '']) await client.del(redisKey);
      if (String(await reader.get(key, async () => Buffer.from('new'))) === 'old') old[way]++;
    }
  }
  return { one: (100 * old.one) / rounds, all: (100 * old.all) / rounds };
}

const urlOf = (host: string | undefined, urls: readonly string[]): string =>
  urls.find((url) => new URL(url).host === host) ?? missing();

/** What one client with MONITOR costs the others: GETs in large pipelines, so that the server is the limit. */
async function monitored(url: string, quick: boolean): Promise<Claim[]> {
  const { port, password } = new URL(url);
  const open = async () => {
    const socket = connectSocket(Number(port), '127.0.0.1');
    socket.write(`AUTH ${password}\r\n`);
    await once(socket, 'data');
    return socket;
  };
  const [getter, watcher] = [await open(), await open()];
  const gets = 10_000;
  const batch = `GET ${ABSENT}\r\n`.repeat(gets);
  const run = () =>
    new Promise<number>((resolve, reject) => {
      const start = performance.now();
      let bytes = 0;
      const onData = (chunk: Buffer) => {
        // An error such as MOVED costs the server nothing, and MONITOR does not show it.
        if (chunk.includes('-MOVED')) reject(new Error('GET was sent to a master that does not own the key'));
        bytes += chunk.length;
        if (bytes < '$-1\r\n'.length * gets) return;
        getter.off('data', onData);
        resolve(performance.now() - start);
      };
      getter.on('data', onData);
      getter.write(batch);
    });
  const rounds = Array.from({ length: quick ? 5 : 25 });
  const medianOf = async () => {
    const runs: number[] = [];
    for (const _ of rounds) runs.push(await run());
    return median(runs);
  };
  try {
    await run();
    const alone = await medianOf();
    watcher.on('data', () => {});
    watcher.write('MONITOR\r\n');
    const watched = await medianOf();
    return [
      {
        name: 'monitor',
        says: 'GETs per second while one client runs MONITOR, against none',
        value: (100 * alone) / watched,
        unit: '%',
      },
    ];
  } finally {
    for (const socket of [getter, watcher]) socket.destroy();
  }
}
