import { setTimeout as sleep } from 'node:timers/promises';
import { type Contender, TAG } from './clients';
import { open } from './contenders';
import { heldLoad, within } from './scene';

const LONG_MS = 800;

export interface Races {
  /** The value that is cached when a load from before the invalidation has ended: by key, and by tag. */
  readonly stored: 'stale' | 'fresh';
  readonly storedByTag: 'stale' | 'fresh' | 'no tags';
  /** What a read gets that begins after the invalidation, while that load is under way. */
  readonly joined: 'stale' | 'fresh';
  /** 50 callers of a load that fails. */
  readonly failing: string;
  /** A second caller, when the first load never ends. */
  readonly hung: string;
}

export async function races(name: string, url: string): Promise<Races> {
  const cache = await open(name, { url, tags: true });
  try {
    const byKey = await overtaken(cache.get, `${name}-race`, () => cache.remove(`${name}-race`));
    const { tagged } = cache;
    const byTag = tagged && (await overtaken(tagged.get, `${name}-tagged`, () => tagged.remove(TAG)));
    return {
      ...byKey,
      storedByTag: byTag?.stored ?? 'no tags',
      failing: await failing(cache, `${name}-failing`),
      hung: await hung(cache, `${name}-hung`),
    };
  } finally {
    await within(500, Promise.resolve(cache.close()));
  }
}

async function overtaken(
  get: Contender['get'],
  key: string,
  invalidate: () => Promise<unknown>,
): Promise<Pick<Races, 'stored' | 'joined'>> {
  // Tags that nobody has used may not be known yet.
  await get(`${key}-before`, async () => 'any');
  const old = heldLoad('old');
  const early = get(key, old.load);
  await old.begun;
  await invalidate();
  const after = await within(
    LONG_MS / 4,
    get(key, async () => 'new'),
  );
  old.end();
  await early;
  await sleep(50);
  const kept = await get(key, async () => 'new');
  return { joined: after === 'new' ? 'fresh' : 'stale', stored: kept === 'old' ? 'stale' : 'fresh' };
}

async function failing(cache: Contender, key: string): Promise<string> {
  let loads = 0;
  const load = async () => {
    loads++;
    await sleep(20);
    throw new Error('the source is down');
  };
  const answers = await Promise.allSettled(Array.from({ length: 50 }, () => cache.get(key, load)));
  const errors = answers.filter(({ status }) => status === 'rejected').length;
  const says = errors === 50 ? 'its error' : errors === 0 ? '`undefined`, no error' : `${errors} errors`;
  return `${loads} load${loads === 1 ? '' : 's'}, ${says}`;
}

async function hung(cache: Contender, key: string): Promise<string> {
  void cache.get(key, () => new Promise(() => {})).catch(() => {});
  await sleep(30);
  const second = await within(
    2 * LONG_MS,
    cache.get(key, async () => 'loaded'),
  );
  if (second === 'pending') return `hangs too (${(2 * LONG_MS) / 1000} s watched)`;
  if (second === 'loaded') return 'loads';
  const third = await within(
    LONG_MS,
    cache.get(key, async () => 'loaded'),
  );
  return `an error at its deadline, the next ${third === 'loaded' ? 'loads' : 'fails too'}`;
}
