import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import type { Bars, Claim, Matrix, Measurement, Plot } from './claims';

/** What `npm run measure -- <id> --write` found, and where: `measured.json` beside the measure. */
export interface MeasuredRecord {
  /** `2026-02-28` */
  readonly date: string;
  readonly node: string;
  /** With versions: "Redis 7.0.15". Empty for a measure in memory. */
  readonly servers: readonly string[];
  readonly cpu: { readonly model: string; readonly count: number };
  readonly claims: readonly Claim[];
  readonly plots: readonly (Plot | Bars)[];
  readonly matrices?: readonly Matrix[];
}

/** Of this machine, now. */
export function recordOf(measurement: Measurement, servers: readonly string[]): MeasuredRecord {
  return {
    date: new Date().toISOString().slice(0, 10),
    node: process.versions.node,
    servers: [...new Set([...servers, ...(measurement.servers ?? [])])],
    cpu: { model: processor(), count: availableParallelism() },
    claims: measurement.claims.map((claim) => ({ ...claim, value: rounded(claim.value, 6) })),
    plots: (measurement.plots ?? []).map(roundedPlot),
    ...(measurement.matrices && { matrices: measurement.matrices }),
  };
}

/** Undefined when nothing has been recorded. */
export function readRecord(path: string): MeasuredRecord | undefined {
  if (!existsSync(path)) return undefined;
  return JSON.parse(readFileSync(path, 'utf8')) as MeasuredRecord;
}

/** JSON with one line for a claim and one for a series, so that a diff shows what changed. */
export function serialise({ claims, plots, matrices, ...machine }: MeasuredRecord): string {
  const plotLines = plots.map((plot) => {
    if ('bars' in plot) return JSON.stringify(plot);
    const { series, ...about } = plot;
    const head = JSON.stringify(about).slice(0, -1);
    return `${head},"series":[\n${lines(series, '      ')}\n    ]}`;
  });
  const matrixLines = matrices?.map(({ rows, ...matrix }) => {
    const head = JSON.stringify(matrix).slice(0, -1);
    return `${head},"rows":[\n${lines(rows, '      ')}\n    ]}`;
  });
  return [
    `${JSON.stringify(machine, undefined, 2).slice(0, -2)},`,
    `  "claims": [\n${lines(claims, '    ')}\n  ],`,
    ...(matrixLines ? [`  "matrices": [\n    ${matrixLines.join(',\n    ')}\n  ],`] : []),
    plots.length === 0 ? '  "plots": []' : `  "plots": [\n    ${plotLines.join(',\n    ')}\n  ]`,
    '}\n',
  ].join('\n');
}

const lines = (items: readonly unknown[], indent: string): string =>
  items.map((item) => indent + JSON.stringify(item)).join(',\n');

/** "Intel Xeon Processor": without the marks of trade. */
const processor = () =>
  cpus()[0]
    ?.model.replace(/\((R|TM)\)/gi, '')
    .trim() || 'unknown processor';

const roundedPlot = (plot: Plot | Bars): Plot | Bars =>
  'bars' in plot
    ? { ...plot, bars: plot.bars.map(([subject, value]) => [subject, rounded(value, 4)] as const) }
    : {
        ...plot,
        series: plot.series.map(({ name, points }) => ({
          name,
          points: points.map(([x, y]) => [rounded(x, 6), rounded(y, 4)] as const),
        })),
      };

const rounded = (value: number, digits: number): number => Number(value.toPrecision(digits));
