/** One value for all that runs in this thread: `vi.resetModules()` in a test loads the modules of the kit again. */
export function perThread<T extends object>(name: string, make: () => T): T {
  const kept = globalThis as unknown as Record<symbol, T | undefined>;
  const key = Symbol.for(`caching-deep-dive: ${name}`);
  kept[key] ??= make();
  return kept[key];
}
