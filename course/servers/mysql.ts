import { randomBytes } from 'node:crypto';
import { accessSync, constants, existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { cannotWrite, makeFolder } from '../base/files';
import { ROOT } from '../base/root';
import { mysqlBinary } from './packages';
import { explain, findBinary, type Server, ServerError, startServer } from './server';
import { keep } from './supervisor';
import { versionText } from './versions';

const CACHE = join(ROOT, 'node_modules/.cache/caching-deep-dive');
const LOG_SIZE = '--loose-innodb-log-file-size=16M';

/** A MariaDB or MySQL of our own: loopback, one account with a random password, started from a prepared data folder. */
export async function startMysql(): Promise<Server & { url: string }> {
  const binary = mysqlBinary();
  if (!binary) throw new ServerError('neither mariadbd nor mysqld is installed. Install one: npm run doctor');
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
      // In the data folder: a socket's whole path may have 107 characters.
      '--socket=socket',
      `--pid-file=${folder}/pid`,
      `--port=${port}`,
      '--bind-address=127.0.0.1',
      '--skip-name-resolve',
      '--character-set-server=utf8mb4',
      '--max-connections=300',
      '--loose-skip-log-bin',
      '--loose-mysqlx=OFF',
      // From MariaDB 11.6.2 a second reader would get error 1020 where it waits elsewhere.
      '--loose-innodb-snapshot-isolation=OFF',
      ...onlyMysql(binary),
      LOG_SIZE,
    ],
  });
  return { ...server, url: `mysql://course:${password}@127.0.0.1:${server.port}` };
}

/** Where the data folder of the installed server is kept: one for each server version and user. */
export async function preparedFolder(binary: string): Promise<string> {
  const version = (await versionText(binary)).match(/\d+\.\d+\.\d+/)?.[0] ?? 'unknown';
  return join(CACHE, `${basename(binary)}-${version}-${process.getuid?.()}`);
}

/** Making a data folder takes seconds, copying one takes milliseconds: it is made once. */
async function preparedData(binary: string): Promise<string> {
  const name = basename(binary);
  const ready = await preparedFolder(binary);
  if (existsSync(ready)) return ready;

  try {
    makeFolder(CACHE);
    accessSync(CACHE, constants.W_OK);
  } catch (error) {
    throw cannotWrite(`${CACHE}, where the course keeps a prepared data folder,`, error);
  }
  const copy = `${ready}.${process.pid}`;
  const work = keep({
    command: (folder) => [
      'sh',
      '-c',
      PREPARE,
      'prepare',
      `${folder}/data`,
      copy,
      ready,
      process.execPath,
      ...initialise(binary, `${folder}/data`),
    ],
    afterwards: 'rm -rf "$UNFINISHED"',
    env: { UNFINISHED: copy },
  });
  await work.end();
  // Another run may have put it there first; then its folder is as good as ours.
  if (existsSync(ready)) return ready;
  throw new ServerError(`${name} could not prepare a data folder:\n${explain(work.lastWords())}`);
}

/** rename(2) fails where mv(1) would move into a folder that another run has put there meanwhile. */
const PREPARE = `data=$1 copy=$2 ready=$3 node=$4; shift 4
"$@" && cp -R "$data" "$copy" && "$node" -e 'fs.renameSync(...process.argv.slice(1))' "$copy" "$ready"`;

function initialise(binary: string, data: string): readonly string[] {
  if (basename(binary) === 'mysqld') {
    return [
      binary,
      '--no-defaults',
      '--initialize-insecure',
      ...asRoot(),
      `--datadir=${data}`,
      ...onlyMysql(binary),
      LOG_SIZE,
    ];
  }
  const install = findBinary('mariadb-install-db');
  if (!install)
    throw new ServerError('mariadb-install-db is missing beside mariadbd: install mariadb-server-core again');
  return [
    install,
    '--no-defaults',
    ...asRoot(),
    `--datadir=${data}`,
    '--auth-root-authentication-method=socket',
    // The course never uses this account, and the user who runs it may have no name.
    '--auth-root-socket-user=root',
    '--skip-test-db',
    // Without it the script looks up this machine's name, which a container may not know.
    '--force',
    LOG_SIZE,
  ];
}

/** The default folder comes with the package mysql-server: with mysql-server-core alone, mysqld would not start. */
const onlyMysql = (binary: string) => (basename(binary) === 'mysqld' ? ['--secure-file-priv=NULL'] : []);

/** MySQL and MariaDB refuse to run as root without this option. */
const asRoot = () => (process.getuid?.() === 0 ? ['--user=root'] : []);
