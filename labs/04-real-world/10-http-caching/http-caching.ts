import type { IncomingMessage, ServerResponse } from 'node:http';

export interface Options {
  /** Base URL of the one origin: `http://127.0.0.1:8080`. */
  readonly origin: string;
  /** The time in ms. */
  readonly now?: () => number;
  /** In production: how long the origin may take for a complete answer (ms). */
  readonly deadlineMs?: number;
  /** In production: the memory limit for all stored answers and their keys (bytes). */
  readonly maxBytes?: number;
  /** In production: whether the origin gets the request header of this name (in lower case). By default: if it is in a list. */
  readonly forwards?: (name: string) => boolean;
}

/** Answers one request. Resolves when the answer is handed to `response`. */
export type Handler = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

/**
 * A shared cache in front of an origin. It stores answers to GET as their headers allow, and passes everything else on.
 * An answer from the store has an `Age`: its age in whole seconds.
 */
export function createHttpCache({
  origin,
  now = Date.now,
  deadlineMs = 5_000,
  maxBytes = 64 * 2 ** 20,
  forwards = () => true,
}: Options): Handler {
  throw new Error('not implemented');
}
