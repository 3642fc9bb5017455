/** A process for tiers.ts: two caches with an L1 each, and the bus between them. */
import { setTimeout as sleep } from 'node:timers/promises';
import { startProxy } from '#kit/faulty-proxy';
import type { Contender } from './clients';
import { open } from './contenders';

export interface Across {
  readonly heard: string;
  readonly afterCut: string;
}

const [name = '', url = ''] = process.argv.slice(2);
/** How long the bus is down, and how long it has afterwards. */
const DOWN_MS = 400;

async function main(): Promise<void> {
  process.on('disconnect', () => process.exit(1));
  process.on('uncaughtException', () => process.exit(1));
  // What a client prints of the cut is expected.
  console.error = () => {};
  const bus = await startProxy(url);
  const reader = await open(name, { url, busUrl: bus.url, twoTiers: true });
  const writer = await open(name, { url, busUrl: url, twoTiers: true });
  await filled(reader, 'heard');
  await written(writer, 'heard');
  await sleep(50);
  process.send?.({ heard: await seen(reader, 'heard') });
  await filled(reader, 'cut');
  await bus.refuse();
  await written(writer, 'cut');
  await sleep(DOWN_MS);
  await bus.heal();
  await sleep(DOWN_MS);
  process.send?.({ afterCut: await seen(reader, 'cut') }, () => process.exit(0));
}

const keyOf = (part: string) => `${name}-${part}`;

async function filled(reader: Contender, part: string): Promise<void> {
  for (let read = 0; read < 3; read++) {
    await reader.get(keyOf(part), async () => 'old');
    await sleep(20);
  }
}

async function written(writer: Contender, part: string): Promise<void> {
  await writer.remove(keyOf(part));
  await writer.get(keyOf(part), async () => 'new');
}

const seen = async (reader: Contender, part: string) =>
  (await reader.get(keyOf(part), async () => 'new')) === 'new' ? 'fresh' : 'stale';

void main();
