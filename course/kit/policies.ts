export { belady } from './policies/belady';
export { Fifo } from './policies/fifo';
export { List, type Node } from './policies/list';
export { Lru } from './policies/lru';
export { type Access, type Policy, requireCapacity } from './policies/policy';
export { Random } from './policies/random';
export { type Replay, replay } from './policies/replay';
export { Ttl } from './policies/ttl';
