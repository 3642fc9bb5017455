/** What fits --sizes. */
export const SIZES = /^[1-9]\d{0,8}(,[1-9]\d{0,8}){0,31}$/;

/** Here and not with the command, which loads the simulator. */
export const SIMULATE_HELP = `A trace is one key a line, or what redis-cli MONITOR prints; plain or gzip; a file, or a pipe:
  redis-cli MONITOR | head -n 1000000 | npm run simulate
  npm run simulate -- trace.txt.gz --bytes=600

Of MONITOR the reads count: GET, GETEX, GETDEL, GETRANGE, STRLEN, the reads of bitmaps, hashes, lists, sets, sorted
sets and streams, JSON.GET; of MGET, EXISTS, SINTER, SUNION, SDIFF and PFCOUNT each key. Writes do not count. The same
key in another database is another key.

Without a trace of yours: npm run simulate -- demo`;
