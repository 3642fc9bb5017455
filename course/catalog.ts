import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';

export const ROOT = resolve(import.meta.dirname, '..');

/** One of the six folders of lessons. The tree is the catalogue: nothing here is written down twice. */
export interface Chapter {
  /** `01-fundamentals` */
  readonly folder: string;
  /** `fundamentals` */
  readonly id: string;
  readonly number: number;
}

export interface Lab {
  /** `lru`: unique in the course, and what progress and links use. */
  readonly id: string;
  /** `1.4`: its place, which may change. */
  readonly number: string;
  /** `fundamentals` */
  readonly chapter: string;
  /** `01-fundamentals/04-lru` */
  readonly place: string;
  readonly title: string;
  /** Absolute paths. */
  readonly files: {
    readonly lesson: string;
    readonly starter: string;
    readonly test: string;
    readonly hints: string;
    readonly solution: string;
    /** The starter as it was handed out. */
    readonly pristine: string;
    /** SHA-256 of the test file as it was handed out. */
    readonly seal: string;
    /** Folder of diffs. */
    readonly mistakes: string;
    readonly measure: string;
  };
}

const NUMBERED = /^(\d\d)-(.+)$/;

export function chapters(): Chapter[] {
  return numbered(join(ROOT, 'chapters')).map(({ name, number, id }) => ({ folder: name, number, id }));
}

export function labs(): Lab[] {
  return chapters().flatMap((chapter) =>
    numbered(join(ROOT, 'labs', chapter.folder)).map(({ name, number, id }) => {
      const place = `${chapter.folder}/${name}`;
      const lab = join(ROOT, 'labs', place);
      const solution = join(ROOT, 'solutions', place);
      const lesson = join(ROOT, 'chapters', `${place}.md`);
      return {
        id,
        number: `${chapter.number}.${number}`,
        chapter: chapter.id,
        place,
        title: titleOf(lesson) ?? id,
        files: {
          lesson,
          starter: join(lab, `${id}.ts`),
          test: join(lab, `${id}.test.ts`),
          hints: join(lab, 'hints.md'),
          solution: join(solution, `${id}.ts`),
          pristine: join(solution, 'starter.ts'),
          seal: join(solution, `${id}.test.ts.sha256`),
          mistakes: join(solution, 'mistakes'),
          measure: join(solution, 'measure.ts'),
        },
      };
    }),
  );
}

/** A lesson without a lab: it looks back over a chapter, and may have a measure of its own. */
export interface Overview {
  readonly id: string;
  readonly number: string;
  readonly title: string;
  readonly files: { readonly lesson: string; readonly measure: string };
}

export function overviews(): Overview[] {
  return chapters().flatMap(({ folder, number }) =>
    numbered(join(ROOT, 'chapters', folder), '.md')
      .filter(({ name }) => !existsSync(join(ROOT, 'labs', folder, name)))
      .map((page) => {
        const lesson = join(ROOT, 'chapters', folder, `${page.name}.md`);
        const measure = join(ROOT, 'solutions', folder, page.name, 'measure.ts');
        const title = titleOf(lesson) ?? page.id;
        return { id: page.id, number: `${number}.${page.number}`, title, files: { lesson, measure } };
      }),
  );
}

/** The names of a lab's mistakes: `evicts-the-newest`. */
export function mistakesOf(lab: Lab): string[] {
  if (!existsSync(lab.files.mistakes)) return [];
  return readdirSync(lab.files.mistakes)
    .filter((file) => file.endsWith('.diff'))
    .map((file) => file.slice(0, -'.diff'.length))
    .sort();
}

/** Labs for what a learner may type: `1.4`, `lru`, `fundamentals`, `1`, `all`, or a file of the lab. Unknown names come back apart. */
export function find(
  names: readonly string[],
  known: readonly Lab[] = labs(),
): { found: Lab[]; unknown: string[] } {
  const matches = (name: string) => known.filter((lab) => answersTo(lab, name));
  const found = new Set(names.flatMap(matches));
  return {
    found: known.filter((lab) => found.has(lab)),
    unknown: names.filter((name) => matches(name).length === 0),
  };
}

/** What the learner may have meant: the three nearest names, best first. */
export function nearest(name: string, known: readonly string[]): string[] {
  return known
    .map((candidate) => ({ candidate, distance: editDistance(name.toLowerCase(), candidate) }))
    .filter(
      ({ candidate, distance }) => distance <= Math.max(2, candidate.length / 2) || candidate.includes(name),
    )
    .sort((a, b) => a.distance - b.distance)
    .slice(0, 3)
    .map(({ candidate }) => candidate);
}

/** Relative to the repository, for people. */
export const shown = (path: string): string => relative(ROOT, path);

function answersTo(lab: Lab, name: string): boolean {
  const plain = name.toLowerCase().replace(/\/$/, '');
  const chapterFolder = lab.place.split('/')[0];
  const chapterNumber = lab.number.split('.')[0];
  return (
    ['all', lab.id, lab.number, lab.place, lab.chapter, chapterFolder, chapterNumber].includes(plain) ||
    (plain.includes('/') && resolve(name).includes(`/${lab.place}`))
  );
}

/** What is numbered in a folder: folders, or files of one ending. */
function numbered(folder: string, ending = ''): { name: string; number: number; id: string }[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((file) => file.endsWith(ending))
    .map((file) => file.slice(0, file.length - ending.length))
    .sort()
    .flatMap((name) => {
      const match = NUMBERED.exec(name);
      return match?.[2] && !name.includes('.') ? [{ name, number: Number(match[1]), id: match[2] }] : [];
    });
}

function titleOf(lesson: string): string | undefined {
  if (!existsSync(lesson)) return undefined;
  return /^title:\s*"?(.+?)"?\s*$/m.exec(readFileSync(lesson, 'utf8'))?.[1];
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(swap, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
