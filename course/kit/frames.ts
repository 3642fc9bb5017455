import { mysqlFrames } from './mysql-frames';
import { type FrameReader, splitter } from './splitter';

export const frameReader = (protocol: string): FrameReader =>
  protocol.startsWith('redis') ? redisFrames() : mysqlFrames();

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
