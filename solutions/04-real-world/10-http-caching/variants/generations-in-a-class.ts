import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { InFlight } from '#kit/given';
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
} from '../given';

export interface Options {
  readonly origin: string;
  readonly now?: () => number;
  readonly deadlineMs?: number;
  readonly maxBytes?: number;
  readonly forwards?: (name: string) => boolean;
}

export type Handler = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

export function createHttpCache(options: Options): Handler {
  const cache = new SharedCache(options);
  return async (request, response) => send(request, response, await cache.answer(request));
}

/** What is known of a URL: which headers count, and since which write. */
interface Page {
  readonly names: readonly string[];
  readonly generation: number;
}

interface Entry {
  readonly answer: Answer;
  readonly policy: Policy;
  readonly bornAt: number;
}

interface Loaded {
  readonly answer: Answer;
  readonly entry: Entry | undefined;
}

const PASSED =
  /^(accept|accept-encoding|accept-language|authorization|content-.*|cookie|host|if-match|user-agent)$/;

/** The key of an answer holds the values of Vary and the generation of its URL. A write begins a new generation. */
class SharedCache {
  readonly #origin: string;
  readonly #now: () => number;
  readonly #deadlineMs: number;
  readonly #forwards: (name: string) => boolean;
  readonly #pages: LruMap<Page>;
  readonly #entries: LruMap<Entry>;
  readonly #inFlight = new InFlight<Loaded>();
  #generations = 0;

  constructor({ origin, now = Date.now, deadlineMs = 5_000, maxBytes = 2 ** 26, forwards }: Options) {
    this.#origin = origin;
    this.#now = now;
    this.#deadlineMs = deadlineMs;
    this.#forwards = forwards ?? ((name) => PASSED.test(name));
    this.#pages = new LruMap(maxBytes / 4, (key, { names }) => 2 * (key.length + names.join().length));
    this.#entries = new LruMap(maxBytes / 2, (key, { answer }) => 2 * key.length + bytesOf(answer));
  }

  async answer(request: IncomingMessage): Promise<Answer> {
    const { method, url } = request;
    const headers: IncomingHttpHeaders = Object.fromEntries(
      Object.entries(requestHeaders(request)).filter(([name]) => this.#forwards(name)),
    );
    const page = JSON.stringify([headers.host, url]);
    try {
      if (isRead(method)) return await this.#read(page, { method, url, headers });
      const answer = await this.#ask({ method, url, headers, body: request });
      if (answer.status < 400) this.#begin(page, []);
      return answer;
    } catch (error) {
      if (!isRead(method)) this.#begin(page, []);
      return failureAnswer(error);
    }
  }

  async #read(page: string, question: Question): Promise<Answer> {
    const key = this.#keyOf(page, question.headers);
    const entry = this.#entries.get(key);
    if (entry && this.#isUsable(entry, 0)) return this.#aged(entry);
    if (question.method === 'HEAD') return this.#ask(question);
    if (entry && this.#isUsable(entry, entry.policy.staleWhileRevalidate)) {
      this.#load(page, key, question, entry).catch(() => {});
      return this.#aged(entry);
    }
    try {
      const joins = this.#inFlight.has(key);
      const loaded = await this.#load(page, key, question, entry);
      if (!joins) return this.#orStale(loaded.answer, entry);
      const isMine = this.#keyOf(page, question.headers) === key;
      if (loaded.entry && isMine && this.#isUsable(loaded.entry, 0)) return this.#aged(loaded.entry);
      if (loaded.entry && !isMine) return await this.#read(page, question);
      return this.#orStale((await this.#fetch(question, entry)).answer, entry);
    } catch (error) {
      return this.#orStale(failureAnswer(error), entry);
    }
  }

  #orStale(answer: Answer, entry: Entry | undefined): Answer {
    const mayBeStale = entry && this.#isUsable(entry, entry.policy.staleIfError);
    return answer.status >= 500 && mayBeStale ? this.#aged(entry) : answer;
  }

  #load(page: string, key: string, question: Question, old?: Entry): Promise<Loaded> {
    return this.#inFlight.run(key, async () => {
      const { generation } = this.#page(page);
      const loaded = await this.#fetch(question, old);
      if (loaded.answer.status >= 500 || this.#page(page).generation !== generation) return { ...loaded };
      this.#entries.delete(key);
      if (loaded.entry) {
        this.#pages.set(page, { generation, names: namesIn(loaded.answer.headers.vary) });
        this.#entries.set(this.#keyOf(page, question.headers), loaded.entry);
      }
      return loaded;
    });
  }

  async #fetch({ url, headers }: Question, old?: Entry): Promise<Loaded> {
    const asked = { ...headers, ...(old && conditionsOf(old.answer)) };
    let answer = await this.#ask({ method: 'GET', url, headers: asked });
    if (old && answer.status === 304) {
      const { age, 'content-length': length, ...before } = old.answer.headers;
      answer = { ...old.answer, headers: { ...before, ...answer.headers } };
    }
    const policy = policyOf(answer.headers);
    const entry = { answer, policy, bornAt: this.#now() - policy.age * 1000 };
    return { answer, entry: isShared(answer, policy, headers) ? entry : undefined };
  }

  #ask(question: Question): Promise<Answer> {
    return askOrigin(this.#origin, { ...question, signal: AbortSignal.timeout(this.#deadlineMs) });
  }

  #page(page: string): Page {
    return this.#pages.get(page) ?? this.#begin(page, []);
  }

  #begin(page: string, names: readonly string[]): Page {
    const begun = { names, generation: ++this.#generations };
    this.#pages.set(page, begun);
    return begun;
  }

  #keyOf(page: string, headers: IncomingHttpHeaders): string {
    const { names, generation } = this.#page(page);
    return JSON.stringify([page, generation, ...names.map((name) => [name, headers[name]])]);
  }

  #isUsable({ policy, bornAt }: Entry, moreSeconds: number): boolean {
    if (policy.noCache) return false;
    const fresh = policy.sMaxAge ?? policy.maxAge ?? 0;
    return (this.#now() - bornAt) / 1000 < fresh + (policy.mustRevalidate ? 0 : moreSeconds);
  }

  #aged({ answer, bornAt }: Entry): Answer {
    const age = String(Math.floor((this.#now() - bornAt) / 1000));
    return { ...answer, headers: { ...answer.headers, age } };
  }
}

function isShared(
  { status, headers }: Answer,
  policy: Policy,
  { authorization }: IncomingHttpHeaders,
): boolean {
  if (policy.noStore || policy.private || status === 206 || namesIn(headers.vary).includes('*')) return false;
  const speaksToAll = policy.public || policy.mustRevalidate || policy.sMaxAge !== undefined;
  const hasRule = policy.noCache || policy.maxAge !== undefined || policy.sMaxAge !== undefined;
  const isPersonal = authorization !== undefined || headers['set-cookie'] !== undefined;
  return hasRule && (speaksToAll || !isPersonal);
}
