import { type Access, List, type Node, type Policy, requireCapacity } from '#kit/policies';

/** All keys with one count. Its neighbours in `#counts` are the next lower and the next higher count that some key has. */
interface Count<K> {
  readonly uses: number;
  readonly keys: List<K>;
  lower: Count<K> | undefined;
  higher: Count<K> | undefined;
}

interface Place<K> {
  readonly count: Count<K>;
  readonly node: Node<K>;
}

/** As in the paper of Shah, Mitra and Matani: the counts are a list too, so the lowest one is its first. */
export class Lfu<K> implements Policy<K> {
  readonly capacity: number;
  readonly #places = new Map<K, Place<K>>();
  #lowest: Count<K> | undefined;

  constructor(capacity: number) {
    this.capacity = requireCapacity(capacity);
  }

  get size(): number {
    return this.#places.size;
  }

  access(key: K): Access<K> {
    const place = this.#places.get(key);
    if (place) {
      const { count } = place;
      const next = this.#countAfter(count, count.uses + 1);
      this.#leave(place);
      this.#join(key, next);
      return { hit: true };
    }
    const evicted = this.size === this.capacity ? this.#evict() : undefined;
    this.#join(key, this.#countAfter(undefined, 1));
    return { hit: false, evicted };
  }

  #evict(): K | undefined {
    const [count, node] = [this.#lowest, this.#lowest?.keys.tail];
    if (!count || !node) return;
    this.#leave({ count, node });
    this.#places.delete(node.value);
    return node.value;
  }

  #join(key: K, count: Count<K>): void {
    this.#places.set(key, { count, node: count.keys.addHead(key) });
  }

  #leave({ count, node }: Place<K>): void {
    count.keys.remove(node);
    if (!count.keys.isEmpty) return;
    if (count.lower) count.lower.higher = count.higher;
    else this.#lowest = count.higher;
    if (count.higher) count.higher.lower = count.lower;
  }

  /** The count of `uses` that stands after `lower`, made if no key has it yet. */
  #countAfter(lower: Count<K> | undefined, uses: number): Count<K> {
    const higher = lower ? lower.higher : this.#lowest;
    if (higher?.uses === uses) return higher;
    const count: Count<K> = { uses, keys: new List(), lower, higher };
    if (lower) lower.higher = count;
    else this.#lowest = count;
    if (higher) higher.lower = count;
    return count;
  }
}

interface Entry<K> {
  readonly key: K;
  visited: boolean;
  next: Entry<K>;
  previous: Entry<K>;
}

/** The queue is a ring: its first entry is the tail, and the entry before the tail is the head. */
export class Sieve<K> implements Policy<K> {
  readonly capacity: number;
  readonly #entries = new Map<K, Entry<K>>();
  #tail: Entry<K> | undefined;
  /** None: the next eviction begins at the tail. */
  #hand: Entry<K> | undefined;

  constructor(capacity: number) {
    this.capacity = requireCapacity(capacity);
  }

  get size(): number {
    return this.#entries.size;
  }

  access(key: K): Access<K> {
    const entry = this.#entries.get(key);
    if (entry) {
      entry.visited = true;
      return { hit: true };
    }
    const evicted = this.size === this.capacity ? this.#evict() : undefined;
    this.#add(key);
    return { hit: false, evicted };
  }

  #add(key: K): void {
    const entry = { key, visited: false } as Entry<K>;
    const tail = this.#tail ?? entry;
    const head = this.#tail?.previous ?? entry;
    entry.previous = head;
    entry.next = tail;
    head.next = entry;
    tail.previous = entry;
    this.#tail = tail;
    this.#entries.set(key, entry);
  }

  #evict(): K | undefined {
    let entry = this.#hand ?? this.#tail;
    for (; entry?.visited; entry = entry.next) entry.visited = false;
    if (!entry) return;
    const isHead = entry.next === this.#tail;
    this.#hand = isHead ? undefined : entry.next;
    if (entry === this.#tail) this.#tail = this.size === 1 ? undefined : entry.next;
    entry.previous.next = entry.next;
    entry.next.previous = entry.previous;
    this.#entries.delete(entry.key);
    return entry.key;
  }
}
