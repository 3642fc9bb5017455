/**
 * One cache in a process of its own, so that the code V8 makes for it knows no other. `measure.ts` starts it with the
 * name of the cache, and sends one question at a time.
 */
import { LRUCache } from 'lru-cache';
import { LRUMap } from 'mnemonist';
import QuickLru from 'quick-lru';
import { seeded } from '#kit/random';
import { zipf } from '#kit/workload';
import { FastLru } from './fast-lru';
import { Lru } from './lru';

export type Name = 'fast' | 'plain' | 'lru-cache' | 'mnemonist' | 'quick-lru' | 'map';
export type Work = 'hit' | 'evict' | 'mix';
/** `prepare` makes the cache and answers its bytes an entry; `held` is the entries it has; the rest is calls a second. */
export type Question =
  | { readonly ask: 'prepare'; readonly entries: number; readonly work: Work }
  | { readonly ask: 'bytes' | 'held' }
  | { readonly ask: 'speed'; readonly ms: number };

interface Cache {
  get(key: string): unknown;
  set(key: string, value: string): unknown;
  readonly size: number;
}

/** The short LRU of so many blog posts and interviews. */
class MapLru implements Cache {
  readonly #map = new Map<string, string>();
  constructor(readonly capacity: number) {}
  get size() {
    return this.#map.size;
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
      this.#map.delete(this.#map.keys().next().value as string);
    }
    this.#map.set(key, value);
  }
}

const MAKE: Record<Name, (capacity: number) => Cache> = {
  fast: (capacity) => new FastLru(capacity),
  plain: (capacity) => new Lru(capacity),
  'lru-cache': (max) => new LRUCache<string, string>({ max }),
  mnemonist: (capacity) => new LRUMap<string, string>(capacity),
  'quick-lru': (maxSize) => new QuickLru<string, string>({ maxSize }),
  map: (capacity) => new MapLru(capacity),
};

/** What a run reads or writes at least before it comes to the same key again in the same place. */
const SEQUENCE = 100_000;
/** Keys in the world, for each entry that fits. */
const WORLD = 4;

const make = MAKE[process.argv[2] as Name];
let keys: string[] = [];
let cache = make(1);
let work: Work = 'hit';
let sequence: string[] = [];
let at = 0;

function prepare(entries: number, nextWork: Work) {
  work = nextWork;
  at = 0;
  const random = seeded(entries);
  if (keys.length !== WORLD * entries) keys = shuffled(WORLD * entries, random);
  cache = make(entries);
  if (work === 'hit') {
    const held = keys.slice(0, entries);
    for (const key of held) cache.set(key, key);
    const length = Math.max(entries, SEQUENCE);
    sequence = Array.from({ length }, () => held[Math.floor(random() * entries)] ?? '');
  } else if (work === 'evict') {
    sequence = keys;
    for (const key of keys) cache.set(key, key);
  } else {
    const draw = zipf({ n: keys.length, skew: 0.99, random });
    sequence = Array.from({ length: Math.max(entries, SEQUENCE) }, () => keys[draw()] ?? '');
  }
}

/** Flat strings, as a parser hands them out; a template would make them ropes. In an order that memory does not have. */
function shuffled(length: number, random: () => number): string[] {
  const all = Array.from({ length }, (_, id) => Buffer.from(`product:${id}`).toString('latin1'));
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

function speed(ms: number): number {
  const start = performance.now();
  let calls = 0;
  let seconds = 0;
  do {
    run(200);
    calls += 200;
    seconds = (performance.now() - start) / 1000;
  } while (seconds < ms / 1000);
  return calls / seconds;
}

/** Of the cache alone, after it has seen every key: keys and values were there before. */
function bytes(): number {
  const entries = keys.length / WORLD;
  const used = () => {
    for (let i = 0; i < 3; i++) globalThis.gc?.();
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  cache = make(1);
  const before = used();
  cache = make(entries);
  for (const key of keys) cache.set(key, key);
  return (used() - before) / entries;
}

process.on('message', (question: Question) => {
  if (question.ask === 'prepare') prepare(question.entries, question.work);
  const answer =
    question.ask === 'speed'
      ? speed(question.ms)
      : question.ask === 'bytes'
        ? bytes()
        : question.ask === 'held'
          ? cache.size
          : 0;
  process.send?.(answer);
});
