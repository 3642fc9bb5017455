import { createHash } from 'node:crypto';

export type Digest = (text: string) => Buffer;

/** 16 well-mixed bytes of a text: its MD5. */
export const digest: Digest = (text) => createHash('md5').update(text).digest();
