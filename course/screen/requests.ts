import type { Sent } from '../kit/requests';
import { cut, dim, width } from './terminal';

/** What the failing test sent to the servers last, by whom, and what came back. The answer is never cut off. */
export function requestsSection(requests: readonly Sent[]): string[] {
  if (requests.length === 0) return [];
  const names = Math.max(...requests.map(({ by }) => by.length));
  const rows = requests.map(({ by, text, answer }) => {
    const room = width() - names - answer.length - 7;
    return `  ${dim(by.padEnd(names))}  ${cut(text, Math.max(room, 20))} ${dim('→')} ${answer}`;
  });
  return ['', dim('The last requests'), ...rows];
}
