import { databaseLoad, memoryFor, peakPerSecond } from '../01-capacity/capacity';
import { sortedSetMemory } from '../01-capacity/sorted-set';
import { exactly, fleetFor, GB, MILLION, NONE, RESERVE } from './plan';

const ACTIVE = 20 * MILLION;
const MEMBER_BYTES = 30;
const WINDOW = 100;
const LONG_WINDOW = 500;
/** In a listpack: a member has two bytes of its own, its score of 0 has two. A header has seven. */
const LISTPACK_BYTES = 7 + WINDOW * (MEMBER_BYTES + 4);
/** Users who come in a week. Their feeds live for a week. */
const FEEDS = 40 * MILLION;
const DAYS = 7;
const POSTS = 50 * MILLION;
const pages = { requestsPerDay: 20 * ACTIVE, peakToAverage: 3 };
/** The feed, two celebrities, twenty posts: as if each were on another node. */
const KEYS_OF_PAGE = 23;
const PAGE_BYTES = 12_000;
const posted = { requestsPerDay: 10 * MILLION, peakToAverage: 3 };
const ACTIVE_FOLLOWERS = 100;
const added = { ...posted, requestsPerDay: ACTIVE_FOLLOWERS * posted.requestsPerDay };
const ADD_SECONDS = 10e-6;
const CELEBRITY_FOLLOWERS = 5 * MILLION;
const LARGE_FOLLOWERS = 100_000;
const BUILD_LIMIT = 500;

export function feed() {
  const feeds = memoryFor({ entries: FEEDS, keyBytes: 14, valueBytes: LISTPACK_BYTES, ttl: true, ...NONE });
  const posts = memoryFor({ entries: POSTS, keyBytes: 14, valueBytes: 500, ttl: true, ...NONE });
  const long = FEEDS * sortedSetMemory({ entries: LONG_WINDOW, keyBytes: MEMBER_BYTES, replicas: 0 });
  const requestsPerDay = KEYS_OF_PAGE * pages.requestsPerDay + added.requestsPerDay;
  const traffic = { ...pages, requestsPerDay };
  const fleet = fleetFor(
    {
      memoryBytes: feeds + posts,
      traffic,
      reserve: RESERVE.state,
      replyBytes: PAGE_BYTES / KEYS_OF_PAGE,
    },
    1,
  );
  const builds = databaseLoad({
    traffic: pages,
    hitRatio: 1 - FEEDS / DAYS / pages.requestsPerDay,
    nodes: fleet.primaries,
    limit: BUILD_LIMIT,
  });
  return exactly('feed', [
    ['active', 'users who come on a day', ACTIVE / MILLION, 'million users'],
    ['cached', 'users who come in a week, and whose feeds are in Redis', FEEDS / MILLION, 'million users'],
    ['pages', 'feed pages a day: twenty for each of them', pages.requestsPerDay / MILLION, 'million pages'],
    ['peak', 'pages at the peak, three times the average', peakPerSecond(pages), 'pages/s'],
    [
      'reads',
      'keys read at the peak: the feed, two celebrities, twenty posts',
      KEYS_OF_PAGE * peakPerSecond(pages),
      'reads/s',
    ],
    ['posts', 'posts a day', posted.requestsPerDay / MILLION, 'million posts'],
    [
      'adds',
      'ids added at the peak: to 100 feeds that are in Redis, for each post',
      peakPerSecond(added),
      'writes/s',
    ],
    ['long', 'memory of 40 million feeds of 500 ids, as skip lists', long / GB, 'GB'],
    ['feeds', 'memory of 40 million feeds of 100 ids, as listpacks', feeds / GB, 'GB'],
    ['factor', 'memory of 500 ids against 100', long / feeds, '×'],
    ['texts', 'memory of 50 million posts of 500 bytes', posts / GB, 'GB'],
    ['day', 'memory of the posts of one more day', posts / (POSTS / posted.requestsPerDay) / GB, 'GB'],
    ['primaries', 'primaries, one of them spare', fleet.primaries, 'nodes'],
    ['nodes', 'nodes with a replica each', fleet.nodes, 'nodes'],
    ['cost', 'node-hours a month', fleet.hours, 'node-hours'],
    ['builds', 'feeds built at the peak, each once a week', builds.steady, 'builds/s'],
    ['loss', 'feeds built after one primary is lost without a replica', builds.nodeLoss, 'builds/s'],
    ['limit', 'builds that the database can do', BUILD_LIMIT, 'builds/s'],
    [
      'celebrity',
      'seconds of Redis for one post to five million feeds',
      CELEBRITY_FOLLOWERS * ADD_SECONDS,
      'seconds',
    ],
    [
      'spread',
      'the same, spread over the primaries',
      (CELEBRITY_FOLLOWERS * ADD_SECONDS) / fleet.primaries,
      'seconds',
    ],
    [
      'large',
      'seconds for one post to 100,000 feeds, spread over the primaries',
      (LARGE_FOLLOWERS * ADD_SECONDS) / fleet.primaries,
      'seconds',
    ],
  ]);
}
