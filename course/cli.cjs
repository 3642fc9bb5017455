// Plain old JavaScript: it must at least parse on a Node that is too old for the course.
var version = process.versions.node.split('.').map(Number);
if (version[0] < 20 || (version[0] === 20 && version[1] < 19)) {
  console.error('The course needs Node 20.19 or newer, and this is %s.', process.versions.node);
  console.error('Install a current Node (for example: nvm install 22), then run the command again.');
  process.exit(2);
}
// Vite reads module names as addresses: these characters end or escape a part of them.
var root = require('node:path').dirname(__dirname);
var unfit = /[#%?\\]|[^ -\uffff]/.exec(root);
if (unfit) {
  console.error('The course cannot run under a path that holds %s: %s', JSON.stringify(unfit[0]), root);
  console.error("Move its folder, for example: mv '%s' ~/caching-deep-dive", root.replace(/'/g, "'\\''"));
  process.exit(2);
}
try {
  require.resolve('ts-node');
} catch (_missing) {
  console.error('The packages of the course are not installed. Run: npm ci');
  process.exit(2);
}
var folder = require('node:os').tmpdir();
try {
  require('node:fs').accessSync(folder, require('node:fs').constants.W_OK);
} catch (_unusable) {
  console.error('The temporary folder %s cannot be written.', folder);
  console.error('Set TMPDIR to a folder of yours with 300 MB free, then run the command again.');
  process.exit(2);
}
require('./typescript.cjs');
require('./main.ts').main(process.argv.slice(2));
