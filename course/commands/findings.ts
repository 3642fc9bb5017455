import { execFile } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { promisify } from 'node:util';
import { isHere, labs } from '../content/catalog';
import { preparedFolder } from '../servers/mysql';
import {
  mysqlBinary,
  type Part,
  PEERS,
  type PeerName,
  peerBinary,
  planFor,
  redisBinary,
} from '../servers/packages';
import { findBinary } from '../servers/server';

const run = promisify(execFile);

/** One line of the doctor's list. */
export interface Finding {
  readonly name: string;
  readonly found?: string;
  /** What to do where it is missing, or wrong. */
  readonly remedy?: string;
  /** The course does not run without it. */
  readonly needed?: true;
}

const NODE = [20, 19] as const;
const DISK_MB = 300;

/** What this machine has for the course, in the order in which it is shown. */
export async function findings(docker: boolean): Promise<Finding[]> {
  return Promise.all([
    node(),
    version('npm', 'npm', 'Install Node again: npm comes with it (https://nodejs.org).'),
    version('git', 'git', 'Only for getting the course: https://git-scm.com/downloads'),
    server('redis'),
    server('mysql'),
    version(
      'redis-cli',
      ['redis-cli', 'valkey-cli'],
      'Only for looking around by hand: package redis-tools.',
    ),
    version(
      'mysql client',
      ['mariadb', 'mysql'],
      'Only for looking around by hand: package mariadb-client-core.',
    ),
    dockerFinding(docker),
    ...PEERS.map(peer),
    urls(),
    disk(),
    prepared(),
    labFolders(),
  ]);
}

async function node(): Promise<Finding> {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const right = major > NODE[0] || (major === NODE[0] && minor >= NODE[1]);
  return {
    name: 'Node',
    found: process.versions.node,
    remedy: right ? undefined : `The course needs ${NODE.join('.')} or newer: https://nodejs.org`,
  };
}

async function version(name: string, commands: string | readonly string[], remedy: string): Promise<Finding> {
  const binary = findBinary(...[commands].flat());
  if (!binary) return { name, remedy: `not found. ${remedy}` };
  return { name, found: (await versionOf(binary)) ?? binary };
}

/** The number in what `--version` prints; undefined when the program does not run. */
async function versionOf(binary: string): Promise<string | undefined> {
  try {
    const { stdout } = await run(binary, ['--version'], { timeout: 10_000 });
    // "Ver 15.1 Distrib 10.11.4-MariaDB": the second number is the server's.
    return (/Distrib (\d[\w.]*)/.exec(stdout) ?? /(\d+\.\d+[\w.]*)/.exec(stdout))?.[1];
  } catch {
    return undefined;
  }
}

async function server(part: Part): Promise<Finding> {
  const name = part === 'redis' ? 'redis-server' : 'mariadbd or mysqld';
  const binary = part === 'redis' ? redisBinary() : mysqlBinary();
  if (!binary) return { name, remedy: `not found. ${planFor([part]).command}`, needed: true };
  const number = await versionOf(binary);
  if (!number) return { name, found: binary, remedy: `does not run. Try: ${binary} --version` };
  const old = part === 'redis' && Number.parseInt(number, 10) < 7;
  return {
    name,
    found: `${number} (${binary})`,
    remedy: old ? 'The labs are proven on Redis 7.0 and newer; some will fail on this one.' : undefined,
  };
}

/** Their own `--version` prints it in three ways; that they are there is enough. */
async function peer(name: PeerName): Promise<Finding> {
  const binary = peerBinary(name);
  return binary
    ? { name, found: binary }
    : { name, remedy: 'not found. Only for a few measures: npm run doctor -- --install --peers' };
}

async function dockerFinding(works: boolean): Promise<Finding> {
  return works
    ? { name: 'Docker engine', found: 'answers, with docker compose' }
    : {
        name: 'Docker engine',
        remedy: 'none that answers within 2 s. Needed only where the two servers are not installed.',
      };
}

async function urls(): Promise<Finding> {
  const set = ['REDIS_URL', 'MYSQL_URL', 'COURSE_SERVERS'].filter((name) => process.env[name]);
  return set.length > 0
    ? { name: 'own servers', found: `${set.join(', ')} set` }
    : {
        name: 'own servers',
        remedy: 'REDIS_URL and MYSQL_URL are not set: the course starts servers of its own.',
      };
}

async function disk(): Promise<Finding> {
  const folder = tmpdir();
  const name = 'temporary folder';
  try {
    accessSync(folder, constants.W_OK);
    const { bavail, bsize } = await statfs(folder);
    const freeMb = Math.floor((bavail * bsize) / 2 ** 20);
    const found = `${folder}, ${freeMb} MB free`;
    return {
      name,
      found,
      remedy: freeMb < DISK_MB ? `Free ${DISK_MB} MB, or set TMPDIR to another folder.` : undefined,
    };
  } catch {
    return { name, found: folder, remedy: 'cannot be written. Set TMPDIR to a folder that can.' };
  }
}

async function labFolders(): Promise<Finding> {
  const all = labs();
  const lost = all.filter((lab) => !isHere(lab));
  if (all.length === 0) return { name: 'labs', remedy: INCOMPLETE, needed: true };
  const found = `${all.length - lost.length} of ${all.length}`;
  if (lost.length === 0) return { name: 'labs', found };
  const names = lost.length === all.length ? 'all' : lost.map(({ id }) => id).join(' ');
  return { name: 'labs', found, remedy: `Bring back what is missing: npm run reset -- ${names}` };
}

export const INCOMPLETE = 'This copy of the course is not complete. Get it again.';

async function prepared(): Promise<Finding> {
  const name = 'prepared data folder';
  const binary = mysqlBinary();
  const folder = binary && (await preparedFolder(binary).catch(() => undefined));
  return folder && existsSync(folder)
    ? { name, found: folder }
    : { name, remedy: 'not yet: the first start makes it, in a few seconds.' };
}
