import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { seeded } from './random';

/** What code of one process costs, told so that a busy machine says the same: in look-ups in a Map, and in memory. */

/**
 * A function that says how many look-ups in a Map of `entries` take as long as some work. In turn, the best of each: what
 * else runs on the machine meets both. While the work seems to cost half of `limit` there are more rounds, for two
 * seconds at most, and only a true difference stays.
 */
export function stopwatchOfLookUps(entries: number, limit: number): (work: () => void) => number {
  const random = seeded(5);
  const map = new Map(Array.from({ length: entries }, (_, key) => [key, { uses: 0 }]));
  const lookUp = () => {
    const entry = map.get(Math.floor(random() * entries));
    if (entry) entry.uses++;
  };
  let lookUpsPerMs = 0;
  return function inLookUps(work) {
    let worksPerMs = 0;
    const end = performance.now() + 2_000;
    const isClear = () => lookUpsPerMs < (limit / 2) * worksPerMs || performance.now() > end;
    for (let round = 0; round < 100 && (round < 10 || !isClear()); round++) {
      lookUpsPerMs = Math.max(lookUpsPerMs, callsPerMs(lookUp));
      worksPerMs = Math.max(worksPerMs, callsPerMs(work));
    }
    return Math.round(lookUpsPerMs / worksPerMs);
  };
}

/** Over 1 ms, or a little more: most of the time nothing else gets the processor meanwhile. */
function callsPerMs(work: () => void): number {
  const start = performance.now();
  let calls = 0;
  // Asking for the time costs as much as a call.
  for (let batch = 1; performance.now() - start < 1; batch = Math.min(2 * batch, 16)) {
    for (let i = 0; i < batch; i++) work();
    calls += batch;
  }
  return calls / (performance.now() - start);
}

/** Code that searches is slow here already, and shows it with what it has done by then. */
export function atMostASecond(times: number, call: () => void): void {
  const end = performance.now() + 1_000;
  for (let time = 0; time < times; time++) {
    call();
    if (time % 50 === 0 && performance.now() > end) return;
  }
}

setFlagsFromString('--expose-gc');
export const collectGarbage: () => void = runInNewContext('gc');

/** What is in memory after a collection. */
export function usedMb(): number {
  for (let i = 0; i < 2; i++) collectGarbage();
  return process.memoryUsage().heapUsed / 1e6;
}
