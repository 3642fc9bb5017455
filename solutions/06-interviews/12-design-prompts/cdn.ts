import { databaseLoad, peakPerSecond } from '../01-capacity/capacity';
import { exactly, gbits, loadsWithTtl, MILLION } from './plan';

const views = { requestsPerDay: 50 * MILLION, peakToAverage: 5 };
const SIGNED_IN = 0.3;
const fragments = { ...views, requestsPerDay: SIGNED_IN * views.requestsPerDay };
const PAGE_BYTES = 15_000;
const ASSET_BYTES = 300_000;
const TTL_SECONDS = 600;
const LAW_TTL_SECONDS = 10;
const PLACES = 30;
const PAGES = 200_000;
const VARIANTS = { languages: 3, currencies: 2 };
const USER_AGENTS = 200;
const LIMIT = 2000;

export function cdn() {
  const peak = peakPerSecond(views);
  const variants = VARIANTS.languages * VARIANTS.currencies;
  const rendered = (ttlSeconds: number, places = 1) =>
    places * loadsWithTtl({ keys: PAGES * variants, requestsPerSecond: peak / places, ttlSeconds });
  const load = databaseLoad({ traffic: views, hitRatio: 1 - rendered(TTL_SECONDS) / peak, nodes: 1 });
  return exactly('cdn', [
    ['views', 'page views a day', views.requestsPerDay / MILLION, 'million views'],
    ['peak', 'pages at the peak, five times the average', peak, 'pages/s'],
    [
      'edge',
      'traffic of the edge at the peak: 15 kB of HTML, 300 kB of files',
      gbits(peak, PAGE_BYTES + ASSET_BYTES),
      'Gbit/s',
    ],
    [
      'origin',
      'pages that the origin renders behind a shield: lifetimes of ten minutes',
      load.steady,
      'pages/s',
    ],
    ['no-shield', 'the same, if each of 30 places asks on its own', rendered(TTL_SECONDS, PLACES), 'pages/s'],
    [
      'law',
      'pages rendered behind a shield with lifetimes of ten seconds',
      rendered(LAW_TTL_SECONDS),
      'pages/s',
    ],
    [
      'fragments',
      'personal fragments at the peak: 30 % of the views are signed in',
      peakPerSecond(fragments),
      'requests/s',
    ],
    [
      'purged',
      'pages that the origin renders after a purge of everything',
      load.coldStart ?? Number.NaN,
      'pages/s',
    ],
    ['limit', 'pages that the origin can render', LIMIT, 'pages/s'],
    ['variants', 'variants of a page: three languages, two currencies', variants, 'variants'],
    ['objects', 'objects of 200,000 pages', (PAGES * variants) / MILLION, 'million objects'],
    ['size', 'their size', (PAGES * variants * PAGE_BYTES) / 1e9, 'GB'],
    [
      'agents',
      'objects if User-Agent, with 200 values, were in the key',
      (PAGES * variants * USER_AGENTS) / MILLION,
      'million objects',
    ],
    [
      'egress',
      'traffic of the origin at the peak, HTML only',
      1000 * gbits(load.steady, PAGE_BYTES),
      'Mbit/s',
    ],
  ]);
}
