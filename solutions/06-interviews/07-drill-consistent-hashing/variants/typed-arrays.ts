import { hash32 } from '../given';

/** Places in one typed array, which the runtime sorts as numbers; the owner of place i stands at index i of a second array. */
export class HashRing {
  private readonly pointsOf = new Map<string, readonly number[]>();
  private places = new Uint32Array();
  private owners: string[] = [];

  constructor(private readonly virtualNodes = 200) {}

  add(node: string): void {
    const points = Array.from({ length: this.virtualNodes }, (_, i) => hash32(`${i}/${node}`));
    this.pointsOf.set(node, points);
    this.build();
  }

  remove(node: string): void {
    this.pointsOf.delete(node);
    this.build();
  }

  nodeFor(key: string): string | undefined {
    const hash = hash32(key);
    let from = 0;
    let to = this.places.length;
    while (from < to) {
      const middle = Math.floor((from + to) / 2);
      if (hash >= Number(this.places[middle])) from = middle + 1;
      else to = middle;
    }
    return this.owners[from % this.owners.length];
  }

  private build(): void {
    const ownerAt = new Map<number, string>();
    for (const [node, points] of [...this.pointsOf].sort(([a], [b]) => (a < b ? -1 : 1))) {
      for (const point of points) ownerAt.set(point, node);
    }
    this.places = new Uint32Array(ownerAt.keys()).sort();
    this.owners = [...this.places].map((place) => ownerAt.get(place) ?? '');
  }
}
