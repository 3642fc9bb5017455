import fc from 'fast-check';
import type { RowDataPacket } from 'mysql2/promise';
import { beforeAll, expect, test } from 'vitest';
import { useServers } from '#kit/servers';
import {
  type Codec,
  createCodec,
  exactReads,
  getDecoded,
  InvalidKeyError,
  type KeyArgument,
  type KeyParts,
  key,
  MAX_KEY_BYTES,
  SAFE_KEY,
  UnsupportedValueError,
  type Value,
} from './keys-and-codecs';

const servers = useServers();

beforeAll(async () => {
  await servers.db.query(`CREATE TABLE ledger (
    id BIGINT UNSIGNED PRIMARY KEY, balance DECIMAL(21,4) NOT NULL, note VARCHAR(100) NULL,
    entries INT NOT NULL, booked_at DATETIME(3) NOT NULL)`);
  await servers.db.query('INSERT INTO ledger VALUES ?', [
    [
      ['7', '12.9000', null, 3, '2025-05-01 08:00:00.125'],
      [
        '9007199254740993',
        '12345678901234567.8900',
        '2025-05-01T08:00:00.125Z',
        0,
        '2025-12-31 23:59:59.999',
      ],
    ],
  ]);
});

test('a row read from MySQL comes back from Redis as it was read', async () => {
  const db = servers.connectDb(exactReads());
  const codec = createCodec<RowDataPacket>({ version: 1 });
  const [[small, big]] = await db.query<RowDataPacket[]>('SELECT * FROM ledger ORDER BY id');
  const [[fewer]] = await db.query<RowDataPacket[]>('SELECT id, balance FROM ledger WHERE id = ?', ['7']);
  if (!small || !big || !fewer) throw new Error('the rows of the table ledger are missing');

  expect(
    String(big.id),
    'a BIGINT must be read with all of its digits: a Number is exact up to 2^53 only',
  ).toBe('9007199254740993');
  expect(
    typeof small.id,
    'a BIGINT must be of one type, small or large: with two, 7 and "7" are two keys for one row',
  ).toBe(typeof big.id);
  expect(big.balance, 'a DECIMAL must be read as the exact text that MySQL holds').toBe(
    '12345678901234567.8900',
  );
  expect(small.balance, 'a DECIMAL keeps its scale: 12.9000 is not 12.9').toBe('12.9000');
  expect(small.booked_at, 'a DATETIME must be read as UTC, whatever the time zone of the process').toEqual(
    new Date('2025-05-01T08:00:00.125Z'),
  );

  for (const [name, row] of Object.entries({ small, big, fewer })) {
    await servers.redis.set(name, codec.encode(row));
    const found = await getDecoded(servers.redis, name, codec);
    expect(found, 'what comes out of Redis must equal what MySQL gave, in value and in type').toEqual({
      hit: true,
      value: row,
    });
    expect(
      found.hit && Object.keys(found.value).sort(),
      'a missing field must stay missing, and a NULL must stay null',
    ).toEqual(Object.keys(row).sort());
  }
});

test('a value comes back equal, or is refused', () => {
  const codec = createCodec<Value>({ version: 1 });
  holds(values(), (value) => {
    expect(
      codec.decode(codec.encode(value)),
      'the decoded value must equal the encoded one, also where a text looks like a date, a number or a tag',
    ).toEqual({ kind: 'value', value });
  });

  const anything = createCodec<{ field: unknown }>({ version: 1 });
  for (const [what, field] of STRANGE) {
    const outcome = encodeAndDecode(anything, { field });
    if ('refusal' in outcome) {
      expect(outcome.refusal, `encode must refuse ${what} with an UnsupportedValueError`).toBeInstanceOf(
        UnsupportedValueError,
      );
      continue;
    }
    expect(
      outcome.kind === 'value' ? outcome.value.field : outcome,
      `${what} that cannot come back as it was must be refused by encode, not changed in silence`,
    ).toStrictEqual(field);
  }
});

test('two different questions never share a key', () => {
  const message = 'two different sets of parts share one key: one of them is served the answer to the other';
  for (const [one, other] of LOOKALIKES) expect(key(one), message).not.toBe(key(other));

  const search = (q: string) => key({ namespace: 'search', tenant: 'acme', locale: 'en-GB', args: { q } });
  const long = search('x'.repeat(1000));
  const short = search('y');
  let shared = 0;
  while (shared < short.length && long[shared] === short[shared]) shared++;
  expect(
    search(long.slice(shared)),
    'a short text must not make the key of a long one: whoever sees a shortened key could ask for it by name',
  ).not.toBe(long);

  // Few letters and one separator at a time: what a join confuses turns up within a hundred samples.
  for (const separator of [
    ':',
    '|',
    ',',
    '=',
    '&',
    '/',
    '-',
    '_',
    '.',
    '%',
    '#',
    '~',
    '\\',
    '"',
    ' ',
    '\0',
  ]) {
    const text = fc.string({ unit: fc.constantFrom('a', separator), minLength: 1, maxLength: 3 });
    const argument = fc.oneof(text, fc.constantFrom<KeyArgument>(1, '1', 1n, true, 'true', null, 'null', ''));
    const parts = fc.record({
      namespace: fc.constantFrom('page', `page${separator}a`),
      tenant: text,
      locale: text,
      args: fc.dictionary(text, argument, { maxKeys: 2, noNullPrototype: true }),
    });
    const seen = new Map<string, KeyParts>();
    for (const sample of fc.sample(parts, { seed: 13, numRuns: 120 })) {
      const built = key(sample);
      const earlier = seen.get(built);
      if (earlier) expect(earlier, message).toEqual(sample);
      seen.set(built, sample);
    }
  }
});

test('the order of the arguments does not matter', () => {
  const asked = { namespace: 'search', tenant: 'acme', locale: 'en-GB' };
  const message =
    'the same arguments in another order must give the same key: a reader and a purger write them apart';
  expect(key({ ...asked, args: { category: 'mugs', page: 2 } }), message).toBe(
    key({ ...asked, args: { page: 2, category: 'mugs' } }),
  );
  const named = fc.tuple(fc.string(), fc.oneof(fc.string({ maxLength: 60 }), fc.integer(), fc.boolean()));
  holds(fc.uniqueArray(named, { selector: ([name]) => name, maxLength: 8 }), (args) => {
    expect(key({ ...asked, args: Object.fromEntries(args) }), message).toBe(
      key({ ...asked, args: Object.fromEntries(args.toReversed()) }),
    );
  });
  expect(
    key({ ...asked, args: { page: 2, category: undefined } }),
    'an argument that is undefined counts as absent',
  ).toBe(key({ ...asked, args: { page: 2 } }));
});

test('no tenant and no locale reads what another stored', async () => {
  const mine = { namespace: 'cart', tenant: 'acme', locale: 'sv-SE', args: { user: 7 } };
  const codec = createCodec<string>({ version: 1 });
  await servers.redis.set(key(mine), codec.encode('2 muggar'));

  expect(await getDecoded(servers.redis, key(mine), codec), 'who stored it must find it').toEqual({
    hit: true,
    value: '2 muggar',
  });
  const absent = { hit: false, why: 'absent' };
  expect(
    await getDecoded(servers.redis, key({ ...mine, tenant: 'globex' }), codec),
    'the tenant must be part of the key: globex was served what acme stored',
  ).toEqual(absent);
  expect(
    await getDecoded(servers.redis, key({ ...mine, locale: 'en-GB' }), codec),
    'the locale must be part of the key: an English reader was served Swedish',
  ).toEqual(absent);

  for (const part of ['namespace', 'tenant', 'locale']) {
    for (const lost of [undefined, null, '']) {
      expect(
        () => key({ ...mine, [part]: lost } as unknown as KeyParts),
        `a key without its ${part} must be refused: all who lost theirs would share one entry`,
      ).toThrow(InvalidKeyError);
    }
  }
});

test('user text cannot leave its place in the key', async () => {
  const search = (q: string) => key({ namespace: 'search', tenant: 'acme', locale: 'en-GB', args: { q } });
  const queries = [
    'mug',
    'lamp',
    'm?g',
    'm[a-z]g',
    '*',
    'search:*',
    '{mug}',
    'mug\r\nFLUSHALL',
    'x'.repeat(5000),
  ];
  for (const q of queries) await servers.redis.set(search(q), q);
  for (const q of queries) {
    const [, matched] = await servers.redis.scan(0, 'MATCH', search(q), 'COUNT', 1000);
    expect(
      matched,
      `read as a pattern, the key of the search for ${JSON.stringify(q.slice(0, 20))} must match itself alone`,
    ).toEqual([search(q)]);
  }

  const anyText = fc.oneof(
    fc.string({ unit: CHARACTER, maxLength: 300, minLength: 1 }),
    fc.constantFrom(...queries, '\ud800', 'a b', "'", '"', '\\', 'é', '🙂'.repeat(100)),
  );
  holds(fc.tuple(anyText, anyText, anyText), ([tenant, name, value]) => {
    const built = key({ namespace: 'search', tenant, locale: value, args: { [name]: value } });
    expect(built, 'a key must match SAFE_KEY, whatever text it was made from').toMatch(SAFE_KEY);
    expect(
      Buffer.byteLength(built),
      `a key must not be longer than ${MAX_KEY_BYTES} bytes, however long the text`,
    ).toBeLessThanOrEqual(MAX_KEY_BYTES);
  });
});

test('an entry of another version is a miss and stays', async () => {
  const v1 = createCodec<{ name: string }>({ version: 1 });
  const v2 = createCodec<{ names: string[]; since: Date }>({ version: 2 });
  const miss = { hit: false, why: 'other-version' };

  const old = v1.encode({ name: 'Ada' });
  await servers.redis.set('user', old);
  expect(
    await answer(getDecoded(servers.redis, 'user', v2)),
    'an entry of an older version must be a miss: it has another shape, and an error here is an outage at deploy',
  ).toEqual(miss);
  expect(
    await servers.redis.getBuffer('user'),
    'an entry of another version must stay: processes of that version still read it',
  ).toEqual(old);

  await servers.redis.set('user', v2.encode({ names: ['Ada'], since: new Date(0) }));
  expect(
    await answer(getDecoded(servers.redis, 'user', v1)),
    'an entry of a newer version must be a miss too: during a deploy, and after a rollback, old code meets it',
  ).toEqual(miss);
  expect(
    await getDecoded(servers.redis, 'user', v2),
    'the version that stored it must still find it after another version has looked',
  ).toEqual({ hit: true, value: { names: ['Ada'], since: new Date(0) } });

  // A text that begins with another, and numbers whose last one or four bytes are the same.
  for (const later of [12, 257, 2 ** 32 + 1]) {
    for (const [writer, reader] of [
      [1, later],
      [later, 1],
    ] as const) {
      const bytes = createCodec<string>({ version: writer }).encode('Ada');
      expect(
        createCodec<string>({ version: reader }).decode(bytes),
        `version ${reader} must not take an entry of version ${writer} for its own: compare the whole number`,
      ).toEqual({ kind: 'other-version' });
    }
  }
});

test('corrupt bytes are a miss and are deleted', async () => {
  const codec = createCodec<Value>({ version: 1 });
  const whole = codec.encode({ name: 'Enamel mug', price: '12.90', updated_at: new Date(0) });
  const corrupt: Record<string, Buffer> = {
    'the first half of an entry': whole.subarray(0, whole.length / 2),
    'an entry without its last byte': whole.subarray(0, -1),
    'the number 1290 without its last byte': codec.encode(1290).subarray(0, -1),
    'no byte at all': Buffer.alloc(0),
    'the text of an error page': Buffer.from('<html>502 Bad Gateway</html>'),
    'the JSON null': Buffer.from('null'),
    'bytes that are no text': Buffer.from([0xff, 0xfe, 0x00, 0xc3]),
  };
  for (const [what, bytes] of Object.entries(corrupt)) {
    await servers.redis.set('entry', bytes);
    expect(
      await answer(getDecoded(servers.redis, 'entry', codec)),
      `${what} must be a miss: an error would come back with every read until the entry expires`,
    ).toEqual({ hit: false, why: 'corrupt' });
    expect(await servers.redis.exists('entry'), `${what} must be deleted: nobody can ever read it`).toBe(0);
  }

  await servers.redis.set('entry', codec.encode(null));
  expect(
    await getDecoded(servers.redis, 'entry', codec),
    'a stored null is a hit: it is what was stored',
  ).toEqual({ hit: true, value: null });
  expect(await servers.redis.exists('entry'), 'a whole entry must stay').toBe(1);

  await servers.redis.rpush('queue', 'job');
  expect(
    await answer(getDecoded(servers.redis, 'queue', codec)),
    'an error of Redis must reject: as a miss, a key of another type would be loaded and overwritten unseen',
  ).toEqual({ rejected: expect.stringContaining('WRONGTYPE') });
});

test('a value stored in the meantime outlives the corrupt bytes', async () => {
  const codec = createCodec<string>({ version: 1 });
  await servers.redis.set('entry', 'not an entry');
  let stored: Promise<unknown> | undefined;
  const raced: Codec<string> = {
    encode: (value) => codec.encode(value),
    // Another reader's miss fills the key after our GET and before anything that we send next.
    decode(bytes) {
      stored ??= servers.redis.set('entry', codec.encode('fresh'));
      return codec.decode(bytes);
    },
  };
  await getDecoded(servers.redis, 'entry', raced);
  await stored;
  expect(
    await getDecoded(servers.redis, 'entry', codec),
    'corrupt bytes are deleted only while they are still there: here a good value was deleted in their place',
  ).toEqual({ hit: true, value: 'fresh' });
});

const LOOKALIKES: readonly (readonly [KeyParts, KeyParts])[] = (
  [
    [
      { tenant: 'a:b', locale: 'c' },
      { tenant: 'a', locale: 'b:c' },
    ],
    [
      { tenant: 'acme', locale: 'sv' },
      { tenant: 'acm', locale: 'esv' },
    ],
    [{ namespace: 'search' }, { namespace: 'Search' }],
    [{ tenant: 'acme' }, { tenant: 'ACME' }],
    [{ args: { q: 'mug' } }, { args: { q: 'Mug' } }],
    [{ args: { q: 'a', page: 'b' } }, { args: { q: 'a:page=b' } }],
    [{ args: { q: '1&page=2' } }, { args: { q: '1', page: '2' } }],
    [{ args: { a: 'b' } }, { args: { b: 'a' } }],
    [{ args: { id: 1 } }, { args: { id: '1' } }],
    [{ args: { id: 9007199254740993n } }, { args: { id: 9007199254740992n } }],
    [{ args: { id: null } }, { args: { id: 'null' } }],
    [{ args: { q: '' } }, { args: {} }],
    [{ args: { q: null } }, { args: {} }],
    [{ args: { q: '%3A' } }, { args: { q: ':' } }],
    [{ args: { q: '\ud800' } }, { args: { q: '\ud801' } }],
    [{ args: { q: `${'x'.repeat(1000)}1` } }, { args: { q: `${'x'.repeat(1000)}2` } }],
    [
      { tenant: 'acme', args: { q: 'x'.repeat(1000) } },
      { tenant: 'globex', args: { q: 'x'.repeat(1000) } },
    ],
  ] satisfies [Partial<KeyParts>, Partial<KeyParts>][]
).map(([one, other]) => {
  const base = { namespace: 'search', tenant: 'acme', locale: 'en-GB' };
  return [
    { ...base, ...one },
    { ...base, ...other },
  ];
});

class Money {
  constructor(readonly pence: number) {}
}

/** No {@link Value}. A codec that keeps one of them all the same keeps its type. */
const STRANGE: readonly (readonly [string, unknown])[] = [
  ['a NaN', Number.NaN],
  ['an Infinity', Number.POSITIVE_INFINITY],
  ['an invalid Date', new Date(Number.NaN)],
  ['an undefined in an array', [undefined]],
  ['a Buffer', Buffer.from('blob')],
  ['a Map', new Map([['a', 1]])],
  ['a Set', new Set([1])],
  ['a URL', new URL('https://example.org')],
  ['a RegExp', /a/],
  ['a function', () => 1],
  ['a symbol', Symbol('a')],
  ['an object of a class', new Money(1290)],
];

/** One Unicode character, control characters and those outside of the first plane included. */
const CHARACTER = fc
  .oneof(fc.integer({ min: 0, max: 0xd7ff }), fc.integer({ min: 0xe000, max: 0x10ffff }))
  .map((code) => String.fromCodePoint(code));

/** Whatever MySQL and JavaScript may put into a field, with texts and objects that look like somebody's tags. */
function values(): fc.Arbitrary<Value> {
  const texts = [
    '2025-05-01T08:00:00.000Z',
    '9007199254740993',
    '12.90',
    '42n',
    'null',
    'undefined',
    '~d0',
    '~~',
    '$',
  ];
  const tags: Value[] = [
    { $date: '2025-05-01T08:00:00.000Z' },
    { type: 'Date', value: 0 },
    { __type: 'bigint', value: '1' },
    { type: 'Buffer', data: [1] },
    ['Date', '2025-05-01T08:00:00.000Z'],
    { json: {}, meta: { values: ['Date'] } },
  ];
  const field = fc.oneof(
    fc.string({ unit: fc.constantFrom(...'abcdefg_'), minLength: 1, maxLength: 5 }),
    fc.constantFrom('$date', '$bigint', 'type', 'value', 'v', 't', '~d', ''),
  );
  return fc.letrec<{ value: Value }>((tie) => ({
    value: fc.oneof(
      { depthSize: 'small' },
      fc.constantFrom<Value>(null, true, false, ...texts, ...tags),
      fc.string({ unit: CHARACTER, maxLength: 5 }),
      fc.integer(),
      // Adding 0 makes 0 of -0.
      fc.double({ noNaN: true, noDefaultInfinity: true }).map((number) => number + 0),
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }),
      fc.date({ noInvalidDate: true, min: new Date('1000-01-01'), max: new Date('9999-12-31') }),
      fc.array(tie('value'), { maxLength: 3 }),
      fc.dictionary(field, tie('value'), { maxKeys: 4, noNullPrototype: true }),
    ),
  })).value;
}

/** Runs the check on seeded samples; fails with the check's own error, on the smallest sample that fails. */
function holds<T>(samples: fc.Arbitrary<T>, check: (sample: T) => void): void {
  const { failed, errorInstance } = fc.check(fc.property(samples, check), { seed: 13, numRuns: 150 });
  if (failed) throw errorInstance;
}

/** A lookup that rejects is compared, and told, like any other answer. */
const answer = <T>(lookup: Promise<T>) => lookup.catch((error: unknown) => ({ rejected: String(error) }));

function encodeAndDecode<T>(codec: Codec<T>, value: T) {
  let bytes: Buffer;
  try {
    bytes = codec.encode(value);
  } catch (refusal) {
    return { refusal };
  }
  return codec.decode(bytes);
}
