import { setTimeout as sleep } from 'node:timers/promises';
import type { Cluster } from 'ioredis';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { useCluster } from '#kit/cluster';
import { timed } from '#kit/lateness';
import type { FaultyProxy } from '#kit/proxy';
import { outcome, rejectionOf, until } from '#kit/waiting';
import { type Answer, clientOptions, PARTS, type Part, PREFIX, type Skew } from './given';
import { createPageCache, type PageCache, partKey, skewOf, slotOf } from './redis-cluster';

const cluster = useCluster();

/** Another service. */
let shop: Cluster;
beforeAll(() => {
  shop = cluster.connect();
});

/** Long enough for every answer on a busy machine. */
const PATIENT_MS = 5000;
const DEADLINE_MS = 200;
const REJECTION = expect.stringMatching(/^rejected/);
const idsUpTo = (count: number) => Array.from({ length: count }, (_, id) => String(id));
const keysOf = (id: string) => PARTS.map((part) => partKey(id, part));

describe('Core', () => {
  test('slotOf gives a key the slot that Redis gives it', async () => {
    const plain = ['product:7', '', 'ä', 'foo{bar', 'foo}bar', 'a}{'];
    const tagged = ['{product:7}:price', 'price{product:7}', '{a}{b}', 'x}{a}', '{{a}}b', '{ä\n}x', '{a}}'];
    for (const key of [...plain, ...tagged, '{}a', '{}{a}', 'a{}']) {
      expect(slotOf(key), `slot of the key ${JSON.stringify(key)}, as CLUSTER KEYSLOT says it`).toBe(
        await cluster.slotOf(key),
      );
    }
  });

  test('the parts of a product share a slot, and products are spread over all slots', async () => {
    const ids = idsUpTo(100);
    const keys = ids.flatMap(keysOf);
    const slots = await Promise.all(keys.map((key) => cluster.slotOf(key)));
    const homes = [0, 0, 0];
    for (const [at, id] of ids.entries()) {
      const [slot = 0, ...others] = slots.slice(3 * at, 3 * at + 3);
      expect(
        others,
        `slots of the other parts of product ${id}: keys that belong together need one slot`,
      ).toEqual([slot, slot]);
      homes[cluster.homeOf(slot)] = (homes[cluster.homeOf(slot)] ?? 0) + 1;
    }
    expect(
      keys.filter((key) => !key.startsWith(PREFIX)),
      'keys that do not begin with PREFIX',
    ).toEqual([]);
    expect(
      new Set(idsUpTo(2000).flatMap((id) => keysOf(`${id} of ${Number(id) * 7919}`))).size,
      'different keys of 2,000 products with three parts: two products must not share a key',
    ).toBe(6000);
    expect(
      new Set(slots).size,
      'slots of 100 products: a slot cannot be divided, so they must not share a few',
    ).toBeGreaterThan(80);
    expect(Math.max(...homes), 'products of 100 on the fullest of three masters').toBeLessThan(60);
  });

  test('a read of many keys answers each of them, in order, and waits for all slots at once', async () => {
    const { cache, proxies } = await openBehindProxies();
    const stored = new Map(idsUpTo(40).flatMap((id) => keysOf(id).map((key) => [key, `${key} as it is`])));
    stored.set(partKey('7', 'details'), '\xff\xfe\x00');
    stored.set(partKey('9', 'reviews'), '');
    for (const absent of ['3', '11']) stored.delete(partKey(absent, 'price'));
    await store(stored);
    const keys = PARTS.flatMap((part) => idsUpTo(40).map((id) => partKey(id, part)));
    keys.push(partKey('7', 'details'));
    expect(
      told(await outcome(cache.read(keys), PATIENT_MS)),
      'answers for 120 keys on three masters, and for one of them again: values are bytes, not text',
    ).toEqual(keys.map((key) => stored.get(key) ?? 'miss'));
    expect(await cache.read([]), 'answers for no keys').toEqual([]);
    for (const proxy of proxies) proxy.delay(25);
    const { ms } = await fastest(() => cache.read(keys), 700);
    expect(
      ms,
      'ms for 40 slots, each answered after 25 ms: a read must not wait for one slot after the other',
    ).toBeLessThan(700);
  });

  test('an invalidation deletes all parts in one step, and rejects unless Redis confirms it', async () => {
    const { cache, proxies } = await openBehindProxies();
    const [keys, home] = [keysOf('7'), await homeOf('7')];
    await store(keys);
    await store(keysOf('8'));
    const node = cluster.nodes[home];
    const left: unknown[] = [];
    proxies[home]?.schedule(async () => void left.push(await node?.exists(keys)));
    await cache.invalidate('7');
    expect(
      left.filter((count) => count !== 0 && count !== 3),
      'parts left when a command was sent, other than all or none: a reader must not see half of a page',
    ).toEqual([]);
    expect(await node?.exists(keys), 'parts left after the invalidation').toBe(0);
    expect(told(await cache.read(keysOf('8'))), 'parts of another product').not.toContain('miss');
    expect(
      await outcome(cache.invalidate('7'), PATIENT_MS),
      'the invalidation of a page that is not in Redis any more: nothing is left to confirm',
    ).toBeUndefined();

    proxies[home]?.schedule();
    await store(keys);
    await cluster.refuseWrites(home);
    expect(
      await rejectionOf(() => cache.invalidate('7')),
      'the master refuses to delete: the invalidation must reject',
    ).toBeInstanceOf(Error);
  });

  test('a purge empties every master, and leaves the keys of others', async () => {
    const { cache } = await open();
    const others = idsUpTo(1800)
      .map((id) => `session:${id}`)
      .concat('page', 'pages:1', 'homepage:1', `x${PREFIX}1`);
    await store([...idsUpTo(20).flatMap(keysOf), ...others]);
    for (const node of cluster.nodes) await node.config('RESETSTAT');
    await cache.purge();
    const walks = await Promise.all(
      cluster.nodes.map(
        async (node) => /^cmdstat_(?:keys|flush\w+)/m.exec(await node.info('commandstats'))?.[0],
      ),
    );
    expect(
      walks,
      'commands of the purge that walk over all keys of a master at once: nobody else is answered meanwhile',
    ).toEqual([undefined, undefined, undefined]);
    expect(await pagesLeft(), 'pages left on the three masters').toEqual([0, 0, 0]);
    const kept = await Promise.all(cluster.nodes.map((node) => node.dbsize()));
    expect(
      kept.reduce((sum, keys) => sum + keys),
      `keys of other applications that are left of ${others.length}`,
    ).toBe(others.length);
  });

  test('a slot that has moved is read at its new master', async () => {
    const { cache } = await open();
    const keys = keysOf('7');
    await store(keys);
    await cache.read(keys);
    const old = cluster.nodes[await homeOf('7')];
    await moveAll('7');
    expect(
      told(await outcome(cache.read(keys), PATIENT_MS)),
      'answers for a product whose slot has another master now',
    ).toEqual(keys);
    let detour: string | undefined;
    await until(async () => {
      await old?.config('RESETSTAT');
      await cache.read(keys);
      detour = /MOVED/.exec((await old?.info('errorstats')) ?? '')?.[0];
      return detour === undefined;
    });
    expect(
      detour,
      'what the old master answers to reads of this product, a second later: each is a detour',
    ).toBe(undefined);
  });
});

describe('In production', () => {
  test('while a slot moves, a key that exists is not a miss', async () => {
    const keys = keysOf('7');
    const home = await homeOf('7');
    await store(keys);
    await beginMove('7', ['details']);
    const { cache } = await open(1000);
    expect(
      absences(await outcome(cache.read(keys), PATIENT_MS)),
      'keys that exist and are answered as absent: one of three is at the new master already',
    ).toEqual([]);

    const impatient = { ...clientOptions, redisOptions: { commandTimeout: 50 } };
    const { client, proxies } = await cluster.connectThrough(impatient);
    await connected(client);
    proxies[home]?.hold(/^get /i);
    expect(
      told(await outcome(createPageCache({ client, deadlineMs: 1000 }).read(keys), PATIENT_MS)),
      'answers for the same keys, while the master does not answer the first GET',
    ).toEqual(keys.map((key) => expect.toBeOneOf([key, 'unknown'])));
  });

  test('while a slot moves, a read does not wait for the end of the move', async () => {
    const { cache } = await open();
    await store([partKey('7', 'details'), partKey('7', 'price')]);
    await beginMove('7', ['details', 'price']);
    const { value, ms } = await fastest(() => outcome(cache.read(keysOf('7'))), 500);
    expect(
      told(value),
      'answers for two keys that have moved, and for one that is nowhere: Redis answers TRYAGAIN to a command of several keys',
    ).toEqual([partKey('7', 'details'), partKey('7', 'price'), 'miss']);
    expect(ms, 'ms for this read: a move can take minutes').toBeLessThan(500);
  });

  test('while a slot moves, an invalidation deletes all parts', async () => {
    for (const moved of [['details'], ['details', 'price', 'reviews']] as const) {
      const { cache } = await open();
      const id = `moving ${moved.length}`;
      await store(keysOf(id));
      await beginMove(id, moved);
      expect(
        await outcome(cache.invalidate(id)),
        `the invalidation of a page of which ${moved.length} of 3 parts have moved`,
      ).toBeUndefined();
      expect(await pagesLeft(), 'parts left on the three masters').toEqual([0, 0, 0]);
    }
  });

  test('while a slot moves, a purge deletes the keys at both masters', async () => {
    const { cache } = await open();
    await store([...keysOf('7'), ...keysOf('8')]);
    await beginMove('7', ['details', 'price']);
    expect(await outcome(cache.purge()), 'the purge, while a slot is between two masters').toBeUndefined();
    expect(await pagesLeft(), 'pages left on the three masters').toEqual([0, 0, 0]);
  });

  test('a lost master costs its own keys one deadline, and no others', async () => {
    const [lostId, ...ids] = await oneIdOnEach();
    const keys = [lostId, ...ids].flatMap(keysOf);
    await store(keys);
    await duringEachFault(0, DEADLINE_MS, async ({ cache, fault }) => {
      const expected = keys.map((key) => (keysOf(lostId).includes(key) ? 'unknown' : key));
      const { value, ms } = await fastest(
        () => outcome(cache.read(keys), PATIENT_MS),
        ONE_DEADLINE_MS,
        (answers) => told(answers).toString() === expected.toString(),
      );
      expect(
        told(value),
        `answers while one of three masters ${fault}: nothing is known of its keys, and the others are there`,
      ).toEqual(expected);
      expect(ms, `ms for a read with a deadline of ${DEADLINE_MS} ms while one master ${fault}`).toBeLessThan(
        ONE_DEADLINE_MS,
      );
    });
  });

  test('an invalidation that a lost master does not confirm rejects after one deadline', async () => {
    const [id] = await oneIdOnEach();
    await duringEachFault(0, DEADLINE_MS, async ({ cache, fault }) => {
      const { value, ms } = await fastest(() => outcome(cache.invalidate(id), PATIENT_MS), ONE_DEADLINE_MS);
      expect(value, `the invalidation of a page whose master ${fault}: it may still be there`).toEqual(
        REJECTION,
      );
      expect(
        ms,
        `ms until it rejects, with a deadline of ${DEADLINE_MS} ms, while the master ${fault}`,
      ).toBeLessThan(ONE_DEADLINE_MS);
    });
  });

  test('a purge that a master does not confirm rejects, and has emptied the others', async () => {
    await store(idsUpTo(30).flatMap(keysOf));
    await duringEachFault(1, LONGER_MS, async ({ cache, fault }) => {
      expect(
        await outcome(cache.purge(), PATIENT_MS),
        `the purge while one of three masters ${fault}: its pages are still there`,
      ).toEqual(REJECTION);
      const [first, , last] = await pagesLeft();
      expect([first, last], `pages left on the masters that answer, while one ${fault}`).toEqual([0, 0]);
    });

    const { cache } = await open();
    await cluster.refuseWrites(1);
    expect(
      await outcome(cache.purge(), PATIENT_MS),
      'the purge while one of three masters refuses to delete: its pages are still there',
    ).toEqual(REJECTION);
  });

  test('a purge by a client that has just been opened empties every master', async () => {
    await store(idsUpTo(30).flatMap(keysOf));
    const client = cluster.connect(clientOptions);
    onTestFinished(() => client.disconnect());
    await createPageCache({ client, deadlineMs: PATIENT_MS }).purge();
    expect(
      await pagesLeft(),
      'pages left on the three masters: the client did not know them yet when the purge began',
    ).toEqual([0, 0, 0]);
  });

  test('an id with braces keeps its parts in one slot, and shares it with nobody', async () => {
    const odd = [
      '',
      '}',
      '{',
      '{}',
      '}{',
      '}a',
      '{a',
      'a}b',
      'a',
      'ab',
      'a}',
      'a:price',
      'a:',
      'ä',
      '%7D',
      ' ',
    ];
    for (const id of odd) {
      const slots = await Promise.all(keysOf(id).map((key) => cluster.slotOf(key)));
      expect(new Set(slots).size, `slots of the parts of the product with the id "${id}"`).toBe(1);
    }
    expect(new Set(odd.flatMap(keysOf)).size, 'different keys of 16 ids with three parts').toBe(48);
    const shop = await Promise.all(idsUpTo(50).map((id) => cluster.slotOf(partKey(`shop}${id}`, 'price'))));
    expect(new Set(shop).size, 'slots of 50 ids from "shop}0" to "shop}49"').toBeGreaterThan(40);
  });

  test('the skew counts every master, and a lost master is not an empty one', async () => {
    const { client } = await openBehindProxies();
    expect((await skewOf(client, PATIENT_MS)).ratio, 'ratio of three masters without a key').toBe(1);
    await store([...idsUpTo(60).flatMap(keysOf), ...idsUpTo(90).map((id) => `{one tag}:${id}`)]);
    const counts = await Promise.all(cluster.nodes.map((node) => node.dbsize()));
    const skew = await skewOf(client, PATIENT_MS);
    expect(skew.masters.map(({ keys }) => keys).sort(), 'keys of each master').toEqual([...counts].sort());
    expect(skew.ratio, 'keys of the fullest master against the mean').toBeCloseTo(ratioOf(counts), 5);
    const answering = counts.slice(0, 2);
    await duringEachFault(2, LONGER_MS, async ({ client, fault }) => {
      const seen = await outcome(skewOf(client, LONGER_MS), PATIENT_MS);
      expect(
        seen,
        `the skew while one of three masters ${fault}: nothing is known of its keys`,
      ).toMatchObject({
        ratio: expect.closeTo(ratioOf(answering), 5),
        masters: expect.toSatisfy((masters: Skew['masters']) => {
          const keys = masters.map((master) => master.keys);
          return (
            keys.length === 3 && answering.every((count) => keys.includes(count)) && keys.includes(undefined)
          );
        }, 'the keys of two masters, and undefined for the third'),
      });
    });
  });
});

/** ioredis forgets such a node. */
const CLOSED = 'refuses connections';
const FAULTS: Readonly<Record<string, (proxy: FaultyProxy | undefined) => unknown>> = {
  [CLOSED]: (proxy) => proxy?.refuse(),
  stalls: (proxy) => proxy?.stall(),
};

/** All faults at once, each with a client of its own that knew the master before. */
const duringEachFault = (
  master: number,
  deadlineMs: number,
  check: (opened: { client: Cluster; cache: PageCache; fault: string }) => Promise<void>,
) =>
  Promise.all(
    Object.entries(FAULTS).map(async ([fault, strike]) => {
      const { client, cache, proxies } = await openBehindProxies(deadlineMs);
      await strike(proxies[master]);
      if (fault === CLOSED) await until(() => client.nodes('master').length < 3);
      await check({ client, cache, fault });
    }),
  );

/** Where the time is not what counts. */
const LONGER_MS = 2 * DEADLINE_MS;
/** A second deadline takes twice as long. */
const ONE_DEADLINE_MS = 1.7 * DEADLINE_MS;

async function open(deadlineMs = PATIENT_MS) {
  const client = cluster.connect(clientOptions);
  onTestFinished(() => client.disconnect());
  await connected(client);
  return { client, cache: createPageCache({ client, deadlineMs }) };
}

async function openBehindProxies(deadlineMs = PATIENT_MS) {
  const { client, proxies } = await cluster.connectThrough(clientOptions);
  await connected(client);
  return { client, proxies, cache: createPageCache({ client, deadlineMs }) };
}

/** Knows the slots, and has a connection to each master. */
async function connected(client: Cluster) {
  await until(() => client.status === 'ready');
  await until(async () => {
    const pings = await Promise.allSettled(client.nodes('master').map((node) => node.ping()));
    return pings.every(({ status }) => status === 'fulfilled');
  });
}

/** @param entries keys with their values, or keys whose value is the key */
async function store(entries: Iterable<string> | Map<string, string>) {
  const pairs = entries instanceof Map ? [...entries] : [...entries].map((key) => [key, key] as const);
  await Promise.all(pairs.map(([key, value]) => shop.set(key, Buffer.from(value, 'latin1'), 'PX', 60_000)));
}

/** Answers as texts: the value of a hit, or the kind. */
const told = (answers: readonly Answer[] | string) =>
  typeof answers === 'string'
    ? answers
    : answers.map((answer) => (answer.kind === 'hit' ? answer.bytes.toString('latin1') : answer.kind));

/** The kinds of answers that say "no such key", or the error of the read. */
const absences = (answers: readonly Answer[] | string) =>
  typeof answers === 'string'
    ? answers
    : answers.filter(({ kind }) => kind === 'miss').map(({ kind }) => kind);

const homeOf = async (id: string) => cluster.homeOf(await cluster.slotOf(partKey(id, 'details')));

/** Ids of products on the first, the second and the third master. */
async function oneIdOnEach(): Promise<[string, string, string]> {
  const ids: [string, string, string] = ['', '', ''];
  for (const id of idsUpTo(60)) ids[await homeOf(id)] = id;
  return ids;
}

/** The slot of a product is between two masters, and these parts have moved. */
async function beginMove(id: string, moved: readonly Part[]) {
  const to = ((await homeOf(id)) + 1) % 3;
  await cluster.beginMove(await cluster.slotOf(partKey(id, 'details')), to);
  for (const part of moved) await cluster.moveKey(partKey(id, part), to);
}

async function moveAll(id: string) {
  const to = ((await homeOf(id)) + 1) % 3;
  await beginMove(id, PARTS);
  await cluster.endMove(await cluster.slotOf(partKey(id, 'details')), to);
}

/** On each master. */
const pagesLeft = () =>
  Promise.all(
    cluster.nodes.map(async (node) => {
      const keys = await node.keys('*');
      return keys.filter((key) => key.startsWith(PREFIX)).length;
    }),
  );

const ratioOf = (counts: readonly number[]) =>
  (Math.max(...counts) * counts.length) / counts.reduce((sum, keys) => sum + keys, 0);

/**
 * What `action` comes to, and the shortest time of a few tries (ms): on a busy machine the first ones can be slow. The
 * first that takes less than `enough` and is accepted is the last.
 */
async function fastest<T>(
  action: () => Promise<T>,
  enough: number,
  accepts: (value: T) => boolean = () => true,
) {
  let best = Number.POSITIVE_INFINITY;
  for (let tries = 1; ; tries++) {
    const { value, ms } = await timed(action);
    best = Math.min(best, Math.round(ms));
    if ((ms < enough && accepts(value)) || tries === 3) return { value, ms: best };
    await sleep(20);
  }
}
