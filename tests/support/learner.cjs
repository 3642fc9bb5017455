// A learner who keeps one session open in the course of this folder: for each name that comes, what
// `npm test -- NAME` would print, and its exit code. A warm session answers sooner than a new process.
require(`${process.cwd()}/course/typescript.cjs`);
const { openSession } = require(`${process.cwd()}/course/run/session.ts`);
const { choose, runLabs } = require(`${process.cwd()}/course/commands/test.ts`);

const session = openSession();
process.on('disconnect', () => process.exit());
process.on('message', async (name) => {
  const rows = [];
  console.log = (...words) => rows.push(words.join(' '));
  try {
    const code = await runLabs(session, choose([name]));
    process.send({ code, output: rows.join('\n') });
  } catch (error) {
    // As main.ts answers: the command or the machine is wrong.
    process.send({ code: 2, output: error.message });
  }
});
