import { once } from 'node:events';
import { createServer, get, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Bars, Claim } from '#claims';
import { isRoot, peerBinary } from '../../../course/servers/packages';
import { type PeerPlan, startPeer } from './peers';

const READERS = 30;
const ORIGIN_MS = 250;
const EXPIRED_AFTER_MS = 2_200;

/** As nginx comes, and with what its documentation offers against a stampede. */
const WAYS = {
  plain: '',
  lock: 'proxy_cache_lock on;',
  updating: 'proxy_cache_lock on; proxy_cache_use_stale updating;',
} as const;

/** Single process: it has no children that could outlive it. */
const nginx = (origin: number): PeerPlan => ({
  name: 'nginx',
  config: (folder, port) => {
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
      (kind) => `${kind}_temp_path ${folder}/${kind};`,
    );
    const locations = Object.entries(WAYS).map(
      ([way, lines]) =>
        `location /${way}/ { proxy_pass http://127.0.0.1:${origin}; proxy_cache c; ${lines} }`,
    );
    return `${isRoot() ? 'user root;' : ''} daemon off; master_process off;
      pid ${folder}/pid; error_log ${folder}/error; events {}
      http { access_log off; ${temporary.join(' ')}
        proxy_cache_path ${folder}/cache keys_zone=c:1m;
        server { listen 127.0.0.1:${port}; ${locations.join(' ')} } }`;
  },
  command: (folder) => [
    peerBinary('nginx') ?? 'nginx',
    '-c',
    `${folder}/config`,
    '-p',
    folder,
    '-e',
    `${folder}/error`,
  ],
});

const varnish = (origin: number): PeerPlan => ({
  name: 'varnishd',
  config: () => `vcl 4.1; backend default { .host = "127.0.0.1"; .port = "${origin}"; }`,
  command: (folder, port) => [
    peerBinary('varnish') ?? 'varnishd',
    ...['-F', '-j', 'none', '-T', 'none', '-s', 'malloc,16m', '-p', 'default_grace=0'],
    ...['-n', `${folder}/varnish`, '-a', `127.0.0.1:${port}`, '-f', `${folder}/config`],
  ],
});

/** Requests that reach the origin for 30 at once, for a page that was never stored and for one that has expired. */
export async function nginxClaims(quick: boolean): Promise<Claim[]> {
  return behind(nginx, async (asked, count) => {
    const ways = Object.keys(WAYS) as (keyof typeof WAYS)[];
    const cold = await Promise.all(ways.map((way) => count(`/${way}/cold`)));
    const says = `requests to the origin for ${READERS} at once, page not stored: nginx`;
    const claims: Claim[] = [
      { name: 'nginx-cold', says: `${says} as it comes`, value: cold[0] ?? 0, unit: 'requests', atLeast: 10 },
      {
        name: 'nginx-cold-lock',
        says: `${says}, proxy_cache_lock`,
        value: cold[1] ?? 0,
        unit: 'requests',
        atMost: 3,
      },
    ];
    if (quick) return claims;
    await Promise.all(ways.map((way) => asked(`/${way}/old`)));
    await sleep(EXPIRED_AFTER_MS);
    const old = await Promise.all(ways.map((way) => count(`/${way}/old`)));
    const expired = `requests to the origin for ${READERS} at once, page expired: nginx`;
    return [
      ...claims,
      { name: 'nginx-old', says: `${expired} as it comes`, value: old[0] ?? 0, unit: 'requests' },
      { name: 'nginx-old-lock', says: `${expired}, proxy_cache_lock`, value: old[1] ?? 0, unit: 'requests' },
      {
        name: 'nginx-old-updating',
        says: `${expired}, proxy_cache_lock and proxy_cache_use_stale updating`,
        value: old[2] ?? 0,
        unit: 'requests',
      },
    ];
  });
}

export async function varnishClaims(): Promise<Claim[]> {
  return behind(varnish, async (asked, count) => {
    const says = (page: string) =>
      `requests to the origin for ${READERS} at once, page ${page}: Varnish, no grace`;
    const cold = await count('/cold');
    await asked('/old');
    await sleep(EXPIRED_AFTER_MS);
    return [
      { name: 'varnish-cold', says: says('not stored'), value: cold, unit: 'requests' },
      { name: 'varnish-old', says: says('expired'), value: await count('/old'), unit: 'requests' },
    ];
  });
}

/** By the names of the claims, so that a machine without nginx can draw the recorded ones. */
const BARS: Readonly<Record<string, string>> = {
  'nginx-cold': 'new page: nginx',
  'nginx-cold-lock': 'new page: nginx, lock',
  'varnish-cold': 'new page: Varnish',
  'nginx-old': 'expired page: nginx',
  'nginx-old-lock': 'expired page: nginx, lock',
  'nginx-old-updating': 'expired page: nginx, lock and updating',
  'varnish-old': 'expired page: Varnish',
};

export const originBars = (claims: readonly Claim[]): Bars => ({
  name: 'origin',
  title: `Requests that reach the origin when ${READERS} readers ask for one page at once`,
  label: 'requests to the origin',
  bars: Object.entries(BARS).flatMap(([name, subject]) =>
    claims.filter((claim) => claim.name === name).map(({ value }) => [subject, value] as const),
  ),
});

async function behind(
  plan: (origin: number) => PeerPlan,
  measure: (
    asked: (path: string) => Promise<unknown>,
    count: (path: string) => Promise<number>,
  ) => Promise<Claim[]>,
): Promise<Claim[]> {
  const requests = new Map<string, number>();
  const origin = createServer(async ({ url = '' }, response) => {
    requests.set(url, (requests.get(url) ?? 0) + 1);
    await sleep(ORIGIN_MS);
    response.writeHead(200, { 'cache-control': `max-age=${url.endsWith('/old') ? 1 : 60}` }).end('page');
  }).listen(0, '127.0.0.1');
  await once(origin, 'listening');
  const peer = await startPeer(plan((origin.address() as AddressInfo).port)).catch((error) => {
    origin.close();
    throw error;
  });
  const asked = async (path: string) => {
    const [answer]: IncomingMessage[] = await once(
      get({ host: '127.0.0.1', port: peer.port, path, agent: false }),
      'response',
    );
    await once(answer?.resume() ?? origin, 'end');
  };
  const count = async (path: string) => {
    const before = requests.get(path) ?? 0;
    await Promise.all(Array.from({ length: READERS }, () => asked(path)));
    return (requests.get(path) ?? 0) - before;
  };
  try {
    return await measure(asked, count);
  } finally {
    await peer.close();
    origin.close().closeAllConnections();
  }
}
