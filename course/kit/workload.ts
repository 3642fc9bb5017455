/**
 * Ranks 0…n-1 drawn with probability proportional to 1 / (rank + 1)^skew: the popularity of items in most caches.
 * Inversion of the exact cumulative distribution; memory is 8 bytes an item.
 */
export function zipf({ n, skew, random }: { n: number; skew: number; random: () => number }): () => number {
  const cumulative = new Float64Array(n);
  let total = 0;
  for (let rank = 0; rank < n; rank++) {
    total += 1 / (rank + 1) ** skew;
    cumulative[rank] = total;
  }
  return () => firstAbove(cumulative, random() * total);
}

function firstAbove(sorted: Float64Array, target: number): number {
  let low = 0;
  let high = sorted.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] ?? 0) > target) high = middle;
    else low = middle + 1;
  }
  return low;
}
