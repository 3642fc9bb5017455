export const escapeXml = (text: string): string =>
  text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);

/** Lines of at most `width` characters, broken between words; a longer word stands alone. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(/\s+/).filter(Boolean)) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= width)
      lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}

/** Pixels, near enough for room on a side: system fonts differ. */
export const textWidth = (text: string, fontSize: number): number => text.length * fontSize * 0.56;

interface Block {
  /** Where its middle would like to be. */
  readonly want: number;
  readonly height: number;
}

/** Middles of blocks that do not overlap, each as near as may be to where it wants to be, between `top` and `bottom`. */
export function spread<B extends Block>(blocks: readonly B[], top: number, bottom: number): Map<B, number> {
  const sorted = [...blocks].sort((a, b) => a.want - b.want);
  const middles = new Map<B, number>();
  let free = top;
  for (const block of sorted) {
    const middle = Math.max(block.want, free + block.height / 2);
    middles.set(block, middle);
    free = middle + block.height / 2;
  }
  // What was pushed below the bottom pushes back.
  free = bottom;
  for (const block of sorted.reverse()) {
    const middle = Math.min(middles.get(block) ?? block.want, free - block.height / 2);
    middles.set(block, middle);
    free = middle - block.height / 2;
  }
  return middles;
}
