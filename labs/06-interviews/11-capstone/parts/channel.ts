import type { Settings } from './api';
import type { Local } from './local';

/** Client tracking (lesson 4.5): Redis says which keys have changed, by any writer. L1 is used while this is live. */
export function openChannel(local: Local, { name, connect, maxSilenceMs, onError }: Settings) {
  // Commands of a lost connection fail (0 retries). Sent again, they would reach the next connection.
  const options = { protocol: 2, autoResubscribe: false, maxRetriesPerRequest: 0 } as const;
  const redis = connect({ ...options, connectionName: 'channel', socketTimeout: maxSilenceMs });
  let tracked = false;
  let heardAt = 0;
  let checking = false;

  redis.on('messageBuffer', (_channel: Buffer, keys: Buffer[] | null) => {
    if (!keys) return local.clear(); // Redis was flushed
    for (const key of keys) local.drop(String(key));
  });
  redis.on('close', () => {
    tracked = false;
    local.clear();
  });
  redis.on('ready', check).on('error', onError);
  const watchdog = setInterval(check, maxSilenceMs / 4).unref();

  async function check(): Promise<void> {
    if (checking || redis.status !== 'ready') return;
    checking = true;
    const askedAt = performance.now();
    // A socket keeps the order: messages that were sent before the answer have been handled.
    const heard = tracked ? redis.ping() : track();
    await heard.then(() => (heardAt = askedAt), onError);
    checking = false;
  }

  async function track(): Promise<void> {
    const id = await redis.client('ID');
    await redis.client('TRACKING', 'ON', 'REDIRECT', id, 'BCAST', 'PREFIX', `{${name}}:`);
    await redis.subscribe('__redis__:invalidate');
    tracked = true;
  }

  return {
    /** By the clock: a paused process gets here before its timers and its socket. */
    isLive: () => tracked && performance.now() - heardAt <= maxSilenceMs,
    close() {
      clearInterval(watchdog);
      redis.disconnect();
    },
  };
}
