import { isHere, labs } from '../content/catalog';
import { dockerWorks } from '../servers/docker';
import { installPeers, installServers } from '../servers/install';
import { openServers } from '../servers/open';
import { missingServers } from '../servers/packages';
import { ServerError } from '../servers/server';
import { type Finding, findings, INCOMPLETE } from './findings';

/**
 * Lists what this machine has for the course, and what to do about the rest. 0 when servers can be opened, else 2.
 * With `--install`, installs missing servers first; with `--peers` too, the caches that measures compare with.
 */
export async function doctor({ install, peers }: { install: boolean; peers: boolean }): Promise<number> {
  const say = (progress: string) => process.stdout.write(`${progress}\n`);
  if (install && missingServers().length > 0) await installServers('yes', say);
  if (install && peers) await installPeers(say);
  const docker = await dockerWorks();
  const lists = await findings(docker);
  process.stdout.write(`${lists.map(line).join('\n')}\n\n`);
  return verdict(docker);
}

function line({ name, found, remedy, needed }: Finding): string {
  const mark = found ? (remedy ? '!' : '✓') : needed ? '✗' : '·';
  return `${mark} ${name.padEnd(22)} ${[found, remedy].filter(Boolean).join(' — ')}`;
}

/** Opens the servers that a run would open. Containers are not started for it: that can take minutes. */
async function verdict(docker: boolean): Promise<number> {
  const all = labs();
  if (!all.some(isHere)) {
    const remedy =
      all.length > 0 ? 'The labs are missing. Bring them back: npm run reset -- all' : INCOMPLETE;
    process.stdout.write(`Not ready. ${remedy}\n`);
    return 2;
  }
  const way = process.env.COURSE_SERVERS;
  const byUrls = process.env.REDIS_URL ?? process.env.MYSQL_URL;
  if (docker && (way === 'compose' || (!way && !byUrls && missingServers().length > 0))) {
    process.stdout.write('Ready: the labs will run in containers (docker compose). Begin with: npm start\n');
    return 0;
  }
  try {
    const servers = await openServers({ install: 'no' });
    await servers.close();
    const where =
      servers.kind === 'given' ? 'the servers of REDIS_URL and MYSQL_URL' : 'servers of their own';
    process.stdout.write(
      `Ready: Redis and MySQL were started or reached, and the labs will use ${where}. Begin with: npm start\n`,
    );
    return 0;
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    process.stdout.write(`Not ready. ${error.message}\n`);
    return 2;
  }
}
