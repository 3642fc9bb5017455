import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import {
  type Answer,
  askOrigin,
  bytesOf,
  conditionsOf,
  failureAnswer,
  isRead,
  namesIn,
  policyOf,
  requestHeaders,
  send,
} from '../given';

interface Options {
  readonly origin: string;
  readonly now?: () => number;
  readonly deadlineMs?: number;
  readonly maxBytes?: number;
  readonly forwards?: (name: string) => boolean;
}

interface Variant {
  readonly key: string;
  readonly asked: IncomingHttpHeaders;
  readonly bytes: number;
  answer: Answer;
  bornAt: number;
}

const KNOWN = new Set([
  'accept',
  'accept-encoding',
  'accept-language',
  'authorization',
  'cookie',
  'host',
  'user-agent',
]);

/**
 * A request with a header that is not known goes to the origin with all of its headers, and its answer to nobody else.
 * All answers are in one list, oldest first.
 */
export function createHttpCache({
  origin,
  now = Date.now,
  deadlineMs = 5_000,
  maxBytes = 2 ** 26,
  forwards = (name) => KNOWN.has(name),
}: Options) {
  let variants: readonly Variant[] = [];
  const reads = new Map<string, Set<{ cancelled: boolean }>>();
  const leaders = new Map<string, Promise<unknown>>();

  return async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { method, url } = request;
    const headers = requestHeaders(request);
    const key = `${headers.host}${url}`;
    const ask = (more: IncomingHttpHeaders = {}) =>
      askOrigin(origin, {
        method: isRead(method) ? 'GET' : method,
        url,
        headers: { ...headers, ...more },
        body: request,
        signal: AbortSignal.timeout(deadlineMs),
      });
    const isKeyed = Object.keys(headers).every(forwards);
    try {
      if (!isRead(method)) send(request, response, await write(key, ask));
      else send(request, response, await (isKeyed ? read(key, headers, ask) : ask()));
    } catch (error) {
      send(request, response, failureAnswer(error));
    }
  };

  async function write(key: string, ask: () => Promise<Answer>): Promise<Answer> {
    const purge = () => {
      variants = variants.filter((variant) => variant.key !== key);
      for (const under of reads.get(key) ?? []) under.cancelled = true;
      leaders.delete(key);
    };
    try {
      const answer = await ask();
      if (answer.status < 400) purge();
      return answer;
    } catch (error) {
      purge();
      throw error;
    }
  }

  async function read(
    key: string,
    headers: IncomingHttpHeaders,
    ask: (more?: IncomingHttpHeaders) => Promise<Answer>,
  ): Promise<Answer> {
    const found = () => variants.findLast((variant) => variant.key === key && fits(variant, headers));
    let variant = found();
    if (variant && isWithin(variant, 0)) return aged(variant);
    const leader = leaders.get(key);
    if (variant && isWithin(variant, policyOf(variant.answer.headers).staleWhileRevalidate)) {
      if (!leader) lead(key, () => load(key, headers, ask, variant)).catch(() => {});
      return aged(variant);
    }
    try {
      if (leader) {
        await leader;
        variant = found() ?? variant;
        return variant && isWithin(variant, 0) ? aged(variant) : await load(key, headers, ask, variant);
      }
      const answer = await lead(key, () => load(key, headers, ask, variant));
      if (answer.status < 500) return answer;
      throw answer;
    } catch (problem) {
      if (variant && isWithin(variant, policyOf(variant.answer.headers).staleIfError)) return aged(variant);
      if (problem instanceof Error) throw problem;
      return problem as Answer;
    }
  }

  async function lead<T>(key: string, work: () => Promise<T>): Promise<T> {
    const working = work();
    leaders.set(key, working);
    try {
      return await working;
    } finally {
      if (leaders.get(key) === working) leaders.delete(key);
    }
  }

  async function load(
    key: string,
    asked: IncomingHttpHeaders,
    ask: (more?: IncomingHttpHeaders) => Promise<Answer>,
    old: Variant | undefined,
  ): Promise<Answer> {
    const me = { cancelled: false };
    const others = reads.get(key) ?? new Set();
    reads.set(key, others.add(me));
    try {
      const begun = now();
      const received = await ask(old && conditionsOf(old.answer));
      const answer = old && received.status === 304 ? merged(old.answer, received) : received;
      if (!me.cancelled && answer.status < 500) replace(key, asked, answer, begun);
      return answer;
    } finally {
      others.delete(me);
      if (others.size === 0) reads.delete(key);
    }
  }

  function replace(key: string, asked: IncomingHttpHeaders, answer: Answer, begun: number): void {
    variants = variants.filter((variant) => variant.key !== key || !fits(variant, asked));
    const policy = policyOf(answer.headers);
    const bytes = bytesOf(answer) + JSON.stringify([key, asked]).length;
    const isPublic = policy.public || policy.mustRevalidate || policy.sMaxAge !== undefined;
    const isRuled = policy.noCache || policy.maxAge !== undefined || policy.sMaxAge !== undefined;
    const isPersonal = asked.authorization !== undefined || answer.headers['set-cookie'] !== undefined;
    const isSecret = policy.private || policy.noStore || (isPersonal && !isPublic);
    if (!isRuled || isSecret || namesIn(answer.headers.vary).includes('*') || bytes > maxBytes) return;
    const kept = [...variants, { key, asked, answer, bytes, bornAt: begun - policy.age * 1000 }];
    let total = kept.reduce((sum, each) => sum + each.bytes, 0);
    while (total > maxBytes) total -= kept.shift()?.bytes ?? 0;
    variants = kept;
  }

  function isWithin({ answer, bornAt }: Variant, more: number): boolean {
    const { sMaxAge, maxAge, mustRevalidate, noCache } = policyOf(answer.headers);
    if (noCache) return false;
    return now() < bornAt + 1000 * ((sMaxAge ?? maxAge ?? 0) + (mustRevalidate ? 0 : more));
  }

  function aged({ answer, bornAt }: Variant): Answer {
    const age = `${Math.trunc((now() - bornAt) / 1000)}`;
    return { ...answer, headers: { ...answer.headers, age } };
  }
}

const fits = ({ answer, asked }: Variant, headers: IncomingHttpHeaders): boolean =>
  namesIn(answer.headers.vary).every((name) => asked[name] === headers[name]);

function merged(old: Answer, { headers }: Answer): Answer {
  const { age, ...before } = old.headers;
  const { 'content-length': none, ...news } = headers;
  return { ...old, headers: { ...before, ...news } };
}
