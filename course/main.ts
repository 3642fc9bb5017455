import { errorCode, messageOf } from './base/files';
import { nearest } from './base/nearest';
import { Refusal } from './base/refusal';
import { outliveReaders } from './base/signals';
import { commandHelp, parse } from './commands/options';
import { COMMANDS, usage } from './commands/table';
import { unfinishedNote } from './commands/update-state';

/** The process that the runner starts. It is told what to do by its parent, not by options. */
const CHILD = 'child';

export async function main([name = 'start', ...args]: readonly string[]): Promise<void> {
  if (name === CHILD) {
    const { child } = await import('./run/child');
    return child(args);
  }
  outliveReaders();
  process.exitCode = await run(name, args);
  // Whatever is still open now belongs to nobody.
  process.exit();
}

async function run(name: string, args: readonly string[]): Promise<number> {
  try {
    if (name === '--help' || name === 'help') return print(usage());
    const command = COMMANDS[name];
    if (!command) {
      const near = nearest(name, Object.keys(COMMANDS)).join(', ') || 'npm test';
      throw new Refusal(`There is no command "${name}". Did you mean ${near}?`);
    }
    if (args.includes('--help')) return print(commandHelp(name, command));
    const taken = parse(name, command, args);
    const note = name === 'update' ? undefined : unfinishedNote();
    if (note) console.error(note);
    return (await command.run(taken)) ?? 0;
  } catch (error) {
    const refusal = error instanceof Refusal ? error.message : missingPackage(error);
    if (refusal === undefined) throw error;
    console.error(refusal);
    return 2;
  }
}

/** After a pull that brought new packages, or an `npm ci` that was interrupted. */
function missingPackage(error: unknown): string | undefined {
  if (errorCode(error) !== 'MODULE_NOT_FOUND') return undefined;
  const [, name] = /^Cannot find module '([^./'][^']*)'/.exec(messageOf(error)) ?? [];
  return name && `The package ${name} of the course is not installed. Run: npm ci`;
}

function print(text: string): number {
  console.log(text);
  return 0;
}
