/** A clock that moves only when the test moves it. Pass `clock.now` where a lab asks for a `now`. */
export function fakeClock(startMs = 0) {
  let time = startMs;
  return {
    /** Milliseconds. */
    now: () => time,
    advance(ms: number): void {
      time += ms;
    },
  };
}

/**
 * A clock whose pauses pass at once. Pass `now` and `sleep` where a lab asks for them.
 * @param afterEach runs at the end of each pause, with the time waited so far (ms)
 */
export function pausingClock(afterEach: (waitedMs: number) => Promise<unknown> = async () => {}) {
  const pauses: number[] = [];
  let waited = 0;
  return {
    /** The lengths that were asked for, ms. */
    pauses,
    now: () => 1_000 + waited,
    async sleep(ms: number): Promise<void> {
      pauses.push(ms);
      waited += ms;
      // Who never stops waiting would block the thread: nothing here takes time.
      if (pauses.length > 1000) await new Promise(() => {});
      await afterEach(waited);
    },
  };
}
