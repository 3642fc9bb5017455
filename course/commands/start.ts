import { type Lab, labs } from '../catalog';
import { currentLab } from '../progress';
import { Refusal } from '../refusal';
import { openSession, type Session } from '../session';
import { onEnd } from '../signals';
import { openStack } from '../stack/open';
import { Desk } from './desk';
import { standing } from './study';
import { runLabs } from './test';

/** `npm start`: sets up what is missing, starts the stack, and answers every save of the current lab. */
export async function start(args: readonly string[]): Promise<number> {
  const install = args.includes('--yes') ? 'yes' : 'ask';
  const session = openSession(() => openStack({ install }));
  onEnd(() => session.close());
  try {
    // Nothing else may write while a question about an installation is on the screen.
    await session.opened();
    const current = currentLab(labs());
    const lab = current ?? labs().at(-1);
    if (!lab) throw new Refusal('There is no lab here. Is this a complete copy of the course?');
    if (process.stdin.isTTY && process.stdout.isTTY) return await watchLabs(session, lab);
    // Without a terminal there is nobody to watch for.
    console.log(`${standing()}\n`);
    return current ? await runLabs(session, [current]) : 0;
  } finally {
    await session.close();
  }
}

function watchLabs(session: Session, lab: Lab): Promise<number> {
  const desk = new Desk(session);
  desk.open(lab, standing());
  return desk.left;
}
