import { parseArgs } from 'node:util';
import { nearest } from '../base/nearest';
import { Refusal } from '../base/refusal';
import { wrap } from '../screen/terminal';

/** What stands behind the name of a command. */
export interface Arguments {
  readonly names: readonly string[];
  readonly flags: ReadonlySet<string>;
  /** Of the options that take a value, those that were given. Each fits its `Value`. */
  readonly values: ReadonlyMap<string, string>;
}

/** An option that takes a value. */
export interface Value {
  readonly about: string;
  /** What stands for the value in `--help`: `FILE`, `N`. */
  readonly takes: string;
  /** What fits, and how a message names it; anything but an empty value where absent. */
  readonly fits?: { readonly pattern: RegExp; readonly words: string };
}

export interface Command {
  /** One line for `--help`. */
  readonly about: string;
  /** What may be named; nothing where absent. */
  readonly names?: string;
  /** Each with what it does. */
  readonly flags?: Readonly<Record<string, string>>;
  readonly values?: Readonly<Record<string, Value>>;
  /** Paragraphs below the options in `--help`. */
  readonly more?: string;
  /** Each command loads its own part of the program: `npm test` does not wait for the rest. */
  run(args: Arguments): Promise<number | undefined>;
}

/** A whole number of 1 or more. */
export const COUNT = { pattern: /^[1-9]\d{0,14}$/, words: 'a whole number of 1 or more' };

/** @throws {Refusal} for an option that the command does not have, a value that does not fit, or a name where it takes none */
export function parse(name: string, command: Command, args: readonly string[]): Arguments {
  const { flags = {}, values = {} } = command;
  const options = {
    ...Object.fromEntries(Object.keys(flags).map((flag) => [flag, { type: 'boolean' as const }])),
    ...Object.fromEntries(Object.keys(values).map((value) => [value, { type: 'string' as const }])),
  };
  const { tokens } = parseArgs({
    args: [...args],
    options,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const taken = { names: [] as string[], flags: new Set<string>(), values: new Map<string, string>() };
  for (const token of tokens) {
    if (token.kind === 'positional') taken.names.push(token.value);
    if (token.kind !== 'option') continue;
    const value = Object.hasOwn(values, token.name) ? values[token.name] : undefined;
    if (value) taken.values.set(token.name, fitting(token.rawName, value, token.value));
    else if (!Object.hasOwn(flags, token.name))
      throw new Refusal(unknownOption(name, token.rawName, Object.keys(options)));
    else if (token.value !== undefined)
      throw new Refusal(`${token.rawName} takes no value: write ${token.rawName} alone.`);
    else taken.flags.add(token.name);
  }
  if (taken.names.length > 0 && !command.names) {
    throw new Refusal(
      `npm run ${name} takes no name, and got "${taken.names[0]}". See: npm run ${name} -- --help`,
    );
  }
  return taken;
}

function fitting(option: string, { takes, fits }: Value, given: string | undefined): string {
  const words = fits?.words ?? 'a value';
  if (!given || (fits && !fits.pattern.test(given))) {
    const got = given === undefined ? 'nothing' : `"${given}"`;
    throw new Refusal(`${option} takes ${words}, and got ${got}. Write: ${option}=${takes}`);
  }
  return given;
}

function unknownOption(command: string, option: string, known: readonly string[]): string {
  const near = nearest(option.replace(/^-+/, ''), known).map((flag) => `--${flag}`);
  const meant = near.length > 0 ? ` Did you mean ${near.join(', ')}?` : '';
  return `${script(command)} has no option ${option}.${meant}\nWhat it takes: ${script(command)} -- --help`;
}

/** What to type: `npm test`, `npm run hint`. */
export const script = (name: string): string =>
  ['start', 'test'].includes(name) ? `npm ${name}` : `npm run ${name}`;

export function commandHelp(name: string, { about, names, flags = {}, values = {}, more }: Command): string {
  const options: readonly (readonly [option: string, about: string])[] = [
    ...Object.entries(flags).map(([flag, what]) => [`--${flag}`, what] as const),
    ...Object.entries(values).map(([value, { takes, about }]) => [`--${value}=${takes}`, about] as const),
  ];
  const longest = Math.max(12, ...options.map(([option]) => option.length));
  const rows = options.map(([option, what]) => `  ${option.padEnd(longest)} ${what}`);
  const takes = [names, ...options.map(([option]) => `[${option}]`)].filter(Boolean).join(' ');
  return [
    wrap(`${script(name)}${takes && ` -- ${takes}`}`),
    `  ${about}`,
    ...(rows.length > 0 ? ['', ...rows] : []),
    ...(more ? ['', wrap(more)] : []),
  ].join('\n');
}
