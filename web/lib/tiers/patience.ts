/** Tries again what failed and may succeed, with growing pauses. */

import { ReadError } from "./source.js";

/** A failure after which another attempt may succeed. */
export class Temporary extends Error {
  /** Milliseconds that the server asked to wait. */
  readonly wait?: number;
  /** Whether the attempt brought something, so that it was none in vain. */
  readonly progress: boolean;

  constructor(cause: string, details: { wait?: number; progress?: boolean } = {}) {
    super(cause);
    this.wait = details.wait;
    this.progress = details.progress ?? false;
  }
}

/** The server said nothing of use, however often it was asked. */
export class Unanswered extends ReadError {}

export interface Patience {
  attempts: number;
  /** Milliseconds before the second attempt; they double with each further one. */
  firstWait: number;
  /** The longest pause, even where the server asks for more. */
  longestWait: number;
  /** Milliseconds without a byte after which a request is given up. */
  stall: number;
}

export const DEFAULT_PATIENCE: Patience = { attempts: 7, firstWait: 500, longestWait: 30_000, stall: 20_000 };

/** Runs `attempt` until it succeeds or there is no hope; `onRetry` is told before each pause. */
export async function patiently<T>(
  patience: Patience,
  attempt: () => Promise<T>,
  onRetry: (attempt: number, cause: string) => void,
): Promise<T> {
  let failures = 0;
  let wait = patience.firstWait;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof Temporary)) throw error;
      if (error.progress) [failures, wait] = [0, patience.firstWait];
      failures += 1;
      if (failures >= patience.attempts) {
        throw new Unanswered(failures === 1 ? error.message : `${error.message} (${failures} attempts failed)`);
      }
      onRetry(failures + 1, error.message);
      await pause(Math.min(error.wait ?? wait, patience.longestWait));
      wait *= 2;
    }
  }
}

/** Ends early when the browser finds that it is online again. */
function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      globalThis.removeEventListener?.("online", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    globalThis.addEventListener?.("online", done);
  });
}
