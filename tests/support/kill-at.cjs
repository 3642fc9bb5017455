// For `node --require`: this process is killed right before its KILL_AT-th step that changes something on the disk.
// With KILL_AT=0 it lives, and the number of steps goes to KILL_COUNT.
const fs = require('node:fs');
const children = require('node:child_process');

const at = Number(process.env.KILL_AT);
let steps = 0;
const step = () => {
  steps += 1;
  if (steps === at) process.kill(process.pid, 'SIGKILL');
};

for (const name of ['cpSync', 'writeFileSync', 'renameSync', 'rmSync', 'rmdirSync', 'mkdirSync']) {
  const original = fs[name];
  fs[name] = (...args) => {
    if (args.some((arg) => String(arg).includes(process.cwd()))) step();
    return original(...args);
  };
}
const { spawnSync } = children;
children.spawnSync = (command, args, options) => {
  if (command !== 'git' || args[0] !== 'reset') return spawnSync(command, args, options);
  // Once before it, once in the middle of it, once after it.
  step();
  if (steps + 1 === at) spawnSync('git', ['checkout', '--no-overlay', args.at(-1), '--', 'labs'], options);
  if (steps + 1 === at) spawnSync('git', ['read-tree', 'HEAD'], options);
  step();
  const done = spawnSync(command, args, options);
  step();
  return done;
};
process.on('exit', () => {
  if (at === 0) fs.appendFileSync(process.env.KILL_COUNT, `${steps}`);
});
