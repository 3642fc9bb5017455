import { Refusal } from '../base/refusal';
import { onEnd } from '../base/signals';
import { Live } from '../experiments/collapse/live';
import { drawHelp, drawScreen } from '../experiments/collapse/screen';
import { Keys } from '../screen/keys';
import { openServers } from '../servers/open';

/** A screen of its own without a cursor; the learner's comes back after it. */
const ENTER = '\x1b[?1049h\x1b[?25l';
const LEAVE = '\x1b[?25h\x1b[?1049l';

/** `npm run collapse`: the collapse of lesson 5.2, live. */
export async function collapse({ yes }: { yes: boolean }): Promise<number> {
  if (!process.stdin.isTTY || !process.stdout.isTTY) {
    throw new Refusal(
      'npm run collapse is drawn live and needs a terminal. The same as numbers: npm run measure -- cold-cache',
    );
  }
  const terminal = new CollapseScreen();
  let close = async () => terminal.leave();
  onEnd(() => close());
  const servers = await openServers({ install: yes ? 'yes' : 'ask' });
  close = async () => {
    terminal.leave();
    await servers.close();
  };
  try {
    const live = await Live.open(servers.mysql, () => terminal.draw());
    close = async () => {
      terminal.leave();
      await Promise.all([live.close(), servers.close()]);
    };
    return await terminal.enter(live);
  } finally {
    await close();
    process.stdout.write('What you have seen, and why: chapters/05-pitfalls/02-cold-cache.md\n');
  }
}

/** Draws the shop, and hears keys. */
class CollapseScreen {
  #live: Live | undefined;
  #keys: Keys | undefined;
  #helps = false;
  #fail: (error: unknown) => void = () => {};

  /** @returns the exit code, once the learner has left */
  enter(live: Live): Promise<number> {
    this.#live = live;
    process.stdout.write(ENTER);
    process.stdout.on('resize', () => this.draw());
    this.draw();
    const failed = new Promise<never>((_, reject) => {
      this.#fail = reject;
    });
    this.#keys = new Keys((name, typed) => this.#obey(live, name, typed));
    return Promise.race([this.#keys.left, failed]);
  }

  leave(): void {
    if (!this.#live) return;
    this.#live = undefined;
    this.#keys?.close();
    process.stdout.write(LEAVE);
  }

  draw(): void {
    if (!this.#live) return;
    // A terminal that does not know its size says 0.
    const columns = process.stdout.columns || 80;
    const rows = process.stdout.rows || 24;
    const text = this.#helps ? drawHelp(columns) : drawScreen(this.#live.view, columns);
    const lines = text.split('\n').slice(0, rows);
    process.stdout.write(`\x1b[H${lines.map((line) => `${line}\x1b[K`).join('\r\n')}\x1b[J`);
  }

  #obey(live: Live, name: string, typed: string): void {
    if (name === 'up' || typed === '+') live.changeLoad(1);
    else if (name === 'down' || typed === '-') live.changeLoad(-1);
    else if (name === 'f') live.flush();
    else if (name === 'k') live.kill().catch(this.#fail);
    else if (name === 'h' || typed === '?') this.#helps = !this.#helps;
    else if (/^[0-8]$/.test(typed)) live.choose(Number(typed));
    this.draw();
  }
}
