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

export function splitter(next: (buffer: Buffer) => { length: number; text: string } | undefined) {
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
