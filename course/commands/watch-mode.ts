import { dirname } from 'node:path';
import { messageOrThrow } from '../base/refusal';
import { shown } from '../base/root';
import type { Lab } from '../content/catalog';
import { chooseProduction, hasChosenProduction } from '../run/progress';
import type { Session } from '../run/session';
import { type Answer, isCoreRed } from '../run/verdict';
import { screen, typeNote } from '../screen/answer';
import { Keys } from '../screen/keys';
import { labAfter, labTitle } from '../screen/standing';
import { bold, cut, cyan, dim } from '../screen/terminal';
import { resetForNow } from './reset';
import { hintFor, overview, solutionFor } from './study';
import { watchFolder } from './watch-files';

/** What a drill shows beside the answers of its lab. */
export interface Beside {
  /** Below the keys; empty for a lab that has no clock. */
  clock(lab: Lab): string;
  isOver(lab: Lab): boolean;
  /** The task again. */
  words(lab: Lab): string;
  /** Below an answer; empty where there is nothing to add. */
  after(answer: Answer): string;
}

const TICK_MS = 1000;

/** One lab: its folder is watched, keys are heard, one run at a time. */
export class WatchMode {
  /** The exit code, once the learner has left. */
  readonly left: Promise<number>;
  readonly #session: Session;
  readonly #beside: Beside | undefined;
  #ticks: NodeJS.Timeout | undefined;
  /** The time has been called. */
  #called = false;
  #lab: Lab | undefined;
  #unwatch = () => {};
  #running = false;
  /** Something changed while a run went on: its answer is out of date. */
  #stale = false;
  /** Shown above the next answer. */
  #note = '';
  /** What a reset did, until the file changes. */
  #resetWords = () => '';
  /** What stands on the screen now. */
  #text = '';
  /** A key pressed while a run went on. */
  #later = '';
  /** The learner has gone on to production. */
  #production = false;
  #answer: Answer | string = '';

  constructor(session: Session, beside?: Beside) {
    this.#session = session;
    this.#beside = beside;
    const keys = new Keys((key) => this.#lab && this.#obey(key, this.#lab));
    this.left = keys.left.finally(() => {
      this.#unwatch();
      clearInterval(this.#ticks);
      keys.close();
      if (this.#running) console.log();
    });
  }

  /** @param note shown above the first answer */
  open(lab: Lab, note = ''): void {
    this.#watch(lab);
    this.#note = note;
    this.#run();
  }

  /** The lab with a text to read first: it runs at the first save. */
  read(lab: Lab, text: string): void {
    this.#watch(lab);
    this.#show(text);
  }

  #watch(lab: Lab): void {
    this.#unwatch();
    clearInterval(this.#ticks);
    this.#lab = lab;
    this.#resetWords = () => '';
    this.#production = hasChosenProduction(lab);
    this.#called = this.#beside?.isOver(lab) ?? false;
    this.#unwatch = watchFolder(dirname(lab.files.starter), () => this.#run());
    if (this.#beside) this.#ticks = setInterval(() => this.#tick(lab), TICK_MS);
  }

  /** The clock goes on in the last row. */
  #tick(lab: Lab): void {
    if (this.#running || this.#text === '') return;
    if (!this.#called && this.#beside?.isOver(lab)) {
      this.#called = true;
      if (this.#answer !== '') this.#show(this.#screen());
    }
    process.stdout.write(`\x1b[1A\r\x1b[2K${this.#lastRow()}\n`);
  }

  #lastRow(): string {
    if (!this.#lab) return '';
    const clock = this.#beside?.clock(this.#lab);
    const row = `${clock ? `${clock}  ` : ''}watching ${shown(this.#lab.files.starter)}`;
    return dim(cut(row, process.stdout.columns || 80));
  }

  async #run(): Promise<void> {
    this.#stale = this.#running;
    const lab = this.#lab;
    if (this.#running || !lab) return;
    this.#running = true;
    this.#text = '';
    console.clear();
    process.stdout.write([this.#resetWords(), dim(`${labTitle(lab)} …`)].filter(Boolean).join('\n\n'));
    const answer = await this.#runLab(lab);
    this.#running = false;
    if (this.#stale) return await this.#run();
    await this.#tell(answer);
  }

  async #tell(answer: Answer | string): Promise<void> {
    const note = this.#note && `${this.#note}\n\n`;
    this.#note = '';
    this.#answer = answer;
    const text = note + this.#screen();
    this.#show(text);
    const later = this.#later;
    this.#later = '';
    if (later && this.#lab) this.#obey(later, this.#lab);

    const types = typeof answer === 'string' ? '' : await typeNote(answer);
    if (types && this.#text === text) this.#show(`${text}\n${types}`);
  }

  #screen(): string {
    const answer = this.#answer;
    const parts =
      typeof answer === 'string'
        ? [answer]
        : [screen(answer, { production: this.#production, keys: true }), this.#beside?.after(answer)];
    // Below the answer: what is above a long one is out of sight.
    return [...parts, this.#resetWords()].filter(Boolean).join('\n\n');
  }

  /** What came of a run, or why there was none. */
  async #runLab(lab: Lab): Promise<Answer | string> {
    try {
      return await this.#session.run(lab);
    } catch (error) {
      return messageOrThrow(error);
    }
  }

  #obey(key: string, lab: Lab): void {
    if (key === 'return') this.#run();
    else if (key === 'n') this.#next(lab);
    // The answer of a run that goes on now would wipe these off again.
    else if (this.#running) this.#later = key;
    else if (key === 'h') this.#show(hintFor(lab, true));
    else if (key === 'i' && this.#beside) this.#show(this.#beside.words(lab));
    else if (key === 'p') this.#goOn(lab);
    else if (key === 'l') this.#show(overview());
    else if (key === 's') this.#show(solutionFor(lab, isCoreRed(this.#answer)));
    else if (key === 'r') this.#startAgain(lab);
  }

  /** To production, and back to what Core says. */
  #goOn(lab: Lab): void {
    this.#production = !this.#production;
    chooseProduction(lab, this.#production);
    this.#show(this.#screen());
  }

  #startAgain(lab: Lab): void {
    this.#resetWords = resetForNow(lab);
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
    const ways = this.#beside ? ['interviewer', 'hint'] : ['hint', 'next', 'production', 'list'];
    const keys = [...ways, 'reset', 'solution', 'quit'].map(
      (word) => `${bold(word[0] ?? '')}${dim(word.slice(1))}`,
    );
    console.log(`${text}\n\n${keys.join('  ')}\n${this.#lastRow()}`);
  }
}
