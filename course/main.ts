import { nearest } from './catalog';
import { Refusal } from './refusal';
import { StackError } from './stack/server';

type Command = (args: readonly string[]) => number | undefined | Promise<number | undefined>;

/** Each command loads its own part of the program: `npm test` does not wait for the rest. */
const COMMANDS: Record<string, () => Command> = {
  start: () => require('./commands/start').start,
  test: () => require('./commands/test').test,
  hint: () => require('./commands/study').hint,
  solution: () => require('./commands/study').solution,
  reset: () => require('./commands/reset').reset,
  list: () => require('./commands/study').list,
  mistakes: () => require('./commands/study').mistakes,
  verify: () => require('./commands/verify').verify,
  measure: () => (args) =>
    require('./commands/measure').measure(
      args.filter((arg) => !arg.startsWith('--')),
      { write: args.includes('--write'), quick: args.includes('--quick') },
    ),
  stack: () => require('./commands/stack').stack,
  doctor: () => require('./commands/doctor').doctor,
  sync: () => require('./commands/sync').sync,
};

/** The process that the runner starts. */
const WORKERS: Record<string, () => Command> = {
  child: () => require('./runner/child').child,
};

export async function main([name = 'start', ...args]: readonly string[]): Promise<void> {
  const worker = WORKERS[name];
  if (worker) {
    await worker()(args);
    return;
  }
  process.exitCode = await run(name, args);
  // Whatever is still open now belongs to nobody.
  process.exit();
}

async function run(name: string, args: readonly string[]): Promise<number> {
  const command = COMMANDS[name];
  if (!command) {
    console.error(
      `There is no command "${name}". Did you mean ${nearest(name, Object.keys(COMMANDS)).join(', ') || 'npm test'}?`,
    );
    return 2;
  }
  try {
    return (await command()(args)) ?? 0;
  } catch (error) {
    if (error instanceof Refusal || error instanceof StackError) {
      console.error(error.message);
      return 2;
    }
    throw error;
  }
}
