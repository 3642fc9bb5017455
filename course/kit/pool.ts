import mysql, { type Pool, type PoolOptions } from 'mysql2/promise';
import { SESSION } from '../servers/session';

/** A pool whose connections all begin with the settings that the course relies on. Its opener ends it. */
export function openPool(uri: string, options: PoolOptions = {}): Pool {
  const pool = mysql.createPool({ uri, ...options });
  // Sent before what the connection was opened for. If it fails, the connection is broken, and that fails too.
  pool.pool.on('connection', (connection) => connection.query(SESSION, () => {}));
  return pool;
}
