import { basename, join, resolve } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { makeFolder } from '../base/files';
import { Refusal } from '../base/refusal';
import { onEnd } from '../base/signals';
import { demoInput } from '../experiments/simulator/demo';
import { whole } from '../experiments/simulator/figures';
import { fileInput, type Input, standardInput } from '../experiments/simulator/input';
import { requireFree, writePicture } from '../experiments/simulator/picture';
import { type ReadTrace, readTrace } from '../experiments/simulator/read';
import { report } from '../experiments/simulator/report';
import { defaultSizes, simulate as replay, type Simulation } from '../experiments/simulator/simulate';
import { Spool } from '../experiments/simulator/spool';
import { STATE } from '../run/state-file';
import { cut } from '../screen/terminal';
import type { Arguments } from './options';

const PICTURE = join(STATE, 'simulate.svg');
/** A narrower table would break. */
const COLUMNS = { least: 80, most: 140 };
/** So that the smallest cache of a sample still has ten entries. */
const SAMPLED_KEYS = 10_000;
const RATE_AT_LEAST = 0.01;

/** `npm run simulate`: policies and sizes of a cache on the reader's own trace. */
export async function simulate({ names, flags, values }: Arguments): Promise<number> {
  const input = inputOf(names);
  const svg = values.get('svg');
  const picture = svg === undefined ? PICTURE : fromReader(svg);
  if (svg === undefined) makeFolder(STATE);
  if (!flags.has('csv')) requireFree(picture);

  const progress = new Progress();
  onEnd(async () => progress.clear());
  const { trace, simulation } = await run(
    input,
    { quick: flags.has('quick'), sizes: values.get('sizes') },
    progress,
  );
  if (flags.has('csv')) {
    console.log(csv(simulation));
    return 0;
  }
  const name = basename(input.name);
  console.log(
    report(simulation, { name, format: trace.format, ...entryBytes(trace, values.get('bytes')) }, columns()),
  );
  writePicture(picture, name, simulation);
  console.log(`\nThe picture as a file: ${picture}`);
  return 0;
}

function inputOf([name, ...more]: readonly string[]): Input {
  if (more.length > 0) throw new Refusal(`npm run simulate takes one trace, and got ${more.length + 1}.`);
  if (name === 'demo') return demoInput();
  if (name !== undefined && name !== '-') return fileInput(fromReader(name));
  if (process.stdin.isTTY) {
    throw new Refusal(
      'Name a file with one key a line, or pipe it in.\nWithout a trace of yours: npm run simulate -- demo',
    );
  }
  return standardInput();
}

/** npm runs a script in the folder of the course, and says where it was called. */
function fromReader(path: string): string {
  const { INIT_CWD, npm_lifecycle_event } = process.env;
  return resolve((npm_lifecycle_event === 'simulate' && INIT_CWD) || process.cwd(), path);
}

async function run(
  input: Input,
  { quick, sizes }: { quick: boolean; sizes: string | undefined },
  progress: Progress,
): Promise<{ trace: ReadTrace; simulation: Simulation }> {
  const spools: Spool[] = [];
  const makeBlocks = () => {
    const spool = new Spool();
    spools.push(spool);
    return spool;
  };
  try {
    const trace = await readTrace(input, makeBlocks(), (requests) =>
      progress.show(() => `Reading: ${whole(requests)} requests`),
    );
    const rate = Math.max(RATE_AT_LEAST, SAMPLED_KEYS / trace.distinct);
    const steps = replay(trace, {
      sizes: sizes ? ascending(sizes) : defaultSizes(trace.distinct),
      rate: quick && rate < 1 ? rate : undefined,
      makeBlocks,
    });
    for (let step = steps.next(); ; step = steps.next()) {
      if (step.done) return { trace, simulation: step.value };
      const [what, done] = step.value;
      await progress.show(() => `${String(Math.floor(done * 100)).padStart(3)} %  ${what}`);
    }
  } finally {
    progress.clear();
    for (const spool of spools) spool.close();
  }
}

const ascending = (list: string): number[] => [...new Set(list.split(',').map(Number))].sort((a, b) => a - b);

/** The overhead is the one of Redis 7 in lesson 6.1: a robj and an sds of 1,000 bytes, an entry of the dictionary, its bucket. */
const VALUE_BYTES = 16 + 1024;
const ENTRY_BYTES = 32 + 12;

function entryBytes(
  { keyBytes }: ReadTrace,
  given: string | undefined,
): { entryBytes: number; entryBytesFrom: string } {
  if (given) return { entryBytes: Number(given), entryBytesFrom: 'as --bytes says' };
  const key = Math.ceil((keyBytes + 2) / 16) * 16;
  return {
    entryBytes: key + VALUE_BYTES + ENTRY_BYTES,
    entryBytesFrom: `in Redis 7 a value of 1,000 bytes under a key of ${whole(keyBytes)} bytes, the mean of this trace (lesson 6.1). With values of another size, say --bytes=N`,
  };
}

function columns(): number {
  return Math.max(COLUMNS.least, Math.min(COLUMNS.most, process.stdout.columns || COLUMNS.least));
}

function csv({ sizes, curves, requests }: Simulation): string {
  const rows = sizes.map((size, at) => [size, requests, ...curves.map(({ misses }) => misses[at])]);
  return [['entries', 'requests', ...curves.map(({ policy }) => policy)], ...rows].join('\n');
}

const LOOKS_EVERY_MS = 50;

/** One line at the terminal that is written over, and nothing elsewhere. */
class Progress {
  #last = performance.now();

  /** Gives way to signals, too: what runs does not wait for anything else. */
  async show(text: () => string): Promise<void> {
    if (performance.now() - this.#last < LOOKS_EVERY_MS) return;
    if (process.stderr.isTTY)
      process.stderr.write(`\r${cut(text(), (process.stderr.columns || 80) - 1)}\x1b[K`);
    await setImmediate();
    this.#last = performance.now();
  }

  clear(): void {
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  }
}
