const CODES = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;

/** Runs `clean` when the process is asked to end, then ends it. A second signal does not wait. */
export function onEnd(clean: () => Promise<unknown>): void {
  let ending = false;
  for (const [signal, code] of Object.entries(CODES)) {
    process.on(signal, async () => {
      if (ending) process.exit(code);
      ending = true;
      try {
        await clean();
      } finally {
        process.exit(code);
      }
    });
  }
}
