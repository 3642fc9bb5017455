import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { ROOT } from '../base/root';

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
    /** What the lab provides; not every lab has it. */
    readonly given: string;
    /** Folder of what `given.ts` exports, where that is too much for one file. */
    readonly parts: string;
    /** The solution of Core; a lab that is Core only has none. */
    readonly core: string;
    /** Folder of other correct solutions. */
    readonly variants: string;
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

const LABS = join(ROOT, 'labs');
const SOLUTIONS = join(ROOT, 'solutions');
const CHAPTERS = join(ROOT, 'chapters');
/** The starter as it was handed out, beside the solution. */
const STARTER = 'starter.ts';

const NUMBERED = /^(\d\d)-(.+)$/;

/** A folder or file whose name gives it a place: `04-lru`. */
interface Numbered {
  readonly name: string;
  readonly number: number;
  readonly id: string;
}

export function chapters(): Chapter[] {
  return numbered(CHAPTERS).map(({ name, number, id }) => ({ folder: name, number, id }));
}

/** Every lab of the course, also one whose folder in labs/ the learner has lost. */
export function labs(): Lab[] {
  return chapters().flatMap((chapter) => labFolders(chapter).map((folder) => labAt(chapter, folder)));
}

/** A folder in labs/ that has no counterpart in the course is the learner's own. */
function labFolders({ folder }: Chapter): Numbered[] {
  const here = numbered(join(LABS, folder)).filter(
    ({ name }) =>
      existsSync(join(SOLUTIONS, folder, name)) || existsSync(join(CHAPTERS, folder, `${name}.md`)),
  );
  const lost = numbered(join(SOLUTIONS, folder)).filter(
    ({ name }) =>
      existsSync(join(SOLUTIONS, folder, name, STARTER)) && !here.some((lab) => lab.name === name),
  );
  return [...here, ...lost].sort((a, b) => (a.name < b.name ? -1 : 1));
}

function labAt(chapter: Chapter, { id, name, number }: Numbered): Lab {
  const place = `${chapter.folder}/${name}`;
  const lab = join(LABS, place);
  const solution = join(SOLUTIONS, place);
  const lesson = join(CHAPTERS, `${place}.md`);
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
      given: join(lab, 'given.ts'),
      parts: join(lab, 'parts'),
      core: join(solution, 'core.ts'),
      variants: join(solution, 'variants'),
      solution: join(solution, `${id}.ts`),
      pristine: join(solution, STARTER),
      seal: join(solution, `${id}.test.ts.sha256`),
      mistakes: join(solution, 'mistakes'),
      measure: join(solution, 'measure.ts'),
    },
  };
}

/** A lesson without a lab: it looks back over a chapter, and may have a measure of its own. */
export interface Overview {
  readonly id: string;
  readonly number: string;
  readonly title: string;
  readonly files: { readonly lesson: string; readonly measure: string };
}

export function overviews(): Overview[] {
  const places = new Set(labs().map(({ place }) => place));
  return chapters().flatMap(({ folder, number }) =>
    numbered(join(CHAPTERS, folder), '.md')
      .filter(({ name }) => !places.has(`${folder}/${name}`))
      .map((page) => {
        const lesson = join(CHAPTERS, folder, `${page.name}.md`);
        const measure = join(SOLUTIONS, folder, page.name, 'measure.ts');
        const title = titleOf(lesson) ?? page.id;
        return { id: page.id, number: `${number}.${page.number}`, title, files: { lesson, measure } };
      }),
  );
}

/** A lab that is built against a clock, as in an interview. Its page has a form of its own. */
export const isDrill = ({ id }: Pick<Lab, 'id'>): boolean => id.startsWith('drill-');

/** Whether the learner still has the lab's folder. */
export const isHere = ({ files }: Lab): boolean => existsSync(dirname(files.starter));

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
function numbered(folder: string, ending = ''): Numbered[] {
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

/** By hand: each command shows a title, and a parser of YAML takes 15 ms to load. `verify` holds it against one. */
function titleOf(lesson: string): string | undefined {
  if (!existsSync(lesson)) return undefined;
  return /^title:\s*"?(.+?)"?\s*$/m.exec(readFileSync(lesson, 'utf8'))?.[1];
}
