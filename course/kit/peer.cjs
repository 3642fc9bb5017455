// A process of a lab test (see processes.ts). Plain JavaScript, so that it can load TypeScript after this line.
require('../typescript.cjs');

const { tellRequests } = require('./requests.ts');

tellRequests((told) => process.send({ told }, () => {}));
process.on('disconnect', () => process.exit(1));
process.once('message', async ({ subject, body, args }) => {
  const answer = (message) => process.send(message, () => {});
  const tell = (word) => answer({ word });
  try {
    const { Redis } = require('ioredis');
    const { openPool } = require('./pool');
    const mysql = { createPool: ({ uri, ...options }) => openPool(uri, options) };
    // biome-ignore lint/security/noGlobalEval: the source of a function in the test file, sent by that test
    const run = globalThis.eval(`(${body})`);
    answer({ result: await run({ subject: require(subject), args, tell, Redis, mysql }) });
  } catch (error) {
    answer({ failure: error instanceof Error ? (error.stack ?? error.message) : String(error) });
  }
});
answer('ready');

function answer(word) {
  process.send({ word });
}
