import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { planFor, redisBinary } from './packages';
import { NO_REDIS, startRedis } from './redis';
import { freePort, PORT_TAKEN, ServerError } from './server';

/** Masters that share the slots evenly, in order: the first has slot 0. */
export interface RedisCluster {
  /** One URL a node, masters first. A client follows redirects to any of them on the loopback interface. */
  readonly nodes: readonly string[];
  close(): Promise<void>;
}

export interface ClusterPlan {
  readonly masters?: number;
  /** One for each master, where it is 1. */
  readonly replicas?: 0 | 1;
  /** After this, ms, a node that does not answer is held for lost. Default 1000. */
  readonly nodeTimeoutMs?: number;
}

export const SLOTS = 16_384;
const WHOLE_WITHIN_MS = 20_000;
/** Those of `docker compose --profile cluster up`. */
const COMPOSE_NODES = [17001, 17002, 17003].map((port) => `redis://127.0.0.1:${port}`);

/**
 * A Redis Cluster of our own: loopback, free ports, a random password, nothing on disk. Redis serves no slot for its
 * first two seconds. Where this machine has no redis-server, that of docker compose is used if it runs.
 * @throws {ServerError} where neither can be had
 */
export async function startCluster({
  masters = 3,
  replicas = 0,
  nodeTimeoutMs = 1000,
}: ClusterPlan = {}): Promise<RedisCluster> {
  if (!redisBinary()) return composeCluster();
  // One for all: a redirected client has no other.
  const password = randomBytes(12).toString('hex');
  const starting = Array.from({ length: masters * (1 + replicas) }, () => startNode(password, nodeTimeoutMs));
  const started = await Promise.allSettled(starting);
  const up = started.filter((node) => node.status === 'fulfilled').map(({ value }) => value);
  const close = async () => {
    await Promise.all(up.map((node) => node.close()));
  };
  try {
    for (const node of started) if (node.status === 'rejected') throw node.reason;
    await join(up, masters);
    return { nodes: up.map(({ url }) => url), close };
  } catch (error) {
    await close();
    throw error;
  }
}

interface Node {
  readonly url: string;
  readonly port: number;
  /** Where nodes talk to each other. */
  readonly bus: number;
  close(): Promise<void>;
}

async function startNode(password: string, nodeTimeoutMs: number, attempt = 1): Promise<Node> {
  // By default it is the port + 10000, which may be taken or above 65535.
  const bus = await freePort();
  try {
    const server = await startRedis({
      'cluster-enabled': 'yes',
      'cluster-port': String(bus),
      'cluster-node-timeout': String(nodeTimeoutMs),
      'cluster-announce-ip': '127.0.0.1',
      // A lost master costs its own slots only.
      'cluster-require-full-coverage': 'no',
      requirepass: password,
      masterauth: password,
    });
    return {
      url: `redis://default:${password}@127.0.0.1:${server.port}`,
      port: server.port,
      bus,
      close: server.close,
    };
  } catch (error) {
    // Another program, or another node, took the port of the bus between our look and the bind.
    if (attempt === 3 || !PORT_TAKEN.test(String(error))) throw error;
    return startNode(password, nodeTimeoutMs, attempt + 1);
  }
}

async function join(nodes: readonly Node[], masters: number): Promise<void> {
  const clients = nodes.map(({ url }) => new Redis(url));
  try {
    const [first, ...others] = clients;
    if (!first) return;
    await Promise.all(clients.map((client, index) => client.cluster('SET-CONFIG-EPOCH', index + 1)));
    await Promise.all(
      clients.slice(0, masters).map((client, index) => {
        const [from, to] = [share(index, masters), share(index + 1, masters) - 1];
        return client.cluster('ADDSLOTSRANGE', from, to);
      }),
    );
    for (const { port, bus } of nodes.slice(1)) await first.call('CLUSTER', 'MEET', '127.0.0.1', port, bus);
    await until(async () => (await Promise.all(clients.map(known))).every((count) => count === nodes.length));
    await Promise.all(
      others.slice(masters - 1).map(async (replica, index) => {
        const master = clients[index];
        if (master) await replica.cluster('REPLICATE', String(await master.cluster('MYID')));
      }),
    );
    await until(async () => (await Promise.all(clients.map(isWhole))).every(Boolean));
  } finally {
    for (const client of clients) client.disconnect();
  }
}

const share = (index: number, masters: number): number => Math.round((index * SLOTS) / masters);

const infoOf = async (client: Redis): Promise<string> => String(await client.cluster('INFO'));

const known = async (client: Redis): Promise<number> =>
  Number(/^cluster_known_nodes:(\d+)/m.exec(await infoOf(client))?.[1]);

const isWhole = async (client: Redis): Promise<boolean> => /^cluster_state:ok/m.test(await infoOf(client));

async function until(holds: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + WHOLE_WITHIN_MS;
  while (!(await holds())) {
    if (Date.now() > deadline) {
      throw new ServerError(`The Redis Cluster was not whole after ${WHOLE_WITHIN_MS / 1000} s. Try again.`);
    }
    await sleep(20);
  }
}

async function composeCluster(): Promise<RedisCluster> {
  const [url = ''] = COMPOSE_NODES;
  const client = new Redis(url, { retryStrategy: null, lazyConnect: true });
  client.on('error', () => {});
  try {
    await client.connect();
    if (await isWhole(client)) return { nodes: COMPOSE_NODES, close: async () => {} };
  } catch {
    // Told below.
  } finally {
    client.disconnect();
  }
  throw new ServerError(
    `${NO_REDIS} Install one (${planFor(['redis']).command}), or start a cluster in Docker:\n` +
      '  docker compose --profile cluster up --detach --wait',
  );
}
