import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readText } from '../base/files';
import { ROOT } from '../base/root';
import { parse, plain, type Section, sections, source, within } from './markdown';

/** A way through the course, for one need. */
export interface Path {
  /** `interview` */
  readonly id: string;
  readonly title: string;
  /** What it says before its first group. */
  readonly about: string;
  /** Days, or problems. None where the path is the order of the course. */
  readonly groups: readonly Group[];
}

export interface Group {
  readonly title: string;
  readonly steps: readonly Step[];
}

export interface Step {
  readonly kind: string;
  /** `2.1 Cache-aside`, or the command to run. */
  readonly text: string;
  /** The absolute path of the lesson; undefined for a command. */
  readonly lesson: string | undefined;
}

/** What can be done in a step, and how long it takes (minutes); undefined where the lesson says so. */
export const STEPS: Readonly<Record<string, number | undefined>> = {
  Read: 4,
  Core: undefined,
  Lab: undefined,
  Drill: 25,
  Cards: 15,
  Interview: 45,
};

/** What comes before the code: scene, "In 60 seconds", "How it works", "In an interview" (1,060 to 1,480 words). */
const LESSON_MINUTES = 6;

export const PATHS = join(ROOT, 'chapters/PATHS.md');

export function paths(file = PATHS): Path[] {
  const text = readText(file);
  return sections(parse(text).children, 2).map((section) => read(file, text, section));
}

function read(file: string, text: string, { title, content }: Section): Path {
  const about = content.find(({ type }) => type === 'paragraph');
  return {
    id: /<!-- path: (\S+) -->/.exec(source(text, content))?.[1] ?? '',
    title,
    about: about ? plain(about) : '',
    groups: sections(content, 3).map((group) => ({
      title: group.title,
      steps: [...within(group.content)].flatMap((node) => {
        if (node.type !== 'listItem') return [];
        const [kind = '', ...words] = plain(node).split(' ');
        const link = [...within([node])].find((part) => part.type === 'link');
        return [{ kind, text: words.join(' '), lesson: link && join(dirname(file), link.url) }];
      }),
    })),
  };
}

/** What a step takes (minutes), in the estimate of its lesson where it is one. */
export function minutesOf({ kind, lesson }: Step): number {
  const fixed = STEPS[kind];
  if (fixed !== undefined || !lesson || !existsSync(lesson)) return fixed ?? 0;
  // By hand, as titles are: a parser of YAML takes longer to load than the list.
  const [, core = 0, production = 0] =
    /^minutes: \{ core: (\d+)(?:, production: (\d+))? \}/m.exec(readText(lesson)) ?? [];
  return LESSON_MINUTES + Number(core) + (kind === 'Lab' ? Number(production) : 0);
}
