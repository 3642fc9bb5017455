import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { ServerError } from './server';

const run = promisify(execFile);

type Product = 'Redis' | 'Valkey' | 'MySQL' | 'MariaDB';

/** How the products name themselves: `redis-server --version`, INFO server, `mysqld --version`, SELECT VERSION(). */
const NAMES: readonly (readonly [RegExp, Product])[] = [
  [/valkey(?:_version:| server v=)([\d.]+)/i, 'Valkey'],
  [/redis(?:_version:| server v=)([\d.]+)/i, 'Redis'],
  [/([\d.]+)-MariaDB/i, 'MariaDB'],
  [/^(?:\S+\s+Ver )?([\d.]+)/, 'MySQL'],
];

const OLDEST: Readonly<Record<Product, readonly number[]>> = {
  Redis: [7, 0],
  Valkey: [7, 2],
  // SKIP LOCKED came with these.
  MySQL: [8, 0, 19],
  MariaDB: [10, 6],
};

const CACHES = 'Redis 7 or later, or Valkey 7.2 or later (tested: Redis 7 and 8, Valkey 8)';
const DATABASES =
  'MySQL 8.0.19 or later, or MariaDB 10.6 or later (tested: MySQL 8.4 and 9, MariaDB 10.11 and 11.8)';

/** Why the labs do not run on a server that says this of its version; undefined where they do. */
export function tooOld(where: string, text: string): string | undefined {
  for (const [pattern, product] of NAMES) {
    const version = pattern.exec(text)?.[1];
    if (version === undefined) continue;
    if (!isBefore(version.split('.').map(Number), OLDEST[product])) return undefined;
    const needed = product === 'Redis' || product === 'Valkey' ? CACHES : DATABASES;
    return `${where} is ${product} ${version}, and the labs need ${needed}.`;
  }
  return undefined;
}

function isBefore(version: readonly number[], oldest: readonly number[]): boolean {
  const at = oldest.findIndex((part, index) => (version[index] ?? 0) !== part);
  return at >= 0 && (version[at] ?? 0) < (oldest[at] ?? 0);
}

const asked = new Map<string, Promise<string>>();

/** What `BINARY --version` prints, asked once. @throws {ServerError} when it does not run */
export function versionText(binary: string): Promise<string> {
  const known = asked.get(binary) ?? ask(binary);
  asked.set(binary, known);
  return known;
}

async function ask(binary: string): Promise<string> {
  try {
    return (await run(binary, ['--version'])).stdout.trim();
  } catch (error) {
    throw new ServerError(`${binary} does not run: ${error}\nInstall it again, or see: npm run doctor`);
  }
}
