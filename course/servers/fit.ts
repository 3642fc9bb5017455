import type { Redis } from 'ioredis';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { OWN } from './connect';
import { REDIS_MARK } from './ours';
import { ServerError } from './server';
import { SESSION } from './session';
import { tooOld } from './versions';

/** The labs need 2 MB, and the measures more. */
const FREE_MB = 32;

/**
 * Refuses a Redis on which a right solution would be red. It changes nothing.
 * @param at how messages name the server
 */
export async function refuseUnfitRedis(redis: Redis, at: string): Promise<void> {
  const info = await redis.info().catch((error) => refused(at, 'INFO', error));
  const value = (name: string) => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1] ?? '';
  const old = tooOld(at, info);
  if (old) throw new ServerError(`${old} Point REDIS_URL at a newer one, or ${OWN}.`);
  if (value('cluster_enabled') === '1') {
    throw new ServerError(
      `${at} is a node of a Redis Cluster, and the labs need a Redis that stands alone. Point REDIS_URL at one.`,
    );
  }
  if (value('role') === 'slave') {
    throw new ServerError(
      `${at} is a replica, and the labs write. Point REDIS_URL at its master, or ${OWN}.`,
    );
  }
  const limit = Number(value('maxmemory'));
  const free = Math.max(0, limit - Number(value('used_memory')));
  if (limit > 0 && free < FREE_MB * 2 ** 20) {
    throw new ServerError(
      `${at} has ${inMb(free)} MB left of its maxmemory (${inMb(limit)} MB, policy ${value('maxmemory_policy')}): ` +
        `it would evict keys of the labs or refuse their writes. Run CONFIG SET maxmemory 0 on it, or ${OWN}.`,
    );
  }
}

const inMb = (bytes: number) => Number((bytes / 2 ** 20).toFixed(1));

/** Empties the database, and runs one command of each kind that an account may lack. The database is the course's. */
export async function claimRedis(redis: Redis, at: string): Promise<void> {
  const commands = [
    ['FLUSHDB'],
    ['SET', REDIS_MARK, '1'],
    ['EVAL', 'return 1', '0'],
    ['PUBLISH', REDIS_MARK, ''],
    ['SCAN', '0'],
    ['CLIENT', 'ID'],
  ] as const;
  for (const [name, ...args] of commands) {
    await redis.call(name, ...args).catch((error) => refused(at, name, error));
  }
}

function refused(at: string, command: string, error: unknown): never {
  throw new ServerError(
    `${at} refuses ${command} (${error}), and the labs use commands of every kind. ` +
      `Give the account of REDIS_URL all of them (ACL SETUSER its-name +@all ~* &*) on a server that takes writes, or ${OWN}.`,
  );
}

/** Refuses a MySQL on which a right solution would be red, and which no session can set right. It changes nothing. */
export async function refuseUnfitMysql(admin: Connection, at: string): Promise<void> {
  const [rows] = await admin.query<RowDataPacket[]>('SELECT VERSION() AS version');
  const old = tooOld(at, String(rows[0]?.version));
  if (old) throw new ServerError(`${old} Point MYSQL_URL at a newer one, or ${OWN}.`);
  try {
    await admin.query(SESSION);
  } catch (error) {
    throw new ServerError(
      `${at} refuses the settings of the course (${error}). Point MYSQL_URL at another server, or ${OWN}.`,
    );
  }
  const [settings] = await admin.query<RowDataPacket[]>('SHOW VARIABLES');
  const reason = unfitSetting(new Map(settings.map((row) => [String(row.Variable_name), String(row.Value)])));
  if (reason) {
    throw new ServerError(
      `${at} has ${reason.setting}: ${reason.why}. Run SET GLOBAL ${reason.remedy}; on it, or ${OWN}.`,
    );
  }
}

/** The first setting under which a right solution fails, although the course has set what a session may set. */
export function unfitSetting(settings: ReadonlyMap<string, string>) {
  const isOn = (name: string) => /^(ON|1)$/.test(settings.get(name) ?? '');
  const isBelow = (name: string, least: number) => Number(settings.get(name) ?? least) < least;
  const reasons = [
    {
      when: isOn('log_bin') && settings.get('binlog_format') === 'STATEMENT',
      name: 'binlog_format',
      why: 'it refuses writes of a transaction that is READ COMMITTED, as some labs have them',
      remedy: "binlog_format = 'ROW'",
    },
    {
      when: isOn('innodb_snapshot_isolation'),
      name: 'innodb_snapshot_isolation',
      why: 'a locking read fails with error 1020 where the labs expect it to wait',
      remedy: 'innodb_snapshot_isolation = OFF',
    },
    {
      when: isBelow('max_connections', 40),
      name: 'max_connections',
      why: 'the labs open up to 40 connections',
      remedy: 'max_connections = 151',
    },
    {
      when: isBelow('max_allowed_packet', 2 ** 20),
      name: 'max_allowed_packet',
      why: 'the labs send statements of up to 1 MB',
      remedy: `max_allowed_packet = ${2 ** 24}`,
    },
    {
      when: isOn('read_only') || isOn('super_read_only'),
      name: 'read_only',
      why: 'the labs write',
      remedy: 'read_only = OFF',
    },
  ];
  const found = reasons.find(({ when }) => when);
  return (
    found && { setting: `${found.name} = ${settings.get(found.name)}`, why: found.why, remedy: found.remedy }
  );
}
