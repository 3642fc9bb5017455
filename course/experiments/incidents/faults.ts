import { setTimeout as sleep } from 'node:timers/promises';
import { addEvents, fillStream, openTransaction, relayOf, setFrequency, TRX_COPY_MS } from './actors';
import type { Cause } from './facts';
import { FILL_SPREAD, FILL_TOGETHER, ORDERS, type Part, type Shop } from './shop';

export interface Fault extends Part {
  /** What the evidence must name: one of these. */
  readonly culprits: readonly string[];
}

/** Brings the shop into a bad state. */
export const FAULTS: Readonly<Record<Cause, (shop: Shop, form: number) => Promise<Fault>>> = {
  'out-of-memory': outOfMemory,
  'synchronised-expiry': synchronisedExpiry,
  'big-key': bigKey,
  'missing-index': missingIndex,
  'blocking-command': blockingCommand,
  'hot-key': hotKey,
  'idle-transaction': idleTransaction,
  'dead-relay': deadRelay,
  healthy: async () => ({ culprits: [] }),
};

/** Redis holds what nobody may evict, and refuses each write. */
async function outOfMemory({ redis, pick, number }: Shop): Promise<Fault> {
  const write = pick([
    ['SET', 'cart', 'x'],
    ['HSET', 'cart', 'sku', 1],
    ['RPUSH', 'cart', 'x'],
    ['ZADD', 'cart', 1, 'x'],
    ['SADD', 'cart', 'x'],
  ]);
  const [command, prefix, ...values] = write;
  return {
    culprits: [String(command)],
    async begin() {
      const used = /^used_memory:(\d+)/m.exec(await redis.info('memory'))?.[1];
      await redis.call('CONFIG', 'SET', 'maxmemory-policy', 'noeviction', 'maxmemory', `${used}`);
      await redis.config('SET', 'maxmemory', String(Number(used) - 100_000));
    },
    async moment() {
      const writes = redis.pipeline();
      for (let nth = 0; nth < 20; nth++)
        writes.call(String(command), `${prefix}:${number(1, 1e6)}`, ...values);
      await writes.exec();
      return undefined;
    },
  };
}

/** A deployment has filled four hundred pages at once, all with the same TTL. */
async function synchronisedExpiry({ redis, pick, number }: Shop): Promise<Fault> {
  const prefix = pick(['page', 'listing', 'profile', 'route']);
  await redis.eval(FILL_TOGETHER, 1, prefix, number(350, 500), 50, 1_350_000);
  return { culprits: [prefix] };
}

async function bigKey({ redis, pick, number }: Shop, form: number): Promise<Fault> {
  const key = `${pick(['basket', 'followers', 'catalogue', 'history'])}:${number(1, 1e5)}`;
  const isHash = form % 2 === 0;
  await redis.eval(
    isHash
      ? `for i = 1, 500 do redis.call('HSET', KEYS[1], 'f' .. i, string.rep('x', 2000)) end`
      : `for i = 1, 500 do redis.call('RPUSH', KEYS[1], i .. string.rep('x', 2000)) end`,
    1,
    key,
  );
  // Each of the writes counted as a use of the key.
  await setFrequency(redis, key, 0);
  return {
    culprits: [key],
    async moment() {
      for (let nth = 0; nth < 2; nth++) {
        await (isHash ? redis.hgetall(key) : redis.lrange(key, 0, -1));
      }
      return undefined;
    },
  };
}

async function missingIndex({ db, names: { table, column, settings } }: Shop): Promise<Fault> {
  await db.query(`DROP INDEX by_${column} ON ${table}`);
  return { culprits: [column], end: () => db.query(`DROP TABLE IF EXISTS ${table}, ${settings}`) };
}

/** A walk over all keys, in a command or in a script. */
async function blockingCommand({ redis, pick, number }: Shop, form: number): Promise<Fault> {
  const prefix = pick(['session', 'visitor', 'token']);
  const isScript = form % 2 === 0;
  // Long names, as of tokens: a walk over few of them takes milliseconds, on a fast machine too.
  await redis.eval(FILL_SPREAD, 1, `${prefix}:${'a1b2c3d4'.repeat(50)}`, 3000, number(1, 1e6));
  const script = `
    local gone = 0
    local cursor = '0'
    repeat
      local page = redis.call('SCAN', cursor, 'MATCH', ARGV[1])
      cursor = page[1]
      for _, key in ipairs(page[2]) do
        if redis.call('TTL', key) == -1 then gone = gone + redis.call('DEL', key) end
      end
    until cursor == '0'
    return gone`;
  return {
    culprits: [isScript ? 'EVAL' : 'KEYS'],
    async moment() {
      for (let nth = 0; nth < 3; nth++) {
        await (isScript ? redis.eval(script, 0, `${prefix}:*`) : redis.keys(`${prefix}:*:vip`));
      }
      return undefined;
    },
  };
}

async function hotKey({ redis, pick, number }: Shop): Promise<Fault> {
  const key = `${pick(['home', 'celebrity', 'flags', 'final'])}:${number(1, 1e5)}`;
  await redis.set(key, 'x'.repeat(80));
  return {
    culprits: [key],
    async moment() {
      for (let batch = 0; batch < 5; batch++) {
        const reads = redis.pipeline();
        for (let nth = 0; nth < 200; nth++) reads.get(key);
        await reads.exec();
      }
      return undefined;
    },
  };
}

/** It has read one row, and waits for an answer from a payment provider. The snapshot keeps each old row. */
async function idleTransaction(shop: Shop): Promise<Fault> {
  const { id, part } = await openTransaction(shop);
  const { db, names, number } = shop;
  return {
    ...part,
    // The next shop must not find it in the copy.
    async end() {
      await part.end?.();
      await sleep(TRX_COPY_MS);
    },
    culprits: [id],
    async moment() {
      for (let nth = 0; nth < 5; nth++) {
        await db.query(`UPDATE ${names.table} SET status = status + 1 WHERE id = ?`, [number(0, ORDERS / 2)]);
      }
      return undefined;
    },
  };
}

/** It has taken some events, and has died with them. */
async function deadRelay(shop: Shop, form: number): Promise<Fault> {
  const { redis, pick } = shop;
  const relay = await relayOf(shop, pick(['prices', 'stock', 'invalidations']));
  await fillStream(shop, relay.stream, 40);
  if (form % 2 === 0) {
    await redis.call('XREADGROUP', 'GROUP', relay.group, 'one', 'COUNT', 10, 'STREAMS', relay.stream, '>');
  }
  return {
    culprits: [relay.stream, relay.group],
    async moment() {
      await addEvents(shop, relay.stream, 20);
      return undefined;
    },
  };
}
