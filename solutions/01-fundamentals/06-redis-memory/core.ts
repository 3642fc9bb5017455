import type { Redis } from 'ioredis';
import type { Finding, Kind, Report, WriteOutcome } from './given';

/** The textbook version: it survives a full Redis, and names the three settings that fill one. */
// #region core
export async function write(redis: Redis, key: string, value: string, ttlMs: number): Promise<WriteOutcome> {
  try {
    await redis.set(key, value, 'PX', ttlMs);
    return 'stored';
  } catch {
    return 'full';
  }
}

export function advise(info: string, kinds: readonly Kind[]): Report {
  const field = (name: string) => new RegExp(`^${name}:(.*?)\r?$`, 'm').exec(info)?.[1] ?? '';
  const policy = field('maxmemory_policy');
  const [, keys = 0, withTtl = 0] = /^keys=(\d+),expires=(\d+)/.exec(field('db0')) ?? [];

  const findings: Finding[] = [];
  if (Number(field('maxmemory')) === 0) findings.push('no-limit');
  if (policy === 'noeviction' && kinds.some((kind) => kind.rebuildable)) findings.push('refuses-writes');
  if (policy.startsWith('volatile-') && Number(keys) > 0 && Number(withTtl) === 0) {
    findings.push('nothing-to-evict');
  }
  return { findings };
}
// #endregion
