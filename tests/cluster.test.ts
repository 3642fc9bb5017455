import { expect, test } from 'vitest';
import { useCluster } from '../course/kit/cluster';
import { straySlots } from '../course/kit/cluster-slots';

const cluster = useCluster();
const KEY = 'product:7';

test('a key lives on the home of its slot, and a tag alone decides the slot', async () => {
  const client = cluster.connect();
  await client.set(KEY, 'here');
  const slot = await cluster.slotOf(KEY);
  const held = await Promise.all(cluster.nodes.map((node) => node.dbsize()));
  expect(held.indexOf(1)).toBe(cluster.homeOf(slot));
  expect(await cluster.slotOf(`{${KEY}}:x`)).toBe(slot);
  expect([cluster.homeOf(0), cluster.homeOf(16_383)]).toEqual([0, 2]);
});

test('between two masters a moved key is found by the redirect, and another is still at home', async () => {
  const client = cluster.connect();
  await client.mset(`{${KEY}}:moved`, '1', `{${KEY}}:not`, '2');
  const slot = await cluster.slotOf(KEY);
  const to = (cluster.homeOf(slot) + 1) % 3;
  await cluster.beginMove(slot, to);
  await cluster.moveKey(`{${KEY}}:moved`, to);
  expect(await client.get(`{${KEY}}:moved`)).toBe('1');
  expect(await client.get(`{${KEY}}:not`)).toBe('2');
  expect(await cluster.nodes[to]?.dbsize()).toBe(1);
});

test('a finished move is known by every node', async () => {
  const slot = await cluster.slotOf(KEY);
  const to = (cluster.homeOf(slot) + 2) % 3;
  await cluster.beginMove(slot, to);
  await cluster.endMove(slot, to);
  await cluster.connect().set(KEY, 'there');
  expect(await cluster.nodes[to]?.dbsize()).toBe(1);
});

test('the next test finds the slot at home, and nothing in it', async () => {
  const home = cluster.nodes[cluster.homeOf(await cluster.slotOf(KEY))];
  expect(await Promise.all(cluster.nodes.map((node) => node.dbsize()))).toEqual([0, 0, 0]);
  await home?.set(KEY, 'home again');
  expect(await cluster.connect().get(KEY)).toBe('home again');
});

test('a client can have a proxy before each master', async () => {
  const { client, proxies } = await cluster.connectThrough();
  for (let id = 0; id < 30; id++) await client.set(`product:${id}`, 'x');
  const ports = client.nodes('master').map(({ options }) => options.port);
  expect(new Set(ports)).toEqual(new Set(proxies.map(({ url }) => Number(new URL(url).port))));
});

test('a master that refuses writes answers reads, and takes writes again in the next test', async () => {
  const home = cluster.homeOf(await cluster.slotOf(KEY));
  await cluster.refuseWrites(home);
  await expect(cluster.connect().set(KEY, 'x')).rejects.toThrow('NOREPLICAS');
  expect(await cluster.connect().get(KEY)).toBeNull();
});

test('what a run has left that was ended in a move is found', async () => {
  expect(await cluster.connect().set(KEY, 'taken again')).toBe('OK');
  const [slot, other] = [await cluster.slotOf(KEY), await cluster.slotOf('product:8')];
  await cluster.beginMove(slot, (cluster.homeOf(slot) + 1) % 3);
  await cluster.beginMove(other, (cluster.homeOf(other) + 1) % 3);
  await cluster.endMove(other, (cluster.homeOf(other) + 1) % 3);
  expect(new Set(await straySlots(cluster.nodes))).toEqual(new Set([slot, other]));
});
