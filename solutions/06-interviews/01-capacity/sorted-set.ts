import type { Entries } from './given';

/** Bytes of memory for one sorted set of many members, as a skip list: a leaderboard. The measure checks it. */
export function sortedSetMemory({
  entries,
  keyBytes,
  replicas,
}: Pick<Entries, 'entries' | 'keyBytes' | 'replicas'>): number {
  const member = 16 * Math.ceil((keyBytes + 4) / 16);
  const inDictionary = 32 + (8 * 2 ** Math.ceil(Math.log2(entries))) / entries;
  // A node of the skip list has one level, and each next one with a chance of a quarter.
  const inSkipList = 53;
  return entries * (member + inDictionary + inSkipList) * (1 + replicas);
}
