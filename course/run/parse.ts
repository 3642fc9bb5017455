import { existsSync, readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { type ModuleItem, parseSync } from '@swc/core';
import { shown } from '../base/root';

/** Names that a TypeScript file exports as values; undefined where only running it would tell. */
export function valueExports(file: string): Set<string> | undefined {
  const names = new Set<string>();
  try {
    const { body } = parseSync(readFileSync(file, 'utf8'), { syntax: 'typescript', decorators: true });
    for (const item of body) {
      const found = exportsOf(item, file);
      if (!found) return undefined;
      for (const name of found) names.add(name);
    }
    return names;
  } catch {
    // Syntax errors, and files that cannot be read, are told with their place by the run.
    return undefined;
  }
}

/** Where a file uses a decorator, which the engine that runs it would answer without a place. */
export function decoratorIn(file: string): string | undefined {
  try {
    parseSync(readFileSync(file, 'utf8'), { syntax: 'typescript' });
    return undefined;
  } catch (error) {
    const [, line] = /Unexpected token `@`[\s\S]*?\[(\d+):\d+\]/.exec(String(error)) ?? [];
    return line && `${shown(file)}:${line}`;
  }
}

function exportsOf(item: ModuleItem, file: string): Iterable<string> | undefined {
  switch (item.type) {
    case 'ExportDeclaration':
      return declared(item.declaration);
    case 'ExportDefaultDeclaration':
    case 'ExportDefaultExpression':
      return ['default'];
    case 'ExportNamedDeclaration':
      return item.specifiers.flatMap((specifier) => {
        if (specifier.type !== 'ExportSpecifier') return [];
        return [(specifier.exported ?? specifier.orig).value];
      });
    case 'ExportAllDeclaration': {
      const other = resolve(dirname(file), `${item.source.value.replace(/\.ts$/, '')}.ts`);
      return existsSync(other) ? valueExports(other) : undefined;
    }
    default:
      return [];
  }
}

type Declaration = Extract<ModuleItem, { type: 'ExportDeclaration' }>['declaration'];

function declared(declaration: Declaration): string[] | undefined {
  switch (declaration.type) {
    case 'ClassDeclaration':
    case 'FunctionDeclaration':
      return [declaration.identifier.value];
    case 'VariableDeclaration': {
      const names = declaration.declarations.map(({ id }) =>
        id.type === 'Identifier' ? id.value : undefined,
      );
      // Taken out of an object or a list: rare, and not worth a walk.
      return names.every((name) => name !== undefined) ? names : undefined;
    }
    case 'TsEnumDeclaration':
      return [declaration.id.value];
    default:
      return [];
  }
}
