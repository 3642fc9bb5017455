/** One request on the wire: its bytes, and the text that a gate's pattern is matched against. */
export interface Frame {
  readonly bytes: Buffer;
  /** `SET user:1 {...}` or the SQL; empty for what is neither (a handshake, a close). */
  readonly text: string;
}

/** Cuts a stream of requests into frames; bytes of an unfinished frame wait for the next call. */
export interface FrameReader {
  read(chunk: Buffer): Frame[];
  /** Sees the server's answers, where the text of a later request depends on them. */
  answered?(chunk: Buffer): void;
}

export const frameReader = (protocol: string): FrameReader =>
  protocol.startsWith('redis') ? redisFrames() : mysqlFrames();

function splitter(next: (buffer: Buffer) => { length: number; text: string } | undefined) {
  let rest: Buffer = Buffer.alloc(0);
  return (chunk: Buffer): Frame[] => {
    rest = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
    const frames: Frame[] = [];
    for (let frame = next(rest); frame && frame.length <= rest.length; frame = next(rest)) {
      frames.push({ bytes: rest.subarray(0, frame.length), text: frame.text });
      rest = rest.subarray(frame.length);
    }
    return frames;
  };
}

/** RESP: a client's command is an array of bulk strings, `*2\r\n$3\r\nGET\r\n$1\r\na\r\n`. */
function redisFrames(): FrameReader {
  return {
    read: splitter((buffer) => {
      let at = 0;
      const number = (): number | undefined => {
        const end = buffer.indexOf('\r\n', at);
        if (end < 0) return undefined;
        const value = Number(buffer.toString('latin1', at + 1, end));
        at = end + 2;
        return value;
      };
      const count = number();
      if (count === undefined) return undefined;
      const words: string[] = [];
      while (words.length < count) {
        const length = number();
        if (length === undefined || at + length + 2 > buffer.length) return undefined;
        words.push(buffer.toString('utf8', at, at + length));
        at += length + 2;
      }
      return { length: at, text: words.join(' ') };
    }),
  };
}

const COM_QUERY = 0x03;
const COM_STMT_PREPARE = 0x16;
const COM_STMT_EXECUTE = 0x17;
const HEADER = 4;

/** MySQL: packets with a three-byte length and a sequence number, which is 0 at the start of each command. */
function mysqlFrames(): FrameReader {
  const prepared = new Map<number, string>();
  let preparing: string | undefined;

  const textOf = (packet: Buffer): string => {
    const startsCommand = packet[3] === 0;
    const command = packet[HEADER];
    if (!startsCommand) return '';
    if (command === COM_STMT_EXECUTE) return prepared.get(packet.readUInt32LE(HEADER + 1)) ?? '';
    if (command !== COM_QUERY && command !== COM_STMT_PREPARE) return '';
    const sql = packet.toString('utf8', HEADER + 1);
    if (command === COM_STMT_PREPARE) preparing = sql;
    return sql;
  };

  return {
    read: splitter((buffer) => {
      if (buffer.length < HEADER) return undefined;
      const length = HEADER + buffer.readUIntLE(0, 3);
      if (length > buffer.length) return undefined;
      return { length, text: textOf(buffer.subarray(0, length)) };
    }),
    // The answer to a prepare carries the number by which the statement is executed later.
    answered(chunk) {
      if (preparing !== undefined && chunk[HEADER] === 0 && chunk.length >= HEADER + 5) {
        prepared.set(chunk.readUInt32LE(HEADER + 1), preparing);
      }
      preparing = undefined;
    },
  };
}
