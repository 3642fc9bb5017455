import { onTestFinished } from 'vitest';
import { openProxy, type Wire } from './proxy';

export type { Wire } from './proxy';

/** A wire to the server at `url` (`redis:` or `mysql:`). Closed when the test ends. */
export async function openWire(url: string): Promise<Wire> {
  const wire = await openProxy(url);
  onTestFinished(() => wire.close());
  return wire;
}
