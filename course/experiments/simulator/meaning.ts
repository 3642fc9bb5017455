import { bytes, percent, whole } from './figures';
import type { MissCurve } from './lru-curve';
import { BELADY } from './policies';
import type { Curve, Simulation } from './simulate';
import { bestAt } from './table';

interface Doubling {
  readonly from: number;
  readonly to: number;
  readonly saved: number;
}

/** Of the size, from a thousandth of the keys to all of them, with LRU. None where nothing can be saved. */
function doublingsOf({ requests, distinct, lru }: Simulation): Doubling[] {
  if (distinct === requests) return [];
  const sizes = Array.from({ length: 11 }, (_, at) => Math.round(distinct / 2 ** (10 - at)));
  return sizes.flatMap((from, at) => {
    const to = sizes[at + 1] ?? from;
    if (from < 1 || to === from) return [];
    return { from, to, saved: (lru.missRatioAt(from) - lru.missRatioAt(to)) * requests };
  });
}

/** What each doubling of the memory saves, as a table. */
export function doublings(simulation: Simulation, entryBytes: number): string[] {
  const rows = doublingsOf(simulation).map(({ from, to, saved }) => {
    const memory = `${bytes(from * entryBytes).padStart(9)} → ${bytes(to * entryBytes).padEnd(9)}`;
    const perMegabyte = saved / (((to - from) * entryBytes) / 1e6);
    return `${memory}${whole(saved).padStart(13)}${percent(saved / simulation.requests).padStart(14)}${whole(perMegabyte).padStart(14)}`;
  });
  const head = `${'from'.padStart(9)}   ${'to'.padEnd(9)}${'misses saved'.padStart(13)}${'of requests'.padStart(14)}${'saved per MB'.padStart(14)}`;
  const note = '"saved per MB" is a rate: in steps below 1 MB it can be more than all requests.';
  return rows.length === 0 ? [] : [head, ...rows, note];
}

const STEPS = 2000;

/**
 * The size from which on a megabyte buys less than the mean of all: where the curve of LRU is furthest below the straight line
 * from no cache to room for all keys. Undefined where it is nowhere below.
 */
export function kneeOf(lru: MissCurve, distinct: number): number | undefined {
  const first = lru.missRatioAt(0);
  const last = lru.missRatioAt(distinct);
  let knee: number | undefined;
  // More than rounding: a loop has a straight line.
  let furthest = 1e-9;
  for (let step = 1; step < STEPS; step++) {
    // Closer together where sizes are small.
    const size = Math.max(1, Math.round(distinct ** (step / STEPS)));
    const below = first + ((last - first) * size) / distinct - lru.missRatioAt(size);
    if (size >= distinct || below <= furthest) continue;
    furthest = below;
    knee = size;
  }
  return knee;
}

/** What the picture and the tables say, in words: one sentence or two each. */
export function meaning(simulation: Simulation, entryBytes: number): string[] {
  if (simulation.distinct === simulation.requests)
    return [
      'No key comes twice: no cache has a hit. If the lines hold more than the key, cut the key out first, for example: cut -d, -f3 FILE | npm run simulate',
    ];
  return [
    firstUses(simulation),
    sizesForHits(simulation, entryBytes),
    knee(simulation, entryBytes),
    bestDoubling(simulation, entryBytes),
    bestPolicies(simulation),
    distance(simulation),
  ].filter((text) => text !== '');
}

const firstUses = ({ requests, distinct }: Simulation): string =>
  `${percent(distinct / requests)} of the requests are the first for their key. Every cache misses those, whatever its size.`;

const HIT_RATIOS = [0.5, 0.8, 0.9, 0.95, 0.99] as const;

/** What a capacity question asks for: the memory of a hit ratio. */
function sizesForHits({ distinct, lru }: Simulation, entryBytes: number): string {
  const ratioOf = new Map<number, number>();
  for (const hits of HIT_RATIOS) {
    const size = smallestFor(hits, lru, distinct);
    if (size !== undefined) ratioOf.set(size, hits);
  }
  const [first, ...others] = [...ratioOf].map(
    ([size, hits], at) =>
      `${whole(size)}${at === 0 ? ' entries' : ''} (${bytes(size * entryBytes)}) for ${at === 0 ? 'a hit ratio of ' : ''}${hits * 100} %`,
  );
  return first
    ? `LRU needs ${[first, ...others].join(', ')}.`
    : `No size gives LRU a hit ratio of ${HIT_RATIOS[0] * 100} %.`;
}

/** Undefined where no size is large enough. */
function smallestFor(hits: number, lru: MissCurve, distinct: number): number | undefined {
  const isEnough = (size: number) => 1 - lru.missRatioAt(size) >= hits;
  if (!isEnough(distinct)) return undefined;
  let [low, high] = [1, distinct];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (isEnough(middle)) high = middle;
    else low = middle + 1;
  }
  return high;
}

function knee({ requests, distinct, lru }: Simulation, entryBytes: number): string {
  const size = kneeOf(lru, distinct);
  if (size === undefined) {
    return 'The curve of LRU has no knee: no megabyte buys more than those after it. A loop over more keys than fit does that.';
  }
  const before = perMegabyte(requests * (lru.missRatioAt(0) - lru.missRatioAt(size)), size * entryBytes);
  const after = perMegabyte(
    requests * (lru.missRatioAt(size) - lru.missRatioAt(distinct)),
    (distinct - size) * entryBytes,
  );
  return (
    `The knee of LRU is at ${whole(size)} entries (${bytes(size * entryBytes)}), where it misses ${percent(lru.missRatioAt(size))}. ` +
    `Up to there a megabyte saves ${before} misses, beyond it ${after}.`
  );
}

const perMegabyte = (misses: number, ofBytes: number): string =>
  whole(ofBytes === 0 ? 0 : misses / (ofBytes / 1e6));

/** A cliff, as of a scan that begins to fit, lies beyond any knee. */
function bestDoubling(simulation: Simulation, entryBytes: number): string {
  const [most] = doublingsOf(simulation).sort((a, b) => b.saved - a.saved);
  if (!most) return '';
  return `The doubling that saves most is the one from ${bytes(most.from * entryBytes)} to ${bytes(most.to * entryBytes)}: ${whole(most.saved)} misses.`;
}

/** Sizes in a row with the same best policy are named together. */
function bestPolicies({ sizes, curves }: Simulation): string {
  const runs: { best: string; from: number; to: number }[] = [];
  sizes.forEach((size, at) => {
    const best = bestAt(curves, at).join(' and ');
    const last = runs.at(-1);
    if (last?.best === best) last.to = size;
    else runs.push({ best, from: size, to: size });
  });
  const named = runs
    .filter(({ best }) => best !== '')
    .map(
      ({ best, from, to }) =>
        `${best} at ${from === to ? whole(from) : `${whole(from)} to ${whole(to)}`} entries`,
    );
  return named.length === 0
    ? 'All policies miss alike at these sizes.'
    : `Fewest misses of those that do not know the future: ${named.join(', ')}.`;
}

/** Where it matters most: at the size at which LRU and Belady are furthest apart. */
function distance({ sizes, curves, requests }: Simulation): string {
  const lru = curves.find(({ policy }) => policy === 'LRU');
  const belady = curves.find(({ policy }) => policy === BELADY);
  if (!lru || !belady) return '';
  const gaps = sizes.map((_, at) => (lru.misses[at] ?? 0) - (belady.misses[at] ?? 0));
  const widest = Math.max(...gaps);
  const at = gaps.indexOf(widest);
  if (widest <= 0) return '';
  const ratio = ({ misses }: Curve) => percent((misses[at] ?? 0) / requests);
  const best = curves.find(({ policy }) => policy === bestAt(curves, at)[0]) ?? lru;
  const closed = ((lru.misses[at] ?? 0) - (best.misses[at] ?? 0)) / widest;
  const rest =
    best === lru
      ? 'No other policy here does better.'
      : `${best.policy} misses ${ratio(best)}: it closes ${Math.round(closed * 100)} % of the gap.`;
  return (
    `LRU is furthest from the ceiling at ${whole(sizes[at] ?? 0)} entries: it misses ${ratio(lru)}, and Belady, which knows the future, ` +
    `${ratio(belady)}. ${rest}`
  );
}
