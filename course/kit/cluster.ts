import { Cluster, type ClusterOptions, Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, inject, onTestFinished } from 'vitest';
import { type RedisCluster, startCluster } from '../servers/cluster';
import { bringHome, homeOf, straySlots } from './cluster-slots';
import { type FaultyProxy, openProxy } from './proxy';
import { clearRequests, recordRequests } from './requests';

export interface LabCluster {
  /** A client of its own for each master, in the order of their slots: what one node holds, without redirects. */
  readonly nodes: readonly Redis[];
  /** A client of the whole cluster, ended with the test file. */
  connect(options?: ClusterOptions): Cluster;
  /** The same, with a faulty proxy before each master, in the order of `nodes`. Client and proxies end with the test. */
  connectThrough(options?: ClusterOptions): Promise<{ client: Cluster; proxies: readonly FaultyProxy[] }>;
  slotOf(key: string): Promise<number>;
  /** The index of the master that has the slot at the beginning of each test. */
  homeOf(slot: number): number;
  /** The slot is between two masters from now on: none of its keys has moved. Undone before the next test. */
  beginMove(slot: number, to: number): Promise<void>;
  /** Moves one key of a slot that is between two masters. */
  moveKey(key: string, to: number): Promise<void>;
  /** The slot is at its new master for every node. Undone before the next test. */
  endMove(slot: number, to: number): Promise<void>;
  /** From now on this master refuses every write with NOREPLICAS. Undone before the next test. */
  refuseWrites(index: number): Promise<void>;
}

const START_MS = 30_000;
const HOST = '127.0.0.1';
/** Above 0, a master without replicas refuses writes. */
const MIN_REPLICAS = 'min-replicas-to-write';

/**
 * A real Redis Cluster of three masters for one test file. Call it once, at the top. Before each test every node is
 * empty and every slot is at home. The runner keeps the cluster over saves; without it, it takes two seconds to form.
 */
export function useCluster(): LabCluster {
  recordRequests();
  let own: RedisCluster | undefined;
  let urls: readonly string[] = [];
  let nodes: readonly Redis[] = [];
  const clients: Cluster[] = [];
  const moved = new Set<number>();

  beforeAll(async () => {
    const all = inject('servers');
    const given = all[(Number(process.env.VITEST_POOL_ID ?? 1) - 1) % all.length]?.cluster;
    if (!given) own = await startCluster();
    urls = given ?? own?.nodes ?? [];
    nodes = urls.map((url) => new Redis(url));
    for (const slot of await straySlots(nodes)) moved.add(slot);
  }, START_MS);
  beforeEach(async () => {
    await Promise.all(nodes.map((node) => node.config('SET', MIN_REPLICAS, '0')));
    await Promise.all(nodes.map((node) => node.flushall()));
    for (const slot of moved) await bringHome(nodes, slot);
    moved.clear();
    clearRequests();
  });
  afterAll(async () => {
    for (const client of [...clients, ...nodes]) client.disconnect();
    await own?.close();
  });

  const connectTo = (ports: readonly number[], options: ClusterOptions = {}) => {
    const { password } = new URL(urls[0] ?? '');
    const homes = urls.map(portOf);
    const client = new Cluster(
      homes.map((port, index) => ({ host: HOST, port: ports[index] ?? port })),
      {
        // What a node says of the others goes through the proxies too.
        natMap: Object.fromEntries(
          homes.map((port, index) => [`${HOST}:${port}`, { host: HOST, port: ports[index] ?? port }]),
        ),
        ...options,
        redisOptions: { ...(password && { password }), ...options.redisOptions },
      },
    );
    // A lab cuts connections on purpose: an unheard error event would only print noise.
    client.on('error', () => {});
    clients.push(client);
    return client;
  };
  const node = (index: number): Redis => {
    const found = nodes[index];
    if (!found) throw new Error(`the cluster has no master ${index}`);
    return found;
  };
  const idOf = async (index: number) => String(await node(index).cluster('MYID'));

  return {
    get nodes() {
      return nodes;
    },
    connect: (options) => connectTo([], options),
    async connectThrough(options) {
      const proxies = await Promise.all(urls.map((url) => openProxy(url)));
      const client = connectTo(
        proxies.map(({ url }) => portOf(url)),
        options,
      );
      // Its proxies end with the test, and their ports may be those of other proxies soon.
      onTestFinished(() => client.disconnect());
      return { client, proxies };
    },
    slotOf: async (key) => Number(await node(0).cluster('KEYSLOT', key)),
    homeOf: (slot) => homeOf(slot, nodes.length),
    async beginMove(slot, to) {
      moved.add(slot);
      const from = homeOf(slot, nodes.length);
      await node(to).cluster('SETSLOT', slot, 'IMPORTING', await idOf(from));
      await node(from).cluster('SETSLOT', slot, 'MIGRATING', await idOf(to));
    },
    async moveKey(key, to) {
      const from = homeOf(Number(await node(0).cluster('KEYSLOT', key)), nodes.length);
      const { port, password } = new URL(urls[to] ?? '');
      const auth = password ? ['AUTH2', 'default', password] : [];
      await node(from).call('MIGRATE', HOST, port, '', '0', '5000', 'REPLACE', ...auth, 'KEYS', key);
    },
    async endMove(slot, to) {
      const id = await idOf(to);
      const order = [node(to), ...nodes.filter((_, index) => index !== to)];
      for (const member of order) await member.cluster('SETSLOT', slot, 'NODE', id);
    },
    async refuseWrites(index) {
      await node(index).config('SET', MIN_REPLICAS, '1');
    },
  };
}

const portOf = (url: string): number => Number(new URL(url).port);
