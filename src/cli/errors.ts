// Errors as a person reads them: what happened, what to do next, and an exit code.
//
//   0 fine · 1 the command failed or found a problem · 2 the command line is wrong · 130 interrupted
//
// Kinds are told apart by shape, not by class, so that no error class drags its library into every command.
import { errorCode, errorMessage, MeshError } from "../util/error.ts";
import type { Style } from "./style.ts";

export interface ErrorReport {
  /** Undefined: nothing to say (an exit that was asked for, a closed pipe). */
  readonly message: string | undefined;
  readonly hints: readonly string[];
  readonly exitCode: number;
  /** Our own bug: shown with how to report it, and with its stack under --verbose. */
  readonly bug: boolean;
}

/** A wrong command line: exit code 2. */
export function usageError(message: string, ...hints: string[]): MeshError {
  return new MeshError(message, { hints, exitCode: 2 });
}

interface OclifError {
  readonly oclif?: { readonly exit?: number };
  readonly code?: string;
  readonly parse?: unknown;
}

/** @param command the words that were typed, for the hint on usage; e.g. `kubectl mesh stat`. */
export function describeError(error: unknown, command = "kubectl mesh"): ErrorReport {
  const report = (message: string | undefined, hints: readonly string[], exitCode = 1): ErrorReport => ({
    message,
    hints,
    exitCode,
    bug: false,
  });
  const code = errorCode(error);
  const oclif = error as OclifError;
  if (code === "EPIPE") return report(undefined, [], 0);
  if (code === "EEXIT") return report(undefined, [], oclif.oclif?.exit ?? 0);
  if (isMeshError(error)) return report(error.message, error.hints, error.exitCode);
  if (oclif.oclif !== undefined) {
    const message = errorMessage(error).replace(/\nSee more help with --help$/, "");
    return report(lowerFirst(message), [`${command} --help`], oclif.oclif.exit ?? 2);
  }
  const system = describeSystemError(error, code);
  if (system) return report(system.message, system.hints);
  return {
    message: errorMessage(error),
    hints: [],
    exitCode: 1,
    bug: true,
  };
}

function isMeshError(error: unknown): error is MeshError {
  return error instanceof MeshError || (error as Error | undefined)?.name === "MeshError";
}

function lowerFirst(text: string): string {
  return /^[A-Z][a-z]/.test(text) ? text[0]!.toLowerCase() + text.slice(1) : text;
}

const FILE_ERRORS: Record<string, string> = {
  ENOENT: "no such file or directory",
  EACCES: "permission denied",
  EPERM: "operation not permitted",
  EROFS: "the file system is read-only",
  ENOSPC: "no space is left on the device",
  EISDIR: "is a directory",
  ENOTDIR: "is not a directory",
  EMFILE: "too many open files",
};

function describeSystemError(
  error: unknown,
  code: string | undefined,
): { message: string; hints: readonly string[] } | undefined {
  if (code === undefined) return undefined;
  const detail = error as { path?: string; address?: string; port?: number };
  if (code === "EADDRINUSE") {
    return {
      message: `address ${detail.address ?? ""}:${detail.port ?? ""} is in use by another process`,
      hints: [],
    };
  }
  const said = FILE_ERRORS[code];
  if (said === undefined || detail.path === undefined) return undefined;
  return { message: `${detail.path}: ${said}`, hints: [] };
}

/** The report as lines for stderr; empty when there is nothing to say. */
export function renderError(
  report: ErrorReport,
  style: Style,
  options: { verbose?: boolean; error?: unknown } = {},
): string {
  if (report.message === undefined) return "";
  const lines = [
    `${style.error(report.bug ? "Error (a bug in kubectl-mesh):" : "Error:")} ${report.message}`,
  ];
  for (const hint of report.hints) lines.push(`  ${style.faint("→")} ${hint}`);
  if (report.bug) {
    lines.push(
      `  ${style.faint("→")} please report it with the output of the same command with --verbose and of: kubectl mesh version`,
    );
  }
  const stack = (options.error as Error | undefined)?.stack;
  if (options.verbose && stack) lines.push(style.faint(stack));
  return `${lines.join("\n")}\n`;
}
