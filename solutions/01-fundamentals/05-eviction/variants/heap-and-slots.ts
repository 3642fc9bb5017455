import { type Access, type Policy, requireCapacity } from '#kit/policies';

interface Counted<K> {
  readonly key: K;
  uses: number;
  usedAt: number;
  /** Where in the heap it is. */
  at: number;
}

const isBefore = <K>(a: Counted<K>, b: Counted<K>) =>
  a.uses < b.uses || (a.uses === b.uses && a.usedAt < b.usedAt);

/** A priority queue: O(log n) an access. 100,000 keys cost two or three times as much as 100. */
export class Lfu<K> implements Policy<K> {
  readonly capacity: number;
  private readonly entries = new Map<K, Counted<K>>();
  /** A binary heap: no entry comes before its parent. The first entry is the next to go. */
  private readonly heap: Counted<K>[] = [];
  private now = 0;

  constructor(capacity: number) {
    this.capacity = requireCapacity(capacity);
  }

  get size(): number {
    return this.heap.length;
  }

  access(key: K): Access<K> {
    const usedAt = ++this.now;
    const known = this.entries.get(key);
    if (known) {
      known.uses++;
      known.usedAt = usedAt;
      this.sink(known);
      return { hit: true };
    }
    const entry: Counted<K> = { key, uses: 1, usedAt, at: this.size };
    this.entries.set(key, entry);
    const [first] = this.heap;
    if (!first || this.size < this.capacity) {
      this.rise(entry);
      return { hit: false };
    }
    this.entries.delete(first.key);
    entry.at = 0;
    this.sink(entry);
    return { hit: false, evicted: first.key };
  }

  private rise(entry: Counted<K>): void {
    while (entry.at > 0) {
      const parent = this.heap[(entry.at - 1) >> 1] as Counted<K>;
      if (!isBefore(entry, parent)) break;
      const place = parent.at;
      this.put(parent, entry.at);
      entry.at = place;
    }
    this.put(entry, entry.at);
  }

  private sink(entry: Counted<K>): void {
    for (;;) {
      const [left, right] = [this.heap[2 * entry.at + 1], this.heap[2 * entry.at + 2]];
      const child = left && right && isBefore(right, left) ? right : left;
      if (!child || !isBefore(child, entry)) break;
      const place = child.at;
      this.put(child, entry.at);
      entry.at = place;
    }
    this.put(entry, entry.at);
  }

  private put(entry: Counted<K>, at: number): void {
    this.heap[at] = entry;
    entry.at = at;
  }
}

/** A place of the queue is a slot number: keys, bits and links stand in arrays, and a new key takes the victim's slot. */
export class Sieve<K> implements Policy<K> {
  readonly capacity: number;
  private readonly slots = new Map<K, number>();
  private readonly keys: K[] = [];
  private readonly visited: Uint8Array;
  /** Slot `capacity` is no key: it stands between the head and the tail. */
  private readonly towardsHead: Uint32Array;
  private readonly towardsTail: Uint32Array;
  private hand: number;

  constructor(capacity: number) {
    this.capacity = requireCapacity(capacity);
    this.visited = new Uint8Array(capacity);
    this.towardsHead = new Uint32Array(capacity + 1).fill(capacity);
    this.towardsTail = new Uint32Array(capacity + 1).fill(capacity);
    this.hand = capacity;
  }

  get size(): number {
    return this.slots.size;
  }

  access(key: K): Access<K> {
    const slot = this.slots.get(key);
    if (slot !== undefined) {
      this.visited[slot] = 1;
      return { hit: true };
    }
    if (this.size < this.capacity) {
      this.fill(this.size, key);
      return { hit: false };
    }
    const free = this.evict();
    const evicted = this.keys[free] as K;
    this.slots.delete(evicted);
    this.fill(free, key);
    return { hit: false, evicted };
  }

  private evict(): number {
    const ends = this.capacity;
    let slot = this.hand;
    while (slot === ends || this.visited[slot]) {
      if (slot !== ends) this.visited[slot] = 0;
      slot = this.towardsHead[slot] as number;
    }
    const [head, tail] = [this.towardsHead[slot] as number, this.towardsTail[slot] as number];
    this.towardsTail[head] = tail;
    this.towardsHead[tail] = head;
    this.hand = head;
    return slot;
  }

  private fill(slot: number, key: K): void {
    const ends = this.capacity;
    const head = this.towardsTail[ends] as number;
    this.keys[slot] = key;
    this.slots.set(key, slot);
    this.towardsHead[slot] = ends;
    this.towardsTail[slot] = head;
    this.towardsHead[head] = slot;
    this.towardsTail[ends] = slot;
  }
}
