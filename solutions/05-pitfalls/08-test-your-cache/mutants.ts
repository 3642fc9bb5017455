import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import ts from 'typescript';
import type { CreatePrices } from './prices';

const FILE = join(import.meta.dirname, 'prices.ts');

/** What a colleague could write, and no test may accept. */
export interface Mutant {
  readonly name: string;
  readonly from: string;
  readonly to: string;
}

const EVAL = 'await optional(redis.eval(FILL, 2, key, lease, token, JSON.stringify(price), TTL_MS));';
const UPDATE =
  "await db.query('UPDATE prices SET cents = ? WHERE id = ?', [cents, id]);\n" +
  '      const deleted = await optional(redis.del(keyOf(id), leaseOf(id)));';
const LEASE = "await optional(redis.set(lease, token, 'PX', 5000));\n      const price = await select(id);";
const SET = "redis.set(key, JSON.stringify(price), 'PX', TTL_MS)";

// #region mutants
export const MUTANTS: readonly Mutant[] = [
  { name: 'takes a price of 0 for a miss', from: 'cached !== null', to: 'cached && JSON.parse(cached)' },
  { name: 'stores with EX instead of PX', from: "ARGV[2], 'PX'", to: "ARGV[2], 'EX'" },
  { name: 'fills by a plain SET', from: EVAL, to: `await optional(${SET});` },
  // #endregion
  { name: 'has one key for all ids', from: '= [keyOf(id)', to: "= ['price'" },
  { name: 'stores without a TTL', from: ", 'PX', ARGV[3])", to: ')' },
  { name: 'does not cache absence', from: EVAL, to: `if (price !== null) ${EVAL}` },
  { name: 'does not invalidate', from: 'redis.del(keyOf(id), leaseOf(id))', to: 'Promise.resolve(1)' },
  {
    name: 'waits for Redis',
    from: 'Promise.race([answer.catch(() => null), sleep(deadlineMs, null, { ref: false })])',
    to: 'answer.catch(() => null)',
  },
  { name: 'fails a read when GET fails', from: 'optional(redis.get(key))', to: 'redis.get(key)' },
  { name: 'fails a read when the fill fails', from: EVAL, to: EVAL.replace(/optional\((.*)\);/, '$1;') },
  {
    name: 'fails a write that has committed',
    from: 'optional(redis.del(keyOf(id), leaseOf(id)))',
    to: 'redis.del(keyOf(id), leaseOf(id))',
  },
  { name: 'hides an unconfirmed DEL', from: 'if (deleted === null) onPending(id);', to: '' },
  {
    name: 'checks the lease, then stores',
    from: EVAL,
    to: `if ((await optional(redis.get(lease))) === token) await optional(${SET});`,
  },
  { name: 'loads before it takes the lease', from: LEASE, to: LEASE.split('\n').reverse().join('\n') },
  {
    name: 'leaves the lease to the reader',
    from: 'redis.del(keyOf(id), leaseOf(id))',
    to: 'redis.del(keyOf(id))',
  },
  { name: 'invalidates before the commit', from: UPDATE, to: UPDATE.split('\n').reverse().join('\n') },
  { name: 'gives all readers one token', from: 'randomUUID()', to: "'token'" },
];

// #region load
/** The subject with one mutant in it. @throws where the mutant fits nowhere: the subject has changed since */
export function load({ name, from, to }: Mutant): CreatePrices {
  const source = readFileSync(FILE, 'utf8');
  if (!source.includes(from)) throw new Error(`${name}: "${from}" is not in ${FILE}. Correct the mutant.`);
  const { outputText } = ts.transpileModule(
    source.replaceAll(from, () => to),
    {
      compilerOptions: { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022 },
    },
  );
  const exports: { createPrices?: CreatePrices } = {};
  new Function('exports', 'require', outputText)(exports, createRequire(FILE));
  if (!exports.createPrices) throw new Error(`${name}: exports no createPrices`);
  return exports.createPrices;
}
// #endregion
