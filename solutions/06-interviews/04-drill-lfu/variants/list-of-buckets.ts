export interface Entry<K, V> {
  readonly key: K;
  readonly value: V;
}

interface Node<K, V> {
  readonly key: K;
  value: V;
  bucket: Bucket<K, V>;
  older: Node<K, V> | undefined;
  newer: Node<K, V> | undefined;
}

/** The entries with one number of uses. Buckets stand in a ring, fewest uses first, as in the paper of Shah, Mitra and Matani. */
interface Bucket<K, V> {
  readonly uses: number;
  fewer: Bucket<K, V>;
  more: Bucket<K, V>;
  oldest: Node<K, V> | undefined;
  newest: Node<K, V> | undefined;
}

export class Lfu<K, V> {
  readonly #capacity: number;
  readonly #nodes = new Map<K, Node<K, V>>();
  /** Between the last and the first bucket. */
  readonly #ends: Bucket<K, V>;

  constructor(capacity: number) {
    this.#capacity = capacity;
    this.#ends = { uses: 0, oldest: undefined, newest: undefined } as Bucket<K, V>;
    this.#ends.fewer = this.#ends;
    this.#ends.more = this.#ends;
  }

  get(key: K): V | undefined {
    const node = this.#nodes.get(key);
    if (node) this.#promote(node);
    return node?.value;
  }

  set(key: K, value: V): Entry<K, V> | undefined {
    const node = this.#nodes.get(key);
    if (node) {
      node.value = value;
      this.#promote(node);
      return undefined;
    }
    const victim = this.#nodes.size < this.#capacity ? undefined : this.#ends.more.oldest;
    if (victim) this.delete(victim.key);
    const bucket = this.#bucketAfter(this.#ends, 1);
    const added = { key, value, bucket, older: undefined, newer: undefined };
    this.#nodes.set(key, added);
    enter(added, bucket);
    return victim;
  }

  delete(key: K): boolean {
    const node = this.#nodes.get(key);
    if (!node) return false;
    leave(node);
    return this.#nodes.delete(key);
  }

  #promote(node: Node<K, V>): void {
    const next = this.#bucketAfter(node.bucket, node.bucket.uses + 1);
    leave(node);
    enter(node, next);
  }

  #bucketAfter(bucket: Bucket<K, V>, uses: number): Bucket<K, V> {
    if (bucket.more.uses === uses) return bucket.more;
    const added = { uses, fewer: bucket, more: bucket.more, oldest: undefined, newest: undefined };
    bucket.more.fewer = added;
    bucket.more = added;
    return added;
  }
}

function enter<K, V>(node: Node<K, V>, bucket: Bucket<K, V>): void {
  node.bucket = bucket;
  node.older = bucket.newest;
  node.newer = undefined;
  if (bucket.newest) bucket.newest.newer = node;
  else bucket.oldest = node;
  bucket.newest = node;
}

function leave<K, V>({ bucket, older, newer }: Node<K, V>): void {
  if (older) older.newer = newer;
  else bucket.oldest = newer;
  if (newer) newer.older = older;
  else bucket.newest = older;
  if (bucket.oldest) return;
  bucket.fewer.more = bucket.more;
  bucket.more.fewer = bucket.fewer;
}
