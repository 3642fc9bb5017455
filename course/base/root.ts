import { join, relative } from 'node:path';

/** The folder of the course. */
export const ROOT = join(import.meta.dirname, '../..');

/** For `node --require`: lets a process load TypeScript. */
export const TYPESCRIPT = join(ROOT, 'course/typescript.cjs');

/** Relative to the course, for people. */
export const shown = (path: string): string => relative(ROOT, path);
