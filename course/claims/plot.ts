import {
  line,
  symbol,
  symbolCircle,
  symbolCross,
  symbolDiamond,
  symbolSquare,
  symbolStar,
  symbolTriangle,
  symbolWye,
} from 'd3-shape';
import type { Plot, Series } from './claims';
import { type Axis, axis } from './plot-axes';
import { COLOURS, colourOf, FONT, headOf, px, rule, svg, WIDTH, write } from './plot-ink';
import { spread, textWidth, wrap } from './plot-text';

const HEIGHT = 420;
const LINE_HEIGHT = 16;
const LABEL_CHARACTERS = 22;
const MARKS = 12;

const SHAPES = [
  symbolCircle,
  symbolSquare,
  symbolTriangle,
  symbolDiamond,
  symbolCross,
  symbolWye,
  symbolStar,
];
const DASHES = ['', '7 4', '2 3', '10 3 2 3', '5 2', '12 5', '1 4'];

/** The plot as an SVG of its own, with a transparent ground. The same plot always gives the same text. */
export function drawPlot(plot: Plot): string {
  const top = headOf(plot.title) + 18;
  const labels = plot.series.length > 1 ? plot.series.map(({ name }) => wrap(name, LABEL_CHARACTERS)) : [];
  const widest = Math.max(0, ...labels.flat().map((text) => textWidth(text, FONT)));
  const bottom = HEIGHT - 56;
  const y = axis(plot, 'y', [bottom, top]);
  const left = 22 + Math.max(...y.ticks.map(({ text }) => textWidth(text, FONT)));
  const right = WIDTH - (widest > 0 ? widest + 40 : 24);
  const x = axis(plot, 'x', [left, right]);

  return svg(plot.title, HEIGHT, plot.series.length, [
    ...grid(x, y, { left, right, top, bottom }),
    write(plot.y.label, 12, top - 14, 'class="ink"'),
    write(plot.x.label, (left + right) / 2, HEIGHT - 12, 'class="ink" text-anchor="middle"'),
    ...plot.series.flatMap((series, index) => curve(series, index, x, y)),
    ...sideLabels(plot.series, labels, { x, y, right, top, bottom }),
  ]);
}

interface Frame {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

function grid(x: Axis, y: Axis, { left, right, top, bottom }: Frame): string[] {
  const down = x.ticks.flatMap(({ value, text }) => {
    const at = px(x.scale(value));
    return [
      rule(`M${at} ${px(top)}V${px(bottom)}`, 0.15),
      write(text, x.scale(value), bottom + 20, 'class="ink" text-anchor="middle"'),
    ];
  });
  const across = y.ticks.flatMap(({ value, text }) => {
    const at = px(y.scale(value));
    return [
      rule(`M${px(left)} ${at}H${px(right)}`, 0.15),
      write(text, left - 8, y.scale(value) + 4.5, 'class="ink" text-anchor="end"'),
    ];
  });
  return [...down, ...across, rule(`M${px(left)} ${px(bottom)}H${px(right)}`, 0.7)];
}

function curve({ points }: Series, index: number, x: Axis, y: Axis): string[] {
  const sorted = [...points].sort((a, b) => a[0] - b[0]);
  const path = line<readonly [number, number]>(
    ([value]) => x.scale(value),
    ([, value]) => y.scale(value),
  ).digits(1);
  const dash = DASHES[index % DASHES.length];
  const colour = index % COLOURS.length;
  // Many points would hide their line under their marks: then some carry one, and each series its own.
  const every = Math.ceil(sorted.length / MARKS);
  const marked = sorted.filter((_, at) => every === 1 || at % every === index % every);
  return [
    `<path class="curve s${colour}" stroke="${colourOf(index).mid}" fill="none"${dash ? ` stroke-dasharray="${dash}"` : ''} d="${path(sorted) ?? ''}"/>`,
    ...marked.map(([px0, py0]) => mark(index, x.scale(px0), y.scale(py0))),
  ];
}

/** Names stand where their lines end. A name that had to move is tied to its line. */
function sideLabels(
  series: readonly Series[],
  labels: readonly (readonly string[])[],
  { x, y, right, top, bottom }: Omit<Frame, 'left'> & { x: Axis; y: Axis },
): string[] {
  const blocks = labels.flatMap((text, index) => {
    const end = [...(series[index]?.points ?? [])].sort((a, b) => a[0] - b[0]).at(-1);
    if (!end) return [];
    const want = y.scale(end[1]);
    return [{ index, text, endX: x.scale(end[0]), want, height: text.length * LINE_HEIGHT + 4 }];
  });
  const middles = spread(blocks, top - 8, bottom + 16);
  return blocks.flatMap((block) => {
    const { index, text, endX, want, height } = block;
    const middle = middles.get(block) ?? want;
    const first = middle - height / 2 + LINE_HEIGHT - 2;
    return [
      rule(`M${px(endX + 6)} ${px(want)}L${px(right + 10)} ${px(middle)}`, 0.5),
      mark(index, right + 18, middle),
      ...text.map((words, row) =>
        write(
          words,
          right + 28,
          first + row * LINE_HEIGHT,
          `class="f${index % COLOURS.length}" fill="${colourOf(index).mid}"`,
        ),
      ),
    ];
  });
}

const mark = (index: number, x: number, y: number): string =>
  `<path class="f${index % COLOURS.length}" fill="${colourOf(index).mid}" transform="translate(${px(x)} ${px(y)})" d="${symbol(SHAPES[index % SHAPES.length], 44).digits(1)() ?? ''}"/>`;
