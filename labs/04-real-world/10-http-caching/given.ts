import {
  type IncomingHttpHeaders,
  type IncomingMessage,
  request as open,
  type ServerResponse,
} from 'node:http';

export interface Answer {
  readonly status: number;
  /** The names are in lower case. */
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** What the headers of an answer say. All times are in seconds. */
export interface Policy {
  readonly noStore: boolean;
  readonly noCache: boolean;
  readonly private: boolean;
  readonly public: boolean;
  readonly mustRevalidate: boolean;
  /** `max-age`, else the lifetime by `Expires`. */
  readonly maxAge: number | undefined;
  /** For shared caches only. */
  readonly sMaxAge: number | undefined;
  readonly staleWhileRevalidate: number;
  readonly staleIfError: number;
  /** How old the answer was when it arrived. */
  readonly age: number;
}

// `CDN-Cache-Control`, if present, replaces `Cache-Control` and `Expires`.
export function policyOf(headers: IncomingHttpHeaders): Policy {
  const targeted = parseDirectives(String(headers['cdn-cache-control'] ?? ''));
  const isTargeted = targeted.size > 0 && isStructured(String(headers['cdn-cache-control']));
  const directives = isTargeted ? targeted : parseDirectives(headers['cache-control'] ?? '');
  const seconds = (name: string) => {
    const text = directives.get(name);
    return text === undefined ? undefined : (parseSeconds(text) ?? 0);
  };
  return {
    noStore: directives.has('no-store'),
    noCache: directives.has('no-cache'),
    private: directives.has('private'),
    public: directives.has('public'),
    mustRevalidate: directives.has('must-revalidate') || directives.has('proxy-revalidate'),
    maxAge: seconds('max-age') ?? (isTargeted ? undefined : secondsToExpiry(headers)),
    sMaxAge: seconds('s-maxage'),
    staleWhileRevalidate: seconds('stale-while-revalidate') ?? 0,
    staleIfError: seconds('stale-if-error') ?? 0,
    age: parseSeconds(headers.age?.split(',')[0]?.trim() ?? '') ?? 0,
  };
}

const DIRECTIVE = /([\w!#$%&'*+.^`|~-]+)(?:=("(?:[^"\\]|\\.)*"|[^\s,]*))?/g;

function parseDirectives(text: string): Map<string, string> {
  const directives = new Map<string, string>();
  for (const [, name = '', value = ''] of text.matchAll(DIRECTIVE)) {
    const key = name.toLowerCase();
    if (!directives.has(key)) directives.set(key, value.replace(/^"(.*)"$/, '$1'));
  }
  return directives;
}

/** Whether a text is a list as RFC 9213 wants it; a number in quotes is not. */
const isStructured = (text: string): boolean =>
  text.split(',').every((item) => /^[a-z*][\w.*-]*(=(\d+|\?[01]|[a-z][\w-]*))?$/i.test(item.trim()));

const LONGEST_SECONDS = 2 ** 31;

const parseSeconds = (text: string): number | undefined =>
  /^\d+$/.test(text) ? Math.min(Number(text), LONGEST_SECONDS) : undefined;

const DATES = [
  /^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/i,
  /^\w{6,9}, \d\d-\w{3}-\d\d \d\d:\d\d:\d\d GMT$/i,
  /^\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}$/i,
];

function parseDate(text: string): number {
  if (!DATES.some((form) => form.test(text))) return Number.NaN;
  return Date.parse(/GMT$/i.test(text) ? text : `${text} GMT`);
}

function secondsToExpiry({ expires, date = '' }: IncomingHttpHeaders): number | undefined {
  if (expires === undefined) return undefined;
  const from = parseDate(date);
  const seconds = (parseDate(expires) - (Number.isNaN(from) ? Date.now() : from)) / 1000;
  return seconds > 0 ? seconds : 0;
}

/** The names in a `Vary`, in lower case. */
export const namesIn = (list: string | undefined): string[] =>
  (list ?? '')
    .toLowerCase()
    .split(',')
    .map((name) => name.trim())
    .filter(Boolean);

const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authentication-info',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

const defined = (headers: IncomingHttpHeaders): IncomingHttpHeaders =>
  Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== undefined));

/** Headers that are meant for this connection only are left out. */
function endToEnd(headers: IncomingHttpHeaders): IncomingHttpHeaders {
  const named = new Set(namesIn(headers.connection));
  return Object.fromEntries(
    Object.entries(headers).filter(([name]) => !HOP_BY_HOP.has(name) && !named.has(name)),
  );
}

/** A read asks for the whole answer, and has no body. */
const NOT_FOR_READS = ['if-none-match', 'if-modified-since', 'if-range', 'range', 'content-length'];

/** `GET` or `HEAD`. */
export const isRead = (method: string | undefined): boolean => method === 'GET' || method === 'HEAD';

/** The headers of a client, without `If-None-Match` and `Range`: `send` looks at these. */
export function requestHeaders(request: IncomingMessage): IncomingHttpHeaders {
  const headers = endToEnd(request.headers);
  if (isRead(request.method)) for (const name of NOT_FOR_READS) delete headers[name];
  return headers;
}

/** Request headers that mean "only if it has changed". */
export const conditionsOf = ({ headers }: Answer): IncomingHttpHeaders =>
  defined({ 'if-none-match': headers.etag, 'if-modified-since': headers['last-modified'] });

export interface Question {
  readonly method: string | undefined;
  /** Path and query. */
  readonly url: string | undefined;
  readonly headers: IncomingHttpHeaders;
  /** In production: the client's request, whose body is passed on. */
  readonly body?: IncomingMessage;
  readonly signal?: AbortSignal;
}

/** @param origin base URL. @throws when there is no complete answer */
export function askOrigin(origin: string, { method, url, headers, body, signal }: Question): Promise<Answer> {
  const { hostname, port, host } = new URL(origin);
  return new Promise((resolve, reject) => {
    // No agent: a kept connection can be closed by the origin just when it is used again.
    const asked = open({
      hostname,
      port,
      agent: false,
      method,
      path: url,
      headers: { host, ...defined(headers) },
      signal,
    });
    asked.on('error', reject).on('response', (answer) => {
      const chunks: Buffer[] = [];
      answer
        .on('data', (chunk: Buffer) => chunks.push(chunk))
        .on('error', reject)
        .on('end', () =>
          resolve({
            status: answer.statusCode ?? 502,
            headers: endToEnd(answer.headers),
            body: Buffer.concat(chunks),
          }),
        );
    });
    if (body && !isRead(method)) body.on('error', reject).pipe(asked);
    else asked.end();
  });
}

/** Answers a client; with 304 if it has this version, without a body after `HEAD`. */
export function send(request: IncomingMessage, response: ServerResponse, answer: Answer): void {
  const { 'content-length': length, ...headers } = defined(answer.headers);
  if (isRead(request.method) && answer.status === 200 && isKnown(request.headers, headers)) {
    response.writeHead(304, headers).end();
    return;
  }
  const hasBody = request.method !== 'HEAD' && answer.status !== 204 && answer.status !== 304;
  const size = hasBody ? answer.body.length : length;
  response.writeHead(answer.status, size === undefined ? headers : { ...headers, 'content-length': size });
  response.end(hasBody ? answer.body : undefined);
}

function isKnown(asked: IncomingHttpHeaders, { etag, date, ...answer }: IncomingHttpHeaders): boolean {
  const tags = asked['if-none-match'];
  if (tags !== undefined) {
    const bare = (tag: string) => tag.trim().replace(/^W\//, '');
    return tags === '*' || (etag !== undefined && tags.split(',').map(bare).includes(bare(etag)));
  }
  const since = parseDate(asked['if-modified-since'] ?? '');
  return parseDate(answer['last-modified'] ?? date ?? '') <= since;
}

/** In production: the answer to a client when `askOrigin` has thrown. */
export function failureAnswer(error: unknown): Answer {
  const isLate = error instanceof Error && error.name === 'AbortError';
  const text = isLate ? 'the origin gave no answer in time\n' : 'the origin could not be asked\n';
  const headers = { 'content-type': 'text/plain', 'cache-control': 'no-store' };
  return { status: isLate ? 504 : 502, headers, body: Buffer.from(text) };
}

/** In production: a Map whose entries stay within `maxBytes`; the least recently used one goes first. */
export class LruMap<V> {
  readonly #entries = new Map<string, V>();
  #bytes = 0;

  /** In production: an entry that is larger than `maxBytes` is not stored. */
  constructor(
    readonly maxBytes: number,
    readonly sizeOf: (key: string, value: V) => number,
  ) {}

  get(key: string): V | undefined {
    const value = this.#entries.get(key);
    if (value !== undefined) {
      this.#entries.delete(key);
      this.#entries.set(key, value);
    }
    return value;
  }

  set(key: string, value: V): void {
    this.delete(key);
    const size = this.sizeOf(key, value);
    if (size > this.maxBytes) return;
    this.#entries.set(key, value);
    this.#bytes += size;
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= this.maxBytes) break;
      this.delete(oldest);
    }
  }

  delete(key: string): void {
    const value = this.#entries.get(key);
    if (value === undefined) return;
    this.#bytes -= this.sizeOf(key, value);
    this.#entries.delete(key);
  }
}

/** In production: bytes of an answer, its headers and its body. */
export const bytesOf = ({ headers, body }: Answer): number =>
  2 * JSON.stringify(headers).length + body.length;
