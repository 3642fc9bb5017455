import { describe, expect, test } from 'vitest';
import type { Cause } from '#experiments/incidents/facts';
import { bringUp } from '#experiments/incidents/incident';
import { REDIS_SETTINGS } from '#experiments/incidents/shop';
import { ownRedis } from '#kit/own-redis';
import { useServers } from '#kit/servers';
import { outcome } from '#kit/waiting';
import type { Diagnosis } from './given';
import { diagnose } from './incidents';

const servers = useServers();

/** Ten thousand keys take their time on a busy machine. */
const LONG_MS = 20_000;
/** Far more than a look at everything takes on a busy machine. */
const PATIENT_MS = 15_000;

describe('Core', () => {
  test('a Redis that refuses writes is out of memory, and the evidence is a command that it refuses', () =>
    expectFound('out-of-memory', { subtle: false }));

  test('many keys that end in one second are a synchronised expiry, and the evidence is one of them', () =>
    expectFound('synchronised-expiry', { subtle: false }));

  test('a big key is one that is read, and not a larger one that nobody reads', () =>
    expectFound('big-key', { subtle: false }));

  test('a missing index is found by its statement, and a scan of a tiny table is not one', () =>
    expectFound('missing-index', { subtle: false }));
});

describe('In production', () => {
  test(
    'a command that walks over all keys now blocks, and not the slow commands of last night',
    () => expectFound('blocking-command', { subtle: true, forms: 2 }),
    LONG_MS,
  );

  test('a hot key is one that gets the reads now, and not one that got them last week', () =>
    expectFound('hot-key', { subtle: true }));

  test('a transaction that does nothing is found, and one that is at work is left alone', () =>
    expectFound('idle-transaction', { subtle: true }));

  test('a relay that stands still is dead, and one that catches up is not', () =>
    expectFound('dead-relay', { subtle: true }));

  test('a shop with traces of last night and nothing wrong now is healthy', () =>
    expectFound('healthy', { subtle: true }));
});

/** With other names and sizes at each run. Where a fault has two forms, in a shop of each. */
async function expectFound(cause: Cause, { subtle, forms = 1 }: { subtle: boolean; forms?: number }) {
  for (let form = 0; form < forms; form++) {
    const { culprits, faultOf, diagnosis } = await diagnosed(cause, SEED + form, subtle);
    const fault = culprits.length > 0 ? `whose fault is in ${culprits.join(' or ')}` : 'without a fault';
    expect(diagnosis, `the diagnosis of a shop ${fault}`).toMatchObject({ cause });
    const { evidence } = diagnosis as Diagnosis;
    expect(faultOf(evidence), `the problem of the evidence "${evidence}"`).toBeUndefined();
  }
}

const SEED = Math.floor(Math.random() * 1e6) * 100 + Math.floor(Math.random() * 50);

async function diagnosed(cause: Cause, seed: number, subtle: boolean) {
  const { url, close } = await ownRedis(REDIS_SETTINGS);
  const place = { redisUrl: url, mysqlUrl: servers.mysqlUrl };
  const incident = await bringUp(cause, place, { seed, subtle });
  const redis = servers.connectRedis({ retryStrategy: () => null }, url);
  const { moment } = incident;
  try {
    return { ...incident, diagnosis: await outcome(diagnose({ redis, db: servers.db, moment }), PATIENT_MS) };
  } finally {
    redis.disconnect();
    await incident.close();
    await close();
  }
}
