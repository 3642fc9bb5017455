import { Redis } from 'ioredis';

/** A process of its own: writes one key after the other, and tells when each write was answered. */
const [url = '', prefix = '', count = '0'] = process.argv.slice(2);

async function write(): Promise<void> {
  const redis = new Redis(url);
  const answered: [key: string, ms: number][] = [];
  for (let n = 0; n < Number(count); n++) {
    const key = `${prefix}window:${n}`;
    await redis.set(key, 'new', 'PX', 10_000);
    answered.push([key, monotonicMs()]);
  }
  redis.disconnect();
  process.send?.(answered, () => process.disconnect());
}

/** The same clock in all processes of a machine. */
const monotonicMs = () => Number(process.hrtime.bigint()) / 1e6;

void write();
