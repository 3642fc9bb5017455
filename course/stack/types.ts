/** What every part of the course knows of the servers: where they are. */
export interface StackUrls {
  readonly redis: string;
  readonly mysql: string;
}

/** How a stack was come by: the learner's URLs, servers of our own, or containers. */
export type StackKind = 'given' | 'private' | 'compose';

export interface Stack extends StackUrls {
  readonly kind: StackKind;
  close(): Promise<void>;
}
