// A picture of what a command prints:
//   FORCE_COLOR=1 npm test -- cache-aside | node tests/support/draw.cjs "What it shows" > chapters/images/red.svg
require('../../course/typescript.cjs');
const { readFileSync } = require('node:fs');
const { picture } = require('./picture.ts');

process.stdout.write(picture(readFileSync(0, 'utf8'), process.argv[2] ?? ''));
