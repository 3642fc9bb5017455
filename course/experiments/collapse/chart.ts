/** A value, and how its column is painted. */
export type Column = readonly [value: number, paint: (text: string) => string];

export interface ChartOptions {
  readonly rows: number;
  /** The value at the top. */
  readonly most: number;
  /** Characters of the axis on the left. */
  readonly axis: number;
  readonly unit: string;
}

const EIGHTHS = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/** A column of text for each value, oldest first; a value that is not finite is a gap. */
export function chart(columns: readonly Column[], { rows, most, axis, unit }: ChartOptions): string[] {
  return Array.from({ length: rows }, (_, row) => {
    const below = rows - 1 - row;
    const label = row === 0 ? `${Math.round(most)}${unit}` : below === 0 ? `0${unit}` : '';
    const cells = columns.map(([value, paint]) => {
      const eighths = Number.isFinite(value) ? Math.round((value / most) * rows * 8) - below * 8 : 0;
      // A value of zero is a line on the ground, and not a gap.
      const ground = below === 0 && Number.isFinite(value) ? 1 : 0;
      const cell = EIGHTHS[Math.min(8, Math.max(ground, eighths))] ?? ' ';
      return cell === ' ' ? cell : paint(cell);
    });
    return `${label.padStart(axis - 2)} │${cells.join('')}`.trimEnd();
  });
}
