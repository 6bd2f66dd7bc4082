// Two kinds of errors reach a person: what they can act on (MeshError), and our own bugs (anything else).

export interface MeshErrorOptions {
  /** What to do next, one step a line. */
  readonly hints?: readonly string[];
  /** Process exit code when the error ends a command. Default 1. */
  readonly exitCode?: number;
  readonly cause?: unknown;
}

/** An error the user can act on: the message says what happened and where, the hints what to do next. */
export class MeshError extends Error {
  readonly hints: readonly string[];
  readonly exitCode: number;

  constructor(message: string, options: MeshErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "MeshError";
    this.hints = options.hints ?? [];
    this.exitCode = options.exitCode ?? 1;
  }
}

/** The message of anything thrown. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The `code` of a Node system error (`ECONNREFUSED` …), if it has one. */
export function errorCode(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === "string" ? code : undefined;
}
