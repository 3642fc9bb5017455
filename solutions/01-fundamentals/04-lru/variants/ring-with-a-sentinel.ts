interface LruOptions<K, V> {
  readonly onEvict?: (key: K, value: V) => void;
}

interface Link<K, V> {
  key: K;
  value: V;
  next: Link<K, V>;
  previous: Link<K, V>;
}

/**
 * The list is a ring: a sentinel, which holds no entry, is the neighbour of both ends. So every link always has two
 * neighbours, and no line asks whether it stands at an end.
 */
export class Lru<K, V> {
  private readonly links = new Map<K, Link<K, V>>();
  /** Its `next` is the newest entry, its `previous` the oldest. */
  private readonly sentinel = ringOf<K, V>();
  private readonly capacity: number;
  private readonly onEvict: (key: K, value: V) => void;

  constructor(capacity: number, { onEvict = () => {} }: LruOptions<K, V> = {}) {
    if (!Number.isSafeInteger(capacity) || capacity < 1) {
      throw new RangeError(`capacity must be a whole number of 1 or more, not ${capacity}`);
    }
    this.capacity = capacity;
    this.onEvict = onEvict;
  }

  get size(): number {
    return this.links.size;
  }

  get(key: K): V | undefined {
    const link = this.links.get(key);
    if (link) this.putFirst(takeOut(link));
    return link?.value;
  }

  peek(key: K): V | undefined {
    return this.links.get(key)?.value;
  }

  has(key: K): boolean {
    return this.links.has(key);
  }

  set(key: K, value: V): void {
    const present = this.links.get(key);
    if (present) {
      present.value = value;
      this.putFirst(takeOut(present));
      return;
    }
    const link = { key, value } as Link<K, V>;
    this.links.set(key, link);
    this.putFirst(link);
    if (this.links.size <= this.capacity) return;
    const oldest = takeOut(this.sentinel.previous);
    this.links.delete(oldest.key);
    this.onEvict(oldest.key, oldest.value);
  }

  delete(key: K): boolean {
    const link = this.links.get(key);
    if (!link) return false;
    takeOut(link);
    return this.links.delete(key);
  }

  private putFirst(link: Link<K, V>): void {
    const { sentinel } = this;
    link.previous = sentinel;
    link.next = sentinel.next;
    sentinel.next.previous = link;
    sentinel.next = link;
  }
}

function ringOf<K, V>(): Link<K, V> {
  const sentinel = {} as Link<K, V>;
  sentinel.next = sentinel;
  sentinel.previous = sentinel;
  return sentinel;
}

function takeOut<K, V>(link: Link<K, V>): Link<K, V> {
  link.previous.next = link.next;
  link.next.previous = link.previous;
  return link;
}
