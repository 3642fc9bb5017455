import type { Policy } from './api';

/** A value and what it depends on, by their keys in Redis: the value, and a generation for each tag. */
export interface Entry extends Required<Policy> {
  readonly value: string;
}

/**
 * The keys in Redis. The braces keep a cache in one slot of a cluster: its scripts use several keys.
 * Well formed: Redis and its messages have no halves of surrogate pairs, so L1 would not find the key to drop.
 */
export const valueKey = (cache: string, key: string): string => `{${cache}}:value:${key.toWellFormed()}`;
export const tagKey = (cache: string, tag: string): string => `{${cache}}:tag:${tag.toWellFormed()}`;
/** Whether it is the key of a value: the name of a cache has no braces. */
export const isValue = (redisKey: string) => redisKey.indexOf('}:value:') === redisKey.indexOf('}');
/** A tag that all entries have. */
export const everything = (cache: string): string => `{${cache}}:everything`;

export function entryOf(cache: string, key: string, { ttlMs, staleMs = 0, tags = [] }: Policy): Entry {
  const sorted = [...tags].sort().map((tag) => tagKey(cache, tag));
  return { value: valueKey(cache, key), tags: [everything(cache), ...sorted], ttlMs, staleMs };
}
