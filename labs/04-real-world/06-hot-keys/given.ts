import { once } from 'node:events';
import type { Cluster } from 'ioredis';

export const SLOTS = 16_384;

/** How long the entry of a key lives (ms). */
export const TTL_MS = 60_000;

/** A key and how often it was read: at most `count` times, and at least `count - error` times. */
export interface Counted {
  readonly key: string;
  readonly count: number;
  readonly error: number;
}

/** Which master has which slot, as the client knows it now. */
export interface SlotMap {
  /** The addresses of the masters. */
  readonly masters: readonly string[];
  /** The address of the master that has this slot. */
  ownerOf(slot: number): string | undefined;
}

/** The key of the entry. Redis hashes the whole key: it has no braces. */
export const baseKey = (key: string): string => `item:${encodeURIComponent(key)}`;

/** The key of a copy: `n` is 0, 1, 2, … */
export const copyKey = (key: string, n: number): string => `${baseKey(key)}:copy:${n}`;

/** The slot of a base key or a copy. */
export function slotOf(redisKey: string): number {
  let crc = 0;
  for (const byte of Buffer.from(redisKey)) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : crc << 1;
  }
  return crc % SLOTS;
}

const known = new WeakMap<Cluster, SlotMap>();

/** The current map: it follows slots that move. Waits for a client that is not connected yet. */
export async function slotMapOf(client: Cluster): Promise<SlotMap> {
  if (client.slots.length === 0) await once(client, 'refresh');
  const kept = known.get(client);
  if (kept) return kept;
  const map = {
    masters: [...new Set(client.slots.flatMap(([master]) => master ?? []))],
    ownerOf: (slot: number) => client.slots[slot]?.[0],
  };
  known.set(client, map);
  client.once('refresh', () => known.delete(client));
  return map;
}
