import { Refusal } from '../../base/refusal';

const NEWLINE = 10;
const RETURN = 13;
const BYTES_AT_MOST = 16 * 2 ** 20;

/** Takes the bytes of one line, without its end. @param isWhole false for a last line without an end */
export type TakeLine = (bytes: Buffer, from: number, to: number, isWhole: boolean) => void;

/** Cuts chunks into lines. Empty ones are counted and left out; `\r\n` ends a line too. */
export class Lines {
  /** The number of the line that is being taken, from 1. */
  number = 1;
  readonly #take: TakeLine;
  /** The beginning of a line whose end has not come yet. */
  #begun: Buffer[] = [];
  #begunBytes = 0;

  constructor(take: TakeLine) {
    this.#take = take;
  }

  push(chunk: Buffer): void {
    let from = 0;
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at];
      if (byte === 0) throw this.#refusal('holds a NUL byte, so this is not text', NOT_TEXT);
      if (byte !== NEWLINE) continue;
      if (this.#begunBytes === 0) this.#end(chunk, from, at, true);
      else this.#endBegun(chunk.subarray(from, at), true);
      this.number++;
      from = at + 1;
    }
    if (from < chunk.length) this.#begin(chunk.subarray(from));
  }

  finish(): void {
    if (this.#begunBytes > 0) this.#endBegun(Buffer.alloc(0), false);
  }

  #begin(part: Buffer): void {
    this.#begun.push(part);
    this.#begunBytes += part.length;
    if (this.#begunBytes > BYTES_AT_MOST) {
      throw this.#refusal('is longer than 16 MiB', 'A trace has one key a line.');
    }
  }

  #endBegun(part: Buffer, isWhole: boolean): void {
    const line = Buffer.concat([...this.#begun, part]);
    this.#begun = [];
    this.#begunBytes = 0;
    this.#end(line, 0, line.length, isWhole);
  }

  #end(bytes: Buffer, from: number, to: number, isWhole: boolean): void {
    const end = to > from && bytes[to - 1] === RETURN ? to - 1 : to;
    if (end > from) this.#take(bytes, from, end, isWhole);
  }

  #refusal(what: string, remedy: string): Refusal {
    return new Refusal(`Line ${this.number} of the trace ${what}.\n${remedy}`);
  }
}

const NOT_TEXT =
  'Unpack what is not gzip first (zstdcat FILE | npm run simulate), and convert UTF-16 to UTF-8 (iconv -f UTF-16 -t UTF-8).';
