import { type Decoy, decoysOf, type Which } from './decoys';
import type { Cause } from './facts';
import { FAULTS, type Fault } from './faults';
import { openShop, ordinaryTraffic, type Part, type Place, type Statement } from './shop';

export interface Incident {
  /** Lets the traffic of the shop go on for a moment. @returns the statements that it has sent to MySQL */
  moment(): Promise<readonly Statement[]>;
  /** What is wrong with the evidence; undefined where it names what is at fault, and nothing else. */
  faultOf(evidence: string): string | undefined;
  /** What somebody has changed who should have looked only: the counters, or a transaction. */
  changed(): Promise<string | undefined>;
  readonly culprits: readonly string[];
  close(): Promise<void>;
}

export interface Setting {
  /** Other names, other sizes. */
  readonly seed: number;
  /** What looks like a fault, and is none. */
  readonly decoys: Which;
}

/** Brings a shop into a state that `cause` names, with things in it that look alike. */
export async function bringUp(
  cause: Cause,
  place: Place,
  { seed, decoys: which }: Setting,
): Promise<Incident> {
  const shop = await openShop(place, seed);
  const parts: Part[] = [ordinaryTraffic(shop)];
  const end = async () => {
    // Backwards: a transaction that is open would keep a table.
    for (const part of parts.reverse()) await part.end?.();
    await shop.close();
  };
  try {
    // First: a transaction that is open would keep it from changing its table.
    const fault: Fault = await FAULTS[cause](shop, seed);
    parts.push(fault);
    const decoys = await decoysOf(cause, which, shop);
    parts.push(...decoys);
    await shop.redis.call('CONFIG', 'RESETSTAT');
    await shop.redis.call('SLOWLOG', 'RESET');
    // Backwards: last night comes before what is wrong now.
    for (const part of [...parts].reverse()) await part.begin?.();
    await shop.redis.echo('since here');
    return {
      culprits: fault.culprits,
      async moment() {
        const sent = await Promise.all(parts.map((part) => part.moment?.().catch(refused)));
        return sent.flatMap((statements) => statements ?? []);
      },
      faultOf: (evidence) => faultOf(evidence, fault, decoys),
      async changed() {
        if (!/^cmdstat_echo:/m.test(await shop.redis.info('commandstats')))
          return 'the counters of Redis were reset';
        for (const part of parts)
          if (
            await part.intact?.().then(
              () => false,
              () => true,
            )
          )
            return 'a transaction was ended';
        return undefined;
      },
      close: end,
    };
  } catch (error) {
    await end();
    throw error;
  }
}

/** A full Redis refuses what others write, and a person who explores may end a connection: the traffic goes on. */
const refused = () => undefined;

function faultOf(evidence: string, { culprits }: Fault, decoys: readonly Decoy[]): string | undefined {
  const wrong = decoys.find(({ innocent }) => innocent !== undefined && names(evidence, innocent))?.innocent;
  if (wrong !== undefined) return `it names ${wrong}, which is not at fault`;
  if (culprits.length === 0 || culprits.some((culprit) => names(evidence, culprit))) return undefined;
  return `it does not name what is at fault: ${culprits.join(' or ')}`;
}

/** As a word of its own, or with an id behind it: `page` is named by `page:17`, and not by `homepage`. */
const names = (evidence: string, word: string): boolean =>
  new RegExp(`(?<![\\w-])${word}(?![\\w-])`, 'i').test(evidence);
