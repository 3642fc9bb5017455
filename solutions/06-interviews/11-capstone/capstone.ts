import { setTimeout as sleep } from 'node:timers/promises';
import { backoffMs, DeadlineError, InFlight } from '#kit/given';
import {
  type Cache,
  type Cached,
  createLocal,
  createOutbox,
  DEFAULTS,
  decode,
  type Entry,
  entryOf,
  type Found,
  type Load,
  loadBytes,
  type Options,
  openChannel,
  openStore,
  type Policy,
  tagKey,
  valueKey,
} from './given';

type Leased = Extract<Found, { readonly lease: string }>;

/** One cache for all processes: L1 in each of them, L2 in Redis. */
export function createCache(given: Options): Cache {
  const options = { ...DEFAULTS, ...given };
  const { name, loadDeadlineMs, onError } = options;
  const local = createLocal(options.maxKeys);
  const channel = openChannel(local, options);
  const store = openStore(options);
  const outbox = createOutbox(store.remove, options);
  /** By lease: Redis has just named it, so no invalidation has overtaken the load that a call joins. */
  const inFlight = new InFlight<unknown>();
  let invalidations = 0;

  // #region read
  async function read(entry: Entry, load: Load<unknown>): Promise<unknown> {
    if (outbox.covers([entry.value, ...entry.tags])) return loadAlone(entry, load);
    // Both before the question: what changes after it is heard of.
    const keep = channel.isLive() ? local.begin(entry) : undefined;
    const askedAt = performance.now();
    const found = await store.look(entry);
    if (found.kind === 'fresh') keep?.(found.value, askedAt + found.freshMs);
    return answer(entry, load, found);
  }

  function answer(entry: Entry, load: Load<unknown>, found: Found): unknown {
    if (found.kind === 'unanswered') return loadAlone(entry, load);
    if (found.kind === 'fresh' || found.kind === 'stale') return found.value;
    const work = found.kind === 'held' ? waitForHolder : loadAndFill;
    const loading = inFlight.run(found.lease, () => work(entry, load, found));
    if (found.kind !== 'refresh') return loading;
    loading.catch(onError);
    return found.value;
  }
  // #endregion

  // #region load
  async function loadAndFill(entry: Entry, load: Load<unknown>, { kind, lease }: Leased): Promise<unknown> {
    try {
      const bytes = await loadBytes(load, loadDeadlineMs);
      // Stored or refused: all who wait asked before the invalidation, so they may have this value.
      await store.finish(entry, lease, bytes);
      return decode(bytes);
    } catch (error) {
      // A failed refresh keeps the lease: the pause before the next try.
      if (kind === 'granted') await store.finish(entry, lease);
      throw error;
    }
  }

  /** Another process loads. One call of this process asks Redis again and again; the others have joined it. */
  async function waitForHolder(entry: Entry, load: Load<unknown>, { lease }: Leased): Promise<unknown> {
    const giveUpAt = performance.now() + loadDeadlineMs;
    for (let attempt = 0; performance.now() < giveUpAt; attempt++) {
      await sleep(backoffMs(attempt));
      const found = await store.look(entry);
      if (found.kind !== 'held' || found.lease !== lease) return answer(entry, load, found);
    }
    throw new DeadlineError(loadDeadlineMs);
  }

  /** Redis cannot be asked, or not be trusted: nothing is stored. A load from before an invalidation is not joined. */
  const loadAlone = ({ value }: Entry, load: Load<unknown>): Promise<unknown> =>
    inFlight.run(`${invalidations} ${value}`, async () => decode(await loadBytes(load, loadDeadlineMs)));
  // #endregion

  // #region api
  async function invalidate(redisKey: string): Promise<void> {
    invalidations++;
    local.drop(redisKey);
    await outbox.send(redisKey);
  }

  return {
    async get<V>(key: string, load: Load<V>, policy: Policy): Promise<Cached<V>> {
      const known = channel.isLive() ? local.get(valueKey(name, key)) : undefined;
      return (known === undefined ? await read(entryOf(name, key, policy), load) : known) as Cached<V>;
    },
    invalidate: (key) => invalidate(valueKey(name, key)),
    invalidateTag: (tag) => invalidate(tagKey(name, tag)),
    async close() {
      channel.close();
      await outbox.close().finally(store.close);
    },
  };
  // #endregion
}
