import { existsSync, mkdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { Redis } from 'ioredis';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { openServers } from '../course/servers/open';
import { startRedis } from '../course/servers/redis';
import { FIXED_FOLDERS } from '../course/servers/server';
import {
  LONG_MS,
  listens,
  noWayChosen,
  pathWith,
  serversProgram,
  temporaryFolder,
  traces,
  within5s,
} from './servers-tools';

noWayChosen();

describe('private servers leave no process, folder or port', { timeout: LONG_MS }, () => {
  async function expectNothingLeft(folder: string, urls: { redis: string; mysql: string }) {
    expect(
      await within5s(
        () => traces(folder),
        (left) => left.length === 0,
      ),
    ).toEqual([]);
    expect(await Promise.all([listens(urls.redis), listens(urls.mysql)])).toEqual([false, false]);
  }

  it.each([
    ['close', 0],
    ['throw', 1],
  ])('when its program ends by "%s"', async (end, code) => {
    const folder = temporaryFolder();
    const { urls, ended } = serversProgram(end, { TMPDIR: folder });
    const opened = await urls;
    expect(await ended).toBe(code);
    await expectNothingLeft(folder, opened);
  });

  it.each(['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGKILL'] as const)('when its program gets %s', async (signal) => {
    const folder = temporaryFolder();
    const { child, urls, ended } = serversProgram('wait', { TMPDIR: folder });
    const opened = await urls;
    expect(traces(folder).length).toBeGreaterThan(2);
    child.kill(signal);
    expect(await ended).toBe(signal);
    await expectNothingLeft(folder, opened);
  });

  it('when its program is killed before the servers are up', async () => {
    const folder = temporaryFolder();
    const { child, ended } = serversProgram('wait', { TMPDIR: folder });
    await within5s(
      () => traces(folder),
      (begun) => begun.length > 0,
    );
    child.kill('SIGKILL');
    await ended;
    expect(
      await within5s(
        () => traces(folder),
        (left) => left.length === 0,
      ),
    ).toEqual([]);
  });

  it('when a server dies by itself', async () => {
    const folder = temporaryFolder();
    vi.stubEnv('TMPDIR', folder);
    const { url } = await startRedis();
    const client = new Redis(url, { retryStrategy: () => null });
    client.on('error', () => {});
    await client.shutdown('NOSAVE').catch(() => {});
    expect(
      await within5s(
        () => traces(folder),
        (left) => left.length === 0,
      ),
    ).toEqual([]);
  });
});

describe('private servers', { timeout: LONG_MS }, () => {
  it('do not meet', async () => {
    const [one, other] = await Promise.all([openServers(), openServers()]);
    onTestFinished(() => other.close());
    expect(new URL(one.redis).port).not.toBe(new URL(other.redis).port);
    expect(new URL(one.mysql).port).not.toBe(new URL(other.mysql).port);

    await one.close();

    expect(await Promise.all([listens(one.redis), listens(other.redis), listens(other.mysql)])).toEqual([
      false,
      true,
      true,
    ]);
  });

  it.each([
    ['with a space and a quote in it', (folder: string) => join(folder, 'it is "mine"')],
    ['that is relative', (folder: string) => relative(process.cwd(), join(folder, 'near'))],
    ['longer than the path of a socket may be', (folder: string) => join(folder, 'long'.repeat(40))],
  ])('start in a TMPDIR %s', async (_which, choose) => {
    const chosen = choose(temporaryFolder());
    mkdirSync(chosen, { recursive: true });
    vi.stubEnv('TMPDIR', chosen);
    const servers = await openServers();
    expect(await Promise.all([listens(servers.redis), listens(servers.mysql)])).toEqual([true, true]);
    await servers.close();
    expect(traces(chosen)).toEqual([]);
  });

  it('refuse a client without the password', async () => {
    const { url, close } = await startRedis();
    onTestFinished(close);
    const stranger = new Redis(Number(new URL(url).port), { retryStrategy: () => null });
    stranger.on('error', () => {});
    await expect(stranger.get('key')).rejects.toThrow();
    stranger.disconnect();
  });

  it('listen on the loopback interface only', async () => {
    const { url, close } = await startRedis();
    onTestFinished(close);
    const client = new Redis(url);
    onTestFinished(() => client.disconnect());
    expect(await client.config('GET', 'bind')).toEqual(['bind', '127.0.0.1']);
  });
});

describe('a machine that cannot', { timeout: LONG_MS }, () => {
  it('start servers in its temporary folder says to choose another', async () => {
    vi.stubEnv('TMPDIR', '/nonexistent/folder');
    await expect(startRedis()).rejects.toThrow(
      /\/nonexistent\/folder cannot be written: set TMPDIR to a folder of yours/,
    );
  });

  it('accept a setting shows what its server said', async () => {
    await expect(startRedis({ maxmemory: 'plenty' })).rejects.toThrow(
      /redis-server did not start:[\s\S]*maxmemory/,
    );
  });

  // Where packages put servers into folders that are searched whatever the PATH, none can be hidden.
  const hidden = !FIXED_FOLDERS.some((folder) => existsSync(`${folder}/redis-server`));
  it.runIf(hidden)('find a server says which, and the one command that installs it', async () => {
    vi.stubEnv('PATH', pathWith({ 'apt-get': 'exit 1' }));
    await expect(openServers({ install: 'no' })).rejects.toThrow(
      /lacks Redis \(redis-server\)[\s\S]*apt-get install --no-install-recommends redis-server/,
    );
  });

  // Only the version is asked of these.
  it.each([
    [
      'redis-server',
      'Redis server v=6.0.16 sha=00000000:0',
      /redis-server is Redis 6.0.16, .* Redis 7 or later/,
    ],
    ['mariadbd', 'mariadbd  Ver 10.5.23-MariaDB-0+deb11u1', /mariadbd is MariaDB 10.5.23, .* MariaDB 10.6/],
  ])('run the labs with its old %s says so before any test', async (name, version, told) => {
    vi.stubEnv('PATH', pathWith({ [name]: `echo '${version}'` }, 'mariadbd', 'redis-server'));
    await expect(openServers({ install: 'no' })).rejects.toThrow(told);
  });

  it('understand COURSE_SERVERS says what it may be', async () => {
    vi.stubEnv('COURSE_SERVERS', 'kubernetes');
    await expect(openServers()).rejects.toThrow(/not a way to servers. Use given, private or compose/);
  });
});
