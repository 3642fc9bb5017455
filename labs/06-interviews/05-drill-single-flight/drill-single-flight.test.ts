import { getEventListeners, setMaxListeners } from 'node:events';
import { setTimeout, setImmediate as turn } from 'node:timers/promises';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { outcome, unhandledRejections } from '#kit/waiting';
import { type SingleFlight, singleFlight } from './drill-single-flight';

/** A deadline that no test waits for. */
const PATIENT_MS = 60_000;
const DEADLINE_MS = 20;

const ANSWER = 'answer to a caller whose load hangs: an error';

describe('Core', () => {
  test('callers of one key share one load, and the next caller after it starts a new one', async () => {
    const { flights, loads } = heldFlights();
    const calls = Array.from({ length: 50 }, () => outcome(flights.run('a')));
    (await begun(loads, 1, 'by 50 callers of one key that came at once')).resolve('first');
    expect(await Promise.all(calls), 'values of 50 callers of one load').toEqual(Array(50).fill('first'));
    await turn();
    const next = outcome(flights.run('a'));
    (
      await begun(loads, 2, 'with a caller that came when the first load had ended: this is not a cache')
    ).resolve('second');
    expect(await next, 'value of the caller that came after the first load').toBe('second');
  });

  test('different keys do not share or wait, whatever they are called', async () => {
    const keys = ['a', 'A', 'a ', '', 'constructor', '__proto__'];
    const { flights, loads } = heldFlights();
    const calls = keys.map((key) => outcome(flights.run(key)));
    await begun(loads, keys.length, `for the keys ${keys.map((key) => `"${key}"`).join(', ')}`);
    expect(loads.map(({ key }) => key).sort(), 'keys that load was called with').toEqual(keys.toSorted());
    for (const { key, resolve } of loads.slice(1)) resolve(`value of ${key}`);
    expect(await Promise.all(calls.slice(1)), 'values of all keys but the first, whose load hangs').toEqual(
      keys.slice(1).map((key) => `value of ${key}`),
    );
    const other = singleFlight(async () => 'theirs', PATIENT_MS);
    expect(
      await outcome(other.run('a')),
      'a second object with a load of its own, while the load of the first one hangs for the same key',
    ).toBe('theirs');
  });

  test('a failure reaches all callers, and is not remembered', async () => {
    const unhandled = unhandledRejections();
    const { flights, loads } = heldFlights();
    const calls = [1, 2, 3].map(() => outcome(flights.run('a')));
    (await begun(loads, 1, 'by three callers at once')).reject(new Error('connection lost'));
    expect(await Promise.all(calls), 'answers to three callers whose load has failed').toEqual(
      Array(3).fill('rejected: Error: connection lost'),
    );
    await turn();
    const next = outcome(flights.run('a'));
    (await begun(loads, 2, 'with a caller that came after the failure')).resolve('second');
    expect(await next, 'answer to the caller that came after the failure').toBe('second');
    await turn();
    expect(unhandled(), 'rejections that nobody handles: they end the process').toEqual([]);
  });

  test('a load that throws at once is a failure like any other', async () => {
    let works = false;
    const flights = singleFlight<string>((key) => {
      if (works) return Promise.resolve('loaded');
      throw new Error(`no table for ${key}`);
    }, PATIENT_MS);
    for (const call of ['first', 'second']) {
      expect(await outcome(called(flights, 'a')), `the ${call} call: the promise must reject`).toBe(
        'rejected: Error: no table for a',
      );
    }
    works = true;
    expect(await outcome(called(flights, 'a')), 'the call after that, when load works').toBe('loaded');
  });

  test('a caller that gives up ends its own wait only', async () => {
    const unhandled = unhandledRejections();
    const { flights, loads } = heldFlights();
    const [first, second] = [new AbortController(), new AbortController()];
    const leaving = [first, second].map(({ signal }) => outcome(flights.run('a', signal)));
    const stays = outcome(flights.run('a'));
    await begun(loads, 1, 'by three callers at once');
    first.abort(new Error('tab closed'));
    second.abort(new DOMException('too late', 'TimeoutError'));
    expect(
      await Promise.all(leaving),
      'answers to the callers that give up: the reason of their signal',
    ).toEqual(['rejected: Error: tab closed', 'rejected: TimeoutError: too late']);
    const joins = outcome(flights.run('a'));
    await turn();
    expect(loads.length, 'loads begun, with a caller that came when two of the three had given up').toBe(1);
    loads[0]?.resolve('loaded');
    expect(
      await Promise.all([stays, joins]),
      'the caller that stays when the one that started the load has given up, and the one that came then',
    ).toEqual(['loaded', 'loaded']);

    const alone = new AbortController();
    const left = outcome(flights.run('b', alone.signal));
    const load = await begun(loads, 2, 'for two keys');
    alone.abort(new Error('tab closed'));
    await left;
    load.reject(new Error('connection lost'));
    const before = outcome(flights.run('c', AbortSignal.abort(new Error('closed before'))));
    expect(await before, 'a caller whose signal has aborted before the call').toBe(
      'rejected: Error: closed before',
    );
    await turn();
    for (const { reject } of loads.slice(2)) reject(new Error('connection lost'));
    await turn();
    expect(
      unhandled(),
      'rejections that nobody handles: a load failed when its only caller had left',
    ).toEqual([]);
  });

  test('a load that hangs is given up at its deadline, and the next caller starts a new one', async () => {
    const unhandled = unhandledRejections();
    const failures: (() => void)[] = [];
    const hung = new Set<string>();
    const flights = singleFlight<string>(async (key) => {
      if (hung.has(key)) return 'loaded';
      hung.add(key);
      return new Promise((_, reject) => failures.push(() => reject(new Error('too late'))));
    }, DEADLINE_MS);
    const run = (key: string, signal?: AbortSignal) => outcome(flights.run(key, signal), 300);
    const inTime = outcome(singleFlight(() => setTimeout(2 * DEADLINE_MS, 'slow'), PATIENT_MS).run('a'));
    const leaving = new AbortController();
    void run('left', leaving.signal);
    const calls = { joined: run('joined'), forgotten: run('forgotten'), left: run('left') };
    flights.forget('forgotten');
    leaving.abort(new Error('gone'));
    let hasEnded = false;
    void calls.joined.then(() => {
      hasEnded = true;
    });
    for (let joins = 0; joins < 60 && !hasEnded; joins++) {
      await setTimeout(5);
      void run('joined');
    }
    expect(
      await calls.joined,
      `${ANSWER}, also while others join: the deadline counts from the start of the load`,
    ).toMatch(/^rejected/);
    expect(await calls.forgotten, `${ANSWER}, also after forget`).toMatch(/^rejected/);
    expect(await calls.left, `${ANSWER}, also when the caller that started it has given up`).toMatch(
      /^rejected/,
    );
    expect(await inTime, 'a load that is slow, and ends before the deadline it was given').toBe('slow');
    expect(
      await run('joined'),
      'the next caller, when the first load still hangs: it must not join that one',
    ).toBe('loaded');
    for (const failLate of failures) failLate();
    await turn();
    expect(
      unhandled(),
      'rejections that nobody handles: the first load has failed after its deadline',
    ).toEqual([]);
  });

  test('after forget, the next caller starts a load that the end of the old one leaves alone', async () => {
    const { flights, loads } = heldFlights();
    flights.forget('a');
    const before = outcome(flights.run('a'));
    await begun(loads, 1, 'by one caller');
    flights.forget('b');
    expect(flights.size, 'size after forget of another key').toBe(1);
    flights.forget('a');
    expect(flights.size, 'size after forget, when the forgotten load goes on').toBe(0);
    const after = outcome(flights.run('a'));
    await begun(loads, 2, 'with a caller that came after forget');
    loads[0]?.resolve('old');
    expect(await before, 'the caller that came before forget: its load goes on').toBe('old');
    await turn();
    const joined = outcome(flights.run('a'));
    await turn();
    expect(
      loads.length,
      'loads: the first, the second after forget; a third caller must join the second, although the first has ended',
    ).toBe(2);
    loads[1]?.resolve('new');
    expect(await Promise.all([after, joined]), 'values of the two callers that came after forget').toEqual([
      'new',
      'new',
    ]);

    let hanging = 0;
    const hung = singleFlight<string>(() => new Promise(() => void hanging++), DEADLINE_MS);
    const givenUp = outcome(hung.run('a'));
    await setTimeout(DEADLINE_MS / 2);
    hung.forget('a');
    void outcome(hung.run('a'));
    await givenUp;
    // In the turn of the first deadline: the second one has not come, however slow the machine is.
    void outcome(hung.run('a'));
    await turn();
    expect(hanging, 'loads, as above: this time the forgotten one hangs until its deadline').toBe(2);
  });

  test('nothing is left behind: no load, no timer, no listener', async () => {
    // Of a worker that runs for weeks.
    const { signal } = new AbortController();
    const hung = singleFlight<string>(() => new Promise(() => {}), DEADLINE_MS);
    await outcome(hung.run('a', signal), 300);
    await turn();
    expect(hung.size, 'size when a load that hangs has been given up').toBe(0);
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const { flights, loads } = heldFlights();
    const leaving = new AbortController();
    // So many calls at once are meant: no warning of Node.
    setMaxListeners(60, signal, leaving.signal);
    let ended = 0;
    const end = () => void ended++;
    const calls = Array.from({ length: 60 }, (_, at) =>
      flights.run(`key ${at % 30}`, at < 40 ? signal : leaving.signal).then(end, end),
    );
    await begun(loads, 30, 'by 60 callers of 30 keys');
    expect(flights.size, 'size while 30 keys are loaded').toBe(30);
    leaving.abort(new Error('gone'));
    for (const [at, { resolve, reject }] of loads.entries()) {
      if (at % 3 === 0) reject(new Error('connection lost'));
      else resolve('loaded');
    }
    for (let turns = 0; ended < calls.length && turns < 20; turns++) await turn();
    expect(ended, 'calls that have ended, of 60, when all loads have ended').toBe(60);
    expect(flights.size, 'size when all loads have ended').toBe(0);
    expect(vi.getTimerCount(), 'timers that wait when all loads have ended').toBe(0);
    expect(
      getEventListeners(signal, 'abort').length,
      'listeners on a signal that 41 calls were given, when all of them have ended, one by its deadline',
    ).toBe(0);
  });
});

interface HeldLoad {
  readonly key: string;
  readonly resolve: (value: string) => void;
  readonly reject: (error: Error) => void;
}

/** Each load ends when the test says so, or with the test. */
function heldFlights() {
  const loads: HeldLoad[] = [];
  const load = (key: string) =>
    new Promise<string>((resolve, reject) => {
      loads.push({ key, resolve, reject });
    });
  onTestFinished(async () => {
    for (const { resolve } of loads) resolve('the test has ended');
    await turn();
  });
  return { flights: singleFlight(load, PATIENT_MS), loads };
}

/** Load number `count`, when it has begun. */
async function begun(loads: readonly HeldLoad[], count: number, scene: string): Promise<HeldLoad> {
  for (let turns = 0; loads.length < count && turns < 20; turns++) await turn();
  const load = loads[count - 1];
  expect(loads.length, `loads begun ${scene}`).toBe(count);
  if (!load) throw new Error('unreachable');
  return load;
}

/** The promise of a call; a text where the call itself throws. */
function called(flights: SingleFlight<string>, key: string): Promise<string> {
  try {
    return flights.run(key);
  } catch (error) {
    return Promise.resolve(`run has thrown, and not rejected: ${error}`);
  }
}
