import { setTimeout as sleep } from 'node:timers/promises';
import type { Cause } from '../experiments/incidents/facts';
import { bringUp, type Incident } from '../experiments/incidents/incident';
import { REDIS_SETTINGS } from '../experiments/incidents/shop';
import { connectMysql } from '../servers/connect';
import { openServers } from '../servers/open';
import { dropSchema, foreignSchema, freshSchema, ownerOf } from '../servers/ours';
import { startRedis } from '../servers/redis';
import { ServerError } from '../servers/server';
import { connectLines } from './connect-lines';

const SCHEMA = 'caching_deep_dive_incident';
const PAUSE_MS = 300;

interface Opened {
  /** How to connect. */
  readonly lines: string;
  readonly culprits: readonly string[];
}

export interface RunningIncident {
  readonly opened: Promise<Opened>;
  /** Ends all of it, also what is still starting. */
  close(): Promise<void>;
}

/** An incident on servers that nobody else uses: a Redis of its own, and a schema of its own. Its traffic goes on. */
export function openIncident(cause: Cause): RunningIncident {
  const endings: (() => Promise<unknown>)[] = [];
  let isOver = false;
  const orEnd = <T>(value: T, end: (value: T) => Promise<unknown>): T => {
    endings.push(() => end(value));
    if (isOver) throw new ServerError('The incident has ended.');
    return value;
  };

  const open = async (): Promise<Opened> => {
    const servers = orEnd(await openServers(), (each) => each.close());
    const redis = orEnd(await startRedis(REDIS_SETTINGS), (each) => each.close());
    const mysqlUrl = orEnd(await ownSchema(servers.mysql), () => dropOwnSchema(servers.mysql));
    const place = { redisUrl: redis.url, mysqlUrl };
    const seed = Math.floor(Math.random() * 1e6);
    const incident = orEnd(await bringUp(cause, place, { seed, decoys: 'all' }), (each) => each.close());
    keepGoing(incident, () => isOver);
    return { lines: connectLines(redis.url, mysqlUrl), culprits: incident.culprits };
  };
  const opened = open();
  opened.catch(() => {});
  let closing: Promise<void> | undefined;
  const close = async () => {
    isOver = true;
    await opened.catch(() => {});
    for (const end of endings.reverse()) await end().catch(() => {});
  };
  return {
    opened,
    close() {
      closing ??= close();
      return closing;
    },
  };
}

async function keepGoing(incident: Incident, isOver: () => boolean): Promise<void> {
  while (!isOver()) {
    // A person who explores may end a connection, or a server.
    await incident.moment().catch(() => {});
    await sleep(PAUSE_MS, undefined, { ref: false });
  }
}

async function ownSchema(mysqlUrl: string): Promise<string> {
  const admin = await connectMysql(mysqlUrl);
  try {
    if ((await ownerOf(admin, SCHEMA)) === 'someone') throw new ServerError(foreignSchema(SCHEMA));
    await freshSchema(admin, SCHEMA);
  } finally {
    await admin.end();
  }
  const url = new URL(mysqlUrl);
  url.pathname = SCHEMA;
  return url.href;
}

async function dropOwnSchema(mysqlUrl: string): Promise<void> {
  const admin = await connectMysql(mysqlUrl);
  await dropSchema(admin, SCHEMA);
  await admin.end();
}
