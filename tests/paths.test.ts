import { expect, test } from 'vitest';
import { isDrill, labs, overviews } from '../course/content/catalog';
import { minutesOf, paths, STEPS } from '../course/content/paths';

const lessons = new Map([...labs(), ...overviews()].map((lesson) => [lesson.files.lesson, lesson]));
const all = paths();
const steps = all.flatMap(({ groups }) => groups).flatMap((group) => group.steps);

test('there is a path for each need', () => {
  expect(all.map(({ id }) => id)).toEqual(['interview', 'work', 'everything']);
});

test('each step is of a kind, and calls its lesson by its number and title', () => {
  const wrong = steps.filter(({ kind, text, lesson }) => {
    if (!(kind in STEPS)) return true;
    if (lesson === undefined) return !text.startsWith('npm run ');
    const named = lessons.get(lesson);
    return text !== `${named?.number} ${named?.title}` || (kind === 'Drill') !== (named && isDrill(named));
  });
  expect(wrong).toEqual([]);
});

test('"Interview in a week" takes the hours that it says, and at most two a day', () => {
  const [week] = all;
  const days = week?.groups.map((day) => day.steps.reduce((sum, step) => sum + minutesOf(step), 0)) ?? [];
  const total = days.reduce((sum, minutes) => sum + minutes, 0);
  expect(week?.about).toContain(`About ${Math.round(total / 60)} hours`);
  expect(days.filter((minutes) => minutes > 120)).toEqual([]);
});
