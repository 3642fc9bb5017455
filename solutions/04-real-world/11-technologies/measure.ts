import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { defineMeasure, type Measurement } from '#claims';
import { missingPeers, type PeerName, peerBinary } from '../../../course/servers/packages';
import { bufferPoolClaims } from './buffer-pool';
import { failoverClaims, refusalClaim, sentinelClaim } from './failover';
import { leaseClaims } from './memcached';
import { peerVersions } from './peers';
import { slabClaims } from './slabs';
import { speedClaims } from './speed';
import { nginxClaims, originBars, varnishClaims } from './web';

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redisUrl, db } = servers();
    for (const name of missingPeers()) {
      process.stderr.write(
        `${name} is not installed: its figures are the recorded ones. To measure them: npm run doctor -- --install --peers\n`,
      );
    }
    // What is timed has the machine for itself. All others wait or count, and run at once.
    const speed = await withPeer('memcached', /^(get|local)-/, async () => ({
      claims: await speedClaims(redisUrl, quick),
    }));
    const pool = await bufferPoolClaims(db, quick);
    const [slabs, ...counted] = await Promise.all([
      withPeer('memcached', /^memcached-slab|^slabs$/, () => slabClaims(quick)),
      withPeer('memcached', /^memcached-l/, async () => ({ claims: await leaseClaims(quick ? 20 : 200) })),
      withPeer('nginx', /^nginx-/, async () => ({ claims: await nginxClaims(quick) })),
      withPeer('varnish', /^varnish-/, async () => ({ claims: quick ? [] : await varnishClaims() })),
      replicas(quick),
    ]);
    const claims = [speed, { claims: pool }, slabs, ...counted].flatMap((part) => part.claims);
    if (quick) return { claims: claims.filter(({ atLeast, atMost }) => (atLeast ?? atMost) !== undefined) };
    return { claims, plots: [...(slabs.plots ?? []), originBars(claims)], servers: peerVersions() };
  },
});

async function replicas(quick: boolean): Promise<Part> {
  const lost = failoverClaims(quick ? 50 : 500);
  const late = quick ? [] : [refusalClaim(), sentinelClaim()];
  return { claims: (await Promise.all([lost, ...late])).flat() };
}

type Part = Pick<Measurement, 'claims' | 'plots'>;

/** Measures where the peer is installed; elsewhere it takes from the record what is named so. */
async function withPeer(name: PeerName, recorded: RegExp, measure: () => Promise<Part>): Promise<Part> {
  if (peerBinary(name)) return measure();
  const file = join(import.meta.dirname, 'measured.json');
  if (!existsSync(file)) return { claims: [] };
  const { claims, plots = [] }: Measurement = JSON.parse(readFileSync(file, 'utf8'));
  return {
    claims: claims.filter((claim) => recorded.test(claim.name)),
    plots: plots.filter((plot) => recorded.test(plot.name)),
  };
}
