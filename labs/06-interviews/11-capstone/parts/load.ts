import { withDeadline } from '#kit/given';
import type { Load } from './api';

/** @throws the error of `load` or `encode`; DeadlineError after `deadlineMs`, even if the load never ends */
export async function loadBytes(load: Load<unknown>, deadlineMs: number): Promise<Buffer> {
  const abort = new AbortController();
  const loading = (async () => load(abort.signal))(); // what it throws at once is a rejection too
  return encode(await withDeadline(loading, deadlineMs).finally(() => abort.abort()));
}

/** @throws TypeError for a value that JSON cannot hold, such as undefined or a bigint */
export function encode(value: unknown): Buffer {
  const text: string | undefined = JSON.stringify(value);
  if (text === undefined) throw new TypeError(`JSON cannot hold a value of type ${typeof value}`);
  return Buffer.from(text);
}
