import { ROOT } from '../base/root';
import type { LabRun, TestResult } from '../run/messages';

/** How a test ended, on one line. */
export const reason = ({ state, error }: TestResult): string =>
  error ? `${error.name}: ${error.message.split('\n')[0]}` : state;

/** Why no test was run, as far as it is known. */
export const because = ([error]: LabRun['fileErrors']): string =>
  error ? ` (${error.message.split('\n')[0]?.replaceAll(`${ROOT}/`, '')})` : '';
