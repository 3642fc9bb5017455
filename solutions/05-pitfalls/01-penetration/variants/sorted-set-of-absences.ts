import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { transaction, withDeadline } from '#kit/given';
import {
  DEADLINE_MS,
  decode,
  encode,
  FILTER_BITS,
  FILTER_KEY,
  HASHES,
  hash,
  InvalidCodeError,
  insertVoucher,
  isCode,
  MAX_ABSENT,
  REBUILD_LOCK_MS,
  scanCodes,
  selectVoucher,
  VOUCHER_TTL_MS,
  type Voucher,
  voucherKey,
} from '../given';

export interface Vouchers {
  /** The voucher, or null when there is none. Rejects with the error of MySQL. */
  find(code: string): Promise<Voucher | null>;
  /**
   * Resolves when every process finds the voucher. Rejects with the error of MySQL; in production, also with
   * InvalidCodeError, or when the code could not be entered into the filter: then there is no voucher.
   */
  create(voucher: Voucher): Promise<void>;
  /** Adds to the filter all codes that MySQL has when it is called. */
  rebuild(): Promise<void>;
}

export interface Options {
  readonly redis: Redis;
  readonly db: Pool;
  /** The TTL of an absence (ms). */
  readonly absentTtlMs: number;
  /** In production: the longest that Redis may take to answer (ms); DEADLINE_MS if absent. */
  readonly deadlineMs?: number;
  /** In production: called with each error of Redis. It never throws. */
  readonly onError?: (error: unknown) => void;
}

/** Behind the bits: a byte that is 1 when the filter is complete, and the id of its build. */
const FOOTER_AT = FILTER_BITS / 8;
const ABSENT_KEY = '{vouchers}:absent';
const LOCK_KEY = '{vouchers}:lock';

/** All that Redis knows of a code: its entry, 'absent', or the words 'unknown' and 'incomplete'. */
const LOOKUP = `
  local entry, absent, filter = unpack(KEYS)
  local found = redis.call('GET', entry)
  if found then return found end
  local time = redis.call('TIME')
  local until_ = redis.call('ZSCORE', absent, ARGV[1])
  if until_ and tonumber(until_) > time[1] * 1000 + time[2] / 1000 then return 'absent' end
  local footer = tonumber(ARGV[2])
  if redis.call('GETRANGE', filter, footer, footer) ~= '1' then return 'incomplete' end
  for at = 3, #ARGV do
    if redis.call('GETBIT', filter, ARGV[at]) == 0 then return 'absent' end
  end
  return 'unknown'`;

/** A sorted set by the time at which each absence ends; the one that ends first makes room. */
const REMEMBER_ABSENCE = `
  local time = redis.call('TIME')
  local now = math.floor(time[1] * 1000 + time[2] / 1000)
  if redis.call('EXISTS', KEYS[2]) == 1 then return end
  redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])`;

const RENEW = `
  if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])`;

const FINISH = `
  if redis.call('GETRANGE', KEYS[1], ARGV[1] + 1, -1) == ARGV[2] then
    redis.call('SETRANGE', KEYS[1], ARGV[1], '1')
  end
  if redis.call('GET', KEYS[2]) == ARGV[2] then redis.call('DEL', KEYS[2]) end`;

export const createVouchers = (options: Options): Vouchers => new ScriptedVouchers(options);

/** Absences in one sorted set; a lookup is one script. */
class ScriptedVouchers implements Vouchers {
  readonly #options: Required<Options>;

  constructor({ deadlineMs = DEADLINE_MS, onError = () => {}, ...options }: Options) {
    this.#options = { ...options, deadlineMs, onError };
  }

  async find(code: string): Promise<Voucher | null> {
    if (!isCode(code)) return null;
    const { redis, db, onError } = this.#options;
    const keys = [voucherKey(code), ABSENT_KEY, FILTER_KEY];
    const answer = await this.#ask(redis.eval(LOOKUP, 3, ...keys, code, FOOTER_AT, ...positions(code)));
    if (answer === 'absent') return null;
    if (answer === 'incomplete') this.#rebuildOnce().catch(onError);
    const cached = typeof answer === 'string' ? decode(answer) : undefined;
    if (cached) return cached;
    const voucher = await selectVoucher(db, code);
    if (answer !== undefined) this.#store(code, voucher);
    return voucher;
  }

  /** In the background: nobody waits for it. */
  #store(code: string, voucher: Voucher | null): Promise<unknown> {
    const { redis, absentTtlMs } = this.#options;
    return this.#ask(
      voucher
        ? redis.set(voucherKey(code), encode(voucher), 'PX', VOUCHER_TTL_MS)
        : redis.eval(REMEMBER_ABSENCE, 2, ABSENT_KEY, voucherKey(code), code, absentTtlMs, MAX_ABSENT),
    );
  }

  async create(voucher: Voucher): Promise<void> {
    if (!isCode(voucher.code)) throw new InvalidCodeError();
    const { redis, db, deadlineMs } = this.#options;
    await transaction(db, async (connection) => {
      await insertVoucher(connection, voucher);
      await withDeadline(this.#enter([voucher.code]), deadlineMs);
    });
    await this.#store(voucher.code, voucher);
    await this.#ask(redis.zrem(ABSENT_KEY, voucher.code));
  }

  /** One build after the other: this one begins after the call, so it sees all that is in the table. */
  async rebuild(): Promise<void> {
    const build = randomUUID();
    while (!(await this.#lock(build))) await sleep(20);
    await this.#build(build);
  }

  async #rebuildOnce(): Promise<void> {
    const build = randomUUID();
    if (await this.#lock(build)) await this.#build(build);
  }

  #lock(build: string): Promise<unknown> {
    return this.#options.redis.set(LOCK_KEY, build, 'PX', REBUILD_LOCK_MS, 'NX');
  }

  /** The lock lives as long as pages come. */
  async #build(build: string): Promise<void> {
    const { redis, db } = this.#options;
    await redis.setrange(FILTER_KEY, FOOTER_AT + 1, build);
    for await (const codes of scanCodes(db)) {
      await this.#enter(codes);
      if (!(await redis.eval(RENEW, 1, LOCK_KEY, build, REBUILD_LOCK_MS)))
        throw new Error('the lock was lost');
    }
    await redis.eval(FINISH, 2, FILTER_KEY, LOCK_KEY, FOOTER_AT, build);
  }

  async #enter(codes: readonly string[]): Promise<void> {
    const bits = this.#options.redis.pipeline();
    for (const position of codes.flatMap(positions)) bits.setbit(FILTER_KEY, position, 1);
    for (const [error] of (await bits.exec()) ?? []) if (error) throw error;
  }

  async #ask<T>(answer: Promise<T>): Promise<T | undefined> {
    try {
      return await withDeadline(answer, this.#options.deadlineMs);
    } catch (error) {
      this.#options.onError(error);
      return undefined;
    }
  }
}

/** Double hashing: two numbers of the hash make all positions. `>>> 0` keeps the odd one unsigned. */
function positions(code: string): number[] {
  const bytes = hash(code);
  const [start, step] = [bytes.readUInt32LE(0), (bytes.readUInt32LE(4) | 1) >>> 0];
  return Array.from({ length: HASHES }, (_, nth) => (start + nth * step) % FILTER_BITS);
}
