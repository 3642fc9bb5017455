import { describe, expect, test } from 'vitest';
import { HashRing } from './drill-consistent-hashing';

const VIRTUAL_NODES = 200;
const KEYS = Array.from({ length: 8_000 }, (_, i) => `product:${i * 37}`);
const NODES = fleet('cache-a');
const NEW = 'cache-new';

describe('Core', () => {
  test('an empty ring has no node, and a single node has every key', () => {
    const empty = new HashRing();
    const ask = () => empty.nodeFor('product:1');
    expect(ask, 'a lookup on an empty ring must return undefined').not.toThrow();
    expect(ask(), 'node of a key on an empty ring').toBeUndefined();
    // With one point, nearly every key is before it or beyond it.
    for (const virtualNodes of [1, VIRTUAL_NODES]) {
      const ring = ringOf(['cache-1'], virtualNodes);
      const lost = KEYS.filter((key) => ring.nodeFor(key) !== 'cache-1');
      expect(lost, `keys without a node: the only node has ${virtualNodes} points`).toEqual([]);
    }
  });

  test('the order of adding does not matter, and adding twice changes nothing', () => {
    // Twelve: the names of some begin with those of others.
    const nodes = Array.from({ length: 12 }, (_, i) => `cache-${i}`);
    const ring = ringOf(nodes);
    const expected = nodesFor(ring);
    expect(
      moved(expected, nodesFor(ringOf([...nodes].reverse()))),
      'keys on which two routers disagree: they know the same nodes, and added them in different orders',
    ).toEqual([]);
    for (const node of nodes) ring.add(node);
    expect(moved(expected, nodesFor(ring)), 'keys that moved when each node was added again').toEqual([]);
    const other = ringOf([...nodes, NEW, NEW]);
    other.remove(NEW);
    expect(
      moved(expected, nodesFor(other)),
      'keys that moved when a node was added twice, and removed once: it must be gone',
    ).toEqual([]);
    const [once, often] = [ringOf(['cache-1']), ringOf(Array(100).fill('cache-1'))];
    const times = fastest({ once: () => joinAndLeave(once), often: () => joinAndLeave(often) });
    expect(
      times.often / times.once,
      'time in which a node joins and leaves, when the only other node was added 100 times, against once: the ring must not grow',
    ).toBeLessThan(6);
  });

  test('a node that joins takes its share of the keys, and no other key moves', () => {
    const ring = ringOf(NODES);
    const before = nodesFor(ring);
    ring.add(NEW);
    const after = nodesFor(ring);
    const changes = moved(before, after);
    expect(
      changes.filter(({ to }) => to !== NEW),
      'keys that moved between two old nodes when a new node joined: each of them is a miss for nothing',
    ).toEqual([]);
    const share = (changes.length / KEYS.length) * (NODES.length + 1);
    expect(share, `keys that moved to the new node, as a multiple of 1/${NODES.length + 1}`).toBeGreaterThan(
      0.6,
    );
    expect(share, `keys that moved to the new node, as a multiple of 1/${NODES.length + 1}`).toBeLessThan(
      1.4,
    );
  });

  test('a node that leaves gives its keys to many nodes, and no other key moves', () => {
    for (const leaving of NODES.slice(0, 3)) {
      const ring = ringOf(NODES);
      const before = nodesFor(ring);
      for (const unknown of ['cache-a', ...fleet('cache-x'), ...fleet('cache-y')]) ring.remove(unknown);
      expect(
        moved(before, nodesFor(ring)),
        'keys that moved when nodes were removed that are not on the ring, such as "cache-a"',
      ).toEqual([]);
      ring.remove(leaving);
      const after = nodesFor(ring);
      expect(after.includes(leaving), `${leaving} was removed, and still has keys`).toBe(false);
      const changes = moved(before, after);
      expect(
        changes.filter(({ from }) => from !== leaving),
        `keys of other nodes that moved when ${leaving} left`,
      ).toEqual([]);
      expect(
        Math.max(...counts(changes.map(({ to }) => to))) / changes.length,
        'the share of the keys of a lost node that its heaviest heir gets: with one heir, that node fails next',
      ).toBeLessThan(0.5);
      ring.add(leaving);
      expect(moved(before, nodesFor(ring)), `keys that moved when ${leaving} had left and come back`).toEqual(
        [],
      );
    }
  });

  test('with many virtual nodes, each node has about its share', () => {
    const fleets = ['cache-a', 'cache-b', '10.0.0.', 'eu-west/', 'n'].map(fleet);
    const ratios = fleets.map((nodes) => {
      const owned = counts(nodesFor(ringOf(nodes)));
      return (Math.max(...owned) / KEYS.length) * nodes.length;
    });
    const mean = ratios.reduce((sum, ratio) => sum + ratio, 0) / ratios.length;
    expect(
      mean,
      `keys of the fullest of 8 nodes against the mean, with ${VIRTUAL_NODES} virtual nodes, on average of 5 rings`,
    ).toBeLessThan(1.3);
    const named = Array.from({ length: 12 }, (_, i) => `cache-${i + 1}`);
    expect(
      Math.min(...counts(nodesFor(ringOf(named)))) / (KEYS.length / named.length),
      'keys of the emptiest of 12 nodes, cache-1 to cache-12, against the mean',
    ).toBeGreaterThan(0.65);
  });

  test('a lookup does not walk the ring', () => {
    const [small, large] = [ringOf(['cache-1', 'cache-2'], 5), ringOf(['cache-1', 'cache-2'], 4_000)];
    const times = fastest({ small: () => lookUp(small), large: () => lookUp(large) });
    expect(
      times.large / times.small,
      'time of a lookup with 8,000 points against 10 points: O(log n) is about 2, a walk is 20 or more',
    ).toBeLessThan(8);
  });
});

function fleet(prefix: string): string[] {
  return Array.from({ length: 8 }, (_, i) => `${prefix}${i}`);
}

function ringOf(nodes: readonly string[], virtualNodes = VIRTUAL_NODES): HashRing {
  const ring = new HashRing(virtualNodes);
  for (const node of nodes) ring.add(node);
  return ring;
}

const nodesFor = (ring: HashRing) => KEYS.map((key) => ring.nodeFor(key));

function moved(before: readonly (string | undefined)[], after: readonly (string | undefined)[]) {
  return KEYS.map((key, i) => ({ key, from: before[i], to: after[i] })).filter(({ from, to }) => from !== to);
}

function counts(nodes: readonly (string | undefined)[]): number[] {
  const byNode = new Map<string | undefined, number>();
  for (const node of nodes) byNode.set(node, (byNode.get(node) ?? 0) + 1);
  return [...byNode.values()];
}

function lookUp(ring: HashRing): void {
  for (let i = 0; i < 400; i++) ring.nodeFor(String(KEYS[i]));
}

function joinAndLeave(ring: HashRing): void {
  for (let i = 0; i < 3; i++) {
    ring.add(NEW);
    ring.nodeFor('product:1');
    ring.remove(NEW);
    ring.nodeFor('product:1');
  }
}

/** The fastest of 12 rounds of each: a busy machine makes rounds slower, never faster. */
function fastest<Name extends string>(works: Record<Name, () => void>): Record<Name, number> {
  const times = Object.fromEntries(Object.keys(works).map((name) => [name, Number.POSITIVE_INFINITY]));
  for (let round = 0; round < 12; round++) {
    for (const [name, work] of Object.entries<() => void>(works)) {
      const start = performance.now();
      work();
      times[name] = Math.min(times[name] ?? 0, performance.now() - start);
    }
  }
  return times as Record<Name, number>;
}
