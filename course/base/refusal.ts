/** The command cannot be carried out as it was given: the message says why and what to do. Exit code 2. */
export class Refusal extends Error {
  override name = 'Refusal';
}

/** What a refusal says. Anything else is thrown on. */
export function messageOrThrow(error: unknown): string {
  if (error instanceof Refusal) return error.message;
  throw error;
}
