import { setTimeout as sleep } from 'node:timers/promises';
import type { PoolConnection } from 'mysql2';
import mysql, { type Pool, type PoolOptions } from 'mysql2/promise';
import { SESSION } from '../servers/session';

/** Longer than a server needs to say goodbye; a connection behind a proxy that is gone never says it. */
const GOODBYE_MS = 200;

const connectionsOf = new WeakMap<Pool, PoolConnection[]>();

/** A pool whose connections all begin with the settings that the course relies on. Its opener ends it. */
export function openPool(uri: string, options: PoolOptions = {}): Pool {
  const pool = mysql.createPool({ uri, ...options });
  const connections: PoolConnection[] = [];
  connectionsOf.set(pool, connections);
  pool.pool.on('connection', (connection) => {
    connections.push(connection);
    // Sent before what the connection was opened for. If it fails, the connection is broken, and that fails too.
    connection.query(SESSION, () => {});
  });
  return pool;
}

/** Ends a pool in a bounded time, whatever became of its connections. */
export async function endPool(pool: Pool): Promise<void> {
  // A test may have ended it.
  const ending = pool.end().catch(() => {});
  await Promise.race([ending, sleep(GOODBYE_MS, undefined, { ref: false })]);
  for (const connection of connectionsOf.get(pool) ?? []) connection.destroy();
}
