import { isDrill, type Lab, labs } from '../content/catalog';
import { readProgress } from './progress';
import { isRecord, StateFile } from './state-file';

export const DRILL_MS = 25 * 60_000;
/** A drill that was left for so long is over. */
const FORGOTTEN_MS = 4 * 60 * 60_000;

interface Drills {
  readonly version: 1;
  /** The one whose clock runs, and since when (ms since the epoch). */
  readonly underWay: { readonly lab: string; readonly at: number } | null;
  /** How long each took the last time, by lab id. */
  readonly done: Readonly<Record<string, { readonly at: string; readonly ms: number }>>;
}

const FILE = new StateFile<Drills>({
  name: 'drills',
  none: { version: 1, underWay: null, done: {} },
  current: (stored) =>
    stored.version === 1 && isRecord(stored.done) && isClock(stored.underWay)
      ? (stored as unknown as Drills)
      : undefined,
  afterDamage: 'the times of earlier drills are lost to the course.',
  afterLoss: '',
});

function isClock(underWay: unknown): boolean {
  if (underWay === null) return true;
  return isRecord(underWay) && typeof underWay.lab === 'string' && Number.isFinite(underWay.at);
}

/** What `npm run drill` calls it. */
export const shortName = ({ id }: Lab): string => id.slice('drill-'.length);

export const drills = (): Lab[] => labs().filter(isDrill);

/** Its clock starts now; that of another drill ends. */
export function beginDrill(lab: Lab): void {
  FILE.write({ ...FILE.read(), underWay: { lab: lab.id, at: Date.now() } });
}

/** How long the clock of this drill has run (ms); undefined where it does not run. */
export function elapsed(lab: Lab): number | undefined {
  settle();
  const { underWay } = FILE.read();
  if (underWay?.lab !== lab.id) return undefined;
  const ms = Date.now() - underWay.at;
  return ms < 0 || ms > FORGOTTEN_MS ? undefined : ms;
}

/** How long it took when its tests last passed (ms). */
export function timeOf(lab: Lab): number | undefined {
  settle();
  return FILE.read().done[lab.id]?.ms;
}

/** The clock ends with the run in which all tests pass, whichever command ran them. */
function settle(): void {
  const { underWay, done } = FILE.read();
  const pass = underWay && readProgress().passed[underWay.lab];
  if (!underWay || !pass || Date.parse(pass.at) < underWay.at) return;
  const time = { at: pass.at, ms: Date.parse(pass.at) - underWay.at };
  FILE.write({ version: 1, underWay: null, done: { ...done, [underWay.lab]: time } });
}
