import { setImmediate as nextTurn } from 'node:timers/promises';
import { inspect, isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import type { RowDataPacket } from 'mysql2/promise';
import { beforeAll, describe, expect, test } from 'vitest';
import { openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { outcome, unhandledRejections, until } from '#kit/waiting';
import {
  InvalidKeyError,
  type KeyArgument,
  type KeyParts,
  MAX_KEY_BYTES,
  SAFE_KEY,
  UnsupportedValueError,
  type Value,
} from './given';
import { createCodec, exactReads, getDecoded, key } from './keys-and-codecs';

const servers = useServers();

const CART: KeyParts = { namespace: 'cart', tenant: 'acme', locale: 'sv-SE', args: { user: 7 } };
const NOT_UTF_8 = Buffer.from('fffe00', 'hex');
const search = (args: KeyParts['args']) =>
  key({ namespace: 'search', tenant: 'acme', locale: 'en-GB', args });

const ROW_1 = ['7', '12.9000', null, 3, '2025-05-01 08:00:00.125'];
const ROW_2 = ['9007199254740993', '12345678901234567.8900', 'VIP', 0, '2025-12-31 23:59:59.999'];

beforeAll(async () => {
  await servers.db.query(`CREATE TABLE ledger (
    id BIGINT UNSIGNED PRIMARY KEY, balance DECIMAL(21,4) NOT NULL, note VARCHAR(100) NULL,
    entries INT NOT NULL, booked_at DATETIME(3) NOT NULL)`);
  await servers.db.query('INSERT INTO ledger VALUES ?', [[ROW_1, ROW_2]]);
});

describe('Core', () => {
  test('the namespace, the tenant and the locale are part of the key', () => {
    for (const other of [
      { namespace: 'page' },
      { tenant: 'globex' },
      { tenant: 'ACME' },
      { locale: 'en-GB' },
    ]) {
      expect(
        key({ ...CART, ...other }),
        `the key for ${inspect(other)}: with this key, a reader gets what was stored for ${inspect(CART)}`,
      ).not.toBe(key(CART));
    }
    expect(key({ ...CART }), 'the same parts must give the same key, or nobody ever has a hit').toBe(
      key(CART),
    );
  });

  test('the order of the arguments does not matter', () => {
    const message = 'the same arguments in another order must give the same key';
    expect(search({ category: 'mugs', page: 2 }), message).toBe(search({ page: 2, category: 'mugs' }));
    // The two names differ, and a sort by language takes them for equal.
    const accents = [
      ['\u00e9', 1],
      ['e\u0301', 2],
    ] as const;
    expect(search(Object.fromEntries(accents)), message).toBe(
      search(Object.fromEntries(accents.toReversed())),
    );
    const named = fc.tuple(fc.string(), fc.oneof(fc.string({ maxLength: 60 }), fc.integer(), fc.boolean()));
    holds(fc.uniqueArray(named, { selector: ([name]) => name, maxLength: 8 }), (args) => {
      expect(search(Object.fromEntries(args)), message).toBe(search(Object.fromEntries(args.toReversed())));
    });
    expect(
      search({ page: 2, category: undefined }),
      'an argument that is undefined counts as absent: the key must be the same without it',
    ).toBe(search({ page: 2 }));
  });

  test('two different questions never share a key', () => {
    for (const separator of [...':|,=&/-_.%#~\\" \0']) {
      const askedBefore = new Map<string, KeyParts>();
      for (const question of fc.sample(questions(separator), { seed: 13, numRuns: 120 })) {
        const built = key(question);
        expect(
          askedBefore.get(built) ?? question,
          'two questions that have the same key: a reader gets the answer to the other one',
        ).toEqual(question);
        askedBefore.set(built, question);
      }
    }
    const keyOf = (args: KeyParts['args']) => outcomeOf(() => search(args));
    const shared = [...lookalikes()].filter(([one, other]) => keyOf(one) === keyOf(other));
    expect(
      shared.slice(0, 3).map(([one, other]) => [one, other, keyOf(one)]),
      'pairs of arguments that share one key: a reader gets the answer to the other question',
    ).toEqual([]);
  });

  test('a row is read from MySQL as MySQL holds it', async () => {
    const [small, big] = await readLedger();
    expect(String(big.id), 'a BIGINT must be read with all of its digits').toBe('9007199254740993');
    expect(
      typeof small.id,
      'a small BIGINT must have the type of a large one: otherwise code that works for id 7 fails for a large id',
    ).toBe(typeof big.id);
    expect(big.balance, 'a DECIMAL must be read as the text that MySQL holds').toBe('12345678901234567.8900');
    expect(small.balance, 'a DECIMAL keeps its scale: 12.9000 is not 12.9').toBe('12.9000');
    expect(
      small.booked_at,
      'a DATETIME must be read as UTC, whatever the time zone of the process is',
    ).toEqual(new Date('2025-05-01T08:00:00.125Z'));
  });

  test('a value comes out of Redis as it went in', async () => {
    const values: Record<string, unknown> = {
      'a row': (await readLedger())[0],
      'a Date': { at: new Date('2025-05-01T08:00:00.125Z'), all: [new Date(0)] },
      'a bigint': { views: 9007199254740993n, all: [-1n] },
      'a null and a missing field': { note: null, gone: undefined, all: [null, false, 0, ''] },
      'a list': [{ price: '12.9000' }, 'é 🙂 \n "'],
    };
    const codec = createCodec<unknown>({ version: 1 });
    for (const [what, value] of Object.entries(values)) {
      const roundTrip = async () => {
        await servers.redis.set('entry', codec.encode(value));
        return getDecoded(servers.redis, 'entry', codec);
      };
      expect(
        await outcome(roundTrip()),
        `${what}: the value must come back, and each field must have its type`,
      ).toEqual({ hit: true, value });
    }
  });

  test('a missing entry is a miss, a stored null is a hit, and an error of Redis is neither', async () => {
    const codec = createCodec<null>({ version: 1 });
    const get = () => outcome(getDecoded(servers.redis, 'entry', codec));
    await servers.redis.del('entry');
    expect(await get(), 'Redis has no such key').toEqual({ hit: false, why: 'absent' });
    await servers.redis.set('entry', codec.encode(null));
    expect(await get(), 'null was stored: the row has no value, and that is the answer').toEqual({
      hit: true,
      value: null,
    });
    await servers.redis.del('entry');
    await servers.redis.rpush('entry', 'job');
    expect(await get(), 'the key holds a list, and Redis has answered with an error: reject with it').toEqual(
      expect.stringMatching(/^rejected: .*WRONGTYPE/),
    );
    await servers.redis.del('entry');
  });
});

describe('In production', () => {
  test('a part that is lost or not text is refused', () => {
    for (const part of ['namespace', 'tenant', 'locale']) {
      for (const lost of [undefined, null, '', {}, ['acme']]) {
        expect(
          builtOrRefused({ ...CART, [part]: lost }),
          `the ${part} is ${inspect(lost)}: refuse it with InvalidKeyError, or all callers without their ${part} share entries`,
        ).toBe('refused');
      }
    }
    const values = [null, 'null', Number.NaN, 'NaN', Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    const objects = [{ a: 1 }, { a: 2 }, [1], 1, ['1'], '1', new Date(0), new Date(1), {}, undefined];
    const askedBefore = new Map<string, unknown>();
    for (const id of [...values, ...objects]) {
      const built = builtOrRefused({ ...CART, args: { id } });
      if (built === 'refused') continue;
      expect(
        askedBefore.has(built) ? askedBefore.get(built) : id,
        `the arguments that are shown here share the key ${built}: refuse one with InvalidKeyError, or give it its own key`,
      ).toBe(id);
      askedBefore.set(built, id);
    }
  });

  test('a key holds no character that means something to Redis', () => {
    const texts = ['*', 'm?g', 'm[a-z]g', '{mug}', 'mug\r\nFLUSHALL', 'a b', "'", '"', '\\', 'é', '🙂'];
    const text = fc.oneof(
      fc.string({ unit: CHARACTER, minLength: 1, maxLength: 60 }),
      fc.constantFrom(...texts, '\ud800'),
    );
    holds(fc.tuple(text, text, text), ([tenant, name, value]) => {
      expect(
        outcomeOf(() => key({ namespace: 'search', tenant, locale: value, args: { [name]: value } })),
        `the key of ${inspect({ tenant, name, value })} must match SAFE_KEY`,
      ).toMatch(SAFE_KEY);
    });
  });

  test('a long question has a short key of its own', () => {
    const ask = (tenant: string, locale: string, name: string, value: string) =>
      key({ namespace: 'search', tenant, locale, args: { [name]: value } });
    const parts = ['a', 'b', 'c', 'd'].map((letter) => letter.repeat(600));
    const keys = [ask(...fourOf(parts))];
    for (const [at, part] of parts.entries()) {
      const inCapitals = part.slice(1) + part.slice(0, 1).toUpperCase();
      for (const changed of [...withOneLetter(part), inCapitals])
        keys.push(ask(...fourOf(parts.with(at, changed))));
    }
    const bytes = Math.max(...keys.map((built) => Buffer.byteLength(built)));
    expect(bytes, 'bytes of the key of a long question').toBeLessThanOrEqual(MAX_KEY_BYTES);
    expect(
      keys.length - new Set(keys).size,
      'questions that share the key of another one: they differ in one letter, or in its case, of a long tenant, locale, name or value',
    ).toBe(0);

    const middles = Array.from({ length: 400 }, (_, i) =>
      search({ q: `${'x'.repeat(600)}${i}${'x'.repeat(600)}` }),
    );
    expect(
      bitsThatVary(middles),
      'bits in which the keys of 400 long texts differ. With fewer, a user can find two texts with one key',
    ).toBeGreaterThanOrEqual(120);

    const [hidden = ''] = middles;
    for (const typed of endsOf(hidden)) {
      expect(
        search({ q: typed }),
        `a search for ${inspect(typed)} has the key of a search for a long text: a user can read it off that key`,
      ).not.toBe(hidden);
    }
  });

  test('a text that looks like a mark of the codec stays a text', () => {
    const codec = createCodec<Value>({ version: 1 });
    const common = ['2025-05-01T08:00:00.000Z', '42n', '12.90', '~~', '$', { type: 'Buffer', data: [1] }];
    const marked = [new Date(5), 7n, [new Date(5)], { a: 7n }, '~d5', '$', '\ud800'];
    for (const value of [...common, ...marked.flatMap((each) => ownTexts(codec, each))]) {
      for (const placed of [value, { field: value, all: [value], [String(value)]: 1 }]) {
        expect(
          outcomeOf(() => codec.decode(codec.encode(placed))),
          'a user has stored this value, which is part of what your encode writes: it must come back as it was',
        ).toEqual({ kind: 'value', value: placed });
      }
    }
    const nested = JSON.parse('{"__proto__":{"admin":true},"constructor":1}');
    expect(
      fateOf(codec, nested),
      'a user has stored a field named __proto__: encode must keep it, or refuse it with UnsupportedValueError',
    ).toMatch(/^(refused|came back equal)$/);
  });

  test('a value that would change is refused', () => {
    const codec = createCodec<unknown>({ version: 1 });
    for (const [what, value] of strangeValues()) {
      // A field that is undefined counts as absent.
      for (const placed of value === undefined ? [value, [value]] : [value, [value], { field: value }]) {
        expect(
          fateOf(codec, placed),
          `${what}: encode must refuse it with UnsupportedValueError, because it does not come back as it was`,
        ).toMatch(/^(refused|came back equal)$/);
      }
    }
    const brand = { name: 'Ada' };
    expect(
      fateOf(codec, { brand, all: [brand, brand] }),
      'one object stands in several places, and not inside itself: encode must accept it',
    ).toBe('came back equal');
  });

  test('an entry of another version is a miss, and stays', async () => {
    // Texts that begin alike, and numbers with the same last bytes.
    for (const [writer, reader] of [1, 2, 12, 257, 65_537].flatMap((v) => [
      [1, v],
      [v, 1],
    ])) {
      if (writer === undefined || reader === undefined || writer === reader) continue;
      const theirs = createCodec<Value>({ version: writer });
      const ours = createCodec<Value>({ version: reader });
      const written = theirs.encode({ name: 'Ada' });
      await servers.redis.set('user', written);
      expect(
        await outcome(getDecoded(servers.redis, 'user', ours)),
        `version ${writer} has stored the entry, and version ${reader} reads it: its shape is unknown`,
      ).toEqual({ hit: false, why: 'other-version' });
      expect(
        await servers.redis.getBuffer('user'),
        `processes of version ${writer} still read this entry: it must stay`,
      ).toEqual(written);
    }
  });

  test('damaged bytes are a miss', () => {
    const codec = createCodec<Value>({ version: 1 });
    const value = { name: 'Mug é, 350 ml', at: new Date(1_746_086_400_125), views: 12n, stock: 1290 };
    const whole = entryOf(codec, value);
    const decode = (bytes: Buffer) => outcomeOf(() => codec.decode(bytes));
    const message = (what: string, bytes: Buffer) =>
      `${what} (${inspect(bytes.toString('latin1'))}): encode never writes these bytes, so decode must answer that they are corrupt`;
    const texts = ['', 'null', '1290', '[]', '{}', '"Ada"', '<html>502 Bad Gateway</html>'];
    for (const bytes of [...texts.map((text) => Buffer.from(text)), NOT_UTF_8]) {
      expect(decode(bytes), message('bytes that no codec has written', bytes)).toEqual({ kind: 'corrupt' });
    }
    for (const cut of [entryOf(codec, 1290), whole].flatMap(beginningsOf)) {
      expect(decode(cut), message('an entry that was cut off', cut)).toEqual(NO_VALUE);
    }
    for (const wrong of ['x', '\xff'].flatMap((byte) => withOneByte(whole, byte))) {
      const decoded = decode(wrong);
      // One letter in the place of another is an entry that encode may have written.
      if (isWrittenBy(codec, decoded, wrong)) continue;
      expect(decoded, message('an entry with one wrong byte', wrong)).toEqual(NO_VALUE);
    }
    for (const [emptied, full] of [
      [new Date(0), new Date(1_746_086_400_125)],
      [0n, 7_746_086_400_125n],
    ] as const) {
      for (const gap of withoutSomeBytes(entryOf(codec, full))) {
        expect(decode(gap), message('an entry without some of its bytes', gap)).not.toEqual({
          kind: 'value',
          value: emptied,
        });
      }
    }
  });

  test('corrupt bytes are deleted', async () => {
    const codec = createCodec<string>({ version: 1 });
    for (const bytes of ['<html>502 Bad Gateway</html>', '', NOT_UTF_8]) {
      const shown = inspect(bytes.toString());
      await servers.redis.set('entry', bytes);
      expect(
        await outcome(getDecoded(servers.redis, 'entry', codec)),
        `Redis holds ${shown}: this is a miss, with the reason "corrupt"`,
      ).toEqual({ hit: false, why: 'corrupt' });
      await until(async () => !(await servers.redis.exists('entry')));
      expect(
        await servers.redis.getBuffer('entry'),
        `Redis held ${shown}: nobody can ever read these bytes, so they must be deleted`,
      ).toBeNull();
    }
  });

  test('a delete that fails does not end the process', async () => {
    const proxy = await openProxy(servers.redisUrl);
    const redis = servers.connectRedis({ maxRetriesPerRequest: 0, retryStrategy: () => null }, proxy.url);
    await redis.ping();
    const unhandled = unhandledRejections();
    await servers.redis.set('entry', 'not an entry');
    const deletes: string[] = [];
    proxy.schedule(async (request) => {
      if (/^(GET|WATCH)\b/i.test(request)) return;
      deletes.push(request);
      proxy.cut();
    });
    const looked = await outcome(getDecoded(redis, 'entry', createCodec<string>({ version: 1 })));
    await until(() => redis.status === 'end');
    await nextTurn();
    expect(deletes.length, 'requests to delete the corrupt bytes').toBeGreaterThan(0);
    expect(
      unhandled(),
      'the connection broke at the delete, and nobody handles the error of the delete: Node ends the process',
    ).toEqual([]);
    expect(looked, 'the delete has failed: reject with its error, or answer the miss').toEqual(
      typeof looked === 'string' ? expect.stringMatching(/^rejected/) : { hit: false, why: 'corrupt' },
    );
  });

  test('a value that was stored meanwhile is not deleted', async () => {
    const codec = createCodec<string>({ version: 1 });
    const fresh = codec.encode('fresh');
    // Two readers share a connection. The value is stored before request 3 of the connection, 4, and so on.
    for (let turn = 3, requests = turn; requests >= turn && turn < 30; turn++) {
      const keys = [`entry:${turn}`, `other:${turn}`];
      const proxy = await openProxy(servers.redisUrl);
      const redis = servers.connectRedis({}, proxy.url);
      await redis.ping();
      for (const each of keys) await servers.redis.set(each, 'not an entry');
      requests = 0;
      proxy.schedule(async () => {
        requests += 1;
        if (requests !== turn) return;
        for (const each of keys) await servers.redis.set(each, fresh, 'PX', 60_000);
      });
      await Promise.all(keys.map((each) => outcome(getDecoded(redis, each, codec))));
      await until(async () => !(await servers.redis.mget(keys)).includes('not an entry'));
      const wasStored = requests >= turn;
      for (const each of keys) {
        expect(
          await servers.redis.getBuffer(each),
          wasStored
            ? `another client has stored a good value before request ${turn} of this connection: it must stay`
            : 'the corrupt bytes must be gone',
        ).toEqual(wasStored ? fresh : null);
        expect(
          (await servers.redis.pttl(each)) > 0,
          'whether the good value still has the TTL that it was stored with',
        ).toBe(wasStored);
      }
    }
  });
});

async function readLedger(): Promise<[small: RowDataPacket, big: RowDataPacket]> {
  const db = servers.connectDb(exactReads());
  const [[small, big]] = await db.query<RowDataPacket[]>('SELECT * FROM ledger ORDER BY id');
  if (!small || !big) throw new Error('the rows of the table ledger are missing');
  return [small, big];
}

/** One Unicode character: control characters and those outside of the first plane are among them. */
const CHARACTER = fc
  .oneof(fc.integer({ min: 0, max: 0xd7ff }), fc.integer({ min: 0xe000, max: 0x10ffff }))
  .map((code) => String.fromCodePoint(code));

/** Few letters and one separator at a time: what a join confuses turns up within a hundred samples. */
function questions(separator: string): fc.Arbitrary<KeyParts> {
  const text = fc.string({ unit: fc.constantFrom('a', separator), minLength: 1, maxLength: 3 });
  const values: KeyArgument[] = [1, '1', true, 'true', null, 'null', ''];
  return fc.record({
    namespace: fc.constantFrom('page', `page${separator}a`),
    tenant: text,
    locale: text,
    args: fc.dictionary(text, fc.oneof(text, fc.constantFrom(...values)), {
      maxKeys: 2,
      noNullPrototype: true,
    }),
  });
}

/** Pairs of arguments: the escapes of other texts, codes of several lengths, and types. */
function* lookalikes(): Generator<readonly [KeyParts['args'], KeyParts['args']]> {
  yield* [
    [{ id: 1 }, { id: '1' }],
    [{ id: 1.5 }, { id: 1 }],
    [{ id: true }, { id: 'true' }],
    [{ id: null }, { id: 'null' }],
    [{ q: '' }, {}],
    [{ q: null }, {}],
    [{ q: 'Mug' }, { q: 'mug' }],
    [{ q: ' mug' }, { q: 'mug' }],
    [{ q: '\u00e9' }, { q: 'e\u0301' }],
    [{ a: 'b' }, { b: 'a' }],
    [{ q: '1&page=2' }, { q: '1', page: '2' }],
    [{ q: '\ud800' }, { q: '\ud801' }],
  ] as const;
  for (const q of [':', ' ', '%', '~', '\n', 'é', '\ud800']) {
    for (const typed of partsOf(outcomeOf(() => search({ q })))) if (typed !== q) yield [{ q: typed }, { q }];
  }
  for (const radix of [10, 16]) {
    for (let code = 0x80; code < 0x10000; code += 193) {
      const digits = code.toString(radix);
      for (let at = 1; at < digits.length; at++) {
        const shorter = String.fromCharCode(Number.parseInt(digits.slice(0, at), radix));
        yield [{ q: `${shorter}${digits.slice(at)}` }, { q: String.fromCharCode(code) }];
      }
    }
  }
}

/** All that stands somewhere in a text. */
function* partsOf(text: string): Generator<string> {
  for (let from = 0; from < text.length; from++) {
    for (let to = from + 1; to <= text.length; to++) yield text.slice(from, to);
  }
}

const endsOf = (text: string) => Array.from(text, (_, at) => text.slice(at));

const withOneLetter = (text: string) =>
  Array.from({ length: 55 }, (_, i) => `${text.slice(0, 11 * i)}y${text.slice(11 * i + 1)}`).slice(0, -1);

function fourOf([a = '', b = '', c = '', d = '']: readonly string[]): [string, string, string, string] {
  return [a, b, c, d];
}

function builtOrRefused(parts: object): string {
  try {
    return key(parts as KeyParts);
  } catch (error) {
    return error instanceof InvalidKeyError ? 'refused' : `threw ${error}`;
  }
}

/** At most, by the characters that were seen at each place. */
function bitsThatVary(keys: readonly string[]): number {
  const longest = Math.max(...keys.map((each) => each.length));
  let bits = 0;
  for (let at = 0; at < longest; at++) bits += Math.log2(new Set(keys.map((each) => each[at])).size);
  return bits;
}

/** Parts of an entry, as texts and as the JSON values that they are: a user may store one of them. */
function ownTexts(codec: ReturnType<typeof createCodec<Value>>, value: Value): Value[] {
  const bytes = outcomeOf(() => codec.encode(value));
  const text = bytes.toString('latin1').slice(-40);
  // A mark does not begin or end inside a word.
  const edges = Array.from(`${text} `, (_, at) => at).filter(
    (at) => !/\w\w/.test(text.slice(at - 1, at + 1)),
  );
  const texts = new Set(edges.flatMap((from) => edges.map((to) => text.slice(from, to))));
  return [...texts].flatMap((part): Value[] => {
    try {
      const json: Value = JSON.parse(part);
      return typeof json === 'object' && json !== null ? [part, json] : [part];
    } catch {
      return [part];
    }
  });
}

class Money {
  constructor(readonly pence: number) {}
}
class Tags extends Array {}
class Moment extends Date {}

function strangeValues(): [what: string, value: unknown][] {
  const cycle: { self?: unknown } = {};
  cycle.self = [cycle];
  return [
    ['undefined', undefined],
    ['a NaN', Number.NaN],
    ['an Infinity', Number.POSITIVE_INFINITY],
    ['an invalid Date', new Date(Number.NaN)],
    ['an array with a gap', Object.assign([1], { 2: 3 })],
    ['an array with a field of its own', Object.assign([1], { total: 1 })],
    ['a Buffer', Buffer.from('blob')],
    ['a Map', new Map([['a', 1]])],
    ['a Set', new Set([1])],
    ['a URL', new URL('https://example.org')],
    ['a RegExp', /a/],
    ['an Error', new Error('a')],
    ['a function', () => 1],
    ['a symbol', Symbol('a')],
    ['a field named by a symbol', { [Symbol.for('a')]: 1 }],
    ['an object of a class', new Money(1290)],
    ['an object of a subclass of Array', Tags.from([1])],
    ['an object of a subclass of Date', new Moment(0)],
    ['an object with a toJSON of its own', { toJSON: () => 'other' }],
    ['an object that holds itself', cycle],
  ];
}

/** The text for a foreign error never equals what a test expects. */
function outcomeOf<T>(action: () => T): T | string {
  try {
    return action();
  } catch (error) {
    return `threw ${error}`;
  }
}

function fateOf(codec: ReturnType<typeof createCodec<unknown>>, value: unknown): string {
  let bytes: Buffer;
  try {
    bytes = codec.encode(value);
  } catch (error) {
    return error instanceof UnsupportedValueError ? 'refused' : `encode threw ${error}`;
  }
  const decoded = outcomeOf(() => codec.decode(bytes));
  if (isDeepStrictEqual(decoded, { kind: 'value', value })) return 'came back equal';
  return `decode returned ${inspect(decoded)}`;
}

/** A codec that fails here is the concern of another test. */
function entryOf(codec: ReturnType<typeof createCodec<Value>>, value: Value): Buffer {
  return Buffer.from(outcomeOf(() => codec.encode(value)));
}

/** A damaged version may be another one. */
const NO_VALUE = { kind: expect.stringMatching(/^(corrupt|other-version)$/) };

const beginningsOf = (bytes: Buffer) => Array.from(bytes, (_, length) => bytes.subarray(0, length));

const withOneByte = (bytes: Buffer, wrong: string) =>
  Array.from(bytes, (_, at) => {
    const changed = Buffer.from(bytes);
    changed.write(wrong, at, 'latin1');
    return changed;
  });

const withoutSomeBytes = (bytes: Buffer) =>
  Array.from(bytes, (_, from) => beginningsOf(bytes.subarray(from)).map((gap) => gap.length)).flatMap(
    (lengths, from) =>
      lengths.map((length) => Buffer.concat([bytes.subarray(0, from), bytes.subarray(from + length)])),
  );

function isWrittenBy(codec: ReturnType<typeof createCodec<Value>>, decoded: unknown, bytes: Buffer): boolean {
  if (typeof decoded !== 'object' || decoded === null || !('value' in decoded)) return false;
  return isDeepStrictEqual(
    outcomeOf(() => codec.encode(decoded.value as Value)),
    bytes,
  );
}

/** The property for many samples, the same ones in each run. */
function holds<T>(samples: fc.Arbitrary<T>, property: (sample: T) => void): void {
  for (const sample of fc.sample(samples, { seed: 7, numRuns: 100 })) property(sample);
}
