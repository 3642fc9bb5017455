import type { Redis } from 'ioredis';
import type { FaultyProxy } from './proxy';
import type { LabServers } from './servers';

/** A call with a load in it, and something that happens to it. */
export interface Struck<State> {
  /** Begins a call on the connection behind the proxy. Resolves when its load runs. */
  begin(): Promise<{ readonly call: Promise<unknown>; endLoad(): void }>;
  strike(): Promise<unknown>;
  /** What Redis holds. */
  look(): Promise<State>;
  /** @param seen what the call came to, what Redis held right after the strike, and what it holds in the end */
  check(step: number, seen: { readonly result: unknown; readonly struck: State; readonly left: State }): void;
}

/**
 * Strikes a call at each of its steps, in a new call each time: while its load runs (step 0), before the first request
 * that follows the load, before the second, until there is no such request.
 */
export async function strikeAtEachStep<State>(
  { proxy, redis }: { readonly proxy: FaultyProxy; readonly redis: Redis },
  { begin, strike, look, check }: Struck<State>,
): Promise<void> {
  for (let step = 0; ; step++) {
    proxy.schedule();
    const { call, endLoad } = await begin();
    let sent = 0;
    let struck: State | undefined;
    const strikeNow = async () => {
      await strike();
      struck = await look();
    };
    if (step === 0) await strikeNow();
    proxy.schedule(async (request) => {
      if (!/^PING/i.test(request) && ++sent === step) await strikeNow();
    });
    endLoad();
    const result = await call;
    // What the caller did not wait for has been answered too.
    await drained(redis);
    if (struck === undefined) return;
    check(step, { result, struck, left: await look() });
  }
}

/** Resolves when a client has had the answers to a series of commands, each sent after the answer to the one before. */
export async function drained(redis: Redis): Promise<void> {
  for (let round = 0; round < 8; round++) {
    await redis.ping();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** The JSON value in Redis: undefined where there is none, its text where it is no JSON. */
export async function jsonAt({ redis }: Pick<LabServers, 'redis'>, key: string): Promise<unknown> {
  const text = await redis.get(key);
  if (text === null) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
