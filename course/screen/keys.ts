import { emitKeypressEvents } from 'node:readline';
import { HANGUP } from '../base/signals';

interface Pressed {
  readonly name?: string;
  readonly sequence?: string;
  readonly ctrl?: boolean;
}

/** The keys of a person at a terminal, one by one, until the person leaves. */
export class Keys {
  /** The exit code: of q, of Ctrl-C and Ctrl-D, of a terminal that is gone. */
  readonly left: Promise<number>;

  /** @param press hears the name of a key (`return`, `a`), and what it types (`+`) */
  constructor(press: (name: string, typed: string) => void) {
    const { stdin } = process;
    emitKeypressEvents(stdin);
    stdin.setRawMode(true);
    stdin.resume();
    this.left = new Promise<number>((resolve) => {
      stdin.on('keypress', (_, { name = '', sequence = '', ctrl = false }: Pressed) => {
        // In raw mode the terminal sends the key and not the signal.
        if (ctrl ? name === 'c' || name === 'd' : name === 'q') resolve(ctrl ? 130 : 0);
        else if (!ctrl) press(name, sequence);
      });
      // Nobody is at the terminal any more: it was closed, or it belongs to another program now.
      for (const event of ['end', 'error']) stdin.once(event, () => resolve(HANGUP));
      stdin.on('error', () => {});
    });
  }

  /** The terminal as it was. */
  close(): void {
    process.stdin.setRawMode(false);
    process.stdin.pause();
  }
}
