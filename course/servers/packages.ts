import { execFileSync } from 'node:child_process';
import { findBinary } from './server';
import { tooOld, versionText } from './versions';

/** How the missing servers can be had on this machine. */
export type Plan =
  | { readonly by: 'apt' | 'brew'; readonly packages: readonly string[]; readonly command: string }
  | { readonly by: 'hand'; readonly command: string };

export type Part = 'redis' | 'mysql';

export const redisBinary = () => findBinary('redis-server', 'valkey-server');
export const mysqlBinary = () => findBinary('mariadbd', 'mysqld');

/** The servers that no folder of this machine holds. */
export function missingServers(): Part[] {
  return [...(redisBinary() ? [] : ['redis' as const]), ...(mysqlBinary() ? [] : ['mysql' as const])];
}

/** Which server of this machine is too old for the labs; undefined when none is. */
export async function oldServer(): Promise<string | undefined> {
  const binaries = [redisBinary(), mysqlBinary()];
  const reasons = await Promise.all(
    binaries.map(async (binary) => binary && tooOld(binary, await versionText(binary))),
  );
  return reasons.find(Boolean);
}

/** In words, for messages. */
export const PART_NAMES: Readonly<Record<Part, string>> = {
  redis: 'Redis (redis-server)',
  mysql: 'MySQL or MariaDB (mariadbd)',
};

/** For apt, names of which the first that it knows is taken: Ubuntu 22.04 and Debian 11 have numbered ones only. */
const APT: Readonly<Record<Part, readonly string[]>> = {
  redis: ['redis-server'],
  mysql: [
    'mariadb-server-core mariadb-server-core-10.6 mariadb-server-core-10.5 mariadb-server',
    'mariadb-client-core mariadb-client-core-10.6 mariadb-client-core-10.5 mariadb-client',
  ],
};

const BREW: Readonly<Record<Part, string>> = { redis: 'redis', mysql: 'mariadb' };

const BY_HAND: readonly (readonly [tool: string, install: string, names: Readonly<Record<Part, string>>])[] =
  [
    ['dnf', 'sudo dnf install', { redis: 'valkey', mysql: 'mariadb-server' }],
    ['pacman', 'sudo pacman -S --needed', { redis: 'valkey', mysql: 'mariadb' }],
    ['zypper', 'sudo zypper install', { redis: 'redis', mysql: 'mariadb' }],
    ['apk', 'sudo apk add', { redis: 'redis', mysql: 'mariadb mariadb-client' }],
  ];

/** Other caches, that some measures compare with. No lab needs them. */
export const PEERS = ['memcached', 'nginx', 'varnish'] as const;
export type PeerName = (typeof PEERS)[number];

export const peerBinary = (name: PeerName) => findBinary(name === 'varnish' ? 'varnishd' : name);
export const missingPeers = (): PeerName[] => PEERS.filter((name) => !peerBinary(name));

/** The way to install other caches here: their packages have their names everywhere. */
export function planForPeers(names: readonly PeerName[]): Plan {
  if (findBinary('apt-get')) {
    const command = `${isRoot() ? '' : 'sudo '}apt-get install --no-install-recommends ${names.join(' ')}`;
    return { by: 'apt', packages: names, command };
  }
  if (findBinary('brew') && !isRoot()) {
    return { by: 'brew', packages: names, command: `brew install ${names.join(' ')}` };
  }
  const known = BY_HAND.find(([tool]) => findBinary(tool));
  return { by: 'hand', command: known ? `${known[1]} ${names.join(' ')}` : `install ${names.join(', ')}` };
}

/** The way to install `parts` here. */
export function planFor(parts: readonly Part[]): Plan {
  if (findBinary('apt-get')) {
    // MySQL's client brings my_print_defaults too, and is not to make way for MariaDB's.
    const packages = parts
      .flatMap((part) => APT[part])
      .filter((choice) => !choice.startsWith('mariadb-client') || !findBinary('my_print_defaults'));
    const first = packages.map((choice) => choice.split(' ')[0]).join(' ');
    const sudo = isRoot() ? '' : 'sudo ';
    return { by: 'apt', packages, command: `${sudo}apt-get install --no-install-recommends ${first}` };
  }
  const names = parts.map((part) => BREW[part]);
  // Homebrew refuses to run as root.
  if (findBinary('brew') && !isRoot()) {
    return { by: 'brew', packages: names, command: `brew install ${names.join(' ')}` };
  }
  const known = BY_HAND.find(([tool]) => findBinary(tool));
  if (known) return { by: 'hand', command: `${known[1]} ${parts.map((part) => known[2][part]).join(' ')}` };
  return {
    by: 'hand',
    command: 'docker info   # after installing Docker from https://docs.docker.com/get-docker/',
  };
}

export const isRoot = () => process.getuid?.() === 0;

/** Root already, or root for the asking. */
export function rootWithoutPassword(): boolean {
  if (isRoot()) return true;
  try {
    execFileSync('sudo', ['-n', 'true'], { stdio: 'ignore', timeout: 3000 });
    return true;
  } catch {
    return false;
  }
}
