import { isatty } from 'node:tty';

/** The exit code where the terminal is gone. */
export const HANGUP = 129;
const CODES = { SIGHUP: HANGUP, SIGINT: 130, SIGTERM: 143 } as const;
/** npm and the terminal both send a Ctrl-C: what follows at once is the same one. */
const SAME_SIGNAL_MS = 500;
const TERMINAL_LOOKS_EVERY_MS = 1000;

/**
 * Runs `clean` when the process is asked to end, or its terminal is gone, then ends it. A second Ctrl-C does not wait.
 */
export function onEnd(clean: () => Promise<unknown>): void {
  let endingSince: number | undefined;
  const end = async (code: number) => {
    if (endingSince !== undefined) {
      if (code !== HANGUP && performance.now() - endingSince > SAME_SIGNAL_MS) process.exit(code);
      return;
    }
    endingSince = performance.now();
    try {
      await clean();
    } finally {
      process.exit(code);
    }
  };
  for (const [signal, code] of Object.entries(CODES)) process.on(signal, () => end(code));
  onHangup(() => end(HANGUP));
}

/** A terminal that goes tells so to its own session only, and `su -c` or `setsid` make another one. */
export function onHangup(told: () => void): void {
  if (!isatty(0)) return;
  const looks = setInterval(() => {
    if (isatty(0)) return;
    clearInterval(looks);
    told();
  }, TERMINAL_LOOKS_EVERY_MS).unref();
}

/** The reader of the output has left (`npm test | head -1`): the command goes on, and its exit code stands. */
export function outliveReaders(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE' && error.code !== 'EIO') throw error;
    });
  }
}
