import type { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { toRecord } from '#kit/given';

/** The causes. For each, its evidence must name only this: */
export type Cause =
  /** A command that Redis refuses now. */
  | 'out-of-memory'
  /** One of the keys, or their prefix. */
  | 'synchronised-expiry'
  /** The key. */
  | 'big-key'
  /** The statement, or its column without an index. */
  | 'missing-index'
  /** In production: the command. */
  | 'blocking-command'
  /** In production: the key. */
  | 'hot-key'
  /** In production: the id of its connection, which KILL takes. */
  | 'idle-transaction'
  /** In production: the stream, or the group. */
  | 'dead-relay'
  /** In production: nothing is wrong, and the evidence is empty. */
  | 'healthy';

export interface Diagnosis {
  readonly cause: Cause;
  readonly evidence: string;
}

export interface Site {
  readonly redis: Redis;
  readonly db: Pool;
  /** Lets the traffic of the shop run for a moment, and returns its statements. */
  moment(): Promise<readonly Statement[]>;
}

/** What the shop has sent to MySQL. */
export interface Statement {
  /** A complete statement, which you can EXPLAIN. */
  readonly sql: string;
  readonly calls: number;
}

/** The limits of this shop: more is a fault. */
export const TOO_MUCH = {
  /** The share of all keys that expire in one second. */
  expiringAtOnce: 0.1,
  /** The size of a key that is read (bytes). */
  bytes: 500_000,
  /** How many rows MySQL reads for one statement. */
  rows: 300,
  /** In production: the mean time of one command (µs). All others wait for as long. */
  blockedUs: 1000,
  /** In production: the share of all reads that goes to one key. */
  readsOfOneKey: 0.25,
} as const;

/** A section of INFO. `commandstats` has `cmdstat_get`: `calls=3,usec=9,…`; `errorstats` has `errorstat_OOM`: `count=2`. */
export async function readInfo(redis: Redis, section: string): Promise<Record<string, string>> {
  const lines = (await redis.info(section)).matchAll(/^([^#:\r\n]+):([^\r\n]*)/gm);
  return Object.fromEntries([...lines].map(([, name, value]) => [name, value]));
}

/** `figure('calls=3,usec=9', 'usec')` is 9. It is 0 if the name is missing. */
export function figure(value: string | undefined, name: string): number {
  return Number(new RegExp(`(?:^|,)${name}=([\\d.]+)`).exec(value ?? '')?.[1] ?? 0);
}

/** All keys, by SCAN. */
export async function scanKeys(redis: Redis, options: { type?: string } = {}): Promise<string[]> {
  const keys = new Set<string>();
  for await (const page of redis.scanStream({ count: 1000, ...options })) {
    for (const key of page) keys.add(key);
  }
  return [...keys];
}

/** Sends one command for each key. Returns the answers in order; NaN for an error. */
export async function askEach(
  redis: Redis,
  keys: readonly string[],
  ...[command = '', ...subcommand]: readonly string[]
): Promise<number[]> {
  const answers: number[] = [];
  for (let at = 0; at < keys.length; at += 1000) {
    const page = redis.pipeline();
    for (const key of keys.slice(at, at + 1000)) page.call(command, ...subcommand, key);
    for (const [error, answer] of (await page.exec()) ?? []) {
      answers.push(error || answer === null ? Number.NaN : Number(answer));
    }
  }
  return answers;
}

/** In production: about how many reads lead to this OBJECT FREQ (with lfu-log-factor 1). */
export function readsFor(frequency: number): number {
  const steps = Math.max(0, frequency - 5);
  return Math.min(frequency, 5) + (steps * (steps + 1)) / 2;
}

/** In production: a consumer group of a stream, by XINFO GROUPS. */
export interface Group {
  readonly stream: string;
  readonly name: string;
  /** In production: events that it has not read. */
  readonly lag: number;
  /** In production: the last event that it has read. */
  readonly lastDelivered: string;
}

/** In production: all groups of all streams. */
export async function readGroups(redis: Redis): Promise<Group[]> {
  const streams = await scanKeys(redis, { type: 'stream' });
  const groups = streams.map(async (stream) => {
    const answer: unknown = await redis.call('XINFO', 'GROUPS', stream);
    return (Array.isArray(answer) ? answer : []).map((flat: unknown[]) => {
      const { name = '', lag = '', 'last-delivered-id': lastDelivered = '' } = toRecord(flat.map(String));
      return { stream, name, lag: Number(lag), lastDelivered };
    });
  });
  return (await Promise.all(groups)).flat();
}

/** The rows of a query. */
export async function rowsOf(db: Pool, sql: string): Promise<RowDataPacket[]> {
  const [rows] = await db.query<RowDataPacket[]>(sql);
  return rows;
}
