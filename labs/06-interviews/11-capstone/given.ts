export { type Cache, DEFAULTS, type Load, type Options, type Policy } from './parts/api';
export { openChannel } from './parts/channel';
export { type Cached, decode } from './parts/codec';
export { type Entry, entryOf, tagKey, valueKey } from './parts/entry';
export { encode, loadBytes } from './parts/load';
export { createLocal } from './parts/local';
export { createOutbox, PendingInvalidationError } from './parts/outbox';
export { type Found, openStore } from './parts/store';
