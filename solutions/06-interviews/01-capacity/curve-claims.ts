import type { Claim } from '#claims';
import { missRatioCurve } from './capacity';
import { type Curve, hash } from './given';

/** Differences from the exact curve, as a mean over sizes and over names of the keys, which change the sample. */
export function sampleClaims(ranks: readonly number[], exact: Curve): Claim[] {
  const sizes = [0.02, 0.05, 0.1, 0.2, 0.4, 0.8].map((part) => Math.round(part * (exact.sampledKeys ?? 0)));
  const errors = (rate: number) => {
    const sums = { adjusted: 0, raw: 0, keys: 0 };
    const names = ['article', 'page', 'user'];
    for (const name of names) {
      const trace = ranks.map((rank) => `${name}:${rank}`);
      const curve = missRatioCurve(trace, { rate });
      const raw = rawOf(trace, rate, curve);
      for (const size of sizes) {
        sums.adjusted += Math.abs(curve.missRatio(size) - exact.missRatio(size));
        sums.raw += Math.abs(raw(size) - exact.missRatio(size));
      }
      sums.keys += (curve.sampledKeys ?? 0) / names.length;
    }
    const count = names.length * sizes.length;
    return { adjusted: (100 * sums.adjusted) / count, raw: (100 * sums.raw) / count, keys: sums.keys };
  };
  const [tenth, hundredth] = [errors(0.1), errors(0.01)];
  const claim = (name: string, says: string, value: number): Claim => ({ name, says, value, unit: '%' });
  return [
    {
      ...claim(
        'shards',
        'miss ratio from a tenth of the keys, adjusted: mean difference from the exact one',
        tenth.adjusted,
      ),
      atMost: 2,
    },
    {
      ...claim(
        'raw',
        'miss ratio from a tenth of the keys, raw: mean difference from the exact one',
        tenth.raw,
      ),
      atLeast: 2,
    },
    claim(
      'shards-1',
      'miss ratio from a hundredth of the keys, adjusted: mean difference',
      hundredth.adjusted,
    ),
    claim('raw-1', 'miss ratio from a hundredth of the keys, raw: mean difference', hundredth.raw),
    { name: 'keys-10', says: 'keys in the sample of a tenth', value: tenth.keys, unit: 'keys' },
    { name: 'keys-1', says: 'keys in the sample of a hundredth', value: hundredth.keys, unit: 'keys' },
  ];
}

/** The curve that divides by the requests of the sample. */
export function rawOf(trace: readonly string[], rate: number, curve: Curve): (size: number) => number {
  const sampled = trace.filter((key) => hash(key) < rate).length;
  return (size) => (curve.missRatio(size) * trace.length * rate) / sampled;
}

/** Entries for one percent more hits. */
export function costOfNextPercent(curve: Curve, hitRatio: number): number {
  const [from, to] = [curve.entriesFor(hitRatio), curve.entriesFor(hitRatio + 0.01)];
  return (to ?? Number.NaN) - (from ?? Number.NaN);
}
