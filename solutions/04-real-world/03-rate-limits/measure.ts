import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { defineMeasure, median } from '#claims';
import { ALGORITHMS } from './algorithms';
import { openRateLimiter, type RateLimiter } from './rate-limits';

const LIMIT = 100;
/** No deadline that a busy machine can miss. */
const OPTIONS = { limit: LIMIT, whenRedisFails: 'closed', deadlineMs: 20_000 } as const;

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redis } = servers();
    const windowMs = quick ? 400 : 2000;
    const contenders: readonly (readonly [string, RateLimiter])[] = [
      ...ALGORITHMS.map(({ name, script }) => [name, limiterOf(redis, name, script, windowMs)] as const),
      ['log', await openRateLimiter({ ...OPTIONS, redis, name: 'log', windowMs })],
    ];
    const results = await Promise.all(
      contenders.map(async ([name, limiter]) => {
        const allowed = await attack(redis, limiter, windowMs);
        return {
          name,
          worst: worstWindow(allowed, windowMs),
          worstTenth: worstWindow(allowed, windowMs / 10),
          bytes: Number(await redis.memory('USAGE', `rate:${name}:acme:bot`)),
        };
      }),
    );
    const cost = await timeAgainstIncr(redis, quick);
    const worst = (index: number) => ((results.at(index)?.worst ?? Number.NaN) / LIMIT) * 100;
    const says = (who: string) => `calls that pass in the worst window, of a limit of ${LIMIT}: ${who}`;
    return {
      claims: [
        { name: 'fixed', says: says('fixed window'), value: worst(0), unit: '%', atLeast: 130 },
        { name: 'sliding', says: says('sliding counter'), value: worst(1), unit: '%', atLeast: 120 },
        { name: 'gcra', says: says('GCRA'), value: worst(2), unit: '%', atLeast: 120 },
        { name: 'log', says: says('the log of this lab'), value: worst(3), unit: '%', atMost: 100 },
        {
          name: 'cost',
          says: 'time of a call that is refused, against an INCR: median',
          value: cost,
          unit: '×',
        },
        {
          name: 'bytes',
          says: `bytes of one key after ${LIMIT} calls: the log against the fixed window`,
          value: (results.at(3)?.bytes ?? Number.NaN) / (results.at(0)?.bytes ?? Number.NaN),
          unit: '×',
        },
      ],
      matrices: [
        {
          name: 'algorithms',
          columns: ['worst window', 'worst tenth of a window', 'bytes of a key'],
          rows: results.map(
            ({ name, worst, worstTenth, bytes }) => [name, `${worst}`, `${worstTenth}`, `${bytes}`] as const,
          ),
        },
      ],
      plots: [
        {
          name: 'worst',
          title: `Calls that pass in the worst window, with a limit of ${LIMIT}`,
          label: 'calls',
          bars: results.map(({ name, worst }) => [name, worst] as const),
        },
      ],
    };
  },
});

/** The same interface over a script of `algorithms.ts`, which answers 1 when the call is allowed. */
function limiterOf(redis: Redis, name: string, script: string, windowMs: number): RateLimiter {
  return {
    async take(tenant, user) {
      const key = `rate:${name}:${tenant}:${user}`;
      const allowed = (await redis.eval(script, 1, key, LIMIT, windowMs)) === 1;
      return { allowed, retryAfterMs: allowed ? 0 : 1 };
    },
  };
}

interface Allowed {
  readonly sent: number;
  readonly answered: number;
}

/** Everything just before a multiple of the window, by the clock of Redis, and again whatever is let through for 0.97 windows. */
async function attack(redis: Redis, limiter: RateLimiter, windowMs: number): Promise<Allowed[]> {
  const [seconds, micros] = await redis.time();
  const now = Number(seconds) * 1000 + Number(micros) / 1000;
  await sleep(windowMs - (now % windowMs) + windowMs * 0.95);
  const start = performance.now();
  const allowed: Allowed[] = [];
  const take = async () => {
    const sent = performance.now();
    const decision = await limiter.take('acme', 'bot');
    if (decision.allowed) allowed.push({ sent, answered: performance.now() });
    return decision.allowed;
  };
  await Promise.all(Array.from({ length: LIMIT }, take));
  await sleep(Math.max(0, start + windowMs * 0.06 - performance.now()));
  await Promise.all(Array.from({ length: LIMIT }, take));
  while (performance.now() < start + windowMs * 0.97) {
    if (!(await take())) await sleep(windowMs / 200);
  }
  return allowed;
}

/** The most calls that were certainly within `ms`: sent after the first one was sent, answered before `ms` were over. */
function worstWindow(allowed: readonly Allowed[], ms: number): number {
  const within = ({ sent: start }: Allowed) =>
    allowed.filter(({ sent, answered }) => sent >= start && answered < start + ms).length;
  return Math.max(...allowed.map(within));
}

/** One call at a time, in turn. The log is full. */
async function timeAgainstIncr(redis: Redis, quick: boolean): Promise<number> {
  const limiter = await openRateLimiter({ ...OPTIONS, redis, name: 'cost', windowMs: 3600_000 });
  for (let nth = 0; nth < LIMIT; nth++) await limiter.take('acme', 'ann');
  const takes: number[] = [];
  const increments: number[] = [];
  for (let nth = 0; nth < (quick ? 100 : 3000); nth++) {
    takes.push(await timed(() => limiter.take('acme', 'ann')));
    increments.push(await timed(() => redis.incr('rate:incr')));
  }
  return median(takes) / median(increments);
}

async function timed(action: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await action();
  return performance.now() - start;
}
