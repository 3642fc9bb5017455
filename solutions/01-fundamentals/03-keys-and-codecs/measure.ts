import { deepStrictEqual } from 'node:assert/strict';
import { gunzipSync, gzipSync } from 'node:zlib';
import { decode as fromMessagePack, encode as toMessagePack } from '@msgpack/msgpack';
import type { RowDataPacket } from 'mysql2/promise';
import { type Claim, defineMeasure, type MeasureServers, median, type Plot } from '#claims';
import { openPool } from '#kit/pool';
import { seeded } from '#kit/random';
import { createCodec, exactReads, getDecoded, key } from './keys-and-codecs';

/** One way to store a value: bytes out of it, and it out of the bytes. */
interface Contender {
  encode(value: unknown): Uint8Array;
  decode(bytes: Uint8Array): unknown;
}

const VERSION = 1;
const codec = createCodec<unknown>({ version: VERSION });
const decodeOwn = (bytes: Uint8Array) => {
  const decoded = codec.decode(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
  if (decoded.kind !== 'value') throw new Error(`the codec does not read its own bytes: ${decoded.kind}`);
  return decoded.value;
};

const envelope: Contender = { encode: codec.encode, decode: decodeOwn };
const messagePack: Contender = {
  encode: (value) => toMessagePack([VERSION, value]),
  decode: (bytes) => (fromMessagePack(bytes) as [number, unknown])[1],
};
const gzip: Contender = {
  encode: (value) => gzipSync(codec.encode(value)),
  decode: (bytes) => decodeOwn(gunzipSync(bytes)),
};
/** The yardstick only: dates come back as text. */
const bareJson: Contender = {
  encode: (value) => Buffer.from(JSON.stringify(value)),
  decode: (bytes) => JSON.parse(bytes.toString()),
};
/** What the codec would be with a reviver that puts the dates back. */
const reviver: Contender = {
  encode: codec.encode,
  decode: (bytes) =>
    JSON.parse(bytes.toString().slice(`v${VERSION}:`.length), (_field, json) =>
      typeof json === 'string' && json.startsWith('~d') ? new Date(Number(json.slice(2))) : json,
    )[0],
};

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { product, list } = await read(servers());
    const page = list.slice(0, 50);
    for (const faithful of [envelope, messagePack, gzip, reviver]) {
      deepStrictEqual(faithful.decode(faithful.encode(page)), page);
    }
    const shapes = [
      { shape: 'product', label: 'one product', value: product, batch: 60 },
      { shape: 'page', label: 'a page of 50', value: page, batch: 2 },
    ];
    return {
      claims: [
        ...shapes.flatMap(({ shape, label, value, batch }) => [
          ...sizes(shape, label, value),
          ...times(shape, label, value, batch, quick ? 25 : 400),
        ]),
        ...(await fetchAgainstDecode(servers(), page, quick ? 150 : 2000)),
        ...(await halfDeployed(servers(), quick ? 300 : 5000)),
        keyTime(quick ? 30 : 300),
      ],
      plots: [bytesByRows(list)],
    };
  },
});

/** One product with its description, and the rows of a long list without it, read as the lab reads them. */
async function read(servers: MeasureServers) {
  await servers.loadShop();
  const db = openPool(servers.mysqlUrl, exactReads());
  try {
    const [[product]] = await db.query<RowDataPacket[]>('SELECT * FROM products WHERE id = 1');
    const [list] = await db.query<RowDataPacket[]>(
      'SELECT id, name, price, stock, category_id, brand_id, view_count, updated_at FROM products ORDER BY id LIMIT 200',
    );
    return { product, list };
  } finally {
    await db.end();
  }
}

function sizes(shape: string, label: string, value: unknown): Claim[] {
  const base = envelope.encode(value).length;
  const ratio = (contender: Contender) => contender.encode(value).length / base;
  return [
    { name: `${shape}-bytes`, says: `${label} in the JSON envelope`, value: base, unit: 'bytes' },
    {
      name: `${shape}-bare-bytes`,
      says: `${label}: bytes of bare JSON against the JSON envelope`,
      value: ratio(bareJson),
      unit: '×',
      atLeast: 0.9,
      atMost: 1.2,
    },
    {
      name: `${shape}-msgpack-bytes`,
      says: `${label}: bytes of MessagePack against the JSON envelope`,
      value: ratio(messagePack),
      unit: '×',
      atMost: 0.95,
    },
    {
      name: `${shape}-gzip-bytes`,
      says: `${label}: bytes of gzip on the JSON envelope against the envelope`,
      value: ratio(gzip),
      unit: '×',
      ...(shape === 'page' ? { atMost: 0.4 } : { atLeast: 0.4 }),
    },
  ];
}

/** Encode and decode, in turns: a slow moment of the machine hits all contenders alike. */
function times(shape: string, label: string, value: unknown, batch: number, rounds: number): Claim[] {
  const contenders = { envelope, bare: bareJson, msgpack: messagePack, gzip, reviver };
  const took = Object.values(contenders).map((contender) => ({
    contender,
    both: [] as number[],
    decode: [] as number[],
  }));
  for (let round = 0; round < rounds; round++) {
    for (const { contender, both, decode } of took) {
      const start = performance.now();
      let bytes = contender.encode(value);
      for (let i = 1; i < batch; i++) bytes = contender.encode(value);
      const encoded = performance.now();
      for (let i = 0; i < batch; i++) contender.decode(bytes);
      const end = performance.now();
      // The first rounds run before the engine has compiled the code.
      if (round < rounds / 5) continue;
      both.push(end - start);
      decode.push(end - encoded);
    }
  }
  const [own, bare, msgpack, zipped, revived] = took.map(({ both, decode }) => ({
    both: median(both),
    decode: median(decode),
  }));
  if (!own || !bare || !msgpack || !zipped || !revived) throw new Error('a contender was not measured');
  const says = (what: string) => `${label}: time to encode and decode, ${what} against the JSON envelope`;
  return [
    {
      name: `${shape}-time`,
      says: `${label}: time to encode and decode with the JSON envelope`,
      value: (1000 * own.both) / batch,
      unit: 'µs',
    },
    {
      name: `${shape}-bare-time`,
      says: says('bare JSON'),
      value: bare.both / own.both,
      unit: '×',
      atMost: 1.3,
    },
    { name: `${shape}-msgpack-time`, says: says('MessagePack'), value: msgpack.both / own.both, unit: '×' },
    {
      name: `${shape}-gzip-time`,
      says: says('gzip'),
      value: zipped.both / own.both,
      unit: '×',
      atLeast: 1.1,
    },
    {
      name: `${shape}-reviver-time`,
      says: `${label}: time to decode, with a reviver against a walk over the parsed value`,
      value: revived.decode / own.decode,
      unit: '×',
      ...(shape === 'page' && { atLeast: 1.1 }),
    },
  ];
}

async function fetchAgainstDecode(servers: MeasureServers, page: unknown, rounds: number): Promise<Claim[]> {
  const name = key({ namespace: 'measure-page', tenant: 'course', locale: 'en-GB' });
  const fetches: number[] = [];
  const decodes: number[] = [];
  await servers.redis.set(name, codec.encode(page), 'PX', 60_000);
  for (let round = 0; round < rounds; round++) {
    const start = performance.now();
    const bytes = await servers.redis.getBuffer(name);
    const fetched = performance.now();
    if (bytes) codec.decode(bytes);
    decodes.push(performance.now() - fetched);
    fetches.push(fetched - start);
  }
  await servers.redis.del(name);
  return [
    {
      name: 'decode-vs-get',
      says: 'a page of 50: decoding it against the GET that fetches it over loopback, p50',
      value: median(decodes) / median(fetches),
      unit: '×',
      atLeast: 0.1,
    },
  ];
}

/** One hot entry, read by two versions in turn at random, each filling it on a miss: a deploy that stands at half. */
async function halfDeployed(servers: MeasureServers, reads: number): Promise<Claim[]> {
  const { redis } = servers;
  const codecs = [1, 2].map((version) => createCodec<string>({ version }));
  const misses = async (nameFor: (version: number) => string) => {
    const random = seeded(7);
    let missed = 0;
    for (let read = 0; read < reads; read++) {
      const index = random() < 0.5 ? 0 : 1;
      const own = codecs[index];
      if (!own) throw new Error('there are two codecs');
      const name = nameFor(index + 1);
      if ((await getDecoded(redis, name, own)).hit) continue;
      missed += 1;
      await redis.set(name, own.encode('a product'), 'PX', 60_000);
    }
    await redis.del(nameFor(1), nameFor(2));
    return (100 * missed) / reads;
  };
  const named = (namespace: string) => key({ namespace, tenant: 'course', locale: 'en-GB' });
  return [
    {
      name: 'one-key-misses',
      says: 'a hot entry while half of the processes are of the next version: misses, one key for both',
      value: await misses(() => named('measure-deploy')),
      unit: '%',
      atLeast: 40,
      atMost: 60,
    },
    {
      name: 'versioned-key-misses',
      says: 'the same, with the version in the key',
      value: await misses((version) => named(`measure-deploy-${version}`)),
      unit: '%',
      atMost: 2,
    },
  ];
}

function keyTime(rounds: number): Claim {
  const took: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const start = performance.now();
    for (let page = 0; page < 100; page++) {
      key({ namespace: 'search', tenant: 'acme', locale: 'sv-SE', args: { q: 'enamel mug', page } });
    }
    took.push(10 * (performance.now() - start));
  }
  return { name: 'key-time', says: 'building a key from two arguments', value: median(took), unit: 'µs' };
}

function bytesByRows(list: readonly unknown[]): Plot {
  const series = (name: string, contender: Contender) => ({
    name,
    points: [1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200].map((rows) => {
      const value = list.slice(0, rows);
      return [rows, contender.encode(value).length / envelope.encode(value).length] as const;
    }),
  });
  return {
    name: 'bytes',
    title: 'Bytes stored against the JSON envelope, by the number of rows in the value.',
    x: { label: 'rows in the value', scale: 'log' },
    y: { label: 'bytes / bytes of the JSON envelope', scale: 'linear' },
    series: [series('JSON envelope', envelope), series('MessagePack', messagePack), series('gzip', gzip)],
  };
}
