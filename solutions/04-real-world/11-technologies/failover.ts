import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import type { Claim } from '#claims';
import { type FaultyProxy, startProxy } from '#kit/faulty-proxy';
import { redisBinary } from '../../../course/servers/packages';
import { startRedis } from '../../../course/servers/redis';
import { startPeer } from './peers';

const SYNC_WITHIN_MS = 10_000;
const DOWN_AFTER_MS = 1_000;

interface Pair {
  readonly master: Redis;
  readonly replica: Redis;
  /** Between the two. */
  readonly link: FaultyProxy;
  /** SIGKILL, as a crash. */
  kill(): Promise<void>;
}

/** A master and its replica, both ours; both end with `use`. */
async function withPair<T>(use: (pair: Pair) => Promise<T>, direct = false): Promise<T> {
  const open: (() => unknown)[] = [];
  try {
    const [first, second] = await Promise.all([
      startRedis({ 'repl-diskless-sync-delay': '0' }),
      startRedis(),
    ]);
    open.push(first.close, second.close);
    const link = await startProxy(first.url);
    open.push(link.close);
    const [master, replica] = [first, second].map(({ url }) => {
      const client = new Redis(url, { retryStrategy: null, maxRetriesPerRequest: 0 });
      client.on('error', () => {});
      open.push(() => client.disconnect());
      return client;
    });
    if (!master || !replica) throw new Error('two servers are needed');
    await replica.config('SET', 'masterauth', new URL(first.url).password);
    const { hostname, port } = new URL(direct ? first.url : link.url);
    await replica.replicaof(hostname, Number(port));
    await until(async () => /master_link_status:up/.test(await replica.info('replication')));
    return await use({ master, replica, link, kill: first.close });
  } finally {
    await Promise.all(open.reverse().map((close) => close()));
  }
}

/** The replica is cut off, the master goes on to acknowledge, then it dies and the replica is promoted by hand. */
export const failoverClaims = (writes: number): Promise<Claim[]> =>
  withPair(async ({ master, replica, link, kill }) => {
    const write = async (name: string, waitMs: number) => {
      for (let at = 0; at < writes; at++) await master.set(`${name}:${at}`, 'new');
      return Number(await master.call('WAIT', '1', String(waitMs)));
    };
    if ((await write('waited', SYNC_WITHIN_MS)) !== 1) throw new Error('the replica does not acknowledge');
    link.blackHole();
    const counted = await write('plain', 100);
    await kill();
    await replica.call('REPLICAOF', 'NO', 'ONE');
    const lost = async (name: string) => {
      const keys = Array.from({ length: writes }, (_, at) => `${name}:${at}`);
      return (100 * (await replica.mget(keys)).filter((value) => value === null).length) / writes;
    };
    const says = 'acknowledged writes that are gone after a failover:';
    return [
      {
        name: 'lost-cut-off',
        says: `${says} Redis, made while the replica was cut off`,
        value: await lost('plain'),
        unit: '%',
        atLeast: 100,
      },
      {
        name: 'lost-waited',
        says: `${says} Redis, WAIT had counted the replica`,
        value: await lost('waited'),
        unit: '%',
        atMost: 0,
      },
      {
        name: 'wait-cut-off',
        says: 'replicas that WAIT counts while the replica is cut off',
        value: counted,
        unit: 'replicas',
        atMost: 0,
      },
    ];
  });

/** `min-replicas-to-write` ends the writes of a master that has lost its replica. */
export const refusalClaim = (): Promise<Claim> =>
  withPair(async ({ master, link }) => {
    await master.config('SET', 'min-replicas-to-write', '1');
    await master.config('SET', 'min-replicas-max-lag', '1');
    link.blackHole();
    const began = performance.now();
    await until(() =>
      master.set('key', 'new').then(
        () => false,
        () => true,
      ),
    );
    return {
      name: 'refused-after',
      says: 'time until a master refuses writes after its replica is cut off, min-replicas-max-lag 1',
      value: performance.now() - began,
      unit: 'ms',
    };
  });

/** From the end of the master to the first write that the promoted replica takes. */
export const sentinelClaim = (): Promise<Claim> =>
  withPair(async ({ master, replica, kill }) => {
    const { port, password } = master.options;
    // A Sentinel has one password for the master and its replicas.
    await replica.config('SET', 'requirepass', String(password));
    const sentinel = await startPeer({
      name: 'redis-sentinel',
      config: (folder, own) =>
        [
          `port ${own}`,
          'bind 127.0.0.1',
          `dir "${folder}"`,
          `sentinel monitor cache 127.0.0.1 ${port} 1`,
          `sentinel auth-pass cache ${password}`,
          `sentinel down-after-milliseconds cache ${DOWN_AFTER_MS}`,
          '',
        ].join('\n'),
      command: (folder) => [redisBinary() ?? 'redis-server', `${folder}/config`, '--sentinel'],
    });
    const asked = new Redis(sentinel.port);
    // A promotion by Sentinel ends all connections of the replica.
    const { port: own } = replica.options;
    const writer = new Redis({ port: own, password, maxRetriesPerRequest: 0, retryStrategy: () => 5 });
    for (const client of [asked, writer]) client.on('error', () => {});
    try {
      await until(
        async () => ((await asked.call('SENTINEL', 'REPLICAS', 'cache')) as unknown[]).length === 1,
      );
      await sleep(DOWN_AFTER_MS);
      await kill();
      const began = performance.now();
      await until(() =>
        writer.set('key', 'new').then(
          () => true,
          () => false,
        ),
      );
      return {
        name: 'sentinel-after',
        says: `time from the end of a master to the first write of its replica: one Sentinel, down-after-milliseconds ${DOWN_AFTER_MS}`,
        value: performance.now() - began,
        unit: 'ms',
      };
    } finally {
      for (const client of [asked, writer]) client.disconnect();
      await sentinel.close();
    }
  }, true);

async function until(holds: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 2 * SYNC_WITHIN_MS;
  while (!(await holds())) {
    if (Date.now() > deadline)
      throw new Error(`Redis was not there after ${(2 * SYNC_WITHIN_MS) / 1000} s. Try again.`);
    await sleep(5);
  }
}
