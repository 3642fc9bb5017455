import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';
import type { Redis } from 'ioredis';
import { type Claim, defineMeasure, forkScript, median, type Plot, percentile } from '#claims';

const KEY = 'big';
const OTHER = 'big:new';

/** What is done to a big key, and what must stand there before. */
const DEEDS = {
  DEL: (redis: Redis) => redis.del(KEY),
  UNLINK: (redis: Redis) => redis.unlink(KEY),
  'SET over it': (redis: Redis) => redis.set(KEY, 'new'),
  'RENAME over it': (redis: Redis) => redis.rename(OTHER, KEY),
} as const;
type Deed = keyof typeof DEEDS;

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redis, redisUrl } = servers();
    const probe = await startProbe(redisUrl);
    try {
      const fields = quick ? 100_000 : 300_000;
      const stalls = new Map<Deed, number>();
      for (const deed of quick ? (['DEL', 'UNLINK'] as const) : (Object.keys(DEEDS) as Deed[])) {
        stalls.set(deed, await stall(redis, probe, fields, deed, quick ? 3 : 5));
      }
      const [del = 0, unlink = 1] = [stalls.get('DEL'), stalls.get('UNLINK')];
      return {
        claims: [
          {
            name: 'del-unlink',
            says: 'wait of another client: DEL of a big hash against UNLINK',
            value: del / unlink,
            unit: '×',
            ...((await isLazy(redis)) ? {} : { atLeast: 2 }),
          },
          ...compression(),
          await oneField(redis, quick),
          ...(quick ? [] : [...waits(stalls, fields), ...(await neighbours(redis, probe))]),
        ],
        ...(!quick && { plots: [await bySize(redis, probe), compressionPlot()] }),
      };
    } finally {
      probe.end();
    }
  },
});

/** Valkey 8 frees in the background by default: a DEL is an UNLINK there. */
async function isLazy(redis: Redis): Promise<boolean> {
  const [, value] = (await redis.config('GET', 'lazyfree-lazy-user-del')) as string[];
  return value === 'yes';
}

interface Probe {
  /** The longest wait of the other client while `deed` ran, ms. */
  during(deed: () => Promise<unknown>): Promise<number>;
  end(): void;
}

async function startProbe(url: string): Promise<Probe> {
  const child = forkScript(join(import.meta.dirname, 'probe.ts'), [url]);
  await once(child, 'message');
  // Its first PINGs meet code that has not run yet.
  await sleep(50);
  return {
    async during(deed) {
      child.send('forget');
      await sleep(3);
      await deed();
      // What goes on in the background, such as an UNLINK, may cost the next PINGs something too.
      await sleep(5);
      const answer = once(child, 'message');
      child.send('longest');
      const [ms] = await answer;
      return Number(ms);
    },
    end: () => child.kill('SIGKILL'),
  };
}

async function stall(
  redis: Redis,
  probe: Probe,
  fields: number,
  deed: Deed,
  rounds: number,
): Promise<number> {
  const waits: number[] = [];
  for (let round = 0; round < rounds; round++) {
    await fill(redis, fields);
    await redis.set(OTHER, 'new');
    // What the fill left to do for the server is done by then.
    await sleep(20);
    waits.push(await probe.during(() => DEEDS[deed](redis)));
  }
  await redis.unlink(KEY, OTHER);
  return median(waits);
}

/** A hash of many small fields, made in steps that the probe hardly sees. */
async function fill(redis: Redis, fields: number): Promise<void> {
  await redis.unlink(KEY);
  const script = `for i = ARGV[1], ARGV[2] do redis.call('HSET', KEYS[1], 'field:' .. i, 'value of ' .. i) end`;
  for (let from = 1; from <= fields; from += 10_000) {
    await redis.eval(script, 1, KEY, from, Math.min(from + 9_999, fields));
  }
}

const waits = (stalls: ReadonlyMap<Deed, number>, fields: number): Claim[] =>
  [...stalls].map(([deed, ms]) => ({
    name: `stall-${deed.split(' ')[0]?.toLowerCase()}`,
    says: `wait of another client during ${deed}, a hash of ${fields.toLocaleString('en-US')} fields`,
    value: ms,
    unit: 'ms',
  }));

/** A text of `bytes` bytes as a shop would cache it: JSON, with names that repeat and numbers that do not. */
function json(bytes: number): Buffer {
  const rows: string[] = [];
  for (let id = 1; rows.join(',').length < bytes; id++) {
    const price = ((id * 7919) % 99_991) / 100;
    rows.push(JSON.stringify({ id, name: `Product ${(id * 31) % 977}`, price, stock: (id * 17) % 53 }));
  }
  return Buffer.from(`[${rows.join(',')}`).subarray(0, bytes);
}

const brotli = (text: Buffer, quality: number) =>
  brotliCompressSync(text, { params: { [constants.BROTLI_PARAM_QUALITY]: quality } });

function compression(): Claim[] {
  const share = (bytes: number) => (100 * gzipSync(json(bytes)).length) / bytes;
  const [small, large] = [json(40), json(20_000)];
  const level = (quality: number) => cpuMs(() => brotli(large, quality));
  return [
    {
      name: 'gzip-tiny',
      says: 'size after gzip: 40 bytes of JSON, where 100 % is unchanged',
      value: (100 * gzipSync(small).length) / small.length,
      unit: '%',
      atLeast: 100,
    },
    { name: 'gzip-1k', says: 'size after gzip: 1 kB of JSON', value: share(1000), unit: '%', atMost: 60 },
    { name: 'gzip-20k', says: 'size after gzip: 20 kB of JSON', value: share(20_000), unit: '%', atMost: 40 },
    {
      name: 'brotli-11',
      says: "time for 20 kB: brotli's default level 11 in Node against level 4",
      value: level(11) / level(4),
      unit: '×',
      atLeast: 5,
    },
  ];
}

function cpuMs(work: () => unknown): number {
  work();
  const times = Array.from({ length: 5 }, () => {
    const before = process.cpuUsage();
    for (let count = 0; count < 5; count++) work();
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 5000;
  });
  return Math.min(...times);
}

/** One property of an object with a thousand: as JSON in one key, or as a field of a hash. */
async function oneField(redis: Redis, quick: boolean): Promise<Claim> {
  const object = Object.fromEntries(
    Array.from({ length: 1000 }, (_, id) => [`field:${id}`, `value of ${id}, and some more text to read`]),
  );
  await redis.set('object', JSON.stringify(object));
  await redis.hset('object:hash', object);
  const rounds = quick ? 60 : 300;
  const p50 = async (read: () => Promise<unknown>) => {
    const times: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const began = performance.now();
      await read();
      times.push(performance.now() - began);
    }
    return percentile(times, 0.5);
  };
  const whole = await p50(async () => JSON.parse((await redis.get('object')) ?? '{}')['field:500']);
  const one = await p50(() => redis.hget('object:hash', 'field:500'));
  await redis.unlink('object', 'object:hash');
  return {
    name: 'one-field',
    says: 'one of 1,000 fields, p50: GET and parse all against HGET',
    value: whole / one,
    unit: '×',
    atLeast: 1.5,
  };
}

/** What a reader of a big value costs another client: the answer leaves the server in one piece, as far as it can. */
async function neighbours(redis: Redis, probe: Probe): Promise<Claim[]> {
  await redis.set(KEY, Buffer.alloc(10_000_000, 'x'));
  const waits: number[] = [];
  for (let round = 0; round < 5; round++) waits.push(await probe.during(() => redis.getBuffer(KEY)));
  const deletes = await probe.during(() => redis.del(KEY));
  return [
    {
      name: 'stall-get',
      says: 'wait of another client during a GET of 10 MB',
      value: median(waits),
      unit: 'ms',
    },
    {
      name: 'stall-string',
      says: 'wait of another client during DEL, one string of 10 MB',
      value: deletes,
      unit: 'ms',
    },
  ];
}

async function bySize(redis: Redis, probe: Probe): Promise<Plot> {
  const sizes = [1000, 10_000, 100_000, 300_000];
  const series: { name: string; points: [number, number][] }[] = [];
  for (const deed of ['DEL', 'UNLINK'] as const) {
    const points: [number, number][] = [];
    for (const size of sizes) points.push([size, await stall(redis, probe, size, deed, 3)]);
    series.push({ name: deed, points });
  }
  return {
    name: 'stall',
    title: 'How long another client waits while a hash is deleted',
    x: { label: 'fields of the hash', scale: 'log' },
    y: { label: 'longest wait of a PING (ms)', scale: 'log' },
    series,
  };
}

function compressionPlot(): Plot {
  const sizes = [40, 100, 300, 1000, 4000, 20_000, 100_000];
  const line = (name: string, compress: (text: Buffer) => Buffer) => ({
    name,
    points: sizes.map((size) => [size, (100 * compress(json(size)).length) / size] as const),
  });
  return {
    name: 'compression',
    title: 'What is left of JSON after compression',
    x: { label: 'bytes before', scale: 'log' },
    y: { label: 'bytes after (%)', scale: 'linear' },
    series: [line('gzip', (text) => gzipSync(text)), line('brotli, level 4', (text) => brotli(text, 4))],
  };
}
