import { describe, expect, test } from 'vitest';
import type { Cause } from '#experiments/incidents/facts';
import { bringUp, type Setting } from '#experiments/incidents/incident';
import { REDIS_SETTINGS } from '#experiments/incidents/shop';
import { useOwnRedis } from '#kit/own-redis';
import { useServers } from '#kit/servers';
import { outcome } from '#kit/waiting';
import type { Diagnosis } from './given';
import { diagnose } from './incidents';

const servers = useServers();
const ownRedis = useOwnRedis(REDIS_SETTINGS);

/** Two shops take their time on a busy machine. */
const LONG_MS = 20_000;
/** Far more than a look at everything takes on a busy machine. */
const PATIENT_MS = 15_000;

describe('Core', () => {
  test('a Redis that refuses writes is out of memory, and the evidence is a command that it refuses', () =>
    expectFound('out-of-memory', 'plain'));

  test('many keys that end in one second are a synchronised expiry, and the evidence is one of them', () =>
    expectFound('synchronised-expiry', 'plain'));

  test('a big key is one that is read, and not a larger one that nobody reads', () =>
    expectFound('big-key', 'plain'));

  test('a missing index is found by its statement, and a scan of a tiny table is not one', () =>
    expectFound('missing-index', 'plain'));
});

describe('In production', () => {
  test(
    'a command that walks over all keys now blocks, and not the slow commands of last night',
    () => expectFound('blocking-command', 'alike', { forms: 2 }),
    LONG_MS,
  );

  test('a hot key is one that gets the reads now, and not one that got them last week', () =>
    expectFound('hot-key', 'alike'));

  test('a transaction that does nothing is found, and one that is at work is left alone', () =>
    expectFound('idle-transaction', 'alike'));

  test('a relay that stands still is dead, and one that catches up is not', () =>
    expectFound('dead-relay', 'alike'));

  test('a shop with traces of last night and nothing wrong now is healthy', () =>
    expectFound('healthy', 'all'));
});

/** With other names and sizes at each run. Where a fault has two forms, in a shop of each. */
async function expectFound(cause: Cause, decoys: Setting['decoys'], { forms = 1 } = {}) {
  for (let form = 0; form < forms; form++) {
    const { culprits, faultOf, diagnosis, changed } = await diagnosed(cause, { seed: SEED + form, decoys });
    const fault = culprits.length > 0 ? `whose fault is in ${culprits.join(' or ')}` : 'without a fault';
    expect(diagnosis, `the diagnosis of a shop ${fault}`).toMatchObject({ cause });
    const { evidence } = diagnosis as Diagnosis;
    expect(faultOf(evidence), `the problem of the evidence "${evidence}"`).toBeUndefined();
    expect(changed, 'the changes that the diagnosis made to the shop').toBeUndefined();
  }
}

const SEED = Math.floor(Math.random() * 1e6) * 100 + Math.floor(Math.random() * 50);

async function diagnosed(cause: Cause, setting: Setting) {
  const redisUrl = await ownRedis();
  const incident = await bringUp(cause, { redisUrl, mysqlUrl: servers.mysqlUrl }, setting);
  const redis = servers.connectRedis({ retryStrategy: () => null }, redisUrl);
  const { moment } = incident;
  try {
    const diagnosis = await outcome(diagnose({ redis, db: servers.db, moment }), PATIENT_MS);
    return { ...incident, diagnosis, changed: await incident.changed() };
  } finally {
    redis.disconnect();
    await incident.close();
  }
}
