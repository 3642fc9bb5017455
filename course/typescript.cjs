// Lets `require` load TypeScript: ts-node with swc, and `./given` beside a solution (see content/given.ts).
const Module = require('node:module');
const path = require('node:path');

require('ts-node').register({ project: path.join(__dirname, '../tsconfig.json') });

const { givenFor } = require('./content/given.ts');
const resolve = Module._resolveFilename;
Module._resolveFilename = (request, parent, ...rest) =>
  (parent?.filename && givenFor(request, parent.filename)) || resolve(request, parent, ...rest);
