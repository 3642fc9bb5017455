import type { TestProject } from 'vitest/node';
import { openStack, type StackUrls } from '../stack/open';

declare module 'vitest' {
  interface ProvidedContext {
    /** One stack for each worker: a worker's tests count what reaches its servers. */
    stacks: readonly StackUrls[];
  }
}

export default async function setup(project: TestProject) {
  const stack = await openStack();
  project.provide('stacks', [{ redis: stack.redis, mysql: stack.mysql }]);
  return () => stack.close();
}
