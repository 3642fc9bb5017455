import { shown } from '../base/root';
import type { Lab } from '../content/catalog';
import { SHORT } from '../content/lesson';
import { plain, sections, within } from '../content/markdown';
import { PARTS } from '../run/messages';
import { titlesIn, withLadder } from './ladder';
import { countProse, fieldsOf, headingsOf, type Page } from './page';

const LIMITS = { words: 1500, sceneWords: 60, points: 5, rows: 5 };

/** What the lesson of a ladder owes its readers. */
export function ladderLessonProblems(lab: Lab, page: Page): string[] {
  const production = titlesIn(lab, 'production');
  const headings = [
    SHORT,
    'How it works',
    ...(production.length > 0 ? [PARTS.production] : []),
    'Measured',
    'The lab',
    'In an interview',
    'Read more',
  ];
  const words = countProse(page.blocks);
  return [
    ...fieldProblems(page, production.length > 0),
    ...(headingsOf(page.blocks, 2).join() === headings.join()
      ? []
      : [`the headings must be: ${headings.join(', ')}`]),
    ...sceneProblems(page),
    ...shortProblems(page),
    ...productionProblems(lab, page, production),
    ...ladderProblems(lab, page),
    ...openCodeProblems(page),
    ...measuredProblems(page),
    ...(words > LIMITS.words ? [`${words} words: make them ${LIMITS.words} at most`] : []),
  ];
}

export function fieldProblems(page: Page, hasProduction: boolean): string[] {
  const { title, guide, minutes } = fieldsOf(page);
  const wanted = hasProduction ? ['core', 'production'] : ['core'];
  const given = Object.entries(minutes ?? {}).filter(([, value]) => typeof value === 'number');
  const isRight = given.map(([key]) => key).join() === wanted.join();
  return [
    ...(title === undefined ? ['the front matter lacks "title": add it'] : []),
    ...(guide === undefined ? ['the front matter lacks "guide": add it'] : []),
    ...(isRight
      ? []
      : [
          `the front matter needs minutes: { ${wanted.map((key) => `${key}: …`).join(', ')} }, in this order`,
        ]),
  ];
}

/** What stands before the first heading. */
function sceneProblems({ blocks }: Page): string[] {
  const start = blocks.findIndex((block) => block.type === 'heading' && block.depth === 2);
  const words = countProse(blocks.slice(0, Math.max(start, 0)));
  return words === 0 || words > LIMITS.sceneWords
    ? [`the scene before "${SHORT}" has ${words} words: make them 1 to ${LIMITS.sceneWords}`]
    : [];
}

function shortProblems({ blocks }: Page): string[] {
  const [section] = sections(blocks, 2).filter(({ title }) => title === SHORT);
  if (!section) return [];
  const nodes = [...within(section.content)];
  const points = nodes.filter(({ type }) => type === 'listItem').length;
  const hasPicture = nodes.some(
    (node) => node.type === 'image' || (node.type === 'code' && node.lang === 'mermaid'),
  );
  return [
    ...(points === LIMITS.points
      ? []
      : [`"${SHORT}" has ${points} points: make them ${LIMITS.points}, the pattern and its price`]),
    ...(hasPicture ? [] : [`"${SHORT}" has no picture: draw the pattern as a sequence`]),
  ];
}

/** One heading for each test of In production, in their order, with a link that bears the name of the test. */
function productionProblems(lab: Lab, { blocks }: Page, tests: readonly string[]): string[] {
  const [section] = sections(blocks, 2).filter(({ title }) => title === PARTS.production);
  if (!section || tests.length === 0) return [];
  const file = `/${lab.id}.test.ts`;
  const incidents = sections(section.content, 3).map(({ title, content }) => {
    const link = [...within(content)].find((node) => node.type === 'link' && node.url.endsWith(file));
    return { title, test: link && plain(link) };
  });
  const linked = incidents.flatMap(({ test }) => (test === undefined ? [] : [test]));
  const problems = [
    ...incidents
      .filter(({ test }) => test === undefined)
      .map(({ title }) => `"${title}" links to no test: end it with [its name](…${file})`),
    ...linked
      .filter((name) => !tests.includes(name))
      .map((name) => `"${name}" is linked as a test of ${PARTS.production} and is none: correct the name`),
    ...tests
      .filter((name) => !linked.includes(name))
      .map((name) => `${PARTS.production} has no heading for the test "${name}": add it, with a link to it`),
  ];
  return problems.length > 0 || linked.join('\n') === tests.join('\n')
    ? problems
    : [`the headings of ${PARTS.production} must follow the order of the tests`];
}

export function ladderProblems(lab: Lab, { text }: Page): string[] {
  const wanted = withLadder(text, lab);
  if (wanted === undefined) {
    return [
      'there is no place for the ladder: write <!-- ladder --> and <!-- /ladder --> into "The lab" (of a drill: "Rubric")',
    ];
  }
  return wanted === text ? [] : [`the ladder is not that of ${shown(lab.files.test)}: npm run sync`];
}

/** A learner who reads first still has a lab. */
const openCodeProblems = ({ blocks }: Page): string[] =>
  unfolded(blocks).flatMap((node) =>
    node.type === 'code' && /^file=solutions\//.test(node.meta ?? '')
      ? [`the block ${node.meta} shows the solution: fold it with <details>`]
      : [],
  );

/** A few figures are read; thirty are skipped. */
function measuredProblems({ blocks }: Page): string[] {
  const [section] = sections(blocks, 2).filter(({ title }) => title === 'Measured');
  const rows = unfolded(section?.content ?? []).map((node) =>
    node.type === 'table' ? node.children.length - 1 : 0,
  );
  const shown = rows.reduce((sum, each) => sum + each, 0);
  return shown > LIMITS.rows
    ? [
        `"Measured" shows ${shown} rows: name ${LIMITS.rows} of them, and fold the others (<!-- measured:table rest -->)`,
      ]
    : [];
}

/** What stands outside of <details>. */
function unfolded(blocks: Page['blocks']) {
  let folded = 0;
  return [...within(blocks)].filter((node) => {
    if (node.type === 'html') {
      folded += count(node.value, /<details\b/g) - count(node.value, /<\/details>/g);
    }
    return folded === 0;
  });
}

const count = (text: string, pattern: RegExp): number => [...text.matchAll(pattern)].length;
