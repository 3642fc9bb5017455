import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder, messageOf, writeRemedy } from '../base/files';
import { ROOT, shown } from '../base/root';

/** Everything the course writes for the learner: progress, and attempts that a reset set aside. Ignored by git. */
export const STATE = join(ROOT, '.course');

export interface Kind<T> {
  /** `progress`: the file is `.course/progress.json`, and this is its word in messages. */
  readonly name: string;
  readonly none: T;
  /** What the file holds, in today's form; undefined where it is damaged. */
  current(stored: Readonly<Record<string, unknown>>): T | undefined;
  /** Said after the file was damaged: what is lost, or how to get it back. */
  readonly afterDamage: string;
  /** Said after what helps against a failed write. */
  readonly afterLoss: string;
}

/** One JSON file of the learner's. It is replaced whole; one that is damaged is set aside with a message. */
export class StateFile<T> {
  readonly #kind: Kind<T>;
  readonly #file: string;
  /** Where the file cannot be written, what this process knows. */
  #unsaved: T | undefined;

  constructor(kind: Kind<T>) {
    this.#kind = kind;
    this.#file = join(STATE, `${kind.name}.json`);
  }

  read(): T {
    if (this.#unsaved !== undefined) return this.#unsaved;
    if (!existsSync(this.#file)) return this.#kind.none;
    try {
      const stored: unknown = JSON.parse(readFileSync(this.#file, 'utf8'));
      const current = isRecord(stored) ? this.#kind.current(stored) : undefined;
      if (current !== undefined) return current;
    } catch {
      // Not to be read, or not JSON: treated like any other damage.
    }
    this.#setAside();
    return this.#kind.none;
  }

  write(state: T): void {
    // A rename replaces the file whole: a Ctrl-C or a full disk leaves the old one.
    const next = `${this.#file}.${process.pid}`;
    try {
      makeFolder(STATE);
      writeFileSync(next, `${JSON.stringify(state, null, 2)}\n`);
      renameSync(next, this.#file);
      this.#unsaved = undefined;
    } catch (error) {
      if (existsSync(next)) rmSync(next);
      this.#keepInMemory(state, error);
    }
  }

  #setAside(): void {
    const { name, none, afterDamage } = this.#kind;
    const aside = `${this.#file}.damaged-${Date.now()}`;
    try {
      renameSync(this.#file, aside);
      console.error(`\nThe ${name} file could not be read. It is kept as ${shown(aside)}; ${afterDamage}\n`);
    } catch (error) {
      this.#keepInMemory(none, error);
    }
  }

  /** The run itself stands: only the record of it is lost, and that is said once. */
  #keepInMemory(state: T, error: unknown): void {
    if (this.#unsaved === undefined) {
      const { name, afterLoss } = this.#kind;
      console.error(
        `\nYour ${name} cannot be saved: ${messageOf(error)}.\n${writeRemedy(error)}${afterLoss && ` ${afterLoss}`}\n`,
      );
    }
    this.#unsaved = state;
  }
}

export const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
