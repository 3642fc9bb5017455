import { OURS } from '../servers/session';
import { type FrameReader, splitter } from './splitter';

const COM_QUERY = 0x03;
const COM_STMT_PREPARE = 0x16;
const COM_STMT_EXECUTE = 0x17;
const HEADER = 4;

/** What client and server can agree on in the handshake, as far as it changes the packets after it. */
const CLIENT_COMPRESS = 1 << 5;
const CLIENT_SSL = 1 << 11;
const CLIENT_QUERY_ATTRIBUTES = 1 << 27;

/** MySQL: packets with a three-byte length and a sequence number, which is 0 at the start of each command. */
export function mysqlFrames(): FrameReader {
  const prepared = new Map<number, string>();
  let preparing: string | undefined;
  let greeting: Buffer | undefined;
  /** The capabilities of both sides, once the client has answered the greeting. */
  let agreed: number | undefined;

  const textOf = (packet: Buffer): string => {
    if (greeting && agreed === undefined) {
      agreed = packet.readUInt32LE(HEADER) & capabilitiesIn(greeting);
      return '';
    }
    const startsCommand = packet[3] === 0;
    const command = packet[HEADER];
    if (!startsCommand) return '';
    // The number stands before the attributes of an execution.
    if (command === COM_STMT_EXECUTE) return prepared.get(packet.readUInt32LE(HEADER + 1)) ?? '';
    if (command === COM_QUERY) {
      const withAttributes = ((agreed ?? 0) & CLIENT_QUERY_ATTRIBUTES) !== 0;
      const sql = packet.toString('utf8', withAttributes ? endOfAttributes(packet, HEADER + 1) : HEADER + 1);
      return sql.startsWith(OURS) ? '' : sql;
    }
    if (command !== COM_STMT_PREPARE) return '';
    preparing = packet.toString('utf8', HEADER + 1);
    return preparing;
  };

  return {
    read: splitter((buffer) => {
      // Encrypted or compressed: these bytes are not packets, and pass as they come.
      if (((agreed ?? 0) & (CLIENT_SSL | CLIENT_COMPRESS)) !== 0) {
        return buffer.length > 0 ? { length: buffer.length, text: '' } : undefined;
      }
      if (buffer.length < HEADER) return undefined;
      const length = HEADER + buffer.readUIntLE(0, 3);
      if (length > buffer.length) return undefined;
      return { length, text: textOf(buffer.subarray(0, length)) };
    }),
    answered(chunk) {
      if (agreed === undefined) greeting = greeting ? Buffer.concat([greeting, chunk]) : chunk;
      // The answer to a prepare carries the number by which the statement is executed later.
      if (preparing !== undefined && chunk[HEADER] === 0 && chunk.length >= HEADER + 5) {
        prepared.set(chunk.readUInt32LE(HEADER + 1), preparing);
      }
      preparing = undefined;
    },
  };
}

/** Protocol 10: the version, a thread id of 4 bytes, 8 of a challenge, a filler; between the halves stand 3 bytes. */
function capabilitiesIn(greeting: Buffer): number {
  const afterVersion = greeting.indexOf(0, HEADER + 1) + 1;
  const at = afterVersion + 4 + 8 + 1;
  if (greeting.length < at + 7) return 0;
  return greeting.readUInt16LE(at) | (greeting.readUInt16LE(at + 5) << 16);
}

/** Values of a fixed size, by type; all others carry their length before them. */
const SIZES: Readonly<Record<number, number>> = { 1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 6: 0, 8: 8, 9: 4, 13: 2 };

/** Where the SQL of a COM_QUERY with query attributes begins: after their count, nulls, types with names, values. */
function endOfAttributes(packet: Buffer, start: number): number {
  let at = start;
  const integer = (): number => {
    const first = packet.readUInt8(at++);
    const size = first < 0xfb ? 0 : first === 0xfc ? 2 : first === 0xfd ? 3 : 8;
    if (size === 0) return first;
    at += size;
    return size === 8 ? Number(packet.readBigUInt64LE(at - size)) : packet.readUIntLE(at - size, size);
  };
  const skip = (bytes: number) => {
    at += bytes;
  };
  const count = integer();
  integer(); // How many sets of values follow: always one.
  if (count === 0) return at;

  const nulls = packet.subarray(at, at + Math.ceil(count / 8));
  at += nulls.length + 1;
  const types = Array.from({ length: count }, () => {
    const type = packet.readUInt8(at);
    at += 2;
    skip(integer());
    return type;
  });
  for (const [index, type] of types.entries()) {
    const isNull = ((nulls[index >> 3] ?? 0) & (1 << (index & 7))) !== 0;
    if (!isNull) skip(SIZES[type] ?? integer());
  }
  return at;
}
