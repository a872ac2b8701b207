import { MoxelError, type ErrorCode } from "../moxel.js";

/** Why something did not work, as the page tells it. */
export interface Failure {
  code: ErrorCode;
  message: string;
}

export function failureOf(error: unknown): Failure {
  if (error instanceof MoxelError) return { code: error.code, message: error.message };
  return { code: "worker", message: error instanceof Error ? error.message : String(error) };
}
