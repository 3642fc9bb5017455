import type { TestProject } from 'vitest/node';
import { openServers, type ServerUrls } from '../servers/open';

declare module 'vitest' {
  interface ProvidedContext {
    /** A pair of servers for each worker: a worker's tests count what reaches its servers. */
    servers: readonly ServerUrls[];
  }
}

export default async function setup(project: TestProject) {
  const servers = await openServers();
  project.provide('servers', [{ redis: servers.redis, mysql: servers.mysql }]);
  return () => servers.close();
}
