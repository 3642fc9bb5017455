import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { blocksOf, MemoryBlocks } from '../../course/experiments/simulator/blocks';
import { demoInput } from '../../course/experiments/simulator/demo';
import { fileInput, type Input } from '../../course/experiments/simulator/input';
import { type ReadTrace, readTrace } from '../../course/experiments/simulator/read';

/** They start processes, or read whole traces, on a machine that may be busy. */
vi.setConfig({ testTimeout: 30_000 });

const read = (input: Input): Promise<ReadTrace> => readTrace(input, new MemoryBlocks(), async () => {});

const fromChunks = (...chunks: readonly Buffer[]): Input => ({
  name: 'trace',
  bytes: (async function* () {
    yield* chunks;
  })(),
});

const fromText = (text: string): Input => fromChunks(Buffer.from(text, 'latin1'));

function fromFile(bytes: Buffer): Input {
  const folder = mkdtempSync(join(tmpdir(), 'simulate-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'trace'), bytes);
  return fileInput(join(folder, 'trace'));
}

function keysOf(trace: ReadTrace): number[] {
  return Array.from({ length: blocksOf(trace) }, (_, block) => [...trace.keys.read(block)]).flat();
}

const keysIn = async (text: string): Promise<number[]> => keysOf(await read(fromText(text)));

describe('one key a line', () => {
  test.each([
    ['a\nb\na\n', [0, 1, 0]],
    ['a\r\nb\r\na\r\n', [0, 1, 0]],
    ['\n\na\n\nb\na', [0, 1, 0]],
    ['a \na\n a\n', [0, 1, 2]],
    ['1\n01\n1.0\n+1\n1\n', [0, 1, 2, 3, 0]],
    ['\xff\xfe\n\xff\xfd\n\xff\xfe\n', [0, 1, 0]],
    ['\xef\xbb\xbfa\na\n', [0, 0]],
    ['OK\na\nOK\n', [0, 1, 0]],
    ['OK', [0]],
    ['__proto__\nconstructor\n__proto__\n', [0, 1, 0]],
  ])('%j is %j', async (text, keys) => {
    expect(await keysIn(text)).toEqual(keys);
  });

  test('it does not matter where the chunks end', async () => {
    const lines = fc.array(fc.constantFrom('a', 'bb', '', 'c\r', 'ccc'), { minLength: 1, maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(lines, fc.array(fc.nat(40)), async (texts, cuts) => {
        const whole = Buffer.from(`first\n${texts.join('\n')}`);
        const places = [0, ...cuts.filter((cut) => cut < whole.length).sort((a, b) => a - b), whole.length];
        const chunks = places.slice(1).map((end, at) => whole.subarray(places[at], end));
        expect(keysOf(await read(fromChunks(...chunks)))).toEqual(keysOf(await read(fromChunks(whole))));
      }),
      { numRuns: 100 },
    );
  });

  test('keys are told apart, however many there are', async () => {
    const keys = Array.from({ length: 40_000 }, (_, at) => (at * 7919) % 30_011);
    const trace = await read(fromText(keys.join('\n')));
    const numbers = new Map<number, number>();
    for (const key of keys) if (!numbers.has(key)) numbers.set(key, numbers.size);
    expect(trace).toMatchObject({ requests: 40_000, distinct: 30_011, format: 'one key a line' });
    expect(keysOf(trace)).toEqual(keys.map((key) => numbers.get(key)));
  });

  test('the demo is the same each time', async () => {
    const [first, second] = await Promise.all([read(demoInput()), read(demoInput())]);
    expect(first.requests).toBe(388_000);
    expect(keysOf(first)).toEqual(keysOf(second));
  });
});

describe('redis-cli MONITOR', () => {
  const line = (command: string, database = 0) =>
    `1700000000.000001 [${database} 127.0.0.1:5000] ${command}\n`;

  test('reads count, each key of a read of many, and writes do not', async () => {
    const trace = await read(
      fromText(
        'OK\n' +
          line('"get" "a"') +
          line('"SET" "b" "GET"') +
          line('"MGET" "a" "b" "a"') +
          line('"hget" "b" "a"') +
          line('"PING"') +
          '1700000000.000001 [0 lua] "GET" "b"\n' +
          '1700000000.000001 [0 unix:/tmp/redis.sock] "GETEX" "a" "PX" "5"\n',
      ),
    );
    expect(trace.format).toBe('redis-cli MONITOR');
    expect(keysOf(trace)).toEqual([0, 0, 1, 0, 1, 1, 0]);
  });

  test('a key is its bytes, in its database', async () => {
    const keys = await keysIn(
      line('"GET" "a\\"b"') +
        line('"GET" "a\\x22b"') +
        line('"GET" "a\\\\\\"b"') +
        line('"GET" "a\\"b"', 1) +
        line('"GET" "1:a"') +
        line('"GET" "a"', 1),
    );
    expect(keys).toEqual([0, 0, 1, 2, 3, 4]);
  });

  test('a last line that was cut off is left out, another one is refused by its number', async () => {
    const [whole, cut] = [line('"GET" "a"'), '1700000000.000001 [0 127.0.0.1:5000] "GET" "a'];
    expect(await keysIn(whole + cut)).toEqual([0]);
    await expect(keysIn(`${whole}${cut}\n${whole}`)).rejects.toThrow(
      'Line 2 of the trace is not a line of redis-cli MONITOR',
    );
  });

  test('without a read it is refused', async () => {
    await expect(keysIn(line('"SET" "a" "1"'))).rejects.toThrow('output of MONITOR without a read');
  });
});

describe('what cannot be read', () => {
  test.each([
    ['', 'trace holds no request: it is empty'],
    ['\r\n\n', 'trace holds no request: it is empty'],
    ['a\nb\0\n', 'Line 2 of the trace holds a NUL byte'],
    [`a\n\n${'x'.repeat(17 * 2 ** 20)}`, 'Line 3 of the trace is longer than 16 MiB'],
  ])('text %#', async (text, message) => {
    await expect(keysIn(text)).rejects.toThrow(message);
  });

  const packed = gzipSync(
    Array.from({ length: 50_000 }, (_, at) => `key:${(at * 7919) % 10_007}\n`).join(''),
  );

  test('gzip is known by its bytes, also in several parts', async () => {
    expect(await read(fromFile(packed))).toMatchObject({ requests: 50_000, distinct: 10_007 });
    expect(await read(fromFile(Buffer.concat([packed, packed])))).toMatchObject({ requests: 100_000 });
  });

  test('gzip that was cut off or damaged, a folder, no file: each is said', async () => {
    const cut = packed.subarray(0, packed.length / 2);
    await expect(read(fromFile(cut))).rejects.toThrow(/ends in the middle of its gzip data, in line \d{2,}/);
    const damaged = Buffer.from(packed).fill(0, packed.length - 8, packed.length - 4);
    await expect(read(fromFile(damaged))).rejects.toThrow('is damaged gzip, in line');
    await expect(read(fileInput(tmpdir()))).rejects.toThrow('is a folder');
    await expect(read(fileInput('/no/trace'))).rejects.toThrow('There is no file /no/trace');
  });
});
