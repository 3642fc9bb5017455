import { join } from 'node:path';
import { shown } from '../base/root';
import { type Lab, mistakesOf } from '../content/catalog';
import { givenFiles } from '../content/given';
import { storyOf } from '../content/mistake';
import { bannedIn } from './banned';
import { commentsOf, openCode, stringsOf } from './code';
import { headingsOf, openPage, prose } from './page';

/** What a lab's code says to its learner: names and messages of tests, docstrings, mistakes. */
export function codeLanguage(lab: Lab): string[] {
  const { test, starter, mistakes } = lab.files;
  const given = givenFiles(lab);
  const said = (path: string) => stringsOf(openCode(path));
  const documented = (path: string) => commentsOf(openCode(path)).map(({ text }) => asSentence(text));
  return [
    ...[test, ...given].flatMap((path) => problemsIn(path, said(path))),
    ...[starter, ...given].flatMap((path) => problemsIn(path, documented(path))),
    ...mistakesOf(lab)
      .map((name) => join(mistakes, `${name}.diff`))
      .flatMap((path) => problemsIn(path, storyOf(path))),
  ];
}

/** A Markdown file. */
export function pageLanguage(path: string): string[] {
  const { blocks } = openPage(path);
  const headings = [1, 2, 3, 4].flatMap((depth) => headingsOf(blocks, depth));
  return problemsIn(path, [...headings, ...prose(blocks).split('\n')]);
}

/** "What a key stands for." is how a docstring begins. */
const asSentence = (docstring: string): string => docstring.replace(/^What /, '');

const problemsIn = (path: string, texts: readonly string[]): string[] =>
  [...new Set(texts)].flatMap((text) =>
    bannedIn(text).map(({ found, remedy }) => `${shown(path)}: "${found}": ${remedy}`),
  );
