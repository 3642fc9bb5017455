/**
 * One cache in a process of its own, so that the code V8 makes for it knows no other. `measure.ts` starts it with the
 * name of the cache, and sends one question at a time.
 */
import { median } from '#claims';
import { seeded } from '#kit/random';
import { zipf } from '#kit/workload';

export type Name = 'fast' | 'plain' | 'lru-cache' | 'mnemonist' | 'quick-lru' | 'map' | 'kept';
export type Work = 'hit' | 'long-hit' | 'hot' | 'evict' | 'mix';
/**
 * `speed` is in calls a second of processor time, `bytes` of an entry without its key and value, `held` the most entries
 * seen at once, `left` the MB that a million hits leave behind.
 */
export type Question =
  | { readonly ask: 'prepare'; readonly entries: number; readonly work: Work }
  | { readonly ask: 'bytes' | 'held' | 'left' }
  | { readonly ask: 'speed'; readonly ms: number };

interface Cache {
  get(key: string): unknown;
  set(key: string, value: string): unknown;
  has(key: string): boolean;
  /** Lets the oldest key go without a search for it. */
  drop?(oldest: string): void;
}

/** The short LRU of so many blog posts and interviews. */
class MapLru implements Cache {
  readonly #map = new Map<string, string>();
  constructor(readonly capacity: number) {}
  has(key: string) {
    return this.#map.has(key);
  }
  get(key: string) {
    const value = this.#map.get(key);
    if (value === undefined) return undefined;
    this.#map.delete(key);
    this.#map.set(key, value);
    return value;
  }
  set(key: string, value: string) {
    if (!this.#map.delete(key) && this.#map.size >= this.capacity) {
      this.#map.delete(this.oldest(this.#map));
    }
    this.#map.set(key, value);
  }
  protected oldest(map: Map<string, string>): string {
    return map.keys().next().value as string;
  }
  drop(oldest: string) {
    this.#map.delete(oldest);
  }
}

/** The same with one iterator for all evictions. */
class KeptIteratorLru extends MapLru {
  #keys: Iterator<string> | undefined;
  protected override oldest(map: Map<string, string>): string {
    this.#keys ??= map.keys();
    return this.#keys.next().value as string;
  }
}

/** Loaded one by one: a process needs its own cache only. */
async function maker(name: Name): Promise<(capacity: number) => Cache> {
  switch (name) {
    case 'fast': {
      const { FastLru } = await import('./fast-lru');
      return (capacity) => new FastLru(capacity);
    }
    case 'plain': {
      const { Lru } = await import('./lru');
      return (capacity) => new Lru(capacity);
    }
    case 'lru-cache': {
      const { LRUCache } = await import('lru-cache');
      return (max) => new LRUCache<string, string>({ max });
    }
    case 'mnemonist': {
      const { LRUMap } = await import('mnemonist');
      return (capacity) => new LRUMap<string, string>(capacity);
    }
    case 'quick-lru': {
      const { default: QuickLru } = await import('quick-lru');
      return (maxSize) => new QuickLru<string, string>({ maxSize });
    }
    case 'map':
      return (capacity) => new MapLru(capacity);
    case 'kept':
      return (capacity) => new KeptIteratorLru(capacity);
  }
}

/** What a run reads or writes at least before it comes to the same key again in the same place. */
const SEQUENCE = 100_000;
/** Keys in the world, for each entry that fits. */
const WORLD = 4;
/** Keys that a full cache has seen before it is measured, for each entry that fits. */
const OVERFILL = 2.5;

/** Hits on the one key before they are measured: each costs a Map more than the one before. */
const WARM_HITS = 20_000;

const chosen = maker(process.argv[2] as Name);
let make = (capacity: number): Cache => new MapLru(capacity);
let keys: string[] = [];
let ending = '';
let cache = make(1);
let work: Work = 'hit';
let sequence: string[] = [];
let at = 0;

function prepare(entries: number, nextWork: Work) {
  work = nextWork;
  at = 0;
  const random = seeded(entries);
  const nextEnding = work === 'long-hit' ? ':description:en-GB' : '';
  if (keys.length !== WORLD * entries || ending !== nextEnding) {
    ending = nextEnding;
    keys = shuffled(WORLD * entries, random);
  }
  const length = Math.max(entries, SEQUENCE);
  cache = make(entries);
  if (work === 'hit' || work === 'long-hit') {
    for (const key of keys.slice(0, entries)) cache.set(key, key);
    sequence = Array.from({ length }, () => keys[Math.floor(random() * entries)] as string);
  } else if (work === 'hot') {
    overfill(entries);
    sequence = [keys[OVERFILL * entries - 1] as string];
    run(WARM_HITS);
  } else if (work === 'evict') {
    overfill(entries);
    sequence = keys;
    at = OVERFILL * entries;
  } else {
    // The most popular keys, the most popular one last.
    for (const key of keys.slice(0, entries).reverse()) cache.set(key, key);
    const draw = zipf({ n: keys.length, skew: 0.99, random });
    sequence = Array.from({ length }, () => keys[draw()] as string);
  }
}

function overfill(entries: number) {
  for (let id = 0; id < OVERFILL * entries; id++) {
    const key = keys[id] as string;
    if (id >= entries) cache.drop?.(keys[id - entries] as string);
    cache.set(key, key);
  }
}

/** Flat strings, as a parser hands them out; a template would make them ropes. In an order that memory does not have. */
function shuffled(length: number, random: () => number): string[] {
  const all = Array.from({ length }, (_, id) => Buffer.from(`product:${id}${ending}`).toString('latin1'));
  for (let last = length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [all[last], all[other]] = [all[other] ?? '', all[last] ?? ''];
  }
  return all;
}

function run(calls: number) {
  const [cached, keysInTurn, end] = [cache, sequence, sequence.length];
  let next = at;
  for (let i = 0; i < calls; i++) {
    const key = keysInTurn[next] as string;
    if (++next === end) next = 0;
    if (work === 'evict') cached.set(key, key);
    else if (cached.get(key) === undefined && work === 'mix') cached.set(key, key);
  }
  at = next;
}

/** For a second of processor time: what else runs on the machine takes none of it. */
function speed(ms: number): number {
  const start = performance.now();
  const before = process.cpuUsage();
  let calls = 0;
  while (performance.now() - start < ms) {
    run(200);
    calls += 200;
  }
  const { user, system } = process.cpuUsage(before);
  return calls / ((user + system) / 1e6);
}

/** Of the cache alone, after evictions: keys and values were there before. */
function bytes(): number {
  const entries = keys.length / WORLD;
  const seen = Array.from({ length: 5 }, () => {
    cache = make(1);
    const before = used();
    cache = make(entries);
    overfill(entries);
    return (used() - before) / entries;
  });
  return median(seen);
}

function used(): number {
  for (let i = 0; i < 2; i++) globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Without an eviction among them. */
function leftBehind(): number {
  const entries = keys.length / WORLD;
  cache = make(entries);
  for (const key of keys.slice(0, entries + 1)) cache.set(key, key);
  const before = used();
  for (let hit = 0; hit < 1e6; hit++) cache.get(keys[1 + (hit % entries)] as string);
  return (used() - before) / 1e6;
}

function mostHeld(): number {
  const entries = keys.length / WORLD;
  const counts = Array.from({ length: 40 }, () => {
    run(entries / 40);
    return keys.filter((key) => cache.has(key)).length;
  });
  return Math.max(...counts);
}

process.on('message', async (question: Question) => {
  make = await chosen;
  if (question.ask === 'prepare') prepare(question.entries, question.work);
  const answer = () => {
    if (question.ask === 'speed') return speed(question.ms);
    if (question.ask === 'bytes') return bytes();
    if (question.ask === 'left') return leftBehind();
    return question.ask === 'held' ? mostHeld() : 0;
  };
  process.send?.(answer());
});
