import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { findBinary, type Server, StackError, startServer } from './server';

const run = promisify(execFile);
const CACHE = join(import.meta.dirname, '../../node_modules/.cache/caching-deep-dive');
const LOG_SIZE = '--loose-innodb-log-file-size=16M';

export const mysqlBinary = () => findBinary('mariadbd', 'mysqld');

/** A MariaDB or MySQL of our own: loopback, one account with a random password, started from a prepared data folder. */
export async function startMysql(): Promise<Server & { url: string }> {
  const binary = mysqlBinary();
  if (!binary) throw new StackError('neither mariadbd nor mysqld is installed. Install one: npm run doctor');
  const password = randomBytes(12).toString('hex');
  const seed = await preparedData(binary);
  const server = await startServer({
    name: basename(binary),
    seed,
    // The init file runs before the first connection is accepted: one statement a line.
    config: () =>
      `CREATE USER 'course'@'127.0.0.1' IDENTIFIED BY '${password}';\n` +
      "GRANT ALL ON *.* TO 'course'@'127.0.0.1' WITH GRANT OPTION;\n",
    command: (folder, port) => [
      binary,
      '--no-defaults',
      ...asRoot(),
      `--datadir=${folder}/data`,
      `--init-file=${folder}/config`,
      `--socket=${folder}/socket`,
      `--pid-file=${folder}/pid`,
      `--port=${port}`,
      '--bind-address=127.0.0.1',
      '--skip-name-resolve',
      '--character-set-server=utf8mb4',
      '--max-connections=300',
      '--loose-skip-log-bin',
      '--loose-mysqlx=OFF',
      LOG_SIZE,
    ],
  });
  return { ...server, url: `mysql://course:${password}@127.0.0.1:${server.port}` };
}

/** Making a data folder takes seconds, copying one takes milliseconds: it is made once for each server version. */
async function preparedData(binary: string): Promise<string> {
  const version =
    (await run(binary, ['--no-defaults', '--version'])).stdout.match(/\d+\.\d+\.\d+/)?.[0] ?? 'unknown';
  const ready = join(CACHE, `${basename(binary)}-${version}`);
  if (existsSync(ready)) return ready;

  const fresh = await mkdtemp(join(tmpdir(), 'caching-deep-dive-'));
  const copy = `${ready}.${process.pid}`;
  try {
    await initialise(binary, join(fresh, 'data'));
    await mkdir(dirname(ready), { recursive: true });
    await cp(join(fresh, 'data'), copy, { recursive: true });
    await rename(copy, ready);
  } catch (error) {
    // Another run may have put it there first; then its folder is as good as ours.
    if (!existsSync(ready)) {
      throw new StackError(`${basename(binary)} could not prepare a data folder:\n${lastLines(error)}`);
    }
  } finally {
    await Promise.all([fresh, copy].map((folder) => rm(folder, { recursive: true, force: true })));
  }
  return ready;
}

async function initialise(binary: string, data: string): Promise<void> {
  if (basename(binary) === 'mysqld') {
    await run(binary, ['--no-defaults', '--initialize-insecure', ...asRoot(), `--datadir=${data}`, LOG_SIZE]);
    return;
  }
  const install = findBinary('mariadb-install-db');
  if (!install)
    throw new StackError('mariadb-install-db is missing beside mariadbd: install mariadb-server-core again');
  await run(install, [
    '--no-defaults',
    ...asRoot(),
    `--datadir=${data}`,
    '--auth-root-authentication-method=socket',
    `--auth-root-socket-user=${userInfo().username}`,
    '--skip-test-db',
    LOG_SIZE,
  ]);
}

/** Both servers refuse to run as root unless they are told that it is meant. */
const asRoot = () => (process.getuid?.() === 0 ? ['--user=root'] : []);

function lastLines(error: unknown): string {
  const text = error instanceof Error && 'stderr' in error ? `${error.stderr}` : String(error);
  return text.trim().split('\n').slice(-6).join('\n');
}
