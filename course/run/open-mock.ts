import { existsSync } from 'node:fs';
import { Refusal } from '../base/refusal';
import type { Lab } from '../content/catalog';
import { elapsed, shortName, timeOf } from './drills';
import { changeMock, type Mark, type Mock } from './mock';
import { readProgress } from './progress';
import { isStarter } from './standing';

/** A killed process loses no more of the clock than this. */
const SAVE_MS = 5000;

/** The mock before the learner, with a clock that stands still while nobody is there. */
export class OpenMock {
  #mock: Mock;
  /** Up to when the clock is in the file. */
  #savedAt = performance.now();
  readonly #saves: NodeJS.Timeout;

  constructor(mock: Mock) {
    this.#mock = mock;
    this.#saves = setInterval(() => this.#save({}), SAVE_MS);
  }

  get now(): Mock {
    return this.#mock;
  }

  /** How long it has been before the learner (ms). */
  get usedMs(): number {
    return this.#mock.usedMs + performance.now() - this.#savedAt;
  }

  mark(key: string, mark: Mark): void {
    this.change({ marks: { ...this.#mock.marks, [key]: mark } });
  }

  /** Saved at once, and the clock with it. @throws {Refusal} where another session has ended the mock */
  change(part: Partial<Mock>): void {
    if (!this.#save(part)) {
      throw new Refusal(
        'This mock was ended in another terminal. Go on there, or begin here: npm run interview',
      );
    }
  }

  /** @returns whether the mock is still under way */
  #save(part: Partial<Mock>): boolean {
    const used = performance.now() - this.#savedAt;
    const changed = changeMock(this.#mock, ({ usedMs, marks }) => ({
      ...part,
      usedMs: Math.round((part.usedMs ?? usedMs) + used),
      marks: { ...marks, ...part.marks },
    }));
    if (!changed) return false;
    this.#savedAt += used;
    this.#mock = changed;
    return true;
  }

  close(): void {
    clearInterval(this.#saves);
    this.#save({});
  }
}

/** How the drill of a mock stands. */
export interface DrillState {
  readonly left: Mock['drill'];
  readonly pass: string;
  /** All its tests have passed since the learner left for it. */
  readonly done: boolean;
  /** How long it took, or has taken up to now (ms). */
  readonly ms: number | undefined;
  readonly command: string;
  /** The learner's file, where the command puts the starter in its place. */
  readonly replaces: string | undefined;
}

export function drillState({ drill: left }: Mock, lab: Lab): DrillState {
  const pass = readProgress().passed[lab.id]?.at ?? '';
  const done = left !== null && pass !== left.pass;
  const running = elapsed(lab);
  // A clock that runs already is of an earlier try.
  const anew = left === null && running !== undefined ? ' --again' : '';
  const begins = anew !== '' || running === undefined;
  const { starter } = lab.files;
  return {
    left,
    pass,
    done,
    ms: done ? timeOf(lab) : left ? running : undefined,
    command: `npm run drill -- ${shortName(lab)}${anew}`,
    replaces: begins && existsSync(starter) && !isStarter(lab) ? starter : undefined,
  };
}
