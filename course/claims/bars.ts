import { scaleLinear } from 'd3-scale';
import type { Bars } from './claims';
import { colourOf, FONT, headOf, px, rule, svg, WIDTH, write } from './plot-ink';
import { textWidth, wrap } from './plot-text';

const LABEL_CHARACTERS = 34;
const LINE_HEIGHT = 16;
const THICKNESS = 20;
const GAP = 14;

const PLAIN = new Intl.NumberFormat('en-US', { maximumSignificantDigits: 4 });

/** Bars that lie, each with its subject before it and its number behind it. The same bars always give the same text. */
export function drawBars({ name, title, label, bars }: Bars): string {
  const values = bars.map(([, value]) => value);
  const wrong = values.find((value) => !Number.isFinite(value) || value < 0);
  if (values.length === 0 || wrong !== undefined) {
    const why = wrong === undefined ? 'there are none' : `${wrong} has no length`;
    throw new Error(`bars ${name}: ${why}. Leave such bars out in measure.ts.`);
  }
  const subjects = bars.map(([subject]) => wrap(subject, LABEL_CHARACTERS));
  const numbers = values.map((value) => PLAIN.format(value));
  const left = 24 + widest(subjects.flat());
  const x = scaleLinear([0, Math.max(...values) || 1], [left, WIDTH - 24 - widest(numbers)]);

  const top = headOf(title) + 30;
  let y = top;
  const rows = bars.flatMap(([, value], index) => {
    const lines = subjects[index] ?? [];
    const height = Math.max(THICKNESS, lines.length * LINE_HEIGHT);
    const middle = y + height / 2;
    y += height + GAP;
    const first = middle - (lines.length * LINE_HEIGHT) / 2 + LINE_HEIGHT - 4;
    const length = Math.max(1, x(value) - left);
    return [
      ...lines.map((line, row) =>
        write(line, left - 10, first + row * LINE_HEIGHT, 'class="ink" text-anchor="end"'),
      ),
      `<rect class="f0" fill="${colourOf(0).mid}" x="${px(left)}" y="${px(middle - THICKNESS / 2)}" width="${px(length)}" height="${THICKNESS}"/>`,
      write(numbers[index] ?? '', left + length + 8, middle + 4.5, 'class="ink"'),
    ];
  });
  return svg(title, y + 6, 1, [
    write(label, left, top - 12, 'class="ink"'),
    ...rows,
    rule(`M${px(left)} ${px(top - 4)}V${px(y - GAP + 4)}`, 0.7),
  ]);
}

const widest = (texts: readonly string[]) => Math.max(...texts.map((text) => textWidth(text, FONT)));
