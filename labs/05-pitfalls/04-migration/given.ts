import { parseJson } from '#kit/given';

export type Mode = 'off' | 'shadow' | 'on';

/** The configuration at this moment. */
export interface Settings {
  readonly mode: Mode;
  /** The share of the users that mode `on` serves from Redis: 0 to 100. */
  readonly rampPercent: number;
  /** In production: the operator raises it each time the cache is turned on again. It never goes down. */
  readonly epoch: number;
}

/** Encodes values. Several versions may run at once. */
export interface Codec<T> {
  readonly version: string;
  encode(value: T): Buffer;
  /** In production: throws when the bytes are not a value; the error may quote them. */
  decode(bytes: Buffer): T;
  /** Whether two values mean the same, however they were written. */
  equal(a: T, b: T): boolean;
}

/** A mismatch: entry and load differ. In production, skipped: too many comparisons are running. */
export type Outcome = 'hit' | 'miss' | 'mismatch' | 'skipped';

export type Side = 'live' | 'shadow';

/** The key of an entry, a Redis string. */
export const entryKey = (name: string, side: Side, version: string, id: string): string =>
  ['rollout', name, side, version, id]
    .map((part) => encodeURIComponent(Buffer.from(part).toString()))
    .join(':');

/** In production: how long one request to Redis, or a load for a comparison, may take (ms). */
export const DEADLINE_MS = 50;

/** In production: the pause before the second look (ms). Longer than an invalidation takes to arrive. */
export const RECHECK_MS = 100;

/** In production: how many comparisons may run at once. */
export const MAX_COMPARISONS = 10;

/** In production: an entry that says in which epoch it was filled. */
export const pack = (epoch: number, bytes: Buffer): Buffer =>
  Buffer.concat([Buffer.from(`${epoch}:`), bytes]);

/** In production: the reverse of `pack`. @throws TypeError when the entry does not begin with an epoch */
export function unpack(entry: Buffer): { filledIn: number; bytes: Buffer } {
  const [prefix] = /^-?\d+:/.exec(entry.toString('latin1')) ?? [];
  if (prefix === undefined) throw new TypeError('no epoch');
  return { filledIn: Number.parseInt(prefix, 10), bytes: entry.subarray(prefix.length) };
}

/** In production: checks that a value is a Settings. @throws TypeError when it is not */
export function requireSettings(value: unknown): Settings {
  const { mode, rampPercent, epoch } = Object(value) as Partial<Record<keyof Settings, unknown>>;
  if (
    (mode !== 'off' && mode !== 'shadow' && mode !== 'on') ||
    typeof rampPercent !== 'number' ||
    !(rampPercent >= 0 && rampPercent <= 100) ||
    typeof epoch !== 'number' ||
    !Number.isSafeInteger(epoch)
  ) {
    throw new TypeError('not the settings of a rollout');
  }
  return { mode, rampPercent, epoch };
}

export type Step = 'settings' | 'get' | 'set' | 'del' | 'encode' | 'decode' | 'load';

/** In production: an error that may be logged. It says which step failed and how, without any value. */
export class CacheError extends Error {
  override readonly name = 'CacheError';

  constructor(step: Step, cause: unknown) {
    super(`${step} failed: ${kindOf(cause)}`);
  }
}

/** In production: `NOPERM` of Redis, else the code or the class. The text of an error can quote what it failed on. */
function kindOf(error: unknown): string {
  if (!(error instanceof Error)) return 'not an Error';
  if (error.name === 'ReplyError') return /^[A-Z]+(?= )/.exec(error.message)?.[0] ?? error.name;
  return 'code' in error ? String(error.code) : error.constructor.name;
}

/** In production: the result of `action`. @throws a CacheError in place of an error that may quote the value */
export function guarded<R>(step: Step, action: () => R): R {
  try {
    return action();
  } catch (error) {
    throw new CacheError(step, error);
  }
}

export interface Payment {
  readonly id: string;
  /** DECIMAL as text. `'12.9'` and `'12.90'` mean the same. */
  amount: string;
  readonly card: string;
  readonly paidAt: Date;
}

export const paymentCodec: Codec<Payment> = {
  version: '1',
  encode: (payment) => Buffer.from(JSON.stringify(payment)),
  decode(bytes) {
    const value = parseJson(bytes);
    const { id, amount, card, paidAt } = Object(value) as Partial<Record<keyof Payment, unknown>>;
    const date = new Date(String(paidAt));
    if (
      typeof id !== 'string' ||
      typeof amount !== 'string' ||
      typeof card !== 'string' ||
      Number.isNaN(date.getTime())
    ) {
      throw new TypeError(`not a payment: ${bytes}`);
    }
    return { id, amount, card, paidAt: date };
  },
  equal: (a, b) =>
    a.id === b.id &&
    Number(a.amount) === Number(b.amount) &&
    a.card === b.card &&
    a.paidAt.getTime() === b.paidAt.getTime(),
};
