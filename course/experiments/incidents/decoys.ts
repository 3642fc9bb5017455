import { setTimeout as sleep } from 'node:timers/promises';
import { addEvents, fillStream, openTransaction, relayOf, setFrequency, TRX_COPY_MS } from './actors';
import type { Cause } from './facts';
import { ORDERS, type Part, REDIS_SETTINGS, type Shop, send } from './shop';

/** What looks like a fault and is none. */
export interface Decoy extends Part {
  /** What the evidence must not name. */
  readonly innocent?: string;
}

type Make = (shop: Shop) => Decoy | Promise<Decoy>;

/** In each shop. */
const ORDINARY: readonly Make[] = [
  ({ names }) => ({ innocent: names.bundle }),
  ({ names }) => ({ innocent: names.settings }),
];

/** Those that one look can tell from a fault. */
const PLAIN: readonly Make[] = [() => ({ innocent: 'LLEN' }), (shop) => unreadArchive(shop, 0)];

/** Those that take a second look: what was, and what is getting better. By what they look like. */
const SUBTLE: Readonly<Partial<Record<Cause, readonly Make[]>>> = {
  'blocking-command': [lastNight, limiter],
  // The first of them as a key that was read some times, and is not read any more.
  'hot-key': [(shop) => unreadArchive(shop, 8), formerlyHot, popular],
  'idle-transaction': [busyTransaction],
  'dead-relay': [relayThatCatchesUp, relayAtRest],
  'missing-index': [firstPage],
};

/** @param which those that one look can tell from the fault, those that look like it, or all that take a second look */
export async function decoysOf(cause: Cause, which: Which, shop: Shop): Promise<Decoy[]> {
  const subtle = which === 'all' ? Object.values(SUBTLE).flat() : (SUBTLE[cause] ?? []);
  const decoys: Decoy[] = [];
  for (const make of [...ORDINARY, ...(which === 'plain' ? PLAIN : subtle)]) decoys.push(await make(shop));
  return decoys;
}

export type Which = 'plain' | 'alike' | 'all';

/** A large key that nobody reads, as an export of last night. @param frequency what OBJECT FREQ says of it */
async function unreadArchive({ redis, number, pick }: Shop, frequency: number): Promise<Decoy> {
  const key = `${pick(['archive', 'export', 'backup'])}:${number(1, 1e5)}`;
  await redis.eval(`redis.call('SET', KEYS[1], string.rep('abcdefgh', 200000))`, 1, key);
  await setFrequency(redis, key, frequency);
  return { innocent: key };
}

/** Read millions of times, until it was taken off the home page. */
async function formerlyHot({ redis, number, pick }: Shop): Promise<Decoy> {
  const key = `${pick(['launch', 'sale', 'match'])}:${number(1, 1e5)}`;
  await redis.set(key, 'x'.repeat(80));
  await setFrequency(redis, key, 200);
  return { innocent: key };
}

/** Ten keys, each read more often than most. No one of them is a problem. */
async function popular({ redis, pick }: Shop): Promise<Decoy> {
  const prefix = pick(['offer', 'novelty', 'teaser']);
  await redis.mset(Array.from({ length: 10 }, (_, id) => [`${prefix}:${id + 1}`, 'x'.repeat(80)]).flat());
  return {
    async moment() {
      const reads = redis.pipeline();
      for (let nth = 0; nth < 300; nth++) reads.get(`${prefix}:${1 + (nth % 10)}`);
      await reads.exec();
      return undefined;
    },
    innocent: prefix,
  };
}

/** A script may be called often, if it is short. */
async function limiter({ redis, number }: Shop): Promise<Decoy> {
  const script = await redis.script('LOAD', `return redis.call('INCR', KEYS[1])`);
  return {
    async moment() {
      const calls = redis.pipeline();
      for (let nth = 0; nth < 100; nth++) calls.evalsha(String(script), 1, `limit:${number(1, 20)}`);
      await calls.exec();
      return undefined;
    },
  };
}

/** EXPLAIN shows a full scan of a large table, and LIMIT ends it after 20 rows. */
function firstPage({ db, names }: Shop): Decoy {
  return { moment: () => send(db, [[`SELECT id, note FROM ${names.table} LIMIT 20`, 5]]) };
}

/** After a deployment: far behind, and faster than what arrives. */
async function relayThatCatchesUp(shop: Shop): Promise<Decoy> {
  const relay = await relayMetFirst(shop, shop.pick(['mail', 'search', 'thumbnails']));
  await fillStream(shop, relay.stream, 400);
  return {
    async moment() {
      await addEvents(shop, relay.stream, 5);
      await relay.handle(60);
      return undefined;
    },
    innocent: relay.stream,
  };
}

/** The order of SCAN differs in each Redis. It meets this stream first: code that takes any stream takes this one. */
async function relayMetFirst(shop: Shop, name: string) {
  for (let nth = 1; ; nth++) {
    const relay = await relayOf(shop, `${name}-${nth}`);
    const streams: string[] = [];
    for await (const page of shop.redis.scanStream({ type: 'stream', count: 1000 })) streams.push(...page);
    if (streams[0] === relay.stream || nth === 20) return relay;
    await shop.redis.del(relay.stream);
  }
}

/** It has handled all that there was, and nothing arrives. */
async function relayAtRest(shop: Shop): Promise<Decoy> {
  const { stream } = await relayOf(shop, shop.pick(['audit', 'invoices', 'vouchers']));
  return { innocent: stream };
}

/** Open for long, and at work: between two looks it has changed rows. */
async function busyTransaction(shop: Shop): Promise<Decoy> {
  const { connection, id, part } = await openTransaction(shop);
  let row = ORDERS;
  const work = async () => {
    row -= 1;
    await connection.query(`UPDATE ${shop.names.table} SET status = status + 1 WHERE id = ?`, [row]);
  };
  await work();
  return {
    ...part,
    async moment() {
      await Promise.all([work(), sleep(TRX_COPY_MS)]);
      return undefined;
    },
    innocent: id,
  };
}

/** The errors and the slow commands of last night. They are in the counters and in SLOWLOG, and do not grow. */
function lastNight({ redis }: Shop): Decoy {
  const { maxmemory, 'maxmemory-policy': policy } = REDIS_SETTINGS;
  return {
    innocent: 'APPEND',
    async begin() {
      await redis.call('CONFIG', 'SET', 'maxmemory', '1', 'maxmemory-policy', 'noeviction');
      const refused = redis.pipeline();
      for (let nth = 0; nth < 20; nth++) refused.append('log:night', 'x');
      await refused.exec();
      await redis.call('CONFIG', 'SET', 'maxmemory', maxmemory, 'maxmemory-policy', policy);
      await redis.eval('local n = 0 for i = 1, 400000 do n = n + i end return n', 0);
      await redis.eval(`for i = 1, 4000 do redis.call('RPUSH', KEYS[1], i * 7919 % 8009) end`, 1, NIGHTLY);
      await redis.call('SORT', NIGHTLY, 'LIMIT', 0, 1, 'ALPHA');
      await redis.del(NIGHTLY);
    },
  };
}

const NIGHTLY = 'queue:night';
