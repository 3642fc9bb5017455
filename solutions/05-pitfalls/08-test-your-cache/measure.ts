import { AssertionError } from 'node:assert/strict';
import { Redis } from 'ioredis';
import { type Claim, defineMeasure } from '#claims';
import { startRedis } from '../../../course/servers/redis';
import { load, MUTANTS } from './mutants';
import { type CreatePrices, createPrices } from './prices';
import { startProxy } from './proxy';
import {
  atOnce,
  examples,
  exploration,
  explored,
  faults,
  gates,
  reset,
  type Tests,
  type World,
} from './tests';

/** Test runs of each kind. */
const RUNS = 10;
/** Interleavings in one test, and tries in one that hopes. */
const TRIES = 100;
/** Enough for the rarest mutant of this page. */
const INTERLEAVINGS = 150;

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { db } = servers();
    await db.query('CREATE TABLE prices (id INT PRIMARY KEY, cents INT NOT NULL)');
    // Of its own: the tests make users on it.
    const server = await startRedis();
    const proxy = await startProxy(new URL(server.url));
    const clients: Redis[] = [];
    const connect = (url: string) => {
      const client = new Redis(url, { enableReadyCheck: false, disableClientInfo: true });
      client.on('error', () => {});
      clients.push(client);
      return client;
    };
    const redis = connect(server.url);
    const refusing = async (command: string) => {
      await redis.acl('SETUSER', 'refused', 'reset', 'on', 'nopass', '~*', '+@all', `-${command}`);
      return connect(Object.assign(new URL(server.url), { username: 'refused', password: 'any' }).href);
    };
    try {
      const world = { redis, db, proxy, proxied: connect(proxy.url), refusing };
      return quick ? { claims: await races(world, true) } : await everything(world);
    } finally {
      for (const client of clients) client.disconnect();
      proxy.close();
      await server.close();
    }
  },
});

async function everything(world: World) {
  const found = await races(world, false);
  const kinds = await rejected(world);
  const share = (name: string) => found.find((claim) => claim.name === name)?.value ?? 0;
  return {
    claims: [...found, ...kinds],
    plots: [
      {
        name: 'found',
        title: 'How many of ten test runs find the race of a late fill',
        label: 'runs that find it (%)',
        bars: [
          [`start both at once, ${TRIES} times`, share('hope')],
          [`write 1 ms after the read begins, ${TRIES} times`, share('sleep')],
          [`explore ${TRIES} interleavings`, share('explore')],
          ['hold one command at a gate, once', share('gate')],
        ] as const,
      },
      {
        name: 'mutants',
        title: `How many of ${MUTANTS.length} mutants the tests reject, each kind of test added to those above it`,
        label: 'mutants rejected',
        bars: kinds
          .filter(({ name }) => name.startsWith('by-'))
          .map(({ says, value }) => [says.replace(/^.*: /, ''), value] as const),
      },
    ],
  };
}

/** One race, sought in four ways: the share of `runs` tests that find it. */
async function races(world: World, quick: boolean): Promise<Claim[]> {
  const runs = quick ? 1 : RUNS;
  const create = load(named('fills by a plain SET'));
  const shares: Record<string, number> = {};
  const seek = async (name: string, test: (run: number) => Promise<boolean>) => {
    let finds = 0;
    for (let run = 0; run < runs; run++) if (await test(run)) finds++;
    shares[name] = (100 * finds) / runs;
  };
  const hoping = (pauseMs: number) => async () => {
    for (let attempt = 0; attempt < TRIES; attempt++) {
      await reset(world);
      if (await atOnce(create, world, pauseMs)) return true;
    }
    return false;
  };
  if (!quick) {
    await seek('hope', hoping(0));
    await seek('sleep', hoping(1));
  }
  await seek('explore', async (seed) => {
    const lost = await explored(create, world, { readers: ['reader'], numRuns: TRIES, seed });
    return lost !== undefined;
  });
  await seek('gate', async () => (await rejects(gates, create, world)) !== undefined);
  let falseAlarms = 0;
  for (let run = 0; run < runs; run++) if (await rejects(gates, createPrices, world)) falseAlarms++;
  const claim = (name: string, how: string, bounds: Pick<Claim, 'atLeast' | 'atMost'> = {}): Claim => ({
    name,
    says: `test runs that find a late fill: ${how}`,
    value: shares[name] ?? 0,
    unit: '%',
    ...bounds,
  });
  return [
    ...(quick
      ? []
      : [
          claim('hope', `both at once, ${TRIES} times`),
          claim('sleep', `the write 1 ms later, ${TRIES} times`),
        ]),
    claim('explore', `${TRIES} interleavings explored`, { atLeast: 50 }),
    claim('gate', 'the fill held at a gate, once', { atLeast: 100 }),
    {
      name: 'false-alarms',
      says: 'runs in which the tests with a gate reject the right code',
      value: (100 * falseAlarms) / runs,
      unit: '%',
      atMost: 0,
    },
  ];
}

/** Kind after kind, on what is left. */
async function rejected(world: World): Promise<Claim[]> {
  const kinds: readonly (readonly [name: string, says: string, tests: Tests])[] = [
    ['by-examples', 'examples on real servers', examples],
    ['by-faults', 'with a stalled and a refusing Redis', faults],
    ['by-gates', 'with two gates', gates],
    ['by-exploration', `with ${INTERLEAVINGS} explored interleavings`, exploration(INTERLEAVINGS)],
  ];
  let left = MUTANTS;
  const claims: Claim[] = [
    { name: 'all-mutants', says: 'mutants that are tried', value: MUTANTS.length, unit: 'mutants' },
  ];
  for (const [name, says, tests] of kinds) {
    const wrong = await rejects(tests, createPrices, world);
    if (wrong !== undefined) throw new Error(`the right code is rejected: ${wrong}`);
    const survivors: (typeof left)[number][] = [];
    for (const mutant of left) {
      if ((await rejects(tests, load(mutant), world)) === undefined) survivors.push(mutant);
    }
    left = survivors;
    const value = MUTANTS.length - left.length;
    claims.push({ name, says: `mutants rejected, of ${MUTANTS.length}: ${says}`, value, unit: 'mutants' });
  }
  return claims;
}

// #region rejects
/** @returns the test that rejects it, and why; undefined where all pass */
async function rejects(tests: Tests, create: CreatePrices, world: World): Promise<string | undefined> {
  for (const [name, test] of Object.entries(tests)) {
    await reset(world);
    try {
      await test(create, world);
    } catch (error) {
      // A mutant that crashes the test proves nothing.
      if (!(error instanceof AssertionError)) throw error;
      return `${name}: ${error.message}`;
    } finally {
      world.proxy.heal();
    }
  }
  return undefined;
}
// #endregion

function named(name: string) {
  const mutant = MUTANTS.find((each) => each.name === name);
  if (!mutant) throw new Error(`there is no mutant "${name}"`);
  return mutant;
}
