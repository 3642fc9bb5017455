import { labs } from '../catalog';
import { proveLabs } from '../proof/labs';
import { openStack } from '../stack/open';
export async function verify(args: readonly string[]): Promise<number> {
  const stacks = await Promise.all([openStack(), openStack()]);
  const t = performance.now();
  const chosen = labs().filter((lab) => args.length === 0 || args.includes(lab.id));
  console.log((await proveLabs(chosen, stacks)).join('\n'), performance.now() - t);
  await Promise.all(stacks.map((s) => s.close()));
  return 0;
}
