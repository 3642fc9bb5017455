/** Which cache node is responsible for a key. Every router that knows the same nodes gives the same answers. */
export class HashRing {
  /** @param virtualNodes how many points each node has on the ring */
  constructor(virtualNodes = 200) {
    throw new Error('not implemented');
  }

  /** Does nothing when the node is in the ring already. */
  add(node: string): void {
    throw new Error('not implemented');
  }

  /** Does nothing when there is no such node. */
  remove(node: string): void {
    throw new Error('not implemented');
  }

  /** The node of a key; undefined when there is no node. `hash32` is in `given.ts`. */
  nodeFor(key: string): string | undefined {
    throw new Error('not implemented');
  }
}
