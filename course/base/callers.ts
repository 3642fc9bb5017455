/**
 * The files of the calls on a stack, the innermost first. No source map is asked, which a text of the stack would need.
 * For an error whose stack nobody else reads: it is made at the first look, and then is this list.
 */
export function filesOf(error: Error): readonly string[] {
  const { prepareStackTrace } = Error;
  Error.prepareStackTrace = (_, calls) => calls.map((call) => call.getFileName() ?? '');
  try {
    const files: unknown = error.stack;
    return Array.isArray(files) ? files : [];
  } finally {
    Error.prepareStackTrace = prepareStackTrace;
  }
}

/** The stack of the calls up to here, with no more than `depth` of them. It is read later, if at all. */
export function callers(depth: number): Error {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = depth;
  const error = new Error();
  Error.stackTraceLimit = stackTraceLimit;
  return error;
}
