import { hash32 } from './given';

interface Point {
  readonly at: number;
  readonly node: string;
}

/** Which cache node is responsible for a key. Every router that knows the same nodes gives the same answers. */
export class HashRing {
  readonly #virtualNodes: number;
  readonly #nodes = new Set<string>();
  /** Sorted by place. */
  #points: readonly Point[] = [];

  /** @param virtualNodes how many points each node has on the ring */
  constructor(virtualNodes = 200) {
    this.#virtualNodes = virtualNodes;
  }

  /** Does nothing when the node is in the ring already. */
  add(node: string): void {
    if (this.#nodes.has(node)) return;
    this.#nodes.add(node);
    const own = Array.from({ length: this.#virtualNodes }, (_, i) => ({ at: hash32(`${node}#${i}`), node }));
    this.#points = [...this.#points, ...own].sort(byPlace);
  }

  /** Does nothing when there is no such node. */
  remove(node: string): void {
    this.#nodes.delete(node);
    this.#points = this.#points.filter((point) => point.node !== node);
  }

  /** The node of a key; undefined when there is no node. `hash32` is in `given.ts`. */
  nodeFor(key: string): string | undefined {
    const hash = hash32(key);
    let low = 0;
    let high = this.#points.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#points[middle]?.at ?? 0) < hash) low = middle + 1;
      else high = middle;
    }
    // Beyond the last point the ring begins again.
    return (this.#points[low] ?? this.#points[0])?.node;
  }
}

/** Two points at one place: by name, so that the order of adding does not matter. */
const byPlace = (a: Point, b: Point): number => a.at - b.at || (a.node < b.node ? -1 : 1);
