import type { Redis } from 'ioredis';
import type { FeedDatabase, Page, Post } from './given';

export interface Feeds {
  /**
   * Posts of the authors whom the user follows.
   * @param cursor `next` of the page before, which you make; without it, the newest posts
   * @throws what MySQL throws
   */
  page(userId: number, cursor?: string): Promise<Page>;
  /** Stores a post in MySQL, and adds it to the feeds of the author's followers that are in Redis. */
  publish(authorId: number, text: string): Promise<Post>;
  /** In production: ends a follow in MySQL. The author's posts are gone from the next page on. */
  unfollow?(userId: number, authorId: number): Promise<void>;
  /** In production: deletes a post in MySQL. It is gone from the next page on. */
  remove?(postId: number): Promise<void>;
}

export interface Options {
  /** In production: each of its commands settles in bounded time. */
  readonly redis: Redis;
  readonly db: FeedDatabase;
  /** In production: called with each error of Redis, and for a post that cannot be decoded. It never throws. */
  readonly onCacheError?: (error: unknown) => void;
}

/** News feeds as sorted sets of post ids. Keys, TTLs, the codec and all SQL are in `given.ts`. */
export function createFeeds({ redis, db, onCacheError = () => {} }: Options): Feeds {
  throw new Error('not implemented');
}
