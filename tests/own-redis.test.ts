import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { ownRedis } from '#kit/own-redis';
import { startRedis } from '../course/servers/redis';
import { FIXED_FOLDERS } from '../course/servers/server';
import { LONG_MS, noWayChosen, pathWith, temporaryFolder } from './servers-tools';

noWayChosen();

const real = process.env.PATH?.split(':')
  .map((folder) => join(folder, 'redis-server'))
  .find((path) => existsSync(path));
// Where packages put servers into folders that are searched whatever the PATH, none can be hidden.
const hidden = real && !FIXED_FOLDERS.some((folder) => existsSync(join(folder, 'redis-server')));

// This plays an engine: its container is the real redis-server, on the port that was to be published.
const DOCKER = `
echo "$*" >>"$FAKE/log"
case "$*" in
  info | "compose version") [ ! -e "$FAKE/no-engine" ] ;;
  "image inspect redis:8") [ ! -e "$FAKE/no-image" ] ;;
  "run "*)
    port=\${7#127.0.0.1:}
    { cat; printf 'port %s\\nbind 127.0.0.1\\npidfile %s\\n' "\${port%:6379}" "$FAKE/pid"; } | "$REAL" - ;;
  "rm --force "*) kill -KILL "$(cat "$FAKE/pid")" ;;
  *) exit 64 ;;
esac`;

describe.runIf(hidden)('a Redis of its own without redis-server', { timeout: LONG_MS }, () => {
  function machine(...lacks: ('no-engine' | 'no-image')[]) {
    const folder = temporaryFolder();
    for (const name of lacks) writeFileSync(join(folder, name), '');
    vi.stubEnv('FAKE', folder);
    vi.stubEnv('REAL', real);
    vi.stubEnv('PATH', pathWith({ docker: DOCKER, 'apt-get': 'exit 1' }));
    return () => readFileSync(join(folder, 'log'), 'utf8');
  }

  it('runs in a container, with the settings asked for, and is removed', async () => {
    const log = machine();
    const { url, close } = await startRedis({ maxmemory: '3mb', save: '""' });
    const client = new Redis(url, { retryStrategy: () => null });
    onTestFinished(() => client.disconnect());
    client.on('error', () => {});
    expect(await client.config('GET', 'maxmemory')).toEqual(['maxmemory', String(3 * 2 ** 20)]);
    await close();
    const name = /^run --rm --interactive --name (caching-deep-dive-redis-\w+) /m.exec(log())?.[1];
    expect(log()).toContain(`rm --force ${name}`);
    await expect(client.ping()).rejects.toThrow();
  });

  it('is refused with the one command that installs it where no engine answers', async () => {
    machine('no-engine');
    await expect(ownRedis()).rejects.toThrow(
      /^NEEDS SERVER: own-redis starts .*This machine has no redis-server .*\n {2}.*apt-get install .*redis-server\n.*npm run doctor$/,
    );
    await expect(ownRedis()).rejects.toMatchObject({ name: 'ServerError' });
  });

  it('is refused with the one command that gets its image', async () => {
    machine('no-image');
    await expect(ownRedis()).rejects.toThrow(/^NEEDS SERVER: .*\n {2}docker pull redis:8$/);
  });
});
