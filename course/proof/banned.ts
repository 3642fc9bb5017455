/** English that readers stumble over, with what to write instead. */
export interface Banned {
  readonly pattern: RegExp;
  readonly remedy: string;
}

const phrase = (pattern: string, remedy: string): Banned => ({
  pattern: new RegExp(`\\b(?:${pattern.replaceAll(' ', '\\s+')})(?!\\w)`, 'iu'),
  remedy,
});

/** One list for lessons, hints, pages, names and messages of tests, docstrings and mistakes. */
export const BANNED: readonly Banned[] = [
  phrase(
    '(?<!there )(?:is|are|was|were) no (?!longer\\b|more\\b|less\\b|\\w+er than\\b)\\w+',
    'write "is not a …", or "there is no …"',
  ),
  phrase('for ever', 'write "forever"'),
  phrase('whoever|whomever', 'name the caller, the reader or the process'),
  {
    // As a noun; a question may begin so.
    pattern: /(?:^|[.!]\s+)(?:Who|What)\s[^?.!\n]*[.!]|^(?:who|what)\s[^?:]*$/u,
    remedy: 'name the subject: "A caller that …", "A value that …"',
  },
  phrase('for want of|would else', 'say it in everyday words'),
  phrase('dear|dearer|dearest', 'write "expensive"'),
  phrase('mend|mends|mended|mending', 'write "fix"'),
  phrase('(?:is|are|was|were|be|been) told', 'write who sends what, or "is rejected by the test"'),
  phrase('hears? of|heard of', 'write "receives", "sees" or "is called with"'),
  phrase('the matter of', 'name the part that is responsible'),
  phrase("the latter|the former|another's|the other's", 'repeat the noun'),
  phrase('owed|owes|owing|debts?', 'write "pending" or "unconfirmed"'),
  phrase('crowds?', 'write "readers", "concurrent reads" or "cache stampede"'),
  phrase("let's dive in|dive into|blazing|game.changer|seamless(?:ly)?", 'say what it does'),
];

/** What is banned in a text, each as it stands there. */
export function bannedIn(text: string): { readonly found: string; readonly remedy: string }[] {
  return BANNED.flatMap(({ pattern, remedy }) => {
    const [found] = pattern.exec(text) ?? [];
    return found === undefined ? [] : [{ found: found.replace(/\s+/g, ' ').trim(), remedy }];
  });
}
