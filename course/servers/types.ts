/** What every part of the course knows of the servers: where they are. */
export interface ServerUrls {
  readonly redis: string;
  readonly mysql: string;
  /** One URL a master, where a run asked for a Redis Cluster. */
  readonly cluster?: readonly string[];
}

/** How the servers were come by: the learner's URLs, servers of our own, or containers. */
export type ServersKind = 'given' | 'private' | 'compose';

export interface Servers extends ServerUrls {
  readonly kind: ServersKind;
  /** A Redis Cluster of three masters, ours in each case: started when first asked for, kept until `close`. */
  withCluster(): Promise<ServerUrls>;
  close(): Promise<void>;
}

/** Servers as they were opened, before anything asked for a cluster. */
export type OpenedServers = Omit<Servers, 'withCluster'>;
