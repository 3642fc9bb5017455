import { existsSync, readFileSync } from 'node:fs';
import { createServer, type OutgoingHttpHeaders, type RequestListener, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Claim, defineMeasure, type Matrix, type Measurement } from '#claims';
import { fakeClock } from '#kit/clock';
import { seeded } from '#kit/random';
import { conformance, type Score, suitePath } from './conformance';
import { createHttpCache as createCoreCache } from './core';
import { createHttpCache, type Handler } from './http-caching';

const PAGES = 20;
const READERS = 30;
const BODY = 'x'.repeat(50_000);

type Create = (options: { origin: string; now: () => number }) => Handler;

export default defineMeasure({
  async run({ quick }) {
    const views = quick ? 150 : 600;
    const claims: Claim[] = [
      ...(await atOnce()),
      ...(await varied(views)),
      await bytesOf304(quick ? 5 : 50),
      ...(await poisoned()),
    ];
    return quick ? { claims } : await judged(claims);
  },
});

/** Requests that reach the origin when a page is cold. */
async function atOnce(): Promise<Claim[]> {
  const count = async (create: Create) => {
    const { ask, origin } = await open(create, async () => {
      await sleep(200);
      return { headers: { 'cache-control': 'max-age=60' }, body: 'page' };
    });
    await Promise.all(Array.from({ length: READERS }, () => ask('/page')));
    return origin.requests;
  };
  const says = `requests to the origin for ${READERS} readers of a page that is not stored`;
  return [
    {
      name: 'cold-core',
      says: `${says}: core version`,
      value: await count(createCoreCache),
      unit: 'requests',
    },
    {
      name: 'cold',
      says: `${says}: one request at a time for each page`,
      value: await count(createHttpCache),
      unit: 'requests',
      atMost: 2,
    },
  ];
}

/** The hit rate, by how many values the header has that Vary names. */
async function varied(views: number): Promise<Claim[]> {
  const rate = async (header: 'accept-language' | 'user-agent', values: number) => {
    const random = seeded(4);
    const { ask, origin } = await open(createHttpCache, () => ({
      headers: { 'cache-control': 'max-age=60', vary: header },
      body: 'page',
    }));
    for (let view = 0; view < views; view++)
      await ask(`/${Math.floor(random() * PAGES)}`, { [header]: `value ${Math.floor(random() * values)}` });
    return 100 * (1 - origin.requests / views);
  };
  const [languages, agents] = [await rate('accept-language', 3), await rate('user-agent', 200)];
  return [
    {
      name: 'vary-3',
      says: `hits with Vary: Accept-Language, 3 values, ${PAGES} pages`,
      value: languages,
      unit: '%',
    },
    {
      name: 'vary-200',
      says: `hits with Vary: User-Agent, 200 values, ${PAGES} pages`,
      value: agents,
      unit: '%',
    },
    {
      name: 'vary-cost',
      says: 'requests to the origin: Vary on 200 values against Vary on 3',
      value: (100 - agents) / (100 - languages),
      unit: '×',
      atLeast: 2,
    },
  ];
}

/** Bodies that the origin sends when a page of 50 kB expires again and again, and has not changed. */
async function bytesOf304(expiries: number): Promise<Claim> {
  const bodies = async (etag: string | undefined) => {
    const { ask, clock, origin } = await open(createHttpCache, ({ headers }) =>
      etag !== undefined && headers['if-none-match'] === etag
        ? { status: 304, headers: { 'cache-control': 'max-age=10' }, body: '' }
        : { headers: { 'cache-control': 'max-age=10', ...(etag && { etag }) }, body: BODY },
    );
    for (let expiry = 0; expiry < expiries; expiry++) {
      await ask('/page');
      clock.advance(11_000);
    }
    return origin.bytes;
  };
  return {
    name: 'etag-bytes',
    says: 'bytes of bodies that the origin sends while an unchanged page expires again and again: with an ETag against without',
    value: (100 * (await bodies('"1"'))) / (await bodies(undefined)),
    unit: '%',
    atMost: 30,
  };
}

/** How many of 100 visitors get the page that an attacker has asked for. */
async function poisoned(): Promise<Claim[]> {
  const share = async (create: Create) => {
    const { ask } = await open(create, ({ headers }) => ({
      headers: { 'cache-control': 'max-age=60' },
      body: `<script src="//${headers['x-forwarded-host'] ?? 'shop.example'}/a.js">`,
    }));
    await ask('/', { 'x-forwarded-host': 'evil.example' });
    let hit = 0;
    for (let visitor = 0; visitor < 100; visitor++) if ((await ask('/')).includes('evil')) hit++;
    return hit;
  };
  const says = 'visitors who get a script of the attacker, after one request with X-Forwarded-Host';
  return [
    { name: 'poisoned-core', says: `${says}: core version`, value: await share(createCoreCache), unit: '%' },
    {
      name: 'poisoned',
      says: `${says}: only keyed headers are forwarded`,
      value: await share(createHttpCache),
      unit: '%',
      atMost: 0,
    },
  ];
}

/** With the public suite and its peers, if they are here; else as recorded when they were. */
async function judged(claims: readonly Claim[]): Promise<Measurement> {
  const suite = suitePath();
  if (suite) {
    const scores = await conformance(suite);
    return { claims: [...claims, ...scores.map(scoreClaim)], matrices: [scoreMatrix(scores)] };
  }
  const record = join(import.meta.dirname, 'measured.json');
  if (!existsSync(record)) return { claims };
  const recorded: Measurement = JSON.parse(readFileSync(record, 'utf8'));
  const ofSuite = recorded.claims.filter(({ name }) => name.startsWith('required-'));
  return { claims: [...claims, ...ofSuite], matrices: recorded.matrices ?? [] };
}

const scoreClaim = ({ id, name, required: [passed] }: Score): Claim => ({
  name: `required-${id}`,
  says: `required tests of http-tests/cache-tests passed: ${name}`,
  value: passed,
  unit: 'tests',
});

const scoreMatrix = (scores: readonly Score[]): Matrix => ({
  name: 'suite',
  columns: ['required tests passed', 'optimal tests passed'],
  rows: scores.map(({ name, required, optimal }) => [name, required.join(' of '), optimal.join(' of ')]),
});

interface Reply {
  readonly status?: number;
  readonly headers: OutgoingHttpHeaders;
  readonly body: string;
}

const closing: (() => void)[] = [];

async function open(
  create: Create,
  reply: (request: { headers: NodeJS.Dict<string | string[]> }) => Reply | Promise<Reply>,
) {
  for (const close of closing.splice(0)) close();
  const clock = fakeClock(Date.UTC(2026, 0, 1));
  const origin = { requests: 0, bytes: 0 };
  const url = await listen(async ({ headers }, response) => {
    origin.requests++;
    const { status = 200, headers: own, body } = await reply({ headers });
    origin.bytes += body.length;
    response.writeHead(status, { date: new Date(clock.now()).toUTCString(), ...own }).end(body);
  });
  const handle = create({ origin: url, now: clock.now });
  const cache = await listen((asked, response) => void handle(asked, response));
  const ask = (path: string, headers: OutgoingHttpHeaders = {}) =>
    new Promise<string>((resolve, reject) => {
      request(cache, { path, headers, agent: false }, (answer) => {
        let text = '';
        answer.setEncoding('utf8').on('data', (chunk) => {
          text += chunk;
        });
        answer.on('end', () => resolve(text));
      })
        .on('error', reject)
        .end();
    });
  return { ask, clock, origin };
}

async function listen(listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1').unref();
  await new Promise((resolve) => server.once('listening', resolve));
  closing.push(() => server.close().closeAllConnections());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
