import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { withDeadline } from '../../kit/given';
import { Database, type DatabaseOptions, oldest } from './database';
import { Goodput, openLoop } from './load';
import { NAIVE, type Query, type Remedy } from './remedies';

export interface Settings extends DatabaseOptions {
  /** Readers a second. */
  readonly offered: number;
  /** Products, all equally popular. */
  readonly products: number;
  readonly ttlMs: number;
  /** A reader leaves after it. */
  readonly deadlineMs: number;
}

/** A database of 200 queries a second carries four times as many readers, as long as its cache is warm. */
export const SETTINGS: Settings = { offered: 800, products: 200, ttlMs: 8000, deadlineMs: 80 };

/**
 * A shop whose readers come whatever happens (an open loop), with its cache in a real Redis and its products behind a
 * real MySQL. The load and the remedy may change at any time.
 */
export class Shop {
  readonly goodput = new Goodput();
  readonly database: Database;
  readonly settings: Settings;
  offered: number;
  /** Another client after a restart of Redis. */
  redis: Redis;
  /** GETs that found a product, and all that were answered. */
  hits = 0;
  gets = 0;
  readonly #prefix: string;
  #remedy = NAIVE;
  #query: Query;
  #end = () => {};

  /** @param prefix of its keys: shops that share a Redis have one each */
  constructor(redis: Redis, pool: Pool, settings: Settings = SETTINGS, prefix = 'collapse') {
    this.redis = redis;
    this.settings = settings;
    this.offered = settings.offered;
    this.#prefix = prefix;
    this.database = new Database(pool, settings);
    this.#query = this.#plain;
  }

  get remedy(): Remedy {
    return this.#remedy;
  }

  set remedy(remedy: Remedy) {
    this.#remedy = remedy;
    this.database.pick = remedy.pick ?? oldest;
    this.#query = remedy.around?.(this.#plain, this.settings.deadlineMs) ?? this.#plain;
  }

  open(): void {
    this.#end();
    this.#end = openLoop(
      () => this.offered,
      () => this.#reader(),
    );
  }

  /** No readers come, and those that wait are sent away. */
  close(): void {
    this.#end();
    this.database.forget();
  }

  /** All products in the cache, each with a part of its TTL behind it, as after hours. */
  async warm(): Promise<void> {
    const stores = this.redis.pipeline();
    for (let id = 0; id < this.settings.products; id++) {
      stores.set(this.#key(id), id, 'PX', Math.ceil(this.settings.ttlMs * (0.3 + 0.7 * Math.random())));
    }
    await stores.exec();
  }

  /** The shop's keys are gone, and no others: what FLUSHDB does to a Redis that holds nothing else. */
  async flush(): Promise<void> {
    const keys = Array.from({ length: this.settings.products }, (_, id) => this.#key(id));
    await this.redis.del(keys);
  }

  #reader(): void {
    const id = Math.floor(Math.random() * this.settings.products);
    const { tries = 1 } = this.#remedy;
    const { deadlineMs } = this.settings;
    this.goodput.count(this.#ask(id, tries), performance.now() + tries * deadlineMs);
  }

  async #ask(id: number, tries: number): Promise<void> {
    const { deadlineMs } = this.settings;
    const reading = this.#read(id, performance.now() + deadlineMs);
    if (tries === 1) return reading;
    try {
      await withDeadline(reading, deadlineMs);
    } catch {
      await this.#ask(id, tries - 1);
    }
  }

  async #read(id: number, deadline: number): Promise<void> {
    const key = this.#key(id);
    if (await this.#cached(key)) return;
    await this.#query(id, deadline);
    const { fillsLate = false, ttlTimes = 1 } = this.#remedy;
    const isLate = performance.now() > deadline;
    if (isLate && !fillsLate) throw new Error('the reader has left');
    await this.redis.set(key, id, 'PX', this.settings.ttlMs * ttlTimes).catch(() => {});
  }

  async #cached(key: string): Promise<boolean> {
    try {
      const value = await this.redis.get(key);
      this.gets++;
      if (value !== null) this.hits++;
      return value !== null;
    } catch {
      return false;
    }
  }

  #plain: Query = (id, deadline) => this.database.query(id, deadline);

  #key = (id: number): string => `${this.#prefix}:${id}`;
}
