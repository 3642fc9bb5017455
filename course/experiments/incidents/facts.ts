/** What can be wrong with the shop, or that nothing is. */
export const CAUSES = [
  'out-of-memory',
  'synchronised-expiry',
  'big-key',
  'missing-index',
  'blocking-command',
  'hot-key',
  'idle-transaction',
  'dead-relay',
  'healthy',
] as const;

export type Cause = (typeof CAUSES)[number];

/** What a person on call is told, and what they should have seen. */
export interface Facts {
  /** By what one sees, so that it gives nothing away: `empty-carts`. */
  readonly name: string;
  readonly symptom: string;
  readonly lookFirst: string;
  /** What it looks like there. */
  readonly looksLike: string;
  /** What makes it stop, and what keeps it away. */
  readonly remedy: string;
}

export const FACTS: Readonly<Record<Cause, Facts>> = {
  'out-of-memory': {
    name: 'empty-carts',
    symptom: 'Customers put things into the cart, and it stays empty. Product pages are fast.',
    lookFirst:
      'INFO errorstats and INFO commandstats, twice: which error grows, and which command is rejected?',
    looksLike:
      'errorstat_OOM grows. rejected_calls grows for the commands that write. INFO memory: used_memory is over maxmemory, and the policy is noeviction.',
    remedy:
      'Raise maxmemory, or delete what can be loaded again. Then choose an eviction policy for a cache.',
  },
  'synchronised-expiry': {
    name: 'waves',
    symptom: 'The database is at 100 % for some seconds, then quiet, and again when a TTL has passed.',
    lookFirst: 'SCAN a sample of keys, and ask PEXPIRETIME of each: do many end in the same second?',
    looksLike: 'A large share of all keys ends within one second. avg_ttl in INFO keyspace does not show it.',
    remedy: 'Give each TTL a random part (lesson 3.1), and load a key that is missed once at a time.',
  },
  'big-key': {
    name: 'slow-page',
    symptom: 'One page is slow, and all other users of Redis become slow with it. The network is busy.',
    lookFirst: 'redis-cli --bigkeys or MEMORY USAGE, and OBJECT FREQ twice: which large key is read?',
    looksLike: 'One key has about a megabyte, and its FREQ grows. SLOWLOG may name it, too.',
    remedy: 'Read a part of it (HMGET, ranges), or split it into keys of a page each.',
  },
  'missing-index': {
    name: 'busy-database',
    symptom: 'The CPU of MySQL is at 100 %. The number of visitors and of queries is as always.',
    lookFirst:
      'Handler_read_rnd_next, twice, then EXPLAIN FORMAT=TRADITIONAL of the statements: which one reads how many rows?',
    looksLike: 'One statement has type ALL, no key, and thousands of rows, for the few that it returns.',
    remedy: 'CREATE INDEX on the column of its WHERE.',
  },
  'blocking-command': {
    name: 'hiccups',
    symptom: 'Every few seconds all requests stop for a moment, and then go on together.',
    lookFirst: 'INFO commandstats, twice, and SLOWLOG GET: which command takes long each time it is called?',
    looksLike:
      'A command that walks over all keys, KEYS or a script, takes a thousand times as long as a GET.',
    remedy: 'SCAN instead of KEYS; a script that does a bounded piece of work a call.',
  },
  'hot-key': {
    name: 'one-node',
    symptom:
      'One node of Redis is at 100 % CPU. Its commands are simple and fast, and other nodes have little to do.',
    lookFirst: 'redis-cli --hotkeys, which reads OBJECT FREQ of each key, twice; or one second of MONITOR.',
    looksLike: 'One key gets most of all reads, and its FREQ grows far more than that of any other key.',
    remedy: 'Keep it in the process for a second (lesson 4.5), or store copies under several keys.',
  },
  'idle-transaction': {
    name: 'slower-each-hour',
    symptom: 'The same statements take longer each hour, and the undo logs of MySQL grow on disk.',
    lookFirst: 'information_schema.INNODB_TRX with PROCESSLIST, twice: which transaction does nothing?',
    looksLike:
      'One transaction stays open: its connection sleeps, and it does nothing between two looks. trx_rseg_history_len grows.',
    remedy: 'KILL its connection. In the program: no transaction stays open over a call to somebody else.',
  },
  'dead-relay': {
    name: 'old-prices',
    symptom: 'The hit rate is 98 %, nothing is slow, and customers see old prices.',
    lookFirst: 'XINFO GROUPS of each stream, twice: does last-delivered-id move?',
    looksLike: 'Events arrive, lag grows, and last-delivered-id stays where it is.',
    remedy: 'Start the relay again, and alert on the age of the oldest event that is not handled.',
  },
  healthy: {
    name: 'false-alarm',
    symptom: 'You take over the pager. It rang last night, and there are many remarks in the log.',
    lookFirst: 'Everything of the other eight, twice: what grows?',
    looksLike: 'There are traces of last night, and none of them grows.',
    remedy: 'Change nothing. Correct the alarm that rang.',
  },
};

/** The cause that a person means: by its own name, or by that of its symptom. */
export const causeNamed = (name: string): Cause | undefined =>
  CAUSES.find((cause) => cause === name || FACTS[cause].name === name);
