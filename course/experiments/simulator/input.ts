import { createReadStream } from 'node:fs';
import { pipeline, Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { errorCode, messageOf } from '../../base/files';
import { Refusal } from '../../base/refusal';

/** Where a trace comes from, and how a message names it. */
export interface Input {
  readonly name: string;
  readonly bytes: AsyncIterable<Buffer>;
}

export const fileInput = (path: string): Input => ({
  name: path,
  bytes: unpacked(createReadStream(path, { highWaterMark: 1 << 18 })),
});

export const standardInput = (): Input => ({ name: 'the standard input', bytes: unpacked(process.stdin) });

/** Gzip is known by its first two bytes, whatever the name is. */
async function* unpacked(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const chunks = source[Symbol.asyncIterator]();
  let head = Buffer.alloc(0);
  while (head.length < 2) {
    const { value, done } = await chunks.next();
    if (done) break;
    head = Buffer.concat([head, value]);
  }
  const whole = async function* () {
    yield head;
    yield* { [Symbol.asyncIterator]: () => chunks };
  };
  if (head[0] !== 0x1f || head[1] !== 0x8b) {
    yield* whole();
    return;
  }
  const gunzip = createGunzip({ chunkSize: 1 << 18 });
  // An error of either stream comes out of the loop that reads the last one.
  pipeline(Readable.from(whole()), gunzip, () => {});
  yield* gunzip;
}

/** What the reader can do about an input that failed; undefined for what is not its fault. */
export function inputRefusal(error: unknown, name: string, line: number): Refusal | undefined {
  switch (errorCode(error)) {
    case 'ENOENT':
    case 'ENOTDIR':
      return new Refusal(`There is no file ${name}.\nWithout a trace of yours: npm run simulate -- demo`);
    case 'EISDIR':
      return new Refusal(`${name} is a folder. Name a file with one key a line.`);
    case 'EACCES':
    case 'EPERM':
      return new Refusal(`${name} may not be read by you. Allow it: chmod u+r ${name}`);
    case 'Z_BUF_ERROR':
      return new Refusal(
        `${name} ends in the middle of its gzip data, in line ${line}: it was cut off.\nCopy it again, or use what is there: gunzip -c FILE | npm run simulate`,
      );
    case 'Z_DATA_ERROR':
      return new Refusal(
        `${name} is damaged gzip, in line ${line} or later (${messageOf(error)}). Copy it again.`,
      );
    case 'EIO':
      return new Refusal(`${name} cannot be read after line ${line}: ${messageOf(error)}.`);
    default:
      return undefined;
  }
}
