import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { assert } from 'vitest';
import { signal } from './gate';
import { openProxy } from './proxy';
import { clearRequests, nameRequests } from './requests';
import type { LabServers } from './servers';

/** One of those that race: its own connections, each through a proxy of its own. */
export interface Actor {
  readonly redis: Redis;
  readonly db: Pool;
}

export interface Race<Name extends string> {
  /** Before each run: the state in which all begin. It may use the lab's own connections only. */
  prepare(): Promise<unknown>;
  /** What each of them does. Their requests are told apart by the connections they use. */
  readonly actors: Readonly<Record<Name, (actor: Actor) => Promise<unknown>>>;
  /**
   * After each run. @param outcomes what became of each actor; one that rejected has already ended the exploration,
   * unless `mayReject` says that it may
   * @returns what is wrong, as one sentence for the learner; undefined when nothing is
   */
  verdict(outcomes: Readonly<Record<Name, PromiseSettledResult<unknown>>>): Promise<string | undefined>;
  readonly mayReject?: (reason: unknown) => boolean;
  /** How many interleavings are tried (default 80, about 5 ms each). */
  readonly runs?: number;
  readonly seed?: number;
}

const SHOWN_AT_MOST = 64;
/** A request that takes longer waits in the server, for a lock that another actor holds: the others go on. */
const WAITS_IN_SERVER_MS = 10;

/**
 * Runs the actors again and again, each time in another interleaving of their requests: fast-check's scheduler decides
 * whose next request reaches its server. The same seed gives the same interleavings.
 * @throws AssertionError with the verdict and the losing schedule, request by request; what an actor threw
 */
export async function explore<Name extends string>(servers: LabServers, race: Race<Name>): Promise<void> {
  const { runs = 80, seed = 2026 } = race;
  const names = Object.keys(race.actors) as Name[];
  const performers = await Promise.all(names.map((name) => openPerformer(servers, name)));
  let tried = 0;
  let losing: { sentence: string; steps: readonly string[] } | undefined;

  const property = fc.asyncProperty(fc.scheduler(), async (scheduler) => {
    tried++;
    await race.prepare();
    const steps: string[] = [];
    for (const performer of performers) performer.begin(race.actors[performer.name], scheduler, steps);
    while (await someoneWaits(performers)) await scheduler.waitOne();
    const outcomes = await Promise.all(performers.map(async ({ name, end }) => [name, await end()] as const));
    for (const [, outcome] of outcomes) {
      if (outcome.status === 'rejected' && !race.mayReject?.(outcome.reason)) throw outcome.reason;
    }
    const sentence = await race.verdict(
      Object.fromEntries(outcomes) as Record<Name, PromiseSettledResult<unknown>>,
    );
    if (sentence !== undefined) losing = { sentence, steps };
    return sentence === undefined;
  });
  const { failed, errorInstance } = await fc.check(property, { numRuns: runs, seed, endOnFailure: true });
  await Promise.all(performers.map(({ leave }) => leave()));
  if (!failed) return;
  if (!losing) throw errorInstance;
  // The schedule tells more than the last requests would.
  clearRequests();
  const schedule = losing.steps.map((step, index) => `  ${index + 1}. ${step}`).join('\n');
  assert.fail(`${losing.sentence}\n\n${schedule}\n\n(interleaving ${tried} of ${runs}, seed ${seed})`);
}

const shortened = (text: string): string =>
  text.length > SHOWN_AT_MOST ? `${text.slice(0, SHOWN_AT_MOST)}…` : text;

interface Performer<Name extends string> {
  readonly name: Name;
  begin(act: (actor: Actor) => Promise<unknown>, scheduler: fc.Scheduler, steps: string[]): void;
  /** Resolves when this actor has a request at the gate, or is done, or waits in a server. @returns whether it is at the gate */
  atGate(): Promise<boolean>;
  readonly done: () => boolean;
  readonly end: () => Promise<PromiseSettledResult<unknown>>;
  leave(): Promise<unknown>;
}

async function someoneWaits(performers: readonly Performer<string>[]): Promise<boolean> {
  for (;;) {
    const atGate = await Promise.all(performers.map((performer) => performer.atGate()));
    if (atGate.includes(true)) return true;
    if (performers.every(({ done }) => done())) return false;
  }
}

async function openPerformer<Name extends string>(servers: LabServers, name: Name): Promise<Performer<Name>> {
  const proxies = await Promise.all([openProxy(servers.redisUrl), openProxy(servers.mysqlUrl)]);
  const [redisProxy, mysqlProxy] = proxies;
  const actor: Actor = {
    redis: servers.connectRedis({ enableReadyCheck: false, disableClientInfo: true }, redisProxy.url),
    db: servers.connectDb({}, mysqlProxy.url),
  };
  nameRequests(actor.redis, name);
  nameRequests(actor.db, name);
  // Handshakes are not a part of the race.
  await Promise.all([actor.redis.ping(), actor.db.query('SELECT 1')]);

  let waiting = 0;
  let moved = signal();
  let outcome: PromiseSettledResult<unknown> | undefined;
  const move = () => {
    moved.fire();
    moved = signal();
  };
  const settle = (result: PromiseSettledResult<unknown>) => {
    outcome = result;
    move();
  };
  return {
    name,
    begin(act, scheduler, steps) {
      outcome = undefined;
      const pass = async (request: string) => {
        const shown = `${name}: ${shortened(request.replace(/\s+/g, ' '))}`;
        waiting++;
        const turn = scheduler.schedule(Promise.resolve(), shown);
        move();
        await turn;
        waiting--;
        steps.push(shown);
      };
      for (const proxy of proxies) proxy.schedule(pass);
      Promise.resolve(actor)
        .then(act)
        .then(
          (value) => settle({ status: 'fulfilled', value }),
          (reason: unknown) => settle({ status: 'rejected', reason }),
        );
    },
    async atGate() {
      const deadline = performance.now() + WAITS_IN_SERVER_MS;
      while (waiting === 0 && !outcome && performance.now() < deadline) {
        await Promise.race([moved.promise, sleep(WAITS_IN_SERVER_MS)]);
      }
      return waiting > 0;
    },
    done: () => outcome !== undefined && waiting === 0,
    async end() {
      for (const proxy of proxies) proxy.schedule();
      return outcome ?? { status: 'rejected', reason: new Error(`${name} did not finish`) };
    },
    leave() {
      actor.redis.disconnect();
      return Promise.all([actor.db.end(), ...proxies.map((proxy) => proxy.close())]);
    },
  };
}
