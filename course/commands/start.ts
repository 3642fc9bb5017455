import { Refusal } from '../base/refusal';
import { onEnd } from '../base/signals';
import { type Lab, labs } from '../content/catalog';
import { openSession, type Session } from '../run/session';
import { currentLab } from '../run/standing';
import { openServers } from '../servers/open';
import { standing } from './study';
import { choose, runLabs } from './test';
import { WatchMode } from './watch-mode';

/** `npm start`: sets up what is missing, starts the servers, and answers every save of the current lab. */
export async function start(names: readonly string[], { yes }: { yes: boolean }): Promise<number> {
  const install = yes ? 'yes' : 'ask';
  const session = openSession(() => openServers({ install }));
  onEnd(() => session.close());
  try {
    // Nothing else may write while a question about an installation is on the screen.
    await session.opened();
    const current = names.length > 0 ? choose(names)[0] : currentLab(labs());
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
  const watchMode = new WatchMode(session);
  watchMode.open(lab, standing());
  return watchMode.left;
}
