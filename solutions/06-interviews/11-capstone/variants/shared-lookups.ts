import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { DeadlineError, withDeadline } from '#kit/given';
import * as parts from '../given';

type Load = parts.Load<unknown>;

/** Calls of one key that come in the same turn of the event loop share one question to Redis. */
export function createCache(options: parts.Options): parts.Cache {
  const settings = { ...parts.DEFAULTS, ...options };
  const { name, loadDeadlineMs: deadlineMs, onError } = settings;
  const local = parts.createLocal(settings.maxKeys);
  const channel = parts.openChannel(local, settings);
  const store = parts.openStore(settings);
  const outbox = parts.createOutbox(store.remove, settings);
  /** The questions that are not sent yet, by key: one that was sent may be answered from before an invalidation. */
  const asked = new Map<string, Promise<parts.Found>>();
  const loads = new Map<string, Promise<unknown>>();
  let generation = 0;

  function ask(entry: parts.Entry): Promise<parts.Found> {
    const running = asked.get(entry.value);
    if (running) return running;
    const answer = nextTurn().then(() => {
      asked.delete(entry.value);
      return look(entry);
    });
    asked.set(entry.value, answer);
    return answer;
  }

  async function look(entry: parts.Entry): Promise<parts.Found> {
    const keep = channel.isLive() && local.begin(entry);
    const from = performance.now();
    const found = await store.look(entry);
    if (keep && found.kind === 'fresh') keep(found.value, from + found.freshMs);
    return found;
  }

  /** What is under way with this name, else what `start` begins. */
  function once(id: string, start: () => Promise<unknown>): Promise<unknown> {
    const running = loads.get(id);
    if (running) return running;
    const started = start().finally(() => loads.delete(id));
    loads.set(id, started);
    return started;
  }

  const direct = ({ value }: parts.Entry, load: Load) =>
    once(`${generation}:${value}`, async () => parts.decode(await parts.loadBytes(load, deadlineMs)));

  async function fill(entry: parts.Entry, load: Load, lease: string, isRefresh: boolean): Promise<unknown> {
    const bytes = await parts.loadBytes(load, deadlineMs).catch(async (error: unknown) => {
      if (!isRefresh) await store.finish(entry, lease);
      throw error;
    });
    await store.finish(entry, lease, bytes);
    return parts.decode(bytes);
  }

  async function read(entry: parts.Entry, load: Load): Promise<unknown> {
    for (;;) {
      if (outbox.covers([...entry.tags, entry.value])) return direct(entry, load);
      const found = await ask(entry);
      if (found.kind === 'unanswered') return direct(entry, load);
      if (found.kind === 'fresh' || found.kind === 'stale') return found.value;
      const { kind, lease } = found;
      if (kind === 'held' && !loads.has(lease)) {
        await sleep(5 + 10 * Math.random());
        continue;
      }
      const filling = once(lease, () => fill(entry, load, lease, kind === 'refresh'));
      if (kind !== 'refresh') return filling;
      filling.catch(onError);
      return found.value;
    }
  }

  async function invalidate(redisKey: string): Promise<void> {
    generation++;
    local.drop(redisKey);
    await outbox.send(redisKey);
  }

  return {
    async get(key, load, policy) {
      const known = channel.isLive() ? local.get(parts.valueKey(name, key)) : undefined;
      if (known !== undefined) return known as never;
      const reading = read(parts.entryOf(name, key, policy), load);
      return (await withDeadline(reading, 2 * deadlineMs, () => new DeadlineError(2 * deadlineMs))) as never;
    },
    invalidate: (key) => invalidate(parts.valueKey(name, key)),
    invalidateTag: (tag) => invalidate(parts.tagKey(name, tag)),
    async close() {
      channel.close();
      await outbox.close().finally(() => store.close());
    },
  };
}
