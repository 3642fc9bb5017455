import { Refusal } from '../../base/refusal';
import { BLOCK, type Blocks, type Trace } from './blocks';
import { type Input, inputRefusal } from './input';
import { Keys } from './keys';
import { Lines } from './lines';
import { isMonitor, keysRead } from './monitor';

export interface ReadTrace extends Trace {
  readonly format: 'one key a line' | 'redis-cli MONITOR';
  /** Bytes of a distinct key, as a mean. */
  readonly keyBytes: number;
}

const REQUESTS_AT_MOST = 2 ** 31 - 2;
const BYTE_ORDER_MARK = Buffer.from([0xef, 0xbb, 0xbf]);

/** Reads a trace of either format. @param onChunk told after each chunk how many requests there are */
export async function readTrace(
  input: Input,
  into: Blocks,
  onChunk: (requests: number) => Promise<void>,
): Promise<ReadTrace> {
  const reader = new Reader(into);
  try {
    for await (const chunk of input.bytes) {
      reader.lines.push(chunk);
      await onChunk(reader.requests);
    }
  } catch (error) {
    throw inputRefusal(error, input.name, reader.lines.number) ?? error;
  }
  return reader.finish(input.name);
}

class Reader {
  requests = 0;
  readonly lines = new Lines((bytes, from, to, isWhole) => this.#take(bytes, from, to, isWhole));
  readonly #into: Blocks;
  readonly #keys = new Keys();
  readonly #block = new Int32Array(BLOCK);
  #format: 'plain' | 'monitor' | undefined;
  /** redis-cli begins with a line OK; in a plain trace this is a key. */
  #beganWithOk = false;

  constructor(into: Blocks) {
    this.#into = into;
  }

  finish(name: string): ReadTrace {
    this.lines.finish();
    if (this.#beganWithOk && !this.#format) this.#add(Buffer.from('OK'), 0, 2);
    if (this.requests === 0) {
      throw new Refusal(
        this.#format === 'monitor'
          ? `${name} is output of MONITOR without a read.\nWhich commands count: npm run simulate -- --help`
          : `${name} holds no request: it is empty.\nWithout a trace of yours: npm run simulate -- demo`,
      );
    }
    const rest = this.requests % BLOCK;
    if (rest > 0) this.#into.write(Math.floor(this.requests / BLOCK), this.#block.subarray(0, rest));
    return {
      requests: this.requests,
      distinct: this.#keys.size,
      keys: this.#into,
      format: this.#format === 'monitor' ? 'redis-cli MONITOR' : 'one key a line',
      keyBytes: this.#keys.bytes / this.#keys.size,
    };
  }

  #take(bytes: Buffer, from: number, to: number, isWhole: boolean): void {
    if (this.#format === undefined) this.#decide(bytes, from, to, isWhole);
    else if (this.#format === 'plain') this.#add(bytes, from, to);
    else this.#takeMonitor(bytes.toString('latin1', from, to), isWhole);
  }

  /** By the first line, or by the second if the first is OK. */
  #decide(bytes: Buffer, from: number, to: number, isWhole: boolean): void {
    const hasMark = bytes.subarray(from, from + 3).equals(BYTE_ORDER_MARK);
    const start = hasMark ? from + 3 : from;
    const line = bytes.toString('latin1', start, to);
    if (line === '') return;
    if (line === 'OK' && !this.#beganWithOk) {
      this.#beganWithOk = true;
      return;
    }
    this.#format = isMonitor(line) ? 'monitor' : 'plain';
    if (this.#format === 'plain' && this.#beganWithOk) this.#add(Buffer.from('OK'), 0, 2);
    this.#take(bytes, start, to, isWhole);
  }

  #takeMonitor(line: string, isWhole: boolean): void {
    const keys = keysRead(line);
    for (const key of keys ?? []) {
      const bytes = Buffer.from(key, 'latin1');
      this.#add(bytes, 0, bytes.length);
    }
    // Ctrl-C cuts the last line of MONITOR off.
    if (!keys && isWhole) {
      throw new Refusal(
        `Line ${this.lines.number} of the trace is not a line of redis-cli MONITOR, as those before it are:\n  ${shortened(line)}\nDelete it, and start again.`,
      );
    }
  }

  #add(bytes: Buffer, from: number, to: number): void {
    if (this.requests === REQUESTS_AT_MOST) {
      throw new Refusal(
        `Line ${this.lines.number}: a trace of more than ${REQUESTS_AT_MOST} requests is too long.`,
      );
    }
    this.#block[this.requests % BLOCK] = this.#keys.numberOf(bytes, from, to);
    this.requests++;
    if (this.requests % BLOCK === 0) this.#into.write(this.requests / BLOCK - 1, this.#block);
  }
}

const shortened = (line: string): string => JSON.stringify(line.length > 60 ? `${line.slice(0, 60)}…` : line);
