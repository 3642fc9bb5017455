/** Commands that read the value of one key: their first argument. */
const READS = new Set(
  `GET GETEX GETDEL GETRANGE SUBSTR STRLEN GETBIT BITCOUNT BITPOS BITFIELD_RO DUMP
  HGET HMGET HGETALL HKEYS HVALS HLEN HEXISTS HSTRLEN HSCAN HRANDFIELD
  LRANGE LINDEX LLEN LPOS SMEMBERS SISMEMBER SMISMEMBER SCARD SRANDMEMBER SSCAN
  ZRANGE ZRANGEBYSCORE ZRANGEBYLEX ZREVRANGE ZREVRANGEBYSCORE ZREVRANGEBYLEX ZSCORE ZMSCORE ZRANK ZREVRANK ZCARD ZCOUNT
  ZLEXCOUNT ZSCAN ZRANDMEMBER XRANGE XREVRANGE XLEN GEODIST GEOHASH GEOPOS GEOSEARCH JSON.GET`.split(/\s+/),
);
/** All of their arguments are keys that they read. */
const READS_OF_MANY = new Set(['MGET', 'EXISTS', 'SINTER', 'SUNION', 'SDIFF', 'PFCOUNT']);

/** `1339518083.107412 [0 127.0.0.1:60866] "get" "product:1"` */
const LINE = /^\d+\.\d+ \[(\d+) .*?\] (?=")/;
const ARGUMENT = /"([^"\\]*(?:\\.[^"\\]*)*)"(?: |$)/y;

/** @param line one character a byte */
export const isMonitor = (line: string): boolean => LINE.test(line);

/** The keys that a line of MONITOR reads, each behind its database, one character a byte; undefined if it is not such a line. */
export function keysRead(line: string): string[] | undefined {
  const [start, database = '0'] = LINE.exec(line) ?? [];
  if (start === undefined) return undefined;
  ARGUMENT.lastIndex = start.length;
  const name = ARGUMENT.exec(line)?.[1]?.toUpperCase();
  if (name === undefined) return undefined;
  const isOfMany = READS_OF_MANY.has(name);
  if (!isOfMany && !READS.has(name)) return [];
  const keys: string[] = [];
  while (ARGUMENT.lastIndex < line.length) {
    const argument = ARGUMENT.exec(line)?.[1];
    if (argument === undefined) return undefined;
    if (isOfMany || keys.length === 0) keys.push(unescaped(argument));
  }
  return keys.map((key) => `${database}:${key}`);
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', a: '\x07', b: '\b' };

/** As redis-cli and the server write bytes that are not printable. */
const unescaped = (text: string): string =>
  text.replace(/\\(?:x([0-9a-f]{2})|(.))/gi, (_, hex: string | undefined, sign: string) =>
    hex ? String.fromCharCode(Number.parseInt(hex, 16)) : (ESCAPES[sign] ?? sign),
  );
