import { shown } from '../base/root';
import type { Claim } from './claims';
import { bound, figure, holds, isBounded } from './figures';
import { type MeasuredRecord, readRecord } from './record';
import { type MeasureResult, type Mode, runMeasures } from './run';
import { hasMeasure, type Target } from './targets';

export interface ClaimCheck {
  /** As seen now. */
  readonly claim: Claim;
  /** The value in measured.json, which the lesson shows. */
  readonly recorded?: number;
  readonly holds: boolean;
}

export interface TargetCheck {
  readonly target: Target;
  readonly seconds: number;
  readonly claims: readonly ClaimCheck[];
  /** What is wrong, each with its file and its remedy; empty when all is well. */
  readonly problems: readonly string[];
}

/** Measures the claims of those that make any. What does not hold is measured again when all others are done. */
export async function checkClaims(chosen: readonly Target[], mode: Mode): Promise<TargetCheck[]> {
  const checks = await checkEach(chosen.filter(hasMeasure), mode);
  // Another program may be busy for longer than one measure takes.
  const broken = checks.filter(({ claims }) => claims.some((check) => !check.holds));
  const again = await checkEach(
    broken.map(({ target }) => target),
    mode,
  );
  return checks.map((check) => again.find(({ target }) => target === check.target) ?? check);
}

async function checkEach(targets: readonly Target[], mode: Mode): Promise<TargetCheck[]> {
  const checks: TargetCheck[] = [];
  for await (const measured of runMeasures(targets, mode)) checks.push(checkResult(measured));
  return checks;
}

/** Sets what was seen against the bounds, and against what has been recorded. */
export function checkResult(
  { target, seconds, result }: MeasureResult,
  record = readRecord(target.record),
): TargetCheck {
  if (result instanceof Error) return { target, seconds, claims: [], problems: [result.message] };
  const claims = result.claims.map((claim) => ({
    claim,
    recorded: record?.claims.find(({ name }) => name === claim.name)?.value,
    holds: holds(claim),
  }));
  const broken = claims.filter((check) => !check.holds).map(({ claim }) => boundMessage(target, claim));
  return { target, seconds, claims, problems: [...broken, ...drift(target, result, record)] };
}

function boundMessage({ id, measure }: Target, claim: Claim): string {
  return (
    `${shown(measure)}: claim ${claim.name} is ${figure(claim.value, claim.unit)} and must be ${bound(claim)} ` +
    `("${claim.says}"). Repeat it alone: npm run measure -- ${id}. If it fails again, fix the solution, ` +
    'or correct the bound and what the lesson says about it.'
  );
}

/** The lesson's numbers come from the record: it must be of the claims that the measure makes today. */
function drift({ id, record: path, lesson }: Target, now: MeasuredRecord, then?: MeasuredRecord): string[] {
  if (!lesson) return [];
  const remedy = `Run npm run measure -- ${id} --write.`;
  if (!then) return [`${shown(path)} is missing. ${remedy}`];
  const terms = ({ says, unit, atLeast, atMost, exact }: Claim) =>
    JSON.stringify([says, unit, atLeast, atMost, exact]);
  const recorded = new Map(then.claims.map((claim) => [claim.name, claim]));
  const seen = new Set(now.claims.map(({ name }) => name));
  return [
    ...now.claims.flatMap((claim) => {
      const old = recorded.get(claim.name);
      if (!old) return [`${shown(path)} does not hold claim ${claim.name}. ${remedy}`];
      if (terms(old) !== terms(claim)) {
        return [`${shown(path)} holds other words or another bound for claim ${claim.name}. ${remedy}`];
      }
      return claim.exact && old.value !== claim.value
        ? [
            `${shown(path)} holds ${old.value} for claim ${claim.name}, which is ${claim.value} now. ${remedy}`,
          ]
        : [];
    }),
    ...then.claims
      .filter((claim) => (isBounded(claim) || claim.exact) && !seen.has(claim.name))
      .map((claim) => `${shown(path)} holds claim ${claim.name}, which the measure does not make. ${remedy}`),
  ];
}
