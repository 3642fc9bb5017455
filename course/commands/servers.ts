import { onHangup } from '../base/signals';
import { loadShop } from '../claims/data/large';
import { openPool } from '../kit/pool';
import { connectMysql } from '../servers/connect';
import { openServers } from '../servers/open';
import { dropSchema, foreignSchema, freshSchema, ownerOf, SHOP_SCHEMA } from '../servers/ours';
import { ServerError } from '../servers/server';
import type { Servers } from '../servers/types';
import { connectLines } from './connect-lines';

/** Keeps the servers up until Ctrl-C, with the shop's large data set in them, and tells how to connect. */
export async function servers({ yes }: { yes: boolean }): Promise<number> {
  const servers = await openServers({ install: yes ? 'yes' : 'ask' });
  const end = endSignal();
  try {
    process.stdout.write('Loading the shop: products, orders, reviews and events …\n');
    const ready = fillShop(servers).then(() => {
      process.stdout.write(howToConnect(servers));
      return end.told;
    });
    // Who presses Ctrl-C while the shop is loaded does not wait for the rest of it.
    ready.catch(() => {});
    await Promise.race([ready, end.told]);
  } finally {
    end.forget();
    if (servers.kind === 'given') await emptyShop(servers);
    await servers.close();
  }
  process.stdout.write('\nThe servers have ended.\n');
  return 0;
}

/** Told at Ctrl-C, SIGTERM, or when the terminal is closed. */
function endSignal() {
  // A waiting promise alone does not keep Node alive.
  const awake = setInterval(() => {}, 2 ** 30);
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  let tell = () => {};
  const told = new Promise<void>((resolve) => {
    tell = resolve;
  });
  for (const signal of signals) process.on(signal, tell);
  onHangup(tell);
  return {
    told,
    forget() {
      clearInterval(awake);
      for (const signal of signals) process.off(signal, tell);
    },
  };
}

async function fillShop(servers: Servers): Promise<void> {
  const admin = await connectMysql(servers.mysql);
  try {
    const owner = await ownerOf(admin, SHOP_SCHEMA);
    if (owner === 'someone') throw new ServerError(foreignSchema(SHOP_SCHEMA));
    if (owner === 'nobody') await freshSchema(admin, SHOP_SCHEMA);
  } finally {
    await admin.end();
  }
  const shop = openPool(shopUrl(servers).href);
  try {
    await loadShop(shop);
  } finally {
    await shop.end();
  }
}

async function emptyShop(servers: Servers): Promise<void> {
  const admin = await connectMysql(servers.mysql);
  await dropSchema(admin, SHOP_SCHEMA);
  await admin.end();
}

function shopUrl(servers: Servers): URL {
  const url = new URL(servers.mysql);
  url.pathname = SHOP_SCHEMA;
  return url;
}

function howToConnect(servers: Servers): string {
  const redis = new URL(servers.redis);
  // A learner's keys in database 0 stay out of the way of the tests, which empty theirs.
  if (servers.kind !== 'given') redis.pathname = '/1';
  return `
Redis and MySQL are up until you press Ctrl-C here. To look around, in another terminal:

${connectLines(servers.redis, shopUrl(servers).href)}

For npm start and npm test there to use these servers:

  export REDIS_URL=${redis.href}
  export MYSQL_URL=${servers.mysql}

The tests empty Redis database ${redis.pathname.slice(1) || 0} and the schema caching_deep_dive, and touch nothing else.
`;
}
