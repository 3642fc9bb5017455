import type { Claim } from '#claims';
import { isRoot, peerBinary } from '../../../course/servers/packages';
import { Line, type PeerServer, startPeer } from './peers';

/** Also the most readers of one key. */
const READERS = 30;
/** One page of a slab class has 1 MB. */
export const MEMORY_MB = 16;

export const startMemcached = (...options: string[]): Promise<PeerServer> =>
  startPeer({
    name: 'memcached',
    command: (_folder, port) => [
      peerBinary('memcached') ?? 'memcached',
      ...['-l', '127.0.0.1', '-p', String(port), '-U', '0', '-m', String(MEMORY_MB)],
      ...(isRoot() ? ['-u', 'root'] : []),
      ...options,
    ],
  });

/** What the meta commands promise: one loader, and no late fill. */
export async function leaseClaims(rounds: number): Promise<Claim[]> {
  const server = await startMemcached();
  const lines = Array.from({ length: READERS }, () => new Line(server.port));
  try {
    const loads = async (read: string, mayLoad: (answer: string) => boolean) => {
      let most = 0;
      for (let round = 0; round < rounds; round++) {
        await lines[0]?.ask('md hot\r\n');
        const answers = await Promise.all(lines.map((line) => line.ask(read)));
        most = Math.max(most, answers.filter(mayLoad).length);
      }
      return most;
    };
    const says = `readers that load, of ${READERS} that ask for a missing key at once:`;
    return [
      {
        name: 'memcached-loads-plain',
        says: `${says} memcached, mg without a flag`,
        value: await loads('mg hot v\r\n', (answer) => answer.startsWith('EN')),
        unit: 'readers',
        atLeast: READERS,
      },
      {
        name: 'memcached-loads-lease',
        says: `${says} memcached, mg with N30`,
        value: await loads('mg hot v N30\r\n', (answer) => / W\b/.test(answer)),
        unit: 'readers',
        atMost: 1,
      },
      ...(await lateFills(lines, rounds)),
    ];
  } finally {
    for (const line of lines) line.close();
    await server.close();
  }
}

/** A reader misses and loads, a writer deletes meanwhile, the reader stores the old row. */
async function lateFills([reader, writer]: readonly Line[], rounds: number): Promise<Claim[]> {
  if (!reader || !writer) throw new Error('two connections are needed');
  const share = async (fill: (cas: string) => string) => {
    let stale = 0;
    for (let round = 0; round < rounds; round++) {
      const key = `row:${round}`;
      await writer.ask(`md ${key}\r\n`);
      const miss = await reader.ask(`mg ${key} v c N30\r\n`);
      const cas = / c(\d+)/.exec(miss)?.[1] ?? '0';
      await writer.ask(`md ${key}\r\n`);
      await reader.ask(`ms ${key} 3 ${fill(cas)}\r\nold\r\n`);
      if ((await reader.ask(`mg ${key} v\r\n`)).includes('old')) stale++;
    }
    return (100 * stale) / rounds;
  };
  const says = 'old rows stored by a reader after the writer has deleted the key: memcached,';
  return [
    {
      name: 'memcached-late-plain',
      says: `${says} ms`,
      value: await share(() => 'T60'),
      unit: '%',
      atLeast: 99,
    },
    {
      name: 'memcached-late-lease',
      says: `${says} ms with the cas of the miss`,
      value: await share((cas) => `T60 C${cas}`),
      unit: '%',
      atMost: 0,
    },
  ];
}
