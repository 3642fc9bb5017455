import { dirname, join, relative, resolve } from 'node:path';
import ts from 'typescript';

const ROOT = resolve(import.meta.dirname, '../..');

/**
 * Type-checks single files in a process of its own, so that the tests need not wait for the compiler to load.
 * Answers each `{ file }` over IPC with the errors found, as `lru.ts:12:3 Type 'string' is not …`.
 */
export function types(): void {
  let program: ts.Program | undefined;
  const { config } = ts.readConfigFile(join(ROOT, 'tsconfig.json'), ts.sys.readFile);
  const { options } = ts.parseJsonConfigFileContent(
    { ...config, include: [], files: ['x.ts'] },
    ts.sys,
    ROOT,
  );
  const host = ts.createCompilerHost(options);
  const parsed = new Map<string, ts.SourceFile>();
  const parse = host.getSourceFile;
  // Declarations of libraries are parsed once; the learner's file each time.
  host.getSourceFile = (name, ...rest) => {
    const source = (name.endsWith('.d.ts') && parsed.get(name)) || parse(name, ...rest);
    if (source) parsed.set(name, source);
    return source;
  };
  process.on('disconnect', () => process.exit());
  process.on('message', ({ file }: { file: string }) => {
    program = ts.createProgram([file], options, host, program);
    const source = program.getSourceFile(file);
    const found = source
      ? [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)]
      : [];
    process.send?.({ file, errors: found.map((diagnostic) => shown(diagnostic, dirname(file))) });
  });
}

function shown({ file, start, messageText }: ts.Diagnostic, folder: string): string {
  const text = ts.flattenDiagnosticMessageText(messageText, ' ');
  if (!file || start === undefined) return text;
  const { line, character } = file.getLineAndCharacterOfPosition(start);
  return `${relative(folder, file.fileName)}:${line + 1}:${character + 1} ${text}`;
}
