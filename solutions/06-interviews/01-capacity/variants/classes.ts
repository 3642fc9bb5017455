import {
  type Curve,
  type DatabaseLoad,
  type Demand,
  type Entries,
  HotKeyError,
  hash,
  InputError,
  MIN_SAMPLED_KEYS,
  type Misses,
  type NodePlan,
  type Sampling,
  StackDistances,
  type Traffic,
} from '../given';

const numbers = <Fields extends object>(fields: Fields, least = 0, most = Number.MAX_VALUE): Fields => {
  const wrong = Object.entries(fields).find(([, value]) => !(value >= least && value <= most));
  if (wrong) throw new InputError(...wrong);
  return fields;
};

/** An entry is a row of two tables, and each piece of it has its own allocation. */
export const memoryFor = ({ ttl, ...counts }: Entries): number => {
  const { entries, keyBytes, valueBytes, replicas } = numbers(counts);
  const piece = (bytes: number) => Math.ceil(bytes / 16) * 16;
  const row = 32 + 12;
  const bytes = piece(keyBytes + 4) + piece(valueBytes + 20) + row + (ttl ? row : 0);
  return (replicas + 1) * entries * bytes;
};

export const peakPerSecond = (traffic: Traffic): number => {
  numbers({ requestsPerDay: traffic.requestsPerDay });
  numbers({ peakToAverage: traffic.peakToAverage }, 1);
  return (traffic.peakToAverage * traffic.requestsPerDay) / 86_400;
};

class Fleet {
  readonly #demand: Required<Demand>;
  readonly #peak: number;

  constructor(demand: Demand) {
    this.#demand = { reserve: 0, spare: 0, replyBytes: 0, hottestKeyShare: 0, ...demand };
    this.#peak = peakPerSecond(demand.traffic);
    numbers({ ...demand.node }, 1);
    numbers({ reserve: this.#demand.reserve }, 0, 0.99);
    numbers({ hottestKeyShare: this.#demand.hottestKeyShare }, 0, 1);
  }

  get plan(): NodePlan {
    const [most, decidedBy] = [this.#memory(), this.#requests(), this.#bandwidth()].reduce((one, other) =>
      other[0] > one[0] ? other : one,
    );
    return { nodes: Math.max(1, most) + this.#demand.spare, decidedBy };
  }

  #memory() {
    const { memoryBytes, node, reserve } = this.#demand;
    return [Math.ceil(memoryBytes / (node.memoryBytes - node.memoryBytes * reserve)), 'memory'] as const;
  }

  #requests() {
    return [this.#carrying(this.#peak, this.#demand.node.requestsPerSecond), 'requests'] as const;
  }

  #bandwidth() {
    const bytes = this.#peak * this.#demand.replyBytes;
    return [this.#carrying(bytes, this.#demand.node.bitsPerSecond / 8), 'bandwidth'] as const;
  }

  #carrying(load: number, capacity: number): number {
    const hottest = load * this.#demand.hottestKeyShare;
    if (hottest >= capacity) throw new HotKeyError();
    return Math.ceil((load - hottest) / (capacity - hottest));
  }
}

export const nodesFor = (demand: Demand): NodePlan => new Fleet(demand).plan;

export function databaseLoad(misses: Misses): DatabaseLoad {
  numbers({ hitRatio: misses.hitRatio }, 0, 1);
  numbers({ nodes: misses.nodes }, 1);
  const peak = peakPerSecond(misses.traffic);
  const load = (hits: number) => (misses.writesPerSecond ?? 0) + (peak - hits) * (misses.queriesPerMiss ?? 1);
  const hits = peak * misses.hitRatio;
  const loads = [
    ['steady', load(hits)],
    ['nodeLoss', load(hits - hits / misses.nodes)],
    ['coldStart', load(0)],
  ] as const;
  const overloaded = loads.filter(([, queries]) => queries > (misses.limit ?? queries)).map(([name]) => name);
  return { steady: loads[0][1], nodeLoss: loads[1][1], coldStart: loads[2][1], overloaded };
}

class Shards implements Curve {
  readonly #maxKeys: number;
  readonly #keys = new StackDistances();
  #rate: number;
  #requests = 0;
  /** By scaled distance; -1 for first requests. */
  #counts: Record<number, number> = {};

  constructor({ rate = 1, maxKeys = Number.MAX_SAFE_INTEGER }: Sampling) {
    this.#rate = numbers({ rate }, Number.MIN_VALUE, 1).rate;
    this.#maxKeys = numbers({ maxKeys }, 1).maxKeys;
  }

  get sampledKeys(): number {
    return this.#keys.size;
  }

  get tooFewKeys(): boolean {
    return this.#rate < 1 && this.sampledKeys < MIN_SAMPLED_KEYS;
  }

  see(key: string): void {
    this.#requests++;
    if (hash(key) >= this.#rate) return;
    const distance = this.#keys.access(key);
    const scaled = distance === undefined ? -1 : 1 + Math.floor((distance - 1) / this.#rate);
    this.#counts[scaled] = (this.#counts[scaled] ?? 0) + 1;
    while (this.sampledKeys > this.#maxKeys) this.#lowerTo(this.#rate * 0.75);
  }

  missRatio(entries: number): number {
    let misses = 0;
    for (const [distance, count] of Object.entries(this.#counts)) {
      if (Number(distance) < 0 || Number(distance) > entries) misses += count;
    }
    return Math.min(1, misses / (this.#requests * this.#rate));
  }

  entriesFor(hitRatio: number): number | undefined {
    // Integers stand in rising order in an object.
    return Object.keys(this.#counts)
      .map(Number)
      .find((distance) => distance > 0 && 1 - this.missRatio(distance) >= hitRatio);
  }

  #lowerTo(rate: number): void {
    for (const [distance, count] of Object.entries(this.#counts)) {
      this.#counts[Number(distance)] = (count * rate) / this.#rate;
    }
    for (const key of [...this.#keys.keys()].filter((each) => hash(each) >= rate)) this.#keys.forget(key);
    this.#rate = rate;
  }
}

export function missRatioCurve(keys: Iterable<string>, sampling: Sampling = {}): Curve {
  const shards = new Shards(sampling);
  for (const key of keys) shards.see(key);
  return shards;
}
