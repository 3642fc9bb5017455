import { nearest } from '../base/nearest';
import { Refusal } from '../base/refusal';
import { onEnd } from '../base/signals';
import { CAUSES, type Cause, causeNamed, FACTS } from '../experiments/incidents/facts';
import { wrap } from '../screen/terminal';
import { IncidentDesk, WAYS } from './incident-desk';
import { lastIncident, rememberIncident } from './incident-last';
import { openIncident } from './incident-servers';

/** Brings an incident up on private servers, for a person who looks for the cause by hand. */
export async function incident(names: readonly string[]): Promise<number> {
  const [name, ...others] = names;
  if (others.length > 0) throw new Refusal('npm run incident takes one name: one incident at a time.');
  if (name === 'list') {
    console.log(listing());
    return 0;
  }
  const cause = name === undefined ? randomCause() : causeOf(name);
  const { stdin, stdout } = process;
  const atTerminal = Boolean(stdin.isTTY && stdout.isTTY);

  console.log('Bringing a shop up, with something in it …');
  const running = openIncident(cause);
  onEnd(() => running.close());
  try {
    const { lines, culprits } = await running.opened;
    rememberIncident(cause);
    console.log(`\n${wrap(FACTS[cause].symptom)}\n\nTo look around, in another terminal:\n\n${lines}\n`);
    console.log(wrap('Its traffic goes on. What is the cause?'));
    console.log(`\n${WAYS}\n`);
    if (atTerminal) return await new IncidentDesk(cause, culprits).left;
    console.log('It stays up until Ctrl-C. At a terminal, it also tells whether you are right.');
    // Until a signal comes: the process waits for nothing else.
    return await new Promise<number>(() => {});
  } finally {
    await running.close();
  }
}

function listing(): string {
  const rows = CAUSES.map((cause) => {
    const { name, symptom } = FACTS[cause];
    return `${name}\n${wrap(symptom, '  ')}`;
  });
  return `${rows.join('\n')}\n\nOne of them: npm run incident -- ${FACTS[CAUSES[0]].name}. Any: npm run incident`;
}

/** Another one than the last time. */
function randomCause(): Cause {
  const last = lastIncident();
  const choices = CAUSES.filter((cause) => cause !== last);
  return choices[Math.floor(Math.random() * choices.length)] ?? CAUSES[0];
}

/** @throws {Refusal} with the nearest names */
function causeOf(name: string): Cause {
  const cause = causeNamed(name.toLowerCase());
  if (cause) return cause;
  const near = nearest(
    name,
    CAUSES.map((each) => FACTS[each].name),
  );
  const meant = near.length > 0 ? ` Did you mean ${near.join(' or ')}?` : '';
  throw new Refusal(`There is no incident "${name}".${meant}\nAll of them: npm run incident -- list`);
}
