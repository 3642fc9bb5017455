import { onTestFinished } from 'vitest';
import { type FaultyProxy, startProxy } from './faulty-proxy';

export type { FaultyProxy } from './faulty-proxy';

/** A faulty proxy before the server at `url` (`redis:` or `mysql:`). Closed when the test ends. */
export async function openProxy(url: string): Promise<FaultyProxy> {
  const proxy = await startProxy(url);
  onTestFinished(() => proxy.close());
  return proxy;
}
