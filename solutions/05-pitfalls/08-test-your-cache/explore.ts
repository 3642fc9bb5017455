import { setImmediate as turnOfTheLoop } from 'node:timers/promises';
import fc from 'fast-check';

/** Waits until the scheduler lets this request go. */
export type Turn = (request: string) => Promise<void>;
export type Actor = (turn: Turn) => Promise<unknown>;

// #region stepwise
/** The same client, each request of which waits for its turn. */
export const stepwise = <T extends object>(client: T, turn: Turn): T =>
  new Proxy(client, {
    get(target, name) {
      const member = Reflect.get(target, name);
      if (typeof member !== 'function') return member;
      return async (...args: unknown[]) => {
        await turn(`${String(name)} ${args[0]}`);
        return member.apply(target, args);
      };
    },
  });
// #endregion

// #region explore
/** @returns the first schedule after which `verdict` finds something wrong, request by request */
export async function explore(
  actors: Readonly<Record<string, Actor>>,
  { prepare, verdict, ...options }: Exploration,
): Promise<{ readonly wrong: string; readonly steps: readonly string[] } | undefined> {
  let found: { wrong: string; steps: readonly string[] } | undefined;
  const property = fc.asyncProperty(fc.scheduler(), async (scheduler) => {
    await prepare();
    const steps: string[] = [];
    let wrong: string | undefined;
    const names = Object.keys(actors);
    let moving = names.length;
    const ends = names.map(async (name) => {
      const turn: Turn = async (request) => {
        const mine = scheduler.schedule(Promise.resolve(), name);
        moving--;
        await mine;
        moving++;
        steps.push(`${name}: ${request}`);
      };
      try {
        await actors[name]?.(turn);
      } catch (error) {
        wrong = `${name} rejected: ${error}`;
      }
      moving--;
    });
    for (;;) {
      // The next request goes when each actor waits for its turn or has ended.
      do await turnOfTheLoop();
      while (moving > 0);
      if (scheduler.count() === 0) break;
      await scheduler.waitOne();
    }
    await Promise.all(ends);
    wrong ??= await verdict();
    if (wrong !== undefined) found = { wrong, steps };
    return wrong === undefined;
  });
  const { failed, errorInstance } = await fc.check(property, { ...options, endOnFailure: true });
  // What `prepare` or `verdict` throws is not a green run.
  if (failed && !found) throw errorInstance;
  return found;
}
// #endregion

export interface Exploration {
  readonly prepare: () => Promise<unknown>;
  readonly verdict: () => Promise<string | undefined>;
  readonly numRuns: number;
  readonly seed: number;
}
