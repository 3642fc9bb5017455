import { dirname } from 'node:path';
import { emitKeypressEvents } from 'node:readline';
import { Refusal } from '../base/refusal';
import { shown } from '../base/root';
import { HANGUP } from '../base/signals';
import type { Lab } from '../content/catalog';
import type { Session } from '../run/session';
import { standingOf } from '../run/standing';
import type { Answer } from '../run/verdict';
import { screen, typeNote } from '../screen/answer';
import { labAfter, labTitle } from '../screen/standing';
import { bold, cyan, dim } from '../screen/terminal';
import { resetLab } from './reset';
import { hintFor, overview, solutionFor } from './study';
import { watchFolder } from './watch-files';

interface Key {
  readonly name?: string;
  readonly ctrl?: boolean;
}

/** One lab: its folder is watched, keys are heard, one run at a time. */
export class WatchMode {
  /** The exit code, once the learner has left. */
  readonly left: Promise<number>;
  readonly #session: Session;
  #leave: (code: number) => void = () => {};
  #lab: Lab | undefined;
  #unwatch = () => {};
  #running = false;
  /** Something changed while a run went on: its answer is out of date. */
  #stale = false;
  /** Shown above the next answer. */
  #note = '';
  /** What stands on the screen now. */
  #text = '';
  /** A key pressed while a run went on. */
  #later = '';
  /** The learner has gone on to production. */
  #production = false;
  #answer: Answer | string = '';

  constructor(session: Session) {
    this.#session = session;
    this.left = new Promise((resolve) => {
      this.#leave = resolve;
    });
    emitKeypressEvents(process.stdin);
    process.stdin.setRawMode(true);
    process.stdin.resume();
    process.stdin.on('keypress', (_, key: Key) => this.#press(key));
    // Nobody is at the terminal any more: it was closed, or it belongs to another program now.
    for (const event of ['end', 'error']) process.stdin.once(event, () => this.#quit(HANGUP));
    process.stdin.on('error', () => {});
  }

  /** @param note shown above the first answer */
  open(lab: Lab, note = ''): void {
    this.#unwatch();
    this.#lab = lab;
    this.#note = note;
    this.#production = standingOf(lab) === 'core';
    this.#unwatch = watchFolder(dirname(lab.files.starter), () => this.#run());
    this.#run();
  }

  async #run(): Promise<void> {
    this.#stale = this.#running;
    const lab = this.#lab;
    if (this.#running || !lab) return;
    this.#running = true;
    this.#text = '';
    console.clear();
    process.stdout.write(dim(`${labTitle(lab)} …`));
    const answer = await this.#runLab(lab);
    this.#running = false;
    if (this.#stale) return await this.#run();
    process.stdout.write(`\r${' '.repeat(labTitle(lab).length + 2)}\r`);
    await this.#tell(answer);
  }

  async #tell(answer: Answer | string): Promise<void> {
    const note = this.#note && `${this.#note}\n\n`;
    this.#note = '';
    this.#answer = answer;
    const text = note + this.#screen();
    this.#print(text);
    const later = this.#later;
    this.#later = '';
    if (later && this.#lab) this.#obey(later, this.#lab);

    const types = typeof answer === 'string' ? '' : await typeNote(answer);
    if (types && this.#text === text) this.#show(`${text}\n${types}`);
  }

  #screen(): string {
    const answer = this.#answer;
    return typeof answer === 'string' ? answer : screen(answer, { production: this.#production, keys: true });
  }

  /** What came of a run, or why there was none. */
  async #runLab(lab: Lab): Promise<Answer | string> {
    try {
      return await this.#session.run(lab);
    } catch (error) {
      return messageOrThrow(error);
    }
  }

  #press({ name: key = '', ctrl = false }: Key): void {
    // In raw mode the terminal sends the key and not the signal.
    if (ctrl ? key === 'c' || key === 'd' : key === 'q') this.#quit(ctrl ? 130 : 0);
    else if (this.#lab && !ctrl) this.#obey(key, this.#lab);
  }

  #obey(key: string, lab: Lab): void {
    if (key === 'return') this.#run();
    else if (key === 'n') this.#next(lab);
    // The answer of a run that goes on now would wipe these off again.
    else if (this.#running) this.#later = key;
    else if (key === 'h') this.#show(hintFor(lab));
    else if (key === 'p') this.#goOn();
    else if (key === 'l') this.#show(overview());
    else if (key === 's') this.#show(solutionFor(lab));
    else if (key === 'r') this.#reset(lab);
  }

  /** To production, and back to what Core says. */
  #goOn(): void {
    this.#production = !this.#production;
    this.#show(this.#screen());
  }

  #reset(lab: Lab): void {
    try {
      this.#note = resetLab(lab);
    } catch (error) {
      this.#note = messageOrThrow(error);
    }
    this.#run();
  }

  #next(lab: Lab): void {
    const following = labAfter(lab);
    if (following) this.open(following);
    else this.#show(`No other lab is left to pass: ${cyan('npm run list')} shows all.`);
  }

  #show(text: string): void {
    console.clear();
    this.#print(text);
  }

  #print(text: string): void {
    this.#text = text;
    const keys = ['hint', 'next', 'production', 'list', 'reset', 'solution', 'quit'].map(
      (word) => `${bold(word[0] ?? '')}${dim(word.slice(1))}`,
    );
    const watched = this.#lab ? `watching ${shown(this.#lab.files.starter)}` : '';
    console.log(`${text}\n\n${keys.join('  ')}\n${dim(watched)}`);
  }

  #quit(code: number): void {
    this.#unwatch();
    process.stdin.setRawMode(false);
    process.stdin.pause();
    if (this.#running) console.log();
    this.#leave(code);
  }
}

function messageOrThrow(error: unknown): string {
  if (error instanceof Refusal) return error.message;
  throw error;
}
