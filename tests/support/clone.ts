import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { ROOT } from '../../course/base/root';
import { type ScratchCourse, scratchCourse } from '../prover/scratch';
import { run } from './course';

/** A folder with a git repository. */
export class Repository {
  readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
  }

  git(...args: readonly string[]): string {
    const who = [
      '-c',
      'user.name=Someone',
      '-c',
      'user.email=someone@example.org',
      '-c',
      'commit.gpgsign=false',
    ];
    return execFileSync('git', [...who, ...args], {
      cwd: this.folder,
      encoding: 'utf8',
      stdio: 'pipe',
    }).trim();
  }

  read = (path: string) => readFileSync(join(this.folder, path), 'utf8');
  has = (path: string) => existsSync(join(this.folder, path));
  status = () => this.git('status', '--porcelain', '--untracked-files=all').split('\n').filter(Boolean);

  write(path: string, text: string): void {
    mkdirSync(dirname(join(this.folder, path)), { recursive: true });
    writeFileSync(join(this.folder, path), text);
  }

  commit(subject: string): void {
    this.git('add', '--all');
    this.git('commit', '--quiet', '--message', subject);
  }

  /** Every file below `path`, by its content. */
  contents(path: string): Map<string, string> {
    if (!this.has(path)) return new Map();
    const files = readdirSync(join(this.folder, path), { recursive: true, withFileTypes: true });
    return new Map(
      files
        .filter((file) => file.isFile())
        .map((file) => join(file.parentPath, file.name))
        .map((file) => [file.slice(this.folder.length + 1), readFileSync(file, 'utf8')]),
    );
  }

  /** A command of the course. */
  course = (args: readonly string[], env = {}) => run(this.folder, ['course/cli.cjs', ...args], env);

  /** As a learner has it, with packages installed and a name for commits. */
  clone(folder: string): Repository {
    execFileSync('git', ['clone', '--quiet', this.folder, folder]);
    symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
    const clone = new Repository(folder);
    clone.git('config', 'user.name', 'Learner');
    clone.git('config', 'user.email', 'learner@example.org');
    return clone;
  }
}

/** A published course of small labs, which tests clone. */
export function publishedCourse(labs: Parameters<typeof scratchCourse>[0]) {
  const { root, place }: ScratchCourse = scratchCourse(labs);
  const template = new Repository(root);
  template.write('.gitignore', 'node_modules\n.course/\n');
  template.git('init', '--quiet', '--initial-branch', 'main');
  template.commit('The course');
  const folders = [root];
  return {
    place,
    /** A course of its own and a clone of it. */
    pair() {
      const home = realpathSync(mkdtempSync(join(tmpdir(), 'course-update-')));
      folders.push(home);
      const upstream = template.clone(join(home, 'upstream'));
      return { upstream, learner: upstream.clone(join(home, 'learner')) };
    },
    end() {
      for (const folder of folders) rmSync(folder, { recursive: true, force: true });
    },
  };
}
