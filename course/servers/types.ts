/** What every part of the course knows of the servers: where they are. */
export interface ServerUrls {
  readonly redis: string;
  readonly mysql: string;
}

/** How the servers were come by: the learner's URLs, servers of our own, or containers. */
export type ServersKind = 'given' | 'private' | 'compose';

export interface Servers extends ServerUrls {
  readonly kind: ServersKind;
  close(): Promise<void>;
}
