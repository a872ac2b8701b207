import { MoxelError, type ErrorCode } from "../moxel.js";

/** Why something did not work, as the page tells it. */
export interface Failure {
  code: ErrorCode;
  message: string;
}

export function failureOf(error: unknown): Failure {
  const message = sentence(error instanceof Error ? error.message : String(error));
  return { code: error instanceof MoxelError ? error.code : "worker", message };
}

/** Messages begin small, as parts of a line do; a first word gets its capital here, and the name of a file stays as it is. */
export function sentence(message: string): string {
  const begun = /^[a-z]+ /.test(message) ? message.charAt(0).toUpperCase() + message.slice(1) : message;
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}
