import { escapeXml, wrap } from './plot-text';

/** What all pictures of a measure share: size, letters, colours. */

export const WIDTH = 720;
export const FONT = 13;
const TITLE_CHARACTERS = 74;
const TITLE_HEIGHT = 20;

/** For colour-blind eyes too (after Okabe and Ito). The first of each is a mid-tone that reads on white and on black. */
export const COLOURS = [
  { mid: '#2f86c9', light: '#0067a5', dark: '#58b4f0' },
  { mid: '#d9641e', light: '#b84300', dark: '#ff9350' },
  { mid: '#1a9c78', light: '#00755a', dark: '#3bcfa3' },
  { mid: '#bf5f9f', light: '#9c3f7b', dark: '#e894c8' },
  { mid: '#96811c', light: '#756200', dark: '#dcc04a' },
  { mid: '#848a91', light: '#5a6068', dark: '#b4bac2' },
  { mid: '#a8655a', light: '#8a4439', dark: '#d99a8f' },
] as const;
const INK = { mid: '#7a828b', light: '#3d444d', dark: '#c6cdd5' } as const;

/** An SVG of its own, with a transparent ground. @param colours how many of them its parts use */
export const svg = (title: string, height: number, colours: number, parts: readonly string[]): string =>
  `${[
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img">`,
    `<title>${escapeXml(title)}</title>`,
    style(colours),
    ...wrap(title, TITLE_CHARACTERS).map((text, index) =>
      write(text, 12, 26 + index * TITLE_HEIGHT, 'class="ink title"'),
    ),
    ...parts,
    '</svg>',
  ].join('\n')}\n`;

/** Where the picture begins below its title. */
export const headOf = (title: string): number => 24 + wrap(title, TITLE_CHARACTERS).length * TITLE_HEIGHT;

function style(series: number): string {
  const rules = (tone: 'mid' | 'light' | 'dark') =>
    [
      `.ink{fill:${INK[tone]}}.rule{stroke:${INK[tone]}}`,
      ...Array.from({ length: Math.min(series, COLOURS.length) }, (_, index) => {
        const colour = colourOf(index)[tone];
        return `.s${index}{stroke:${colour}}.f${index}{fill:${colour}}`;
      }),
    ].join('');
  return [
    '<style>',
    `text{font:${FONT}px system-ui,sans-serif}.title{font-size:15px;font-weight:600}.curve{fill:none;stroke-width:2.2;stroke-linejoin:round}.rule{stroke-width:1;fill:none}`,
    rules('mid'),
    `@media (prefers-color-scheme:light){${rules('light')}}`,
    `@media (prefers-color-scheme:dark){${rules('dark')}}`,
    '</style>',
  ].join('\n');
}

export const rule = (path: string, opacity: number): string =>
  `<path class="rule" stroke="${INK.mid}" opacity="${opacity}" d="${path}"/>`;

export const write = (text: string, x: number, y: number, attributes: string): string =>
  `<text x="${px(x)}" y="${px(y)}" ${attributes.includes('fill=') ? attributes : `${attributes} fill="${INK.mid}"`}>${escapeXml(text)}</text>`;

export const colourOf = (index: number) => COLOURS[index % COLOURS.length] ?? COLOURS[0];

/** One decimal is below what a screen shows, and the same on every machine. */
export const px = (value: number): string => String(Math.round(value * 10) / 10);
