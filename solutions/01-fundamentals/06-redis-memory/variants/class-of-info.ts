import type { Redis } from 'ioredis';
import type { Advice, Finding, Kind, Report, WriteOutcome } from '../given';

/** Value and TTL in a transaction: when the queue is refused, Redis runs none of it. */
export async function write(redis: Redis, key: string, value: string, ttlMs: number): Promise<WriteOutcome> {
  const transaction = redis.multi().set(key, value).pexpire(key, ttlMs);
  try {
    await transaction.exec();
    return 'stored';
  } catch (error) {
    const [refusal] = (error as { previousErrors?: readonly Error[] }).previousErrors ?? [error as Error];
    if (!refusal?.message.startsWith('OOM')) throw error;
  }
  await redis.del(key);
  return 'full';
}

/** A class. The rules are a table. */
export function advise(info: string, kinds: readonly Kind[], before?: string): Report {
  const now = new Info(info);
  const expiring = kinds.filter((kind) => kind.expires);
  const evictable = now.policy === 'noeviction' ? [] : now.policy.startsWith('volatile') ? expiring : kinds;
  const rules: Record<Finding, boolean> = {
    'no-limit': now.limit === 0,
    'refuses-writes': now.policy === 'noeviction' && kinds.some(({ rebuildable }) => rebuildable),
    'nothing-to-evict': now.policy.startsWith('volatile') && now.keys > 0 && now.expires === 0,
  };
  const codes = Object.keys(rules) as Finding[];
  return {
    findings: codes.filter((code) => rules[code]),
    usage: now.usage,
    hitRate: before === undefined ? undefined : now.hitRateSince(new Info(before)),
    atRisk: evictable.filter(({ rebuildable }) => !rebuildable).map(({ name }) => name),
    advice: adviceOn(kinds),
  };
}

/** The first policy that leaves the state alone and can evict the whole cache. */
function adviceOn(kinds: readonly Kind[]): Advice {
  const cache = kinds.filter(({ rebuildable }) => rebuildable);
  if (cache.length === 0) return 'noeviction';
  if (cache.length === kinds.length) return 'allkeys-*';
  return kinds.some(({ rebuildable, expires }) => rebuildable !== expires) ? 'two instances' : 'volatile-*';
}

class Info {
  readonly #info: string;
  keys = 0;
  expires = 0;

  constructor(info: string) {
    this.#info = info;
    for (const line of info.split('\n')) {
      if (!/^db\d+:/.test(line)) continue;
      this.keys += Number(/keys=(\d+)/.exec(line)?.[1]);
      this.expires += Number(/expires=(\d+)/.exec(line)?.[1]);
    }
  }

  get policy(): string {
    return this.#text('maxmemory_policy');
  }

  get limit(): number {
    return Number(this.#text('maxmemory'));
  }

  get usage(): number | undefined {
    const used = Number(this.#text('used_memory'));
    return this.limit === 0 ? undefined : used / this.limit;
  }

  hitRateSince(before: Info): number | undefined {
    const began = before.#text('run_id');
    const hits = this.#grownSince(before, 'keyspace_hits');
    const misses = this.#grownSince(before, 'keyspace_misses');
    if (this.#text('run_id') !== began || hits < 0 || misses < 0) return undefined;
    return hits + misses === 0 ? undefined : hits / (hits + misses);
  }

  #grownSince(before: Info, name: string): number {
    return Number(this.#text(name)) - Number(before.#text(name));
  }

  #text(name: string): string {
    const at = this.#info.indexOf(`\n${name}:`);
    const value = at < 0 ? '' : this.#info.slice(at + name.length + 2).split('\r', 1)[0];
    if (!value) throw new Error(`Redis hides ${name}`);
    return value;
  }
}
