/**
 * Labs, lessons without a lab and pages of the old form: not yet held to the form of a page and to its language. The
 * list only gets shorter: `verify` tells of an entry that is not needed any more.
 */
export const EXEMPT: ReadonlySet<string> = new Set([
  'README.md',
  'chapters/01-fundamentals/README.md',
  'chapters/02-strategies/README.md',
  'chapters/03-invalidation/README.md',
  '01-fundamentals/01-hit-or-miss',
  '01-fundamentals/02-layers',
  '01-fundamentals/03-keys-and-codecs',
  '01-fundamentals/04-lru',
  '01-fundamentals/05-eviction',
  '01-fundamentals/06-redis-memory',
  '02-strategies/02-read-through',
  '02-strategies/03-write-through',
  '02-strategies/04-write-behind',
  '02-strategies/05-counters',
  '02-strategies/06-stale-while-revalidate',
  '03-invalidation/01-ttl-and-jitter',
  '03-invalidation/02-events',
  '03-invalidation/03-tags-and-generations',
  '03-invalidation/04-stampede-lock',
  '03-invalidation/05-early-expiration',
  '03-invalidation/06-leases',
  '03-invalidation/07-versions',
  '03-invalidation/08-staleness',
]);
