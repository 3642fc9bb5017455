import { describe, expect, test } from 'vitest';
import { COUNT, type Command, commandHelp, parse } from '../course/commands/options';

const COMMAND: Command = {
  about: 'cuts trees',
  names: '[TREE]',
  flags: { quick: 'with a saw' },
  values: {
    size: { about: 'at most so many', takes: 'N', fits: COUNT },
    into: { about: 'where they go', takes: 'FILE' },
  },
  run: async () => 0,
};
const parsed = (...args: string[]) => parse('cut', COMMAND, args);

describe('options with a value', () => {
  test('a value stands behind a space or an equals sign', () => {
    expect(parsed('oak', '--size', '12', '--into=a b', '--quick')).toEqual({
      names: ['oak'],
      flags: new Set(['quick']),
      values: new Map([
        ['size', '12'],
        ['into', 'a b'],
      ]),
    });
  });

  test.each([
    [['--size', '0'], '--size takes a whole number of 1 or more, and got "0". Write: --size=N'],
    [['--size=1e3'], 'got "1e3"'],
    [['--size'], 'got nothing'],
    [['--into='], '--into takes a value, and got ""'],
    [['--quick=yes'], '--quick takes no value'],
    [['--sice', '3'], 'has no option --sice. Did you mean --size'],
    [['--constructor'], 'has no option --constructor'],
  ])('%j is refused', (args, message) => {
    expect(() => parsed(...args)).toThrow(message);
  });

  test('--help shows what an option takes', () => {
    expect(commandHelp('cut', COMMAND)).toContain('npm run cut -- [TREE] [--quick] [--size=N] [--into=FILE]');
    expect(commandHelp('cut', COMMAND)).toContain('  --into=FILE  where they go');
  });
});
