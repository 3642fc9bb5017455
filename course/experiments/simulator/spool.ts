import { closeSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { messageOf } from '../../base/files';
import { Refusal } from '../../base/refusal';
import { BLOCK, type Blocks } from './blocks';

const BYTES = Int32Array.BYTES_PER_ELEMENT;

/**
 * Blocks in a temporary file. Its name is removed as soon as it is open, so that nothing is left behind however the process
 * ends: the system frees the file with its last descriptor.
 */
export class Spool implements Blocks {
  readonly #file: number;
  readonly #buffer = new Int32Array(BLOCK);

  constructor() {
    const path = join(tmpdir(), `course-simulate-${process.pid}-${Math.random().toString(36).slice(2)}`);
    try {
      this.#file = openSync(path, 'wx+', 0o600);
      rmSync(path);
    } catch (error) {
      throw cannotSpool(error);
    }
  }

  read(index: number): Int32Array {
    const bytes = bytesOf(this.#buffer);
    let filled = 0;
    while (filled < bytes.length) {
      const more = readSync(this.#file, bytes, filled, bytes.length - filled, index * BLOCK * BYTES + filled);
      if (more === 0) break;
      filled += more;
    }
    return this.#buffer.subarray(0, filled / BYTES);
  }

  write(index: number, numbers: Int32Array): void {
    const bytes = bytesOf(numbers);
    try {
      for (let done = 0; done < bytes.length; ) {
        done += writeSync(this.#file, bytes, done, bytes.length - done, index * BLOCK * BYTES + done);
      }
    } catch (error) {
      throw cannotSpool(error);
    }
  }

  close(): void {
    closeSync(this.#file);
  }
}

const bytesOf = (numbers: Int32Array): Uint8Array =>
  new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);

const cannotSpool = (error: unknown): Refusal =>
  new Refusal(
    `The trace cannot be kept in the temporary folder ${tmpdir()}: ${messageOf(error)}.\n` +
      'It needs 8 bytes a request there. Set TMPDIR to a folder with room, then run the command again.',
  );
