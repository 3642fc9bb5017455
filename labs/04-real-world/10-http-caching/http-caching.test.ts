import {
  Agent,
  createServer,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type RequestListener,
  type RequestOptions,
  request as send,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { inspect } from 'node:util';
import { describe, expect, onTestFinished, test } from 'vitest';
import { fakeClock } from '#kit/clock';
import { signal } from '#kit/gate';
import { unhandledRejections, until } from '#kit/waiting';
import { createHttpCache, type Options } from './http-caching';

/** Its seconds are whole, as those of a Date header. */
const START = Date.UTC(2026, 0, 1);
const DEADLINE_MS = 200;
const PATIENCE_MS = 3_000;
const AT_DEADLINE = { deadlineMs: DEADLINE_MS };
const ALICE = { cookie: 'user=alice' };
const MALLORY = { cookie: 'user=mallory' };

describe('Core', () => {
  test('an answer is stored for its s-maxage, else its max-age, and tells its age', async () => {
    let rule = 'max-age=60';
    const { get, seen, clock } = await open(() => cacheFor(rule));
    expect(await get('/page'), 'the first answer comes from the origin').toMatchObject({ text: 'answer 1' });
    await get('/page?print=1');
    clock.advance(59_000);
    const hit = await get('/page');
    expect(hit.text, 'after 59 s of max-age=60: the stored answer to this very URL').toBe('answer 1');
    expect(hit.headers.age, 'Age after 59 s').toBe('59');
    expect(seen.length, 'requests to the origin, for two URLs').toBe(2);
    clock.advance(1_000);
    expect((await get('/page')).text, 'after 60 s of max-age=60: a new answer').toBe('answer 3');

    rule = 's-maxage=10, max-age=60';
    await get('/feed');
    clock.advance(9_000);
    expect((await get('/feed')).text, 'after 9 s of s-maxage=10').toBe('answer 4');
    clock.advance(2_000);
    expect((await get('/feed')).text, 'after 11 s of s-maxage=10, max-age=60: this is a shared cache').toBe(
      'answer 5',
    );
    rule = 's-maxage=0, max-age=60';
    await get('/live');
    expect((await get('/live')).text, 'the second answer with s-maxage=0, max-age=60').toBe('answer 7');
  });

  test('the age that an answer arrives with counts', async () => {
    const { get, clock } = await open(() => ({ headers: { 'cache-control': 'max-age=60', age: '50' } }));
    await get('/page');
    clock.advance(9_000);
    const hit = await get('/page');
    expect(hit.text, 'it arrived with Age: 50, and 9 s have passed, of max-age=60').toBe('answer 1');
    expect(hit.headers.age, 'Age of an answer that arrived with Age: 50, after 9 s').toBe('59');
    clock.advance(2_000);
    expect((await get('/page')).text, 'it arrived with Age: 50, and 11 s have passed, of max-age=60').toBe(
      'answer 2',
    );
  });

  test('private and no-store answers are never shared', async () => {
    let rule = '';
    const { get } = await open(({ headers }) => ({
      headers: { 'cache-control': rule, etag: '"1"' },
      body: `page of ${headers.cookie}`,
    }));
    for (rule of [
      'private, max-age=60',
      'max-age=60, no-store',
      'Max-Age=60, Private',
      'no-store',
      'private',
    ]) {
      await get(`/account?${encodeURI(rule)}`, ALICE);
      const { text } = await get(`/account?${encodeURI(rule)}`, MALLORY);
      expect(text, `page for mallory after alice, with Cache-Control: ${rule}`).toBe('page of user=mallory');
    }
  });

  test('the headers decide what is stored, not the path', async () => {
    const { get, seen } = await open(({ url, headers }) => ({
      status: url === '/broken.css' ? 500 : 200,
      headers: {
        'content-type': 'text/html',
        ...(url === '/account/x.css' && { 'cache-control': 'private' }),
        ...(url === '/news' && { 'cache-control': 'max-age=60' }),
      },
      body: `page of ${headers.cookie}`,
    }));
    for (const path of ['/account/x.css', '/account/x.js', '/broken.css']) {
      await get(path, ALICE);
      const { text } = await get(path, MALLORY);
      expect(text, `page for mallory from ${path}, after alice: no header allows to store it`).toBe(
        'page of user=mallory',
      );
    }
    await get('/news');
    await get('/news');
    expect(of(seen, '/news').length, 'requests for /news: its path says nothing, and its max-age=60').toBe(1);
  });

  test('a stale answer is revalidated by its ETag, and a 304 makes it fresh again', async () => {
    let version = '"1"';
    const { get, seen, clock } = await open(({ headers }) => {
      if (headers['if-none-match'] === version)
        return { status: 304, headers: { 'cache-control': 'max-age=100' } };
      return {
        headers: { 'cache-control': 'max-age=60', etag: version, age: '30' },
        body: `page ${version}`,
      };
    });
    await get('/page');
    clock.advance(31_000);
    expect(await get('/page'), 'the origin has said 304: the client gets the stored page').toMatchObject({
      status: 200,
      text: 'page "1"',
    });
    expect(seen[1]?.headers['if-none-match'], 'If-None-Match of the second request to the origin').toBe(
      '"1"',
    );
    clock.advance(99_000);
    expect((await get('/page')).text, 'page after 99 s').toBe('page "1"');
    expect(seen.length, 'requests to the origin: the 304 said max-age=100 and no Age, 99 s ago').toBe(2);
    version = '"2"';
    clock.advance(2_000);
    expect((await get('/page')).text, 'the page after it has changed').toBe('page "2"');
  });

  test('no-cache is stored, and revalidated at each use', async () => {
    for (const rule of ['no-cache, max-age=60', 'no-cache']) {
      const { get, seen } = await open(({ headers }) =>
        headers['if-none-match'] === '"1"'
          ? { status: 304, ...cacheFor(rule) }
          : { headers: { 'cache-control': rule, etag: '"1"' }, body: 'page' },
      );
      for (const use of [1, 2, 3]) {
        expect((await get('/page')).text, `page at use ${use} of ${rule}`).toBe('page');
        expect(seen.length, `requests to the origin after ${use} uses of ${rule}`).toBe(use);
      }
      const asked = seen.map(({ headers }) => headers['if-none-match']);
      expect(asked, `If-None-Match of the three requests: ${rule} means "ask", not "do not store"`).toEqual([
        undefined,
        '"1"',
        '"1"',
      ]);
    }
  });
});

describe('In production', () => {
  test('a page is stored for each value of the headers that Vary names', async () => {
    const { get, seen } = await open(({ url, headers }) => ({
      headers: {
        'cache-control': 'max-age=60',
        vary: url === '/any' ? '*' : 'Accept-Language, ACCEPT-ENCODING',
      },
      body: `${headers['accept-language']}/${headers['accept-encoding']}`,
    }));
    for (const round of [1, 2]) {
      for (const language of ['de', 'en', 'EN;q=0.5, de', undefined]) {
        const { text } = await get('/page', { ...(language && { 'accept-language': language }) });
        expect(text, `page for Accept-Language: ${language}, round ${round}`).toBe(`${language}/undefined`);
      }
    }
    expect(seen.length, 'requests to the origin for four values, asked twice').toBe(4);
    for (const sign of [',', '|', ':', '-', ';', '"', '","']) {
      await get('/page', { 'accept-language': `a${sign}b`, 'accept-encoding': 'c' });
      const { text } = await get('/page', { 'accept-language': 'a', 'accept-encoding': `b${sign}c` });
      expect(text, `page for a and b${sign}c, after a${sign}b and c`).toBe(`a/b${sign}c`);
    }
    await get('/any', { 'accept-language': 'de' });
    await get('/any', { 'accept-language': 'de' });
    expect(of(seen, '/any').length, 'requests for a page with Vary: *, which fits no other request').toBe(2);
  });

  test('an answer to a token or with a cookie is shared only if its headers say so', async () => {
    let rule = '';
    const { get } = await open(({ headers }) => ({
      ...cacheFor(rule),
      body: `page of ${headers.authorization}`,
    }));
    const afterAlice = async (headers: OutgoingHttpHeaders) => {
      await get(`/?${encodeURI(rule)}`, { authorization: 'Bearer alice' });
      return (await get(`/?${encodeURI(rule)}`, headers)).text;
    };
    rule = 'max-age=60';
    expect(await afterAlice({}), 'page for a client without a token, after alice').toBe('page of undefined');
    rule = 'max-age=60, stale-while-revalidate=60';
    expect(await afterAlice({ authorization: 'Bearer mallory' }), 'page for mallory, after alice').toBe(
      'page of Bearer mallory',
    );
    for (rule of ['public, max-age=60', 's-maxage=60', 'max-age=60, must-revalidate'])
      expect(await afterAlice({}), `Cache-Control: ${rule} allows to share the answer to alice`).toBe(
        'page of Bearer alice',
      );
    const { get: getNew } = await open(({ headers }) => ({
      headers: { 'cache-control': 'max-age=60', 'set-cookie': `session=of ${headers['user-agent']}` },
    }));
    await getNew('/', { 'user-agent': 'alice' });
    const cookie = (await getNew('/', { 'user-agent': 'mallory' })).headers['set-cookie'];
    expect(cookie, 'Set-Cookie for mallory, after alice, with Cache-Control: max-age=60').toEqual([
      'session=of mallory',
    ]);
  });

  test('a header outside of the key does not change what others get', async () => {
    const { get, seen } = await open(({ headers }) => ({
      ...cacheFor('max-age=60'),
      body: JSON.stringify(headers),
    }));
    const unkeyed = ['x-forwarded-host', 'x-forwarded-scheme', 'x-host', 'forwarded', 'x-original-url'];
    for (const name of [...unkeyed, 'x-http-method-override', 'host']) {
      await get(`/?${name}`, { [name]: 'evil.example' });
      const { text } = await get(`/?${name}`);
      expect(
        /"([\w-]+)":"evil/.exec(text)?.[1],
        `header of somebody else in the page of a visitor, after ${name}: evil.example`,
      ).toBe(undefined);
    }
    const needed = { 'accept-language': 'de', authorization: 'Bearer alice', ...ALICE };
    await get('/needed', needed);
    expect(
      seen.at(-1)?.headers,
      'headers at the origin: those that the page depends on must reach it',
    ).toMatchObject(needed);

    const tenants = await open(() => cacheFor('max-age=60'), { forwards: (name) => name === 'x-tenant' });
    await tenants.get('/', { 'x-tenant': 'a' });
    expect(tenants.seen[0]?.headers['x-tenant'], 'X-Tenant at the origin: forwards allows it').toBe('a');
  });

  test('a HEAD does not take the body from a GET', async () => {
    const { ask, get } = await open(() => ({ ...cacheFor('max-age=60'), body: 'page' }));
    const head = await ask('HEAD', '/page');
    expect(head, 'a HEAD of a page').toMatchObject({ status: 200, text: '' });
    expect((await get('/page')).text, 'the page after a HEAD').toBe('page');
    expect(await ask('HEAD', '/page'), 'a HEAD of a stored page').toMatchObject({ status: 200, text: '' });
    expect((await get('/page')).text, 'the page after a GET and a HEAD').toBe('page');
  });

  test('a write that succeeds removes the stored answer, and one that is on its way', async () => {
    let text = 'old';
    let reading: Promise<void> | undefined;
    let writing: Promise<void> | undefined;
    const { ask, get, seen } = await open(async ({ method, url, body }) => {
      const rules = { 'cache-control': 'max-age=60, stale-if-error=60', vary: 'accept-language' };
      const page = { headers: rules, body: text };
      await (method === 'GET' ? reading : writing);
      if (method !== 'GET') text = body || 'deleted';
      return url === '/lost' && method !== 'GET' ? 'cut' : page;
    });
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE']) {
      const languages = [{}, { 'accept-language': 'en' }];
      for (const language of languages) await get('/page', language);
      await ask(method, '/page', {}, method === 'DELETE' ? '' : `by ${method}`);
      const after = method === 'DELETE' ? 'deleted' : `by ${method}`;
      for (const language of languages)
        expect((await get('/page', language)).text, `page for ${inspect(language)} after a ${method}`).toBe(
          after,
        );
    }
    await get('/lost');
    await ask('POST', '/lost', {}, 'written');
    expect((await get('/lost')).text, 'page after a POST whose answer was lost').toBe('written');

    const read = signal();
    reading = read.promise;
    const early = get('/early');
    await until(() => of(seen, '/early').length === 1);
    await ask('POST', '/early', {}, 'new');
    reading = undefined;
    expect(
      (await get('/early')).text,
      'page after a POST, while a GET from before it is still at the origin',
    ).toBe('new');
    read.fire();
    await early;
    expect(
      (await get('/early')).text,
      'page: a GET was at the origin, with the old one, during the POST',
    ).toBe('new');
    const write = signal();
    writing = write.promise;
    const slow = ask('POST', '/during', {}, 'newer');
    await until(() => of(seen, '/during').length === 1);
    await get('/during');
    write.fire();
    await slow;
    expect((await get('/during')).text, 'page: a GET has read the old one while the POST was at work').toBe(
      'newer',
    );

    await expectRemovedByLateWrite();
  });

  test('within stale-while-revalidate the old answer comes at once, and one request renews it', async () => {
    const held = signal();
    let renewing: Promise<void> | undefined;
    let isCut = false;
    const unhandled = unhandledRejections();
    const { get, seen, clock } = await open(async ({ url }) => {
      await renewing;
      if (url === '/strict') return cacheFor('max-age=60, must-revalidate, stale-while-revalidate=30');
      return isCut ? 'cut' : cacheFor('max-age=60, stale-while-revalidate=30');
    });
    await get('/page');
    renewing = held.promise;
    clock.advance(61_000);
    for (const nth of [1, 2, 3]) {
      const { text } = await get('/page');
      expect(text, `stale answer ${nth}, while the origin is slow: it must not wait`).toBe('answer 1');
    }
    await until(() => seen.length > 1);
    expect(seen.length, 'requests to the origin: one for the first answer, one that renews it').toBe(2);
    held.fire();
    await until(async () => (await get('/page')).text !== 'answer 1');
    expect((await get('/page')).text, 'the answer after it was renewed').toBe('answer 2');
    clock.advance(91_000);
    expect((await get('/page')).text, 'the answer after 91 s, of max-age=60 and 30 more: a new one').toBe(
      'answer 3',
    );
    await get('/strict');
    isCut = true;
    clock.advance(61_000);
    expect(
      (await get('/strict')).text,
      'the answer after 61 s of max-age=60: it says must-revalidate, so a stale one must not be used',
    ).toBe('answer 5');
    await get('/page');
    await until(() => seen.length === 6);
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(unhandled(), 'rejections that nobody handles: they end the process').toEqual([]);
  });

  test('within stale-if-error an origin that fails costs nobody a page', async () => {
    let fault: 500 | 503 | 'cut' | 'silent' | undefined;
    const { get, seen, clock } = await open(({ url }) => {
      if (typeof fault === 'number') return { status: fault, body: 'sorry' };
      const rule = url === '/strict' ? 'must-revalidate' : 'stale-while-revalidate=10';
      return fault ?? cacheFor(`max-age=100, ${rule}, stale-if-error=60`);
    }, AT_DEADLINE);
    await get('/page');
    await get('/strict');
    fault = 500;
    clock.advance(105_000);
    await get('/page');
    // The renewal in the background.
    await until(() => of(seen, '/page').length === 2);
    clock.advance(15_000);
    for (fault of [500, 503, 'cut', 'silent'] as const)
      expect((await get('/page')).text, `page 20 s after it became stale; the origin's fault: ${fault}`).toBe(
        'answer 1',
      );
    fault = 503;
    expect(
      (await get('/strict')).status,
      'status: this page says must-revalidate, so a stale one must not be used',
    ).toBe(503);
    fault = undefined;
    expect(
      (await get('/page')).text,
      'page 20 s after it became stale, when the origin is well: a new one',
    ).not.toBe('answer 1');
    fault = 503;
    clock.advance(161_000);
    expect((await get('/page')).status, 'status, 61 s after the page became stale').toBe(503);
  });

  test('30 readers at once cost one request, and share no private answer', async () => {
    let held = signal();
    const { get, seen, clock } = await open(async ({ url, headers }) => {
      await held.promise;
      if (url === '/news') return cacheFor('max-age=60');
      const rules =
        url === '/account'
          ? { 'cache-control': 'private, max-age=60' }
          : { 'cache-control': 'max-age=60', vary: 'cookie' };
      return { headers: rules, body: `page of ${headers.cookie}` };
    });
    const readers = Array.from({ length: 30 }, (_, nth) => `user=${nth}`);
    const all = async (path: string) => {
      const before = of(seen, path).length;
      const answers = readers.map((cookie) => get(path, { cookie }));
      await until(() => of(seen, path).length > before);
      await new Promise((resolve) => setTimeout(resolve, 30));
      held.fire();
      return (await Promise.all(answers)).map(({ text }) => text);
    };
    for (const [kind, requests] of [
      ['a page that is not stored', 1],
      ['a page that has just become stale', 2],
    ] as const) {
      held = signal();
      const pages = new Set(await all('/news'));
      expect([...pages], `different pages that 30 readers, each with a cookie, got of ${kind}`).toEqual([
        `answer ${requests}`,
      ]);
      expect(seen.length, `requests to the origin, after 30 readers of ${kind}`).toBe(requests);
      clock.advance(60_000);
    }
    for (const [path, why] of [
      ['/account', 'it is private'],
      ['/greeting', 'it has Vary: Cookie'],
    ] as const) {
      held = signal();
      expect(await all(path), `pages for 30 readers of ${path}: ${why}`).toEqual(
        readers.map((cookie) => `page of ${cookie}`),
      );
    }
  });

  test('stored answers and their keys stay within maxBytes', async () => {
    const long = 'x'.repeat(4_000);
    let isStorable = true;
    const { get, seen } = await open(
      ({ url }) => ({
        headers: { 'cache-control': isStorable ? 'max-age=60' : 'no-store', vary: 'accept-language' },
        body: url === '/huge' ? long.repeat(30) : url.startsWith('/big') ? long : '',
      }),
      { maxBytes: 40_000 },
    );
    const kinds: Readonly<Record<string, (nth: number) => [path: string, language: string]>> = {
      'answers of 4 kB': (nth) => [`/big/${nth}`, ''],
      'URLs of 4 kB': (nth) => [`/${long}/${nth}`, ''],
      'languages of 4 kB': (nth) => ['/page', `${long}${nth}`],
    };
    const askedFor = async ([path, language]: [string, string]) => {
      const before = seen.length;
      await get(path, { 'accept-language': language });
      return seen.length > before;
    };
    for (const [kind, nth] of Object.entries(kinds)) {
      isStorable = true;
      for (let at = 0; at < 15; at++) await askedFor(nth(at));
      await askedFor(['/huge', '']);
      isStorable = false;
      expect(await askedFor(nth(14)), `the newest of 15 ${kind} must be stored, also after a huge one`).toBe(
        false,
      );
      let hits = 0;
      for (let at = 13; at >= 0; at--) if (!(await askedFor(nth(at)))) hits++;
      expect(hits, `hits among 14 older ${kind}, with maxBytes 40,000`).toBeLessThan(10);
    }
  });

  test('an origin that does not answer costs one deadline', async () => {
    let fault: 'silent' | 'stalls' | 'cut' | undefined;
    const unhandled = unhandledRejections();
    const { ask, get, seen, clock } = await open(
      () => fault ?? cacheFor('max-age=60, stale-while-revalidate=60'),
      AT_DEADLINE,
    );
    await get('/news');
    clock.advance(61_000);
    for (fault of ['silent', 'stalls', 'cut'] as const) {
      await get('/news');
      const begun = performance.now();
      const readers = Array.from({ length: 5 }, () => get('/page'));
      const answers = await Promise.all([...readers, ask('POST', '/form')]);
      const ms = performance.now() - begun;
      const told = answers.map(({ status }) => [502, 503, 504].includes(status));
      expect(
        told,
        `which of 5 readers and a writer got a 502, 503 or 504; the origin's fault: ${fault}`,
      ).toEqual(Array(6).fill(true));
      expect(ms, `ms until all had an answer, with a deadline of ${DEADLINE_MS}`).toBeLessThan(2_000);
      if (fault === 'silent')
        expect(
          of(seen, '/page').length,
          'requests to the origin, by 5 readers at once: it has not answered the first one',
        ).toBeLessThan(5);
    }
    fault = undefined;
    expect((await get('/page')).text, 'the page when the origin is well again').toMatch(/^answer/);
    await until(async () => (await get('/news')).text !== 'answer 1');
    expect(
      (await get('/news')).text,
      'a page that the origin did not renew in time, when it is well again',
    ).not.toBe('answer 1');
    expect(unhandled(), 'rejections that nobody handles: they end the process').toEqual([]);
  });
});

interface Seen {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** Cuts the connection, gives no answer, or stops in the middle of one. */
type Fault = 'cut' | 'silent' | 'stalls';
type Reply = Fault | { status?: number; headers?: OutgoingHttpHeaders; body?: string };

const cacheFor = (rule: string) => ({ headers: { 'cache-control': rule } });
const of = (seen: readonly Seen[], path: string) => seen.filter(({ url }) => url === path);

/** A cache in front of an origin. Without a body of its own, the nth answer of the origin is "answer n". */
async function open(reply: (request: Seen) => Reply | Promise<Reply>, options: Partial<Options> = {}) {
  const clock = fakeClock(START);
  const seen: Seen[] = [];
  const origin = await listen(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const { method = '', url = '', headers } = request;
    const nth = seen.push({ method, url, headers, body });
    const given = await reply({ method, url, headers, body });
    if (given === 'silent') return;
    if (given === 'cut') return void request.socket.destroy();
    const { status = 200, ...rest } = given === 'stalls' ? { headers: {}, body: 'half of' } : given;
    const date = new Date(clock.now()).toUTCString();
    response.writeHead(status, { date, ...rest.headers });
    response.write(rest.body ?? (status === 304 ? '' : `answer ${nth}`));
    if (given !== 'stalls') response.end();
  });
  const handle = createHttpCache({ origin, now: clock.now, ...options });
  const cache = await listen((request, response) => {
    handle(request, response).catch((error: unknown) => {
      if (!response.headersSent) response.writeHead(500);
      response.end(`the handler rejected: ${error}`);
    });
  });
  const agent = new Agent({ keepAlive: true });
  onTestFinished(() => agent.destroy());
  const ask = (method: string, path: string, headers: OutgoingHttpHeaders = {}, body = '') =>
    answerOf(cache, { method, path, headers, agent }, body);
  return {
    clock,
    seen,
    ask,
    get: (path: string, headers?: OutgoingHttpHeaders) => ask('GET', path, headers),
  };
}

/** The origin has got a POST, and does not answer it in time: it may have written. */
async function expectRemovedByLateWrite(): Promise<void> {
  const late = await open(
    ({ method }) => (method === 'GET' ? cacheFor('max-age=60') : 'silent'),
    AT_DEADLINE,
  );
  await late.get('/page');
  await late.ask('POST', '/page');
  expect(
    (await late.get('/page')).text,
    'page after a POST that the origin has not answered in time: it may have written',
  ).not.toBe('answer 1');
}

async function listen(listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

interface Got {
  /** 0 without a complete answer within PATIENCE_MS. */
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

const answerOf = (base: string, options: RequestOptions, body: string) =>
  new Promise<Got>((resolve) => {
    const none = (why: string) => resolve({ status: 0, headers: {}, text: `no answer: ${why}` });
    const signal = AbortSignal.timeout(PATIENCE_MS);
    const asked = send(base, { ...options, signal }, (answer) => {
      let text = '';
      answer
        .setEncoding('utf8')
        .on('data', (chunk) => {
          text += chunk;
        })
        .on('error', (error) => none(String(error)))
        .on('end', () => resolve({ status: answer.statusCode ?? 0, headers: answer.headers, text }));
    });
    asked.on('error', (error) => none(String(error)));
    asked.end(body);
  });
