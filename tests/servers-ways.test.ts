import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createConnection } from 'mysql2/promise';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { startMysql } from '../course/servers/mysql';
import { openServers } from '../course/servers/open';
import { startRedis } from '../course/servers/redis';
import { FIXED_FOLDERS, findBinary } from '../course/servers/server';
import { LONG_MS, noWayChosen, pathWith, serversProgram, temporaryFolder, within5s } from './servers-tools';

noWayChosen();

// A stand-in for the engine: it logs its arguments, and "runs" a project by keeping a file.
const DOCKER = `
project=caching-deep-dive
case "$*" in "compose --project-name "*) project=$3; shift 3; set -- compose "$@" ;; esac
echo "$project $*" >>"$FAKE/log"
case "$*" in
  info) [ ! -e "$FAKE/no-engine" ] ;;
  "compose version") ;;
  "compose up "*)
    sleep "\${FAKE_UP_S:-0}"
    if [ -e "$FAKE/refuses" ]; then echo "pull access denied for redis" >&2; exit 1; fi
    touch "$FAKE/up-$project" ;;
  "compose port redis 6379") [ -e "$FAKE/up-$project" ] && echo "127.0.0.1:\${FAKE_REDIS:-49153}" ;;
  "compose port mysql 3306") [ -e "$FAKE/up-$project" ] && echo "127.0.0.1:\${FAKE_MYSQL:-49154}" ;;
  "compose down "*) rm "$FAKE/up-$project" ;;
  *) exit 64 ;;
esac`;

describe('docker compose (its engine is played by a script)', { timeout: LONG_MS }, () => {
  function engine() {
    const folder = temporaryFolder();
    const path = pathWith({ docker: DOCKER }, 'redis-server', 'valkey-server', 'mariadbd', 'mysqld');
    vi.stubEnv('FAKE', folder);
    vi.stubEnv('COURSE_SERVERS', 'compose');
    vi.stubEnv('PATH', path);
    return {
      folder,
      log: () => (existsSync(join(folder, 'log')) ? readFileSync(join(folder, 'log'), 'utf8') : ''),
      projects: () => readdirSync(folder).filter((name) => name.startsWith('up-')),
    };
  }

  it('is started under a name of its own, and ended with its volumes', async () => {
    const { log, projects } = engine();
    const servers = await openServers({ say: () => {} });
    expect(servers).toMatchObject({
      kind: 'compose',
      redis: 'redis://127.0.0.1:49153',
      mysql: 'mysql://root:course@127.0.0.1:49154',
    });
    expect(projects()).toHaveLength(1);
    await servers.close();
    expect(projects()).toEqual([]);
    expect(log()).toMatch(/^caching-deep-dive-[0-9a-f]{8} compose up --wait .*redis mysql$/m);
    expect(log()).toMatch(/^caching-deep-dive-[0-9a-f]{8} compose down --volumes /m);
  });

  // A machine without pkill (a slim container) cannot end an "up" that is at work.
  const moments = [['when it is up', '0'], ...(findBinary('pkill') ? [['while it starts', '1']] : [])];
  it.each(moments)('is ended when its program is killed %s', async (_when, seconds) => {
    const { log, projects } = engine();
    const { child, urls, ended } = serversProgram('wait', { FAKE_UP_S: seconds });
    if (seconds === '0') await urls;
    else await within5s(log, (told) => told.includes('compose up'));
    child.kill('SIGKILL');
    await ended;
    await within5s(log, (told) => told.includes('compose down'));
    expect(log()).toContain('compose down --volumes');
    // An "up" that lived on would have its project up by now.
    await sleep(Number(seconds) * 1000);
    expect(await within5s(projects, (left) => left.length === 0)).toEqual([]);
  });

  it('is used and left alone when it ran before', async () => {
    const { folder, log, projects } = engine();
    const [redis, mysql] = await Promise.all([startRedis({ requirepass: '""' }), startMysql()]);
    onTestFinished(async () => {
      await Promise.all([redis.close(), mysql.close()]);
    });
    await allowRoot(mysql.url);
    writeFileSync(join(folder, 'up-caching-deep-dive'), '');
    vi.stubEnv('FAKE_REDIS', String(redis.port));
    vi.stubEnv('FAKE_MYSQL', String(mysql.port));

    const servers = await openServers();
    expect(servers.redis).toBe(`redis://127.0.0.1:${redis.port}/1`);
    await servers.close();

    expect(projects()).toEqual(['up-caching-deep-dive']);
    expect(log()).not.toContain('compose down');
  });

  it('that fails says what docker said', async () => {
    const { folder } = engine();
    writeFileSync(join(folder, 'refuses'), '');
    await expect(openServers({ say: () => {} })).rejects.toThrow(
      /could not start Redis and MySQL:\npull access denied for redis\n.*npm run doctor/,
    );
  });

  it('without an engine is not tried', async () => {
    writeFileSync(join(engine().folder, 'no-engine'), '');
    await expect(openServers()).rejects.toThrow(/no Docker engine with docker compose answers. Start Docker/);
  });
});

async function allowRoot(url: string): Promise<void> {
  const admin = await createConnection({ uri: url, multipleStatements: true });
  await admin.query(
    "CREATE USER 'root'@'127.0.0.1' IDENTIFIED BY 'course'; GRANT ALL ON *.* TO 'root'@'127.0.0.1'",
  );
  await admin.end();
}

// These play apt: "installing" redis-server makes the real one appear on the PATH.
const APT = {
  'apt-cache':
    'case "$2" in redis-server) echo "  Candidate: 5:7.0" ;; *) echo "  Candidate: (none)" ;; esac',
  'apt-get': `
echo "$*" >>"$FAKE/log"
case "$* " in
  update*) ;;
  *--no-remove*" redis-server ")
    [ ! -e "$FAKE/offline" ] || { echo "E: Unable to fetch some archives: could not resolve" >&2; exit 100; }
    ln -s "$REAL" "$BIN/redis-server" ;;
  *) exit 100 ;;
esac`,
  sudo: 'shift; exec "$@"',
};

// Redis can be hidden by the PATH only where it lies in no folder that is searched anyway.
const real = process.env.PATH?.split(':')
  .map((folder) => join(folder, 'redis-server'))
  .find((path) => existsSync(path));
const hidden = real && !FIXED_FOLDERS.some((folder) => existsSync(join(folder, 'redis-server')));

describe.runIf(hidden)('an installation (apt is played by scripts)', { timeout: LONG_MS }, () => {
  function machineWithoutRedis() {
    const folder = temporaryFolder();
    const bin = pathWith(
      APT,
      'mariadbd',
      'mariadb-install-db',
      'my_print_defaults',
      'resolveip',
      'sed',
      'basename',
      'dirname',
      'chown',
      'id',
    );
    for (const [name, value] of Object.entries({
      FAKE: folder,
      BIN: bin,
      REAL: real,
      PATH: bin,
      POLICY_RC_D: join(folder, 'policy'),
    })) {
      vi.stubEnv(name, value);
    }
    return { folder, log: () => readFileSync(join(folder, 'log'), 'utf8') };
  }

  it('gets only what is missing, starts no service, and goes on', async () => {
    const { folder, log } = machineWithoutRedis();
    const said: string[] = [];
    const servers = await openServers({ install: 'yes', say: (line) => said.push(line) });
    onTestFinished(() => servers.close());
    expect(servers.kind).toBe('private');
    expect(log()).toMatch(/^install .*--no-install-recommends .*redis-server\n$/);
    expect(said.join('\n')).toMatch(/^Installing Redis .*\n {2}apt-get install redis-server$/);
    expect(existsSync(join(folder, 'policy'))).toBe(false);
  });

  it('that fails shows the last lines, the remedy and the log', async () => {
    const { folder, log } = machineWithoutRedis();
    writeFileSync(join(folder, 'offline'), '');
    vi.stubEnv('TMPDIR', folder);
    await expect(openServers({ install: 'yes', say: () => {} })).rejects.toThrow(
      /Unable to fetch[\s\S]*cannot be reached: connect to the network.*The full log: .*\.log/,
    );
    // Stale lists are the usual reason, so it tries once more after an update.
    expect(log().match(/^update|^install/gm)).toEqual(['install', 'update', 'install']);
  });

  it('is not begun unasked', async () => {
    machineWithoutRedis();
    await expect(openServers({ install: 'no' })).rejects.toThrow(
      /lacks Redis.*\n.*apt-get install .*redis-server\n/,
    );
  });
});
