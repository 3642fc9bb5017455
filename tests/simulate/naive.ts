/**
 * Policies as one would write them for reading and not for speed: every step searches a list from one end to the other.
 * Each returns the misses of a trace.
 */
export type Naive = (trace: readonly number[], capacity: number) => number;

/** Calls `miss` for each key that is not in `held`, `hit` for the others. @returns the misses */
function count(
  trace: readonly number[],
  isHeld: (key: number) => boolean,
  { hit, miss }: { hit?: (key: number, at: number) => void; miss: (key: number, at: number) => void },
): number {
  let misses = 0;
  trace.forEach((key, at) => {
    if (isHeld(key)) hit?.(key, at);
    else {
      misses++;
      miss(key, at);
    }
  });
  return misses;
}

const without = (list: number[], key: number): void => {
  list.splice(list.indexOf(key), 1);
};

/** The least of a list by what a function says of each; the first of equals. */
const leastBy = (list: readonly number[], of: (key: number) => number): number =>
  list.reduce((least, key) => (of(key) < of(least) ? key : least));

const lru: Naive = (trace, capacity) => {
  const held: number[] = [];
  return count(trace, (key) => held.includes(key), {
    hit: (key) => {
      without(held, key);
      held.push(key);
    },
    miss: (key) => {
      if (held.length === capacity) held.shift();
      held.push(key);
    },
  });
};

const fifo: Naive = (trace, capacity) => {
  const held: number[] = [];
  return count(trace, (key) => held.includes(key), {
    miss: (key) => {
      if (held.length === capacity) held.shift();
      held.push(key);
    },
  });
};

const lfu: Naive = (trace, capacity) => {
  const uses = new Map<number, { times: number; last: number }>();
  const of = (key: number) => {
    const { times = 0, last = 0 } = uses.get(key) ?? {};
    return times * trace.length + last;
  };
  return count(trace, (key) => uses.has(key), {
    hit: (key, at) => uses.set(key, { times: (uses.get(key)?.times ?? 0) + 1, last: at }),
    miss: (key, at) => {
      if (uses.size === capacity) uses.delete(leastBy([...uses.keys()], of));
      uses.set(key, { times: 1, last: at });
    },
  });
};

const sieve: Naive = (trace, capacity) => {
  /** The first came in first. */
  const queue: number[] = [];
  const visited = new Set<number>();
  let hand = 0;
  return count(trace, (key) => queue.includes(key), {
    hit: (key) => visited.add(key),
    miss: (key) => {
      if (queue.length === capacity) {
        while (visited.delete(queue[hand] ?? -1)) hand = (hand + 1) % queue.length;
        queue.splice(hand, 1);
        // Past the newest key it begins again, and does not wait for the one that comes now.
        if (hand === queue.length) hand = 0;
      }
      queue.push(key);
    },
  });
};

const s3fifo: Naive = (trace, capacity) => {
  const smallAtMost = Math.floor(capacity / 10);
  const ghostAtMost = Math.floor((9 * capacity) / 10);
  const small: number[] = [];
  const main: number[] = [];
  const ghost: number[] = [];
  const uses = new Map<number, number>();
  const of = (key: number) => uses.get(key) ?? 0;
  const evict = (): void => {
    if (main.length <= capacity - smallAtMost) {
      for (let key = small.shift(); key !== undefined; key = small.shift()) {
        if (of(key) < 2) {
          ghost.push(key);
          if (ghost.length > ghostAtMost) ghost.shift();
          return;
        }
        uses.set(key, 0);
        main.push(key);
      }
    }
    for (let key = main.shift(); key !== undefined && of(key) > 0; key = main.shift()) {
      uses.set(key, Math.min(of(key), 3) - 1);
      main.push(key);
    }
  };
  return count(trace, (key) => small.includes(key) || main.includes(key), {
    hit: (key) => uses.set(key, of(key) + 1),
    miss: (key) => {
      const isRemembered = ghost.includes(key);
      if (isRemembered) without(ghost, key);
      if (small.length + main.length === capacity) evict();
      uses.set(key, 0);
      (isRemembered ? main : small).push(key);
    },
  });
};

const wTinyLfu: Naive = (trace, capacity) => {
  const mainAtMost = Math.floor((99 * capacity) / 100);
  const [window, probation, protectedKeys]: [number[], number[], number[]] = [[], [], []];
  const counts = new Map<number, number>();
  const of = (key: number) => counts.get(key) ?? 0;
  let counted = 0;
  const isHeld = (key: number) => {
    counts.set(key, of(key) + 1);
    if (++counted === 10 * capacity) {
      for (const [each, times] of counts) counts.set(each, Math.floor(times / 2));
      counted /= 2;
    }
    return [window, probation, protectedKeys].some((part) => part.includes(key));
  };
  return count(trace, isHeld, {
    hit: (key) => {
      const part = [window, probation, protectedKeys].find((each) => each.includes(key)) ?? window;
      without(part, key);
      (part === window ? window : protectedKeys).push(key);
      if (protectedKeys.length > Math.floor((mainAtMost * 8) / 10))
        probation.push(protectedKeys.shift() ?? -1);
    },
    miss: (key) => {
      window.push(key);
      if (window.length <= capacity - mainAtMost) return;
      const candidate = window.shift() ?? -1;
      if (probation.length + protectedKeys.length < mainAtMost) probation.push(candidate);
      else if (probation.length > 0 && of(candidate) > of(probation[0] ?? -1)) {
        probation.shift();
        probation.push(candidate);
      }
    },
  });
};

const belady: Naive = (trace, capacity) => {
  const held: number[] = [];
  return count(trace, (key) => held.includes(key), {
    miss: (key, at) => {
      const next = (other: number) => {
        const found = trace.indexOf(other, at + 1);
        return found === -1 ? trace.length : found;
      };
      if (held.length === capacity)
        without(
          held,
          leastBy(held, (other) => -next(other)),
        );
      held.push(key);
    },
  });
};

export const NAIVE: Readonly<Record<string, Naive>> = {
  LRU: lru,
  FIFO: fifo,
  LFU: lfu,
  SIEVE: sieve,
  'S3-FIFO': s3fifo,
  'W-TinyLFU': wTinyLfu,
  Belady: belady,
};
