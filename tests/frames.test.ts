import { describe, expect, it } from 'vitest';
import { frameReader } from '../course/kit/frames';
import mariadb from './wire/mariadb-11.8.json';
import mysql from './wire/mysql-9.7.json';

// Bytes captured between mysql2 and both servers. On the connection: a query without attributes, one with eight of
// different types, one with nine of which four are null, a statement executed without attributes and with one.
const SENT = ['SELECT 1', 'SELECT 2', 'SELECT 3', 'SELECT ?', 'SELECT ?', 'SELECT ?'];
const captures = Object.entries({ mysql, mariadb });

type Exchange = readonly (readonly string[])[];

function textsOf(exchange: Exchange, cut: (bytes: Buffer) => Buffer[] = (bytes) => [bytes]): string[] {
  const reader = frameReader('mysql:');
  return exchange.flatMap(([side, hex = '']) => {
    const bytes = Buffer.from(hex, 'hex');
    if (side === 'client') return cut(bytes).flatMap((part) => reader.read(part).map(({ text }) => text));
    reader.answered?.(bytes);
    return [];
  });
}

const bytewise = (bytes: Buffer) => Array.from(bytes, (_, index) => bytes.subarray(index, index + 1));

/** The exchange with more capabilities in the first packet of `side`, whose byte `at` holds some of them. */
function withFlags(
  exchange: Exchange,
  side: string,
  at: (packet: Buffer) => number,
  flags: number,
): Exchange {
  const first = exchange.find(([each]) => each === side);
  return exchange.map((message) => {
    if (message !== first) return message;
    const packet = Buffer.from(message[1] ?? '', 'hex');
    packet.writeUInt8(packet.readUInt8(at(packet)) | flags, at(packet));
    return [side, packet.toString('hex')];
  });
}

const texts = (exchange: Exchange) => textsOf(exchange).filter((text) => text !== '');

describe.each(captures)('requests to %s', (_name, exchange) => {
  it('are read without their query attributes, however many', () => {
    expect(texts(exchange)).toEqual(SENT);
  });

  it('are read the same when they arrive byte by byte', () => {
    expect(textsOf(exchange, bytewise).filter((text) => text !== '')).toEqual(SENT);
  });

  it('pass as they come once both sides have agreed on compression', () => {
    const COMPRESS = 0x20;
    const serverCan = withFlags(exchange, 'server', (packet) => packet.indexOf(0, 5) + 1 + 13, COMPRESS);
    expect(texts(withFlags(serverCan, 'client', () => 4, COMPRESS))).toEqual([]);
    expect(texts(serverCan)).toEqual(SENT);
  });
});

it('query attributes are looked for only where the server has them too', () => {
  const QUERY_ATTRIBUTES = 0x08;
  expect(texts(withFlags(mariadb, 'client', () => 7, QUERY_ATTRIBUTES))).toEqual(SENT);
});
