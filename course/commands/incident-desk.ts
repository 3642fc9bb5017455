import { CAUSES, type Cause, FACTS } from '../experiments/incidents/facts';
import { Keys } from '../screen/keys';
import { bold, dim, green, minutes, red, wrap } from '../screen/terminal';

/** The causes by their numbers. */
export const WAYS = CAUSES.map((cause, at) => `  ${at + 1} ${cause}`).join('\n');

export const lookFirst = (cause: Cause): string => wrap(`Look first: ${FACTS[cause].lookFirst}`);

/** A clock, and the keys of a person who looks for the cause. */
export class IncidentDesk {
  /** The exit code, once the person has left. */
  readonly left: Promise<number>;
  readonly #cause: Cause;
  readonly #culprits: readonly string[];
  readonly #start = performance.now();
  readonly #ticks: NodeJS.Timeout;
  #wrong = 0;
  /** How long it took, once the answer is known. */
  #took: string | undefined;

  constructor(cause: Cause, culprits: readonly string[]) {
    this.#cause = cause;
    this.#culprits = culprits;
    const keys = new Keys((key) => this.#press(key));
    this.left = keys.left.finally(() => {
      clearInterval(this.#ticks);
      keys.close();
      process.stdout.write(`${EMPTY}The shop is closed.\n`);
    });
    this.#ticks = setInterval(() => this.#tick(), 1000);
    this.#tick();
  }

  #press(key: string): void {
    if (key === 'h') this.#say(lookFirst(this.#cause));
    else if (key === 'a') this.#answer(bold(`It was: ${this.#cause}.`));
    else if (/^[1-9]$/.test(key)) this.#guess(CAUSES[Number(key) - 1] ?? this.#cause);
  }

  #guess(cause: Cause): void {
    if (cause === this.#cause) {
      const tries = this.#wrong === 0 ? 'at the first try' : `at try ${this.#wrong + 1}`;
      this.#answer(green(`Right, ${tries}: ${cause}.`));
      return;
    }
    this.#wrong += 1;
    const seen = `It would look like this: ${FACTS[cause].looksLike}`;
    this.#say(`${red(`Not ${cause}.`)}\n${wrap(seen)}`);
  }

  #answer(head: string): void {
    this.#took ??= minutes(performance.now() - this.#start);
    const { lookFirst: look, looksLike, remedy } = FACTS[this.#cause];
    const evidence = this.#culprits.length > 0 ? [`Evidence: ${this.#culprits.join(' or ')}`] : [];
    const debrief = [
      `Time: ${this.#took}`,
      ...evidence,
      `Look first: ${look}`,
      `It looks like this: ${looksLike}`,
      `Then: ${remedy}`,
    ];
    this.#say(
      `${head}\n${debrief.map((line) => wrap(line)).join('\n')}\n\nIt goes on, if you want to look again.`,
    );
  }

  #say(text: string): void {
    process.stdout.write(`${EMPTY}${text}\n\n`);
    this.#tick();
  }

  /** One row, which the next one overwrites: it fits 80 columns. */
  #tick(): void {
    const keys = dim('1-9 the cause  h look first  a answer  q quit');
    process.stdout.write(`${EMPTY}${this.#took ?? minutes(performance.now() - this.#start)}  ${keys}`);
  }
}

/** Back to the beginning of the row, and nothing in it. */
const EMPTY = '\r\x1b[2K';
