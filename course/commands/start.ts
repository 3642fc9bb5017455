import { watch } from 'node:fs';
import { dirname } from 'node:path';
import { createInterface, emitKeypressEvents } from 'node:readline';
import { type Lab, labs, shown } from '../catalog';
import { currentLab } from '../progress';
import { name, screen } from '../report';
import { openSession, type Session } from '../session';
import { onEnd } from '../signals';
import { openStack } from '../stack/open';
import { bold, cyan, dim } from '../terminal';
import { resetLab } from './reset';
import { hintFor, overview, solutionFor } from './study';

/** An editor writes a file in several steps; one answer is enough. */
const SETTLES_MS = 25;

/** `npm start`: sets up what is missing, starts the stack, and answers every save of the current lab. */
export async function start(args: readonly string[]): Promise<number> {
  const interactive = process.stdin.isTTY === true && process.stdout.isTTY === true;
  const install = args.includes('--yes') ? 'yes' : 'ask';
  // Nothing else may write while a question about an installation is on the screen.
  const stack = await openStack({ install });
  const session = openSession(async () => stack, { eager: true });
  onEnd(() => session.close());

  console.log(`${overview()}\n`);
  try {
    return interactive ? await watchLabs(session) : await once(session);
  } finally {
    await session.close();
  }
}

/** Without a terminal there is nobody to watch for. */
async function once(session: Session): Promise<number> {
  const lab = currentLab(labs());
  if (!lab) {
    console.log('Every lab is passed.');
    return 0;
  }
  const [answer] = await session.run([lab]);
  if (answer) console.log(screen(lab, answer.verdict, answer.typeErrors));
  return answer?.verdict.kind === 'passed' ? 0 : 1;
}

function watchLabs(session: Session): Promise<number> {
  const desk = new Desk(session);
  desk.open(currentLab(labs()) ?? labs().at(-1));
  return desk.left;
}

/** One lab on the table: its file is watched, keys are heard, one run at a time. */
class Desk {
  readonly left: Promise<number>;
  readonly #session: Session;
  #leave: (code: number) => void = () => {};
  #lab: Lab | undefined;
  #unwatch = () => {};
  #running = false;
  #again = false;

  constructor(session: Session) {
    this.#session = session;
    this.left = new Promise((resolve) => {
      this.#leave = resolve;
    });
    emitKeypressEvents(process.stdin, createInterface({ input: process.stdin, escapeCodeTimeout: 50 }));
    process.stdin.setRawMode(true);
    process.stdin.on('keypress', (_, key: { name?: string; ctrl?: boolean }) => this.#press(key));
  }

  open(lab: Lab | undefined): void {
    this.#unwatch();
    if (!lab) return;
    this.#lab = lab;
    let timer: NodeJS.Timeout | undefined;
    // The folder, not the file: many editors replace the file on saving.
    const watcher = watch(dirname(lab.files.starter), () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.#run(), SETTLES_MS);
    });
    this.#unwatch = () => watcher.close();
    this.#run();
  }

  async #run(): Promise<void> {
    this.#again = this.#running;
    const lab = this.#lab;
    if (this.#running || !lab) return;
    this.#running = true;
    const [answer] = await this.#session.run([lab]);
    this.#running = false;
    if (this.#again || lab !== this.#lab) return void this.#run();
    if (answer) this.#show(screen(lab, answer.verdict, answer.typeErrors));
  }

  #show(text: string): void {
    const keys = ['hint', 'next', 'list', 'reset', 'solution', 'quit'].map(
      (word) => `${bold(word[0] ?? '')}${dim(word.slice(1))}`,
    );
    console.clear();
    console.log(
      `${text}\n\n${keys.join('  ')}   ${dim(`watching ${this.#lab ? shown(this.#lab.files.starter) : ''}`)}`,
    );
  }

  #press({ name: key, ctrl }: { name?: string; ctrl?: boolean }): void {
    const lab = this.#lab;
    // In raw mode the terminal sends the key and not the signal.
    if (key === 'q' || (ctrl && key === 'c')) this.#quit(ctrl ? 130 : 0);
    if (!lab || ctrl) return;
    if (key === 'h') this.#show(hintFor(lab));
    if (key === 'l') this.#show(overview());
    if (key === 's') this.#show(solutionFor(lab));
    if (key === 'n') this.#next(lab);
    if (key === 'r') resetLab(lab);
    if (key === 'return') this.#run();
  }

  #next(lab: Lab): void {
    const all = labs();
    const place = all.findIndex(({ id }) => id === lab.id);
    const following = currentLab(all.slice(place + 1));
    if (following) this.open(following);
    else
      this.#show(`No lab after ${name(lab)} is left to pass.
${cyan('npm run list')} shows all.`);
  }

  #quit(code: number): void {
    this.#unwatch();
    process.stdin.setRawMode(false);
    process.stdin.pause();
    this.#leave(code);
  }
}
