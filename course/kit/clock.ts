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
