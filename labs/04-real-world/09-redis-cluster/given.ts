import { once } from 'node:events';
import type { Cluster, ClusterOptions, Redis } from 'ioredis';
import { withDeadline } from '#kit/given';

/** The parts of a product's page: stored by another service, read and deleted here. */
export const PARTS = ['details', 'price', 'reviews'] as const;
export type Part = (typeof PARTS)[number];

/** Each key of this cache begins with this prefix. All other keys belong to other applications. */
export const PREFIX = 'page:';

export const SLOTS = 16_384;

/** A miss: a master has answered that it has no such key. In production, `unknown`: no answer came in time. */
export type Answer =
  | { readonly kind: 'hit'; readonly bytes: Buffer }
  | { readonly kind: 'miss' }
  | { readonly kind: 'unknown' };

/** In production: how many keys each master has. */
export interface Skew {
  /** `keys` is undefined if the master has not answered in time. */
  readonly masters: readonly { readonly address: string; readonly keys: number | undefined }[];
  /** Keys of the fullest master divided by the mean of all masters that answered; 1 if there are no keys. */
  readonly ratio: number;
}

/** In production: the options of the client that the tests open. */
export const clientOptions: ClusterOptions = {
  // By default ioredis tries 16 times, 100 ms apart, before it rejects with TRYAGAIN.
  retryDelayOnTryAgain: 5,
  maxRedirections: 6,
  // Commands that a silent master does not answer must not pile up.
  redisOptions: { commandTimeout: 1000 },
};

/** CRC-16/XMODEM, as Redis Cluster uses it. */
export function crc16(bytes: Uint8Array): number {
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : crc << 1;
  }
  return crc;
}

export interface Master {
  /** `127.0.0.1:7001` */
  readonly address: string;
  /** A connection to this master; undefined if it does not answer in time. */
  readonly node: Redis | undefined;
}

/**
 * In production: all masters that serve slots, as the cluster itself reports. Waits for a client that is not connected
 * yet. (`client.nodes('master')` is empty before that, and leaves out a master whose connection has ended.)
 * @throws when no master answers within deadlineMs
 */
export async function mastersOf(client: Cluster, deadlineMs: number): Promise<Master[]> {
  if (client.status !== 'ready') await withDeadline(once(client, 'ready'), deadlineMs);
  const asked = client.nodes('master').map(async (node) => {
    const asking = Promise.all([node.cluster('MYID'), node.cluster('SLOTS')]);
    const [id, slots] = await withDeadline<[unknown, unknown]>(asking, deadlineMs);
    return { id: String(id), masters: addressesIn(slots), node };
  });
  const settled = await Promise.allSettled(asked);
  const views = settled.flatMap((view) => (view.status === 'fulfilled' ? [view.value] : []));
  if (!views[0]) throw new Error(`no master of the cluster answers within ${deadlineMs} ms`);
  return [...views[0].masters].map(([id, address]) => ({
    address,
    node: views.find((view) => view.id === id)?.node,
  }));
}

/** Addresses by the id of the master, from CLUSTER SLOTS: `[[first slot, last slot, [host, port, id], …], …]`. */
function addressesIn(slots: unknown): Map<string, string> {
  const ranges: unknown[] = Array.isArray(slots) ? slots : [];
  return new Map(
    ranges.map((range) => {
      const [, , master] = Array.isArray(range) ? range : [];
      const [host, port, id] = Array.isArray(master) ? master : [];
      return [String(id), `${host}:${port}`];
    }),
  );
}
