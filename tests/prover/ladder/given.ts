/** How many values are kept at most. */
export const LIMIT = 3;

/** Resolves with the value of a key. */
export type Load = (key: string) => Promise<string>;
