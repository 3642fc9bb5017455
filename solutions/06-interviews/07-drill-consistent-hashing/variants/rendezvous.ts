import { hash32 } from '../given';

/**
 * No ring: each node draws a number for the key, and the highest wins. A node that leaves loses its own keys only. A lookup
 * costs one hash for each node, whatever `virtualNodes` is: right for tens of nodes, too slow for thousands.
 */
export class HashRing {
  readonly #nodes = new Set<string>();

  add(node: string): void {
    this.#nodes.add(node);
  }

  remove(node: string): void {
    this.#nodes.delete(node);
  }

  nodeFor(key: string): string | undefined {
    let winner: string | undefined;
    let highest = -1;
    for (const node of this.#nodes) {
      const drawn = hash32(`${node} ${key}`);
      if (drawn < highest || (drawn === highest && winner !== undefined && node > winner)) continue;
      highest = drawn;
      winner = node;
    }
    return winner;
  }
}
