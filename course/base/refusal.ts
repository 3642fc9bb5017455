/** The command cannot be carried out as it was given: the message says why and what to do. Exit code 2. */
export class Refusal extends Error {
  override name = 'Refusal';
}
