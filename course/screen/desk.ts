import { stripVTControlCharacters } from 'node:util';
import { Keys } from './keys';
import { bold, cut, dim, wrap } from './terminal';

/** A screen of its own without a cursor; the learner's comes back after it. */
const ENTER = '\x1b[?1049h\x1b[?25l';
const LEAVE = '\x1b[?25h\x1b[?1049l';

/** One screenful, or several, and the keys that end it. */
export interface Sheet<K extends string> {
  /** Drawn again when the window changes its size. */
  text(): string;
  /** What each key does: `{ return: 'show the answer' }`. */
  readonly keys: Readonly<Record<K, string>>;
  /** In the last row. */
  status(): string;
}

/** Asks a person at a terminal one thing after another, by keys. A text that is too long is shown by the page. */
export class Desk {
  /** The exit code, once the person has left. */
  readonly left: Promise<number>;
  readonly #keys: Keys;
  readonly #ticks: NodeJS.Timeout;
  #sheet: Sheet<string> | undefined;
  #answer: (key: string) => void = () => {};
  #page = 0;
  #closed = false;
  /** Warnings, such as of a file that cannot be written: this screen would swallow them. */
  readonly #warnings: unknown[][] = [];
  readonly #warn = console.error;

  constructor() {
    process.stdout.write(ENTER);
    console.error = (...words: unknown[]) => this.#warnings.push(words);
    process.stdout.on('resize', this.#resized);
    this.#keys = new Keys((name, typed) => this.#press(name || typed));
    this.left = this.#keys.left;
    this.#ticks = setInterval(() => this.#tick(), 1000);
  }

  /** Stays pending where the person leaves. */
  async ask<K extends string>(sheet: Sheet<K>): Promise<K> {
    this.#sheet = sheet;
    this.#page = 0;
    this.#draw();
    return new Promise<K>((resolve) => {
      this.#answer = (key) => {
        if (isKey(key, sheet.keys)) resolve(key);
      };
    });
  }

  /** The terminal as it was. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#sheet = undefined;
    clearInterval(this.#ticks);
    process.stdout.off('resize', this.#resized);
    this.#keys.close();
    process.stdout.write(LEAVE);
    console.error = this.#warn;
    for (const words of this.#warnings) console.error(...words);
  }

  #press(key: string): void {
    const more = this.#page + 1 < this.#pages().length;
    const forward = ['space', 'return', 'down', 'right', 'pagedown'].includes(key);
    if (forward && more) this.#turn(1);
    else if (['up', 'left', 'pageup', 'backspace'].includes(key)) this.#turn(-1);
    else this.#answer(key === 'space' ? 'return' : key);
  }

  #turn(by: number): void {
    this.#page = Math.max(0, this.#page + by);
    this.#draw();
  }

  readonly #resized = () => this.#draw();

  #draw(): void {
    if (!this.#sheet) return;
    const pages = this.#pages();
    this.#page = Math.min(this.#page, pages.length - 1);
    const page = pages[this.#page] ?? [];
    const space = Math.max(0, size().rows - page.length - this.#foot().length - 1);
    const lines = [...page, ...Array<string>(space).fill(''), ...this.#foot(), this.#lastRow()];
    process.stdout.write(`\x1b[H${lines.map((line) => `${fitted(line)}\x1b[K`).join('\r\n')}\x1b[J`);
  }

  /** The clock goes on, and a text that is being read or marked stays as it is. */
  #tick(): void {
    if (this.#sheet) process.stdout.write(`\x1b[${size().rows};1H\x1b[2K${fitted(this.#lastRow())}`);
  }

  #pages(): string[][] {
    const room = Math.max(3, size().rows - this.#foot().length - 1);
    return paged((this.#sheet?.text() ?? '').split('\n').map(broken).join('\n'), room);
  }

  /** What the keys do. */
  #foot(): string[] {
    const keys = Object.entries(this.#sheet?.keys ?? {});
    const words = [...keys, ['q', 'quit'] as const].map(
      ([key, does]) => `${key === 'return' ? 'Enter' : key}\u00a0${does.replaceAll(' ', '\u00a0')}`,
    );
    const rows = wrap(words.join('  ')).split('\n');
    return ['', ...rows.map((row) => bold(row.replaceAll('\u00a0', ' ')))];
  }

  #lastRow(): string {
    const pages = this.#pages().length;
    const where = pages > 1 ? [`page ${this.#page + 1} of ${pages}`] : [];
    const more = this.#page + 1 < pages ? ['Space: more'] : [];
    return dim([...more, ...where, this.#sheet?.status() ?? ''].filter(Boolean).join(' · '));
  }
}

const isKey = <K extends string>(key: string, keys: Readonly<Record<K, string>>): key is K =>
  Object.hasOwn(keys, key);

// A terminal that does not know its size says 0.
const size = () => ({ columns: process.stdout.columns || 80, rows: process.stdout.rows || 24 });

/** A line of code may be longer than the window is wide: it goes on in the next row. */
function broken(line: string): string {
  const plain = stripVTControlCharacters(line);
  if (plain.length <= size().columns) return line;
  return wrap(plain.trimStart(), ' '.repeat(plain.length - plain.trimStart().length));
}

const fitted = (line: string): string => {
  const { columns } = size();
  const plain = stripVTControlCharacters(line);
  return plain.length > columns ? cut(plain, columns) : line;
};

/** Pages of at most so many lines. A paragraph stays in one where that does not leave half a page empty. */
export function paged(text: string, room: number): string[][] {
  const pages: string[][] = [[]];
  for (const paragraph of text.split('\n\n').map((each) => each.split('\n'))) {
    const page = pages.at(-1) ?? [];
    const gap = page.length > 0 ? [''] : [];
    const left = room - page.length - gap.length;
    const here = paragraph.length <= left || left > room / 2 ? left : 0;
    if (here > 0) page.push(...gap, ...paragraph.slice(0, here));
    for (let at = here; at < paragraph.length; at += room) pages.push(paragraph.slice(at, at + room));
  }
  return pages;
}
