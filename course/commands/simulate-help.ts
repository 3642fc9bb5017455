/** What fits --sizes. */
export const SIZES = /^[1-9]\d{0,8}(,[1-9]\d{0,8}){0,31}$/;

/** Here and not with the command, which loads the simulator. */
export const SIMULATE_HELP = [
  'A trace has one key a line, or is what redis-cli MONITOR prints; plain or gzip; a file, or a pipe:',
  '  npm run simulate -- trace.txt.gz --bytes=600',
  '  redis-cli MONITOR | head -n 1000000 | npm run simulate',
  'Without a trace of yours:',
  '  npm run simulate -- demo',
  '',
  'Of MONITOR the reads count: GET, GETEX, GETDEL, GETRANGE, STRLEN, the reads of bitmaps, hashes, lists, sets, sorted sets and streams, JSON.GET; of MGET, EXISTS, SINTER, SUNION, SDIFF and PFCOUNT each key. Writes do not count. The same key in another database is another key.',
  '',
  'A trace of any length fits: memory is for the distinct keys, and 8 bytes a request are in a temporary file (TMPDIR).',
].join('\n');
