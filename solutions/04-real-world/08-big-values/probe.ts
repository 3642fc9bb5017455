import { connect } from 'node:net';

/**
 * Another client of the same Redis, in a process of its own: it sends a PING every millisecond, and tells the longest
 * wait when it is asked. A wait that has not ended yet counts: a stall would else hide behind its own question.
 */
const [url = ''] = process.argv.slice(2);
const { hostname, port, username, password } = new URL(url);
const socket = connect(Number(port), hostname);
socket.setNoDelay();

let sentAt: number | undefined;
let longestMs = 0;

socket.on('connect', () => {
  if (password) socket.write(`AUTH ${username || 'default'} ${decodeURIComponent(password)}\r\n`);
  ping();
});
socket.on('data', () => {
  if (sentAt === undefined) return;
  longestMs = Math.max(longestMs, performance.now() - sentAt);
  sentAt = undefined;
  setTimeout(ping, 1);
});

function ping() {
  sentAt = performance.now();
  socket.write('PING\r\n');
}

process.on('message', (question) => {
  if (question === 'longest') {
    const open = sentAt === undefined ? 0 : performance.now() - sentAt;
    process.send?.(Math.max(longestMs, open));
  }
  longestMs = 0;
});
process.on('disconnect', () => process.exit());
process.send?.('ready');
