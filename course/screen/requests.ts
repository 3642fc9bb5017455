import type { Sent } from '../kit/requests';
import { cut, dim, width } from './terminal';

const ROWS = 12;

/** What the failing test sent to the servers last, by whom, and what came back. The answer is never cut off. */
export function requestsSection(requests: readonly Sent[]): string[] {
  if (requests.length === 0) return [];
  const last = collapsed(requests).slice(-ROWS);
  const names = Math.max(...last.map(({ by }) => by.length));
  const rows = last.map(({ by, text, answer, times }) => {
    const again = times > 1 ? ` ×${times}` : '';
    const room = width() - names - answer.length - again.length - 7;
    return `  ${dim(by.padEnd(names))}  ${cut(text, Math.max(room, 20))} ${dim('→')} ${answer}${dim(again)}`;
  });
  return ['', dim('The last requests'), ...rows];
}

/** A request that was repeated, with the same answer, is one row. */
function collapsed(requests: readonly Sent[]): (Sent & { times: number })[] {
  const rows: (Sent & { times: number })[] = [];
  for (const sent of requests) {
    const last = rows.at(-1);
    if (last && last.by === sent.by && last.text === sent.text && last.answer === sent.answer) last.times++;
    else rows.push({ ...sent, times: 1 });
  }
  return rows;
}
