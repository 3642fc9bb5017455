import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import {
  type Answer,
  askOrigin,
  bytesOf,
  conditionsOf,
  failureAnswer,
  isRead,
  LruMap,
  namesIn,
  type Policy,
  policyOf,
  type Question,
  requestHeaders,
  send,
} from './given';

export interface Options {
  readonly origin: string;
  readonly now?: () => number;
  readonly deadlineMs?: number;
  readonly maxBytes?: number;
  readonly forwards?: (name: string) => boolean;
}

export type Handler = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

/** A GET or HEAD, with the headers that the origin sees. */
interface Read {
  readonly key: string;
  readonly url: string | undefined;
  readonly headers: IncomingHttpHeaders;
}

interface Stored {
  readonly answer: Answer;
  readonly policy: Policy;
  readonly asked: IncomingHttpHeaders;
  /** When its age was 0, in ms. */
  readonly bornAt: number;
}

type Loaded = { readonly answer: Answer; readonly shared?: Stored };

// #region forwards
/** A header that the origin does not see cannot change a page that others get. */
const FORWARDED =
  `accept accept-encoding accept-language authorization content-encoding content-length content-type
  cookie host if-match if-unmodified-since origin user-agent`.split(/\s+/);
// #endregion

const MOST_VARIANTS = 64;

export function createHttpCache({
  origin,
  now = Date.now,
  deadlineMs = 5_000,
  maxBytes = 64 * 2 ** 20,
  forwards = (name) => FORWARDED.includes(name),
}: Options): Handler {
  /** All answers to a key, one for each value of the headers that Vary names. */
  const pages = new LruMap<readonly Stored[]>(maxBytes, sizeOf);
  /** The reads under way whose answers may be stored, by key. */
  const loading = new Map<string, Promise<Loaded>>();
  const ask = (question: Question) =>
    askOrigin(origin, { ...question, signal: AbortSignal.timeout(deadlineMs) });

  // #region answer
  return async (request, response) => {
    const sent = Object.entries(requestHeaders(request)).filter(([name]) => forwards(name));
    const headers: IncomingHttpHeaders = Object.fromEntries(sent);
    const read = { key: `${headers.host} ${request.url}`, url: request.url, headers };
    send(request, response, await (isRead(request.method) ? answerTo(read) : write(request, read)));
  };

  async function answerTo(read: Read): Promise<Answer> {
    const stored = pages.get(read.key)?.find((candidate) => matches(candidate, read.headers));
    if (!stored) return load(read);
    const late = lateness(stored);
    if (late < 0) return aged(stored);
    if (late < stored.policy.staleWhileRevalidate) {
      if (!loading.has(read.key)) lead(read, stored).catch(() => {});
      return aged(stored);
    }
    const answer = await load(read, stored);
    return answer.status >= 500 && late < stored.policy.staleIfError ? aged(stored) : answer;
  }

  /** For how many seconds it has been stale: negative while it is fresh, Infinity if only the origin can say. */
  function lateness({ policy, bornAt }: Stored): number {
    const late = (now() - bornAt) / 1000 - (policy.sMaxAge ?? policy.maxAge ?? 0);
    return policy.noCache || (late >= 0 && policy.mustRevalidate) ? Number.POSITIVE_INFINITY : late;
  }

  function aged({ answer, bornAt }: Stored): Answer {
    const age = String(Math.max(0, Math.floor((now() - bornAt) / 1000)));
    return { ...answer, headers: { ...answer.headers, age } };
  }
  // #endregion

  // #region load
  /** Joins the request that is under way, and takes its answer only if everybody may have it. */
  async function load(read: Read, stored?: Stored): Promise<Answer> {
    try {
      for (let joined = loading.get(read.key); joined; joined = loading.get(read.key)) {
        const { shared } = await joined;
        if (!shared || lateness(shared) >= 0) return (await fetch(read, stored)).answer;
        if (matches(shared, read.headers)) return aged(shared);
      }
      return (await lead(read, stored)).answer;
    } catch (error) {
      return failureAnswer(error);
    }
  }

  /** Asks, lets others join, and stores, unless a write that succeeded meanwhile has made the answer old. */
  async function lead(read: Read, stored?: Stored): Promise<Loaded> {
    const fetching = fetch(read, stored);
    const isCurrent = () => loading.get(read.key) === fetching;
    loading.set(read.key, fetching);
    try {
      const loaded = await fetching;
      if (isCurrent() && loaded.answer.status < 500) store(read, loaded.shared);
      return loaded;
    } finally {
      if (isCurrent()) loading.delete(read.key);
    }
  }

  async function fetch({ url, headers }: Read, stored?: Stored): Promise<Loaded> {
    const askedAt = now();
    const conditions = stored && conditionsOf(stored.answer);
    const received = await ask({ method: 'GET', url, headers: { ...headers, ...conditions } });
    const answer = stored && received.status === 304 ? refreshed(stored.answer, received) : received;
    const policy = policyOf(answer.headers);
    if (!isShared(answer, policy, headers)) return { answer };
    const { age, ...own } = answer.headers;
    const bornAt = askedAt - policy.age * 1000;
    return { answer, shared: { answer: { ...answer, headers: own }, policy, asked: headers, bornAt } };
  }

  function store({ key, headers }: Read, shared: Stored | undefined): void {
    const others = pages.get(key)?.filter((stored) => !matches(stored, headers)) ?? [];
    const page = shared ? [shared, ...others].slice(0, MOST_VARIANTS) : others;
    while (sizeOf(key, page) > maxBytes) page.pop();
    if (page.length > 0) pages.set(key, page);
    else pages.delete(key);
  }
  // #endregion

  // #region write
  async function write(request: IncomingMessage, { key, url, headers }: Read): Promise<Answer> {
    const answer = await ask({ method: request.method, url, headers, body: request }).catch(failureAnswer);
    // Without an answer too: the origin may have written, and only its answer was lost.
    if (answer.status < 400 || [502, 504].includes(answer.status)) {
      pages.delete(key);
      loading.delete(key);
    }
    return answer;
  }
  // #endregion
}

// #region rules
function isShared({ status, headers }: Answer, policy: Policy, asked: IncomingHttpHeaders): boolean {
  const { noStore, noCache, mustRevalidate, sMaxAge, maxAge } = policy;
  if (noStore || policy.private || status === 206 || namesIn(headers.vary).includes('*')) return false;
  const isAllowed = policy.public || mustRevalidate || sMaxAge !== undefined;
  const isPersonal = asked.authorization !== undefined || headers['set-cookie'] !== undefined;
  return (isAllowed || !isPersonal) && (noCache || (sMaxAge ?? maxAge) !== undefined);
}

const matches = ({ answer, asked }: Stored, headers: IncomingHttpHeaders): boolean =>
  namesIn(answer.headers.vary).every((name) => asked[name] === headers[name]);

function refreshed(old: Answer, { headers }: Answer): Answer {
  const { 'content-length': ofNoBody, ...news } = headers;
  return { ...old, headers: { ...old.headers, ...news } };
}

const sizeOf = (key: string, page: readonly Stored[]): number =>
  page.reduce((sum, { answer, asked }) => sum + bytesOf(answer) + 2 * JSON.stringify([key, asked]).length, 0);
// #endregion
