/** Errors as they are thrown, and as they cross from the worker to the page. */

import type { ErrorCode } from "./types.js";

/** Every error of this package: `code` is for programs, `message` is a sentence for people. */
export class MoxelError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "MoxelError";
    this.code = code;
  }
}

/** What is left of an error when it is sent: `postMessage` would drop the code. */
export interface PlainError {
  code: ErrorCode;
  message: string;
}

/** Errors of the engine carry their code; one without has not been foreseen. */
export function toPlain(error: unknown): PlainError {
  const message = error instanceof Error ? error.message : String(error);
  const code = (error as { code?: unknown } | null)?.code;
  return { code: typeof code === "string" ? (code as ErrorCode) : "worker", message };
}

export function fromPlain(error: PlainError): MoxelError {
  return new MoxelError(error.code, error.message);
}

/** The error of a request whose signal was used. */
export function aborted(signal: AbortSignal): MoxelError {
  return new MoxelError("aborted", "the request was aborted", { cause: signal.reason });
}
