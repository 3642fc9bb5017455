import type { Redis } from 'ioredis';
import type { Advice, Finding, Kind, Report, WriteOutcome } from '../given';

/** One request: Redis itself removes the old value when it has no room for the new one. */
const WRITE = `
local reply = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if not reply.err then return 'stored' end
if not string.find(reply.err, '^OOM') then return reply end
redis.call('UNLINK', KEYS[1])
return 'full'`;

export async function write(redis: Redis, key: string, value: string, ttlMs: number): Promise<WriteOutcome> {
  return (await redis.eval(WRITE, 1, key, value, ttlMs)) === 'stored' ? 'stored' : 'full';
}

/** A function of the whole INFO for each question. */
export function advise(info: string, kinds: readonly Kind[], before?: string): Report {
  const limit = bytesOrCount(info, 'maxmemory');
  const used = bytesOrCount(info, 'used_memory');
  const [family = '', order] = field(info, 'maxmemory_policy').split('-');
  const cache = kinds.filter((kind) => kind.rebuildable);
  const state = kinds.filter((kind) => !kind.rebuildable);

  const findings = new Set<Finding>();
  if (limit === 0) findings.add('no-limit');
  if (order === undefined && cache.length > 0) findings.add('refuses-writes');
  if (family === 'volatile' && total(info, 'keys') > 0 && total(info, 'expires') === 0) {
    findings.add('nothing-to-evict');
  }
  const evicted = { allkeys: state, volatile: state.filter((kind) => kind.expires) }[family] ?? [];
  return {
    findings: [...findings],
    usage: limit > 0 ? used / limit : undefined,
    hitRate: hitRate(info, before ?? info),
    atRisk: evicted.map((kind) => kind.name),
    advice: advice(cache, state),
  };
}

function advice(cache: readonly Kind[], state: readonly Kind[]): Advice {
  if (state.length === 0) return 'allkeys-*';
  if (cache.length === 0) return 'noeviction';
  const separable = cache.every((kind) => kind.expires) && !state.some((kind) => kind.expires);
  return separable ? 'volatile-*' : 'two instances';
}

function hitRate(now: string, before: string): number | undefined {
  const grown = (name: string) => bytesOrCount(now, name) - bytesOrCount(before, name);
  const [hits, misses] = [grown('keyspace_hits'), grown('keyspace_misses')];
  const sameProcess = field(now, 'run_id') === field(before, 'run_id');
  return sameProcess && hits >= 0 && misses >= 0 && hits + misses > 0 ? hits / (hits + misses) : undefined;
}

function field(info: string, name: string): string {
  const [, value] = new RegExp(`^${name}:(\\S+)`, 'm').exec(info) ?? [];
  if (value === undefined) throw new Error(`no ${name} in the reply to INFO`);
  return value;
}

const bytesOrCount = (info: string, name: string): number => Number(field(info, name));

/** Over the lines of all databases. */
const total = (info: string, what: 'keys' | 'expires'): number =>
  [...info.matchAll(new RegExp(`^db\\d+:.*\\b${what}=(\\d+)`, 'gm'))].reduce(
    (sum, [, n]) => sum + Number(n),
    0,
  );
