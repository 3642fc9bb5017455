import type { IncomingMessage, ServerResponse } from 'node:http';
import { type Answer, askOrigin, policyOf, requestHeaders, send } from './given';

/** The version for an interview. It knows one key: the URL. */
// #region core
export function createHttpCache({ origin, now = Date.now }: { origin: string; now?: () => number }) {
  const stored = new Map<string, { answer: Answer; bornAt: number }>();

  return async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { method, url = '/' } = request;
    const headers = requestHeaders(request);
    const isRead = method === 'GET' || method === 'HEAD';
    const entry = isRead ? stored.get(url) : undefined;
    if (entry && isFresh(entry)) return send(request, response, aged(entry));

    const etag = entry?.answer.headers.etag;
    const asked = etag === undefined ? headers : { ...headers, 'if-none-match': etag };
    const received = await askOrigin(origin, { method, url, headers: asked, body: request });
    const answer =
      entry && received.status === 304
        ? { ...entry.answer, headers: { ...entry.answer.headers, age: undefined, ...received.headers } }
        : received;

    if (isRead) {
      const { noStore, private: isPrivate, noCache, age } = policyOf(answer.headers);
      const isShared = !noStore && !isPrivate && (noCache || lifetime(answer) !== undefined);
      if (isShared) stored.set(url, { answer, bornAt: now() - age * 1000 });
      else stored.delete(url);
    }
    send(request, response, answer);
  };

  function isFresh({ answer, bornAt }: { answer: Answer; bornAt: number }): boolean {
    const isUsable = !policyOf(answer.headers).noCache;
    return isUsable && now() - bornAt < (lifetime(answer) ?? 0) * 1000;
  }

  function lifetime({ headers }: Answer): number | undefined {
    const { sMaxAge, maxAge } = policyOf(headers);
    return sMaxAge ?? maxAge;
  }

  function aged({ answer, bornAt }: { answer: Answer; bornAt: number }): Answer {
    const age = String(Math.floor((now() - bornAt) / 1000));
    return { ...answer, headers: { ...answer.headers, age } };
  }
}
// #endregion
