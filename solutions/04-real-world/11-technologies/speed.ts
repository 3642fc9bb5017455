import { type Claim, percentile } from '#claims';
import { startMemcached } from './memcached';
import { Line } from './peers';

const VALUE = 'x'.repeat(1_000);
const LOCAL_READS = 100_000;

/** A hit of 1 kB: in a Map of this process, and over the same few lines of socket code in both servers. */
export async function speedClaims(redisUrl: string, quick: boolean): Promise<Claim[]> {
  const { hostname, port, username, password, pathname } = new URL(redisUrl);
  const server = await startMemcached();
  const [redis, memcached] = [new Line(Number(port), hostname), new Line(server.port)];
  try {
    if (password) await redis.ask(`AUTH ${username || 'default'} ${decodeURIComponent(password)}\r\n`);
    await redis.ask(`SELECT ${pathname.slice(1) || 0}\r\n`);
    await redis.ask(`SET speed ${VALUE}\r\n`);
    await memcached.ask(`ms speed ${VALUE.length}\r\n${VALUE}\r\n`);
    const times = { redis: [] as number[], memcached: [] as number[] };
    // In turns: a slow moment of the machine meets both.
    for (let turn = 0; turn < (quick ? 1_000 : 10_000); turn++) {
      times.redis.push(await time(() => redis.ask('GET speed\r\n')));
      times.memcached.push(await time(() => memcached.ask('mg speed v\r\n')));
    }
    const [get, mg, local] = [percentile(times.redis, 0.5), percentile(times.memcached, 0.5), localUs()];
    return [
      {
        name: 'get-ratio',
        says: 'a hit of 1 kB, p50: memcached against Redis',
        value: mg / get,
        unit: '×',
        atLeast: 0.2,
        atMost: 5,
      },
      {
        name: 'local-ratio',
        says: 'a hit of 1 kB, p50: Redis against a Map of this process',
        value: get / local,
        unit: '×',
        atLeast: 15,
      },
      { name: 'get-redis', says: 'a hit of 1 kB, p50: Redis, loopback', value: get, unit: 'µs' },
      { name: 'get-memcached', says: 'a hit of 1 kB, p50: memcached, loopback', value: mg, unit: 'µs' },
      { name: 'local-map', says: 'a hit, mean: a Map of this process', value: local, unit: 'µs' },
    ];
  } finally {
    for (const line of [redis, memcached]) line.close();
    await server.close();
  }
}

async function time(ask: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await ask();
  return (performance.now() - began) * 1000;
}

function localUs(): number {
  const map = new Map(Array.from({ length: 1_000 }, (_, id) => [`speed:${id}`, { id }]));
  const keys = [...map.keys()];
  let found = 0;
  const began = performance.now();
  for (let read = 0; read < LOCAL_READS; read++) if (map.get(keys[read % keys.length] ?? '')) found++;
  return ((performance.now() - began) * 1000) / found;
}
