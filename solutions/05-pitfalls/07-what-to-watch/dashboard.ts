import { type Plot, percentile } from '#claims';
import type { Window } from './shop';

/** One window of the run, at its end. */
export interface Point extends Window {
  /** Seconds from the start. */
  readonly at: number;
  readonly evicted: number;
  readonly expired: number;
  readonly outboxMs: number;
}

const p90 = (samples: readonly number[]) => (samples.length > 0 ? percentile(samples, 0.9) : 0);
const p99 = (samples: readonly number[]) => (samples.length > 0 ? percentile(samples, 0.99) : 0);
const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0);

/** Several windows as one. */
export function totals(windows: readonly (Window & { readonly evicted?: number })[]) {
  const all = (of: 'hitMs' | 'missMs' | 'staleMs' | 'canaryMs') => windows.flatMap((window) => window[of]);
  const [hits, misses, stale] = [all('hitMs'), all('missMs'), all('staleMs')];
  return {
    hitRate: (100 * hits.length) / (hits.length + misses.length),
    stale: (100 * stale.filter((ms) => ms > 0).length) / stale.length,
    missP90: p90(misses),
    canaryP99: p99(all('canaryMs')),
    evicted: sum(windows.map(({ evicted = 0 }) => evicted)),
    refused: sum(windows.map(({ refused }) => refused)),
  };
}

/** Four panels over the same seconds. */
export function dashboard(points: readonly Point[]): Plot[] {
  const line = (name: string, value: (point: Point) => number) => ({
    name,
    points: points.map((point) => [point.at, value(point)] as const),
  });
  const x = {
    label: 'seconds: FLUSHDB at 4, memory full 8 to 12, relay dead 14 to 18',
    scale: 'linear',
  } as const;
  const y = (label: string) => ({ label, scale: 'linear' }) as const;
  return [
    {
      name: 'hit-rate',
      title: 'Hit rate: FLUSHDB is a gap, a full memory a dent, a dead relay an improvement',
      x,
      y: y('reads that hit (%)'),
      series: [line('hit rate', (point) => totals([point]).hitRate)],
    },
    {
      name: 'reasons',
      title: 'Why keys leave the cache: FLUSHDB is none of these lines',
      x,
      y: y('in half a second'),
      series: [
        line('evicted', ({ evicted }) => evicted),
        line('expired', ({ expired }) => expired),
        line('invalidated', ({ invalidated }) => invalidated),
      ],
    },
    {
      name: 'latency',
      title: 'Latency by outcome: a hit and a miss are two services',
      x,
      y: y('p90 (ms)'),
      series: [line('hit', ({ hitMs }) => p90(hitMs)), line('miss', ({ missMs }) => p90(missMs))],
    },
    {
      name: 'age',
      title: 'Age: here the dead relay is a fault',
      x,
      y: y('ms'),
      series: [
        line('canary: how long its value had been replaced, p99', ({ canaryMs }) => p99(canaryMs)),
        line('outbox: oldest event', ({ outboxMs }) => outboxMs),
      ],
    },
  ];
}
