import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { SLOTS } from '../servers/cluster';

/** The index of the master that a slot belongs to, in a cluster whose slots are shared evenly and in order. */
export const homeOf = (slot: number, masters: number): number =>
  Array.from({ length: masters }, (_, index) => Math.round(((index + 1) * SLOTS) / masters)).findIndex(
    (end) => slot < end,
  );

/** Slots that are not at home, or between two masters: what a run has left that was ended in the middle of a test. */
export async function straySlots(nodes: readonly Redis[]): Promise<number[]> {
  const stray = await Promise.all(
    nodes.map(async (node, index) => {
      const lines = String(await node.cluster('NODES')).split('\n');
      const own =
        lines
          .find((line) => line.includes('myself'))
          ?.split(' ')
          .slice(8) ?? [];
      const moving = own.flatMap((part) => /^\[(\d+)-/.exec(part)?.[1] ?? []).map(Number);
      const foreign = own.flatMap(rangeOf).filter((slot) => homeOf(slot, nodes.length) !== index);
      return [...moving, ...foreign];
    }),
  );
  return [...new Set(stray.flat())];
}

/** `5-7`, or `5`; what is in brackets is a slot that moves. */
const RANGE = /^(\d+)(?:-(\d+))?$/;
const AGREED_WITHIN_MS = 5_000;

function rangeOf(part: string): number[] {
  const [, from, to = from] = RANGE.exec(part) ?? [];
  if (from === undefined) return [];
  return Array.from({ length: Number(to) - Number(from) + 1 }, (_, at) => Number(from) + at);
}

/** Ends a move, gives the slot to its home, and waits until all nodes know it. Its keys are gone: the nodes are empty. */
export async function bringHome(nodes: readonly Redis[], slot: number): Promise<void> {
  const home = nodes[homeOf(slot, nodes.length)];
  if (!home) return;
  const id = String(await home.cluster('MYID'));
  const end = performance.now() + AGREED_WITHIN_MS;
  for (;;) {
    const owners = await Promise.all(nodes.map((node) => ownerOf(node, slot)));
    if (owners.every((owner) => owner === id)) break;
    if (performance.now() > end) throw new Error(`the nodes do not agree that slot ${slot} is at home`);
    const taker = owners.find((owner) => owner !== id && owner !== undefined);
    // A node that imports a slot gets the highest epoch with it: an older claim, still on its way, is ignored.
    if (taker) await home.cluster('SETSLOT', slot, 'IMPORTING', taker).catch(() => {});
    for (const member of [home, ...nodes.filter((node) => node !== home)]) {
      await member.cluster('SETSLOT', slot, 'NODE', id);
    }
    await sleep(5);
  }
  for (const node of nodes) await node.cluster('SETSLOT', slot, 'STABLE');
}

/** The id of the node that has the slot, as this one knows it. */
async function ownerOf(node: Redis, slot: number): Promise<string | undefined> {
  for (const line of String(await node.cluster('NODES')).split('\n')) {
    const [id, , , , , , , , ...parts] = line.split(' ');
    const has = parts.some((part) => {
      const [, from, to = from] = RANGE.exec(part) ?? [];
      return from !== undefined && Number(from) <= slot && slot <= Number(to);
    });
    if (has) return id;
  }
  return undefined;
}
