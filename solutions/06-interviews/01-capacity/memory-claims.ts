import { Redis } from 'ioredis';
import { type Claim, redisVersion } from '#claims';
import { startRedis } from '../../../course/servers/redis';
import { memoryFor } from './capacity';
import { memoryFor as coreMemoryFor } from './core';
import type { Entries } from './given';
import { sortedSetMemory } from './sorted-set';
import { measured, measuredMembers } from './used-memory';

const VALUES = [20, 200, 2000];

/** What entries take in a Redis, against what is said of them. */
export async function memoryClaims(quick: boolean): Promise<{ claims: Claim[]; server: string }> {
  const server = await startRedis();
  const entries = quick ? 4000 : 50_000;
  const shapes = VALUES.flatMap((valueBytes) =>
    [false, true].map((ttl) => ({ entries, keyBytes: 12, valueBytes, ttl, replicas: 0 })),
  );
  try {
    const rows: (Awaited<ReturnType<typeof measured>> & { shape: Entries })[] = [];
    // The first clients leave something behind.
    await measured(server.url, { entries: 1000, keyBytes: 12, valueBytes: 20, ttl: true, replicas: 0 });
    for (const shape of shapes) rows.push({ shape, ...(await measured(server.url, shape)) });
    const off = (says: number, used: number) => 100 * (says / used - 1);
    const own = rows.map(({ shape, used }) => Math.abs(off(memoryFor(shape) / entries, used)));
    const core = rows.map(({ shape, used }) => off(coreMemoryFor(shape) / entries, used));
    const usage = (valueBytes: number) =>
      -Math.min(
        ...rows
          .filter(({ shape }) => shape.valueBytes === valueBytes && shape.ttl)
          .map((row) => off(row.usage, row.used)),
      );
    const members = await measuredMembers(server.url, entries, 12);
    const boards = sortedSetMemory({ entries, keyBytes: 12, replicas: 0 }) / entries;
    const redis = new Redis(server.url);
    const version = await redisVersion(redis);
    redis.disconnect();
    return {
      server: version,
      claims: [
        {
          name: 'calculator',
          says: 'largest error of the calculator against used_memory: values of 20, 200 and 2,000 bytes, with and without a TTL',
          value: Math.max(...own),
          unit: '%',
          atMost: 20,
        },
        {
          name: 'thirty',
          says: 'what "key, value and 30 %" leaves out of used_memory: value of 20 bytes with a TTL',
          value: -Math.min(...core),
          unit: '%',
          atLeast: 20,
        },
        {
          name: 'usage-small',
          says: 'what MEMORY USAGE leaves out of used_memory: value of 20 bytes with a TTL',
          value: usage(20),
          unit: '%',
          atLeast: 5,
        },
        {
          name: 'usage-large',
          says: 'what MEMORY USAGE leaves out of used_memory: value of 2,000 bytes with a TTL',
          value: usage(2000),
          unit: '%',
          atMost: 10,
        },
        ...rows.map(({ shape: { valueBytes, ttl }, used }) => ({
          name: `entry-${valueBytes}${ttl ? '-ttl' : ''}`,
          says: `used_memory for an entry: key of 12 bytes, value of ${valueBytes.toLocaleString('en')}, ${ttl ? 'with a TTL' : 'without a TTL'}`,
          value: used,
          unit: 'bytes',
        })),
        {
          name: 'board',
          says: 'used_memory for a member of 12 bytes in a large sorted set',
          value: members,
          unit: 'bytes',
        },
        {
          name: 'board-error',
          says: 'error of the formula for sorted sets against used_memory',
          value: Math.abs(off(boards, members)),
          unit: '%',
          atMost: 25,
        },
      ],
    };
  } finally {
    await server.close();
  }
}
