import type { Redis } from 'ioredis';
import type { Advice, Finding, Kind, Report, WriteOutcome } from './given';

// #region write
/**
 * Stores a cache entry with its TTL. A Redis that is out of memory is an outcome, not an error. The value is sent once.
 * @param ttlMs whole milliseconds, at least 1
 * @throws In production: every other error, and the error of a removal that failed
 */
export async function write(redis: Redis, key: string, value: string, ttlMs: number): Promise<WriteOutcome> {
  try {
    await redis.set(key, value, 'PX', ttlMs);
    return 'stored';
  } catch (error) {
    if (!isOutOfMemory(error)) throw error;
    // The refused SET has changed nothing: the old value is still there. A removal needs no memory.
    await redis.unlink(key);
    return 'full';
  }
}

/** The first word of an error reply is its code: OOM, NOPERM, READONLY, … */
function isOutOfMemory(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith('OOM ');
}
// #endregion

/**
 * Judges one instance. The types are in `given.ts`.
 * @param info the reply of Redis to INFO
 * @param kinds all kinds of keys that live in the instance
 * @param before In production: an earlier INFO of the same instance, for the hit rate
 * @throws In production: an Error with the name of a field of INFO that is missing or empty
 */
export function advise(info: string, kinds: readonly Kind[], before?: string): Report {
  const now = parse(info);
  return {
    findings: [...findingsOf(now, kinds)],
    usage: now.maxMemory === 0 ? undefined : now.usedMemory / now.maxMemory,
    hitRate: before === undefined ? undefined : hitRateBetween(parse(before), now),
    atRisk: kinds.filter((kind) => !kind.rebuildable && mayEvict(now.policy, kind)).map(({ name }) => name),
    advice: adviceFor(kinds),
  };
}

type Sample = ReturnType<typeof parse>;

// #region parse
function parse(info: string) {
  const fields = new Map<string, string>();
  for (const line of info.split(/\r?\n/)) {
    const colon = line.indexOf(':');
    fields.set(line.slice(0, colon), line.slice(colon + 1));
  }
  const text = (name: string): string => {
    const value = fields.get(name);
    // Number('') is 0, and a maxmemory of 0 means something else.
    if (!value) throw new Error(`INFO does not show ${name}`);
    return value;
  };
  let keys = 0;
  let keysWithTtl = 0;
  for (const database of info.matchAll(/^db\d+:keys=(\d+),expires=(\d+)/gm)) {
    keys += Number(database[1]);
    keysWithTtl += Number(database[2]);
  }
  return {
    runId: text('run_id'),
    hits: Number(text('keyspace_hits')),
    misses: Number(text('keyspace_misses')),
    usedMemory: Number(text('used_memory')),
    maxMemory: Number(text('maxmemory')),
    policy: text('maxmemory_policy'),
    keys,
    keysWithTtl,
  };
}
// #endregion

// #region findings
function* findingsOf(now: Sample, kinds: readonly Kind[]): Generator<Finding> {
  if (now.maxMemory === 0) yield 'no-limit';
  if (now.policy === 'noeviction' && kinds.some((kind) => kind.rebuildable)) yield 'refuses-writes';
  if (now.policy.startsWith('volatile-') && now.keys > 0 && now.keysWithTtl === 0) yield 'nothing-to-evict';
}
// #endregion

// #region hit-rate
function hitRateBetween(before: Sample, now: Sample): number | undefined {
  const hits = now.hits - before.hits;
  const misses = now.misses - before.misses;
  const beganAgain = now.runId !== before.runId || hits < 0 || misses < 0;
  return beganAgain || hits + misses === 0 ? undefined : hits / (hits + misses);
}
// #endregion

// #region policy
function mayEvict(policy: string, kind: Kind): boolean {
  return policy.startsWith('allkeys-') || (policy.startsWith('volatile-') && kind.expires);
}

function adviceFor(kinds: readonly Kind[]): Advice {
  if (kinds.every((kind) => kind.rebuildable)) return 'allkeys-*';
  if (kinds.every((kind) => !kind.rebuildable)) return 'noeviction';
  // For volatile-* a TTL means "may be lost". So the cache entries must have a TTL, and the state must not.
  if (kinds.every((kind) => kind.rebuildable === kind.expires)) return 'volatile-*';
  return 'two instances';
}
// #endregion
