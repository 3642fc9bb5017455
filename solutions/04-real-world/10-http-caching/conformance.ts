import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, get, type RequestListener, type Server } from 'node:http';
import { type AddressInfo, createServer as createSocketServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { forkScript } from '#claims';
import { createHttpCache } from './http-caching';

/**
 * Judges caches by the public suite http-tests/cache-tests: `CACHE_TESTS=/path/to/checkout npm run measure -- http-caching`.
 * It needs a checkout outside of this repository, with `npm install --no-save undici` run in it, and as peers nginx and
 * varnishd, as Debian installs them. Everything listens on loopback. CACHE_TESTS_FAILED=1 lists what has failed.
 */

export interface Score {
  readonly id: string;
  readonly name: string;
  /** Passed and all, by the suite's own rule: a test counts only if those that it depends on have passed. */
  readonly required: readonly [passed: number, all: number];
  readonly optimal: readonly [passed: number, all: number];
}

const PEERS = { nginx: '/usr/sbin/nginx', varnish: '/usr/sbin/varnishd' };

/** The path of the checkout; undefined without it or without the peers. */
export function suitePath(): string | undefined {
  const path = process.env.CACHE_TESTS;
  if (!path) return undefined;
  const needed = [join(path, 'test-engine'), join(path, 'node_modules/undici'), ...Object.values(PEERS)];
  return needed.every((file) => existsSync(file)) ? path : undefined;
}

/** Of ours and of the peers, one after the other. */
export async function conformance(suite: string): Promise<Score[]> {
  const origin = await listen(await suiteOrigin(suite));
  // A peer keeps its connections, and must not meet one that is just being closed.
  origin.server.keepAliveTimeout = 60_000;
  const ours = createHttpCache({ origin: origin.url, forwards: () => true });
  const cache = await listen((request, response) => void ours(request, response));
  const folder = mkdtempSync(join(tmpdir(), 'http-caching-'));
  const peers: ChildProcess[] = [];
  try {
    const scores = [await score('solution', 'the solution of this lab', suite, cache.url)];
    for (const [id, name, start] of [
      ['nginx', `nginx ${versionOf(PEERS.nginx, '-v')}`, startNginx],
      ['varnish', `Varnish ${versionOf(PEERS.varnish, '-V')}`, startVarnish],
    ] as const) {
      const port = await freePort();
      peers.push(start(folder, port, origin.port));
      await answers(port);
      scores.push(await score(id, name, suite, `http://127.0.0.1:${port}`));
    }
    return scores;
  } finally {
    await Promise.all(peers.map(end));
    for (const { server } of [origin, cache]) server.close().closeAllConnections();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The origin of the suite listens on all interfaces. This one has the same handlers, and listens on loopback. */
async function suiteOrigin(suite: string): Promise<RequestListener> {
  const handlers = new Map<string, (path: string[], ...exchange: Parameters<RequestListener>) => void>();
  for (const name of ['config', 'test', 'state'])
    handlers.set(name, (await load(suite, `test-engine/server/handle-${name}.mjs`)).default);
  return (request, response) => {
    const [, name = '', ...path] = new URL(request.url ?? '/', 'http://localhost').pathname.split('/');
    const handle = handlers.get(name);
    if (handle) handle(path, request, response);
    else response.writeHead(404).end();
  };
}

const load = (suite: string, file: string) => import(join(suite, file));

/** In a process of its own: the suite keeps its results in its modules. */
async function score(id: string, name: string, suite: string, base: string): Promise<Score> {
  const child = forkScript(import.meta.filename, [suite, base]);
  const [result] = await Promise.race([once(child, 'message'), once(child, 'exit')]);
  if (typeof result !== 'object' || result === null) throw new Error(`the suite has ended early for ${name}`);
  await end(child);
  return { id, name, ...result };
}

async function runSuite(suite: string, base: string): Promise<Omit<Score, 'id' | 'name'>> {
  const { default: groups } = await load(suite, 'tests/index.mjs');
  const { runTests, getResults } = await load(suite, 'test-engine/client/runner.mjs');
  const { determineTestResult, resultTypes } = await load(suite, 'test-engine/lib/results.mjs');
  // Most of the time is pauses of 3 s. All 365 at once would be too slow for a max-age of 1 s on a busy machine.
  await runTests(groups, false, base, 100);
  const results = getResults();
  const tests: { id: string; kind?: string }[] = groups.flatMap((group: { tests: unknown[] }) => group.tests);
  const count = (kind: string): [number, number] => {
    const ofKind = tests.filter((test) => (test.kind ?? 'required') === kind && test.id in results);
    const passed = ofKind.filter(({ id }) => determineTestResult(groups, id, results) === resultTypes.pass);
    return [passed.length, ofKind.length];
  };
  if (process.env.CACHE_TESTS_FAILED)
    for (const { id, kind = 'required' } of tests)
      if (id in results && kind !== 'check' && determineTestResult(groups, id, results) !== resultTypes.pass)
        console.log(kind, id, results[id]);
  return { required: count('required'), optimal: count('optimal') };
}

/** Both print it to stderr. */
const versionOf = (program: string, option: string): string =>
  /\d+(?:\.\d+)+/.exec(String(spawnSync(program, [option]).stderr))?.[0] ?? '';

function startNginx(folder: string, port: number, origin: number): ChildProcess {
  const config = join(folder, 'nginx.conf');
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (kind) => `${kind}_temp_path ${folder}/${kind};`,
  );
  writeFileSync(
    config,
    `${process.getuid?.() === 0 ? 'user root;' : ''} daemon off; pid ${folder}/nginx.pid; error_log ${folder}/error.log;
    worker_rlimit_nofile 8192; events { worker_connections 4096; }
    http {
      access_log off; ${temporary.join(' ')}
      proxy_cache_path ${folder}/cache keys_zone=c:8m;
      server {
        listen 127.0.0.1:${port};
        location / {
          proxy_pass http://127.0.0.1:${origin};
          proxy_cache c; proxy_cache_revalidate on; proxy_http_version 1.1;
        }
      }
    }`,
  );
  return spawn(PEERS.nginx, ['-c', config, '-p', folder], { stdio: 'ignore' });
}

/** As it comes, it stores answers that do not ask for it, serves them stale, and does not keep them for a revalidation. */
function startVarnish(folder: string, port: number, origin: number): ChildProcess {
  const config = join(folder, 'default.vcl');
  writeFileSync(config, `vcl 4.1; backend default { .host = "127.0.0.1"; .port = "${origin}"; }`);
  const options =
    `-F -j none -T none -s malloc,64m -p default_ttl=0 -p default_grace=0 -p default_keep=60`.split(' ');
  const places = ['-n', join(folder, 'varnish'), '-a', `127.0.0.1:${port}`, '-f', config];
  return spawn(PEERS.varnish, [...options, ...places], { stdio: 'ignore' });
}

async function listen(listener: RequestListener): Promise<{ server: Server; url: string; port: number }> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return { server, port, url: `http://127.0.0.1:${port}` };
}

async function freePort(): Promise<number> {
  const server = createSocketServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Waits until somebody listens there. */
async function answers(port: number): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    const asked = get({ port, host: '127.0.0.1', path: '/state/none', agent: false });
    const answered = await once(asked, 'response').then(
      () => true,
      () => false,
    );
    asked.destroy();
    if (answered) return;
    await sleep(50);
  }
  throw new Error(`nobody answers at port ${port}`);
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  await ended;
}

const [, script, suite, base] = process.argv;
if (script === import.meta.filename && suite && base)
  runSuite(suite, base).then((result) => process.send?.(result));
