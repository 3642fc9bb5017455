// Lets `require` load TypeScript: ts-node with swc, and `./given` beside a solution (see content/given.ts).
const Module = require('node:module');
const path = require('node:path');

// ts-node keeps the compiled compiler; its usual place is the temporary folder, where nothing is to be left.
process.env.V8_COMPILE_CACHE_CACHE_DIR ??= path.join(__dirname, '../.course/compile-cache');
require('ts-node').register({ project: path.join(__dirname, '../tsconfig.json') });

const { givenFor } = require('./content/given.ts');
const resolve = Module._resolveFilename;
Module._resolveFilename = (request, parent, ...rest) =>
  (parent?.filename && givenFor(request, parent.filename)) || resolve(request, parent, ...rest);
