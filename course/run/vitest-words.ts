/** What Vitest says, where the course has to tell one case from the other. The kept screens in tests/texts notice a change. */
export const TIMED_OUT = /timed out in \d+ms/;
export const CALLED_EXIT = /process\.exit unexpectedly called/;
