import { COUNT, type Command, script } from './options';
import { SIMULATE_HELP, SIZES } from './simulate-help';

const PATH = { pattern: /./, words: 'interview, work or everything' };
const LABS = '[LAB, CHAPTER or all …]';

const LEVEL = { pattern: /^(junior|mid|senior|staff)$/, words: 'junior, mid, senior or staff' };
const NONE_OR_MORE = { pattern: /^\d{1,4}$/, words: 'a whole number of 0 or more' };

/** The one table of commands and their options. */
export const COMMANDS: Readonly<Record<string, Command>> = {
  start: {
    about: 'set up, start the servers, run the current lab at every save',
    names: '[LAB]',
    flags: { yes: 'install missing servers without asking' },
    run: async ({ names, flags }) => (await import('./start')).start(names, { yes: flags.has('yes') }),
  },
  test: {
    about: 'run the current lab once, or those that are named',
    names: LABS,
    flags: { core: 'run Core alone' },
    run: async ({ names, flags }) => (await import('./test')).test(names, { core: flags.has('core') }),
  },
  hint: {
    about: 'the next hint for the test that fails now',
    names: '[LAB]',
    run: async ({ names }) => (await import('./study')).hint(names),
  },
  solution: {
    about: 'the solution, as a diff from your file where they are alike',
    names: '[LAB]',
    flags: { core: 'against the solution of Core' },
    run: async ({ names, flags }) => (await import('./study')).solution(names, { core: flags.has('core') }),
  },
  reset: {
    about: 'the starter again; your attempt is kept',
    names: LABS,
    run: async ({ names }) => (await import('./reset')).reset(names),
  },
  list: {
    about: 'every lab with its state, or the steps of a path',
    values: {
      path: {
        about: 'interview (in a week), work (by problem) or everything; the path is followed from then on',
        takes: 'NAME',
        fits: PATH,
      },
    },
    run: async ({ values }) => (await import('./study')).list(values.get('path')),
  },
  mistakes: {
    about: 'what people get wrong in a lab that you have passed',
    names: '[LAB]',
    run: async ({ names }) => (await import('./study')).mistakes(names),
  },
  verify: {
    about: "the course's own proofs: what CI runs",
    names: LABS,
    flags: {
      changed: 'only what a change touches: what is not committed, or not yet on the branch it follows',
    },
    run: async ({ names, flags }) =>
      (await import('./verify')).verify(names, { changed: flags.has('changed') }),
  },
  measure: {
    about: "the lessons' claims again, on this machine",
    names: LABS,
    flags: {
      quick: 'about a second each',
      write: "write the lesson's table, figures and plots (for authors)",
    },
    run: async ({ names, flags }) =>
      (await import('./measure')).measure(names, {
        write: flags.has('write'),
        quick: flags.has('quick'),
      }),
  },
  collapse: {
    about: 'a cold cache, live: flush it, lower the load, choose a remedy (lesson 5.2)',
    flags: { yes: 'install missing servers without asking' },
    run: async ({ flags }) => (await import('./collapse')).collapse({ yes: flags.has('yes') }),
  },
  simulate: {
    about: 'seven policies at every size of a cache, on your own trace (lesson 6.1)',
    names: '[FILE, - or demo]',
    flags: {
      quick: 'estimate from a sample of the keys',
      csv: 'print the misses as numbers (npm run -s simulate)',
    },
    values: {
      sizes: {
        about: 'entries of the caches; 16 sizes up to all keys where absent',
        takes: 'N,N…',
        fits: { pattern: SIZES, words: '1 to 32 whole numbers of 1 or more, with commas' },
      },
      bytes: { about: 'memory of an entry, key and overhead included', takes: 'N', fits: COUNT },
      svg: { about: 'where the picture goes; .course/simulate.svg where absent', takes: 'FILE' },
    },
    more: SIMULATE_HELP,
    run: async (args) => (await import('./simulate')).simulate(args),
  },
  servers: {
    about: "keep Redis and MySQL up, with a shop's data in them",
    flags: { yes: 'install missing servers without asking' },
    run: async ({ flags }) => (await import('./servers')).servers({ yes: flags.has('yes') }),
  },
  incident: {
    about: 'a shop in trouble: find the cause with redis-cli and mysql',
    names: '[NAME or list]',
    run: async ({ names }) => (await import('./incident')).incident(names),
  },
  drill: {
    about: 'a small lab against a clock of 25 minutes, as in an interview',
    names: '[NAME]',
    flags: { again: 'begin it again, with a new clock' },
    run: async ({ names, flags }) => (await import('./drill')).drill(names, { again: flags.has('again') }),
  },
  cards: {
    about: 'the questions of interviews, and labs passed long ago, when you are about to forget them',
    names: '[CHAPTER, LESSON or TOPIC …]',
    flags: { due: 'only what is due, nothing new' },
    values: {
      level: { about: 'questions of one level: junior, mid, senior, staff', takes: 'LEVEL', fits: LEVEL },
      new: {
        about: 'how many new questions a day at most, or each time of what is named (10)',
        takes: 'N',
        fits: NONE_OR_MORE,
      },
    },
    run: async ({ names, flags, values }) => {
      const fresh = values.get('new');
      return (await import('./cards')).cards(names, {
        level: values.get('level'),
        dueOnly: flags.has('due'),
        fresh: fresh === undefined ? undefined : Number(fresh),
      });
    },
  },
  interview: {
    about: 'a mock interview of 45 minutes: clarify, five questions, a design',
    flags: {
      drill: 'with a drill instead of a design',
      again: 'a new one, although one is under way',
    },
    values: {
      level: {
        about: 'questions around one level: junior, mid, senior, staff (mid and senior)',
        takes: 'LEVEL',
        fits: LEVEL,
      },
    },
    run: async ({ flags, values }) =>
      (await import('./interview')).interview({
        level: values.get('level'),
        drill: flags.has('drill'),
        again: flags.has('again'),
      }),
  },
  doctor: {
    about: 'what is present, what is missing, what to do about it',
    flags: {
      install: 'install missing servers first',
      peers: 'with --install: memcached, nginx and varnish too, which a few measures compare with',
    },
    run: async ({ flags }) =>
      (await import('./doctor')).doctor({ install: flags.has('install'), peers: flags.has('peers') }),
  },
  update: {
    about: 'the newest version of the course; your work stays',
    run: async () => (await import('./update')).update(),
  },
  sync: {
    about: 'write what is derived: starters, seals, and code, ladders and questions in lessons (for authors)',
    run: async () => (await import('./sync')).sync(),
  },
};

export function usage(): string {
  const rows = Object.entries(COMMANDS).map(([name, { about }]) => `  ${script(name).padEnd(18)} ${about}`);
  return ['The commands of the course. More on each of them: npm run NAME -- --help', '', ...rows].join('\n');
}
