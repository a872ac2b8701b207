/** Counts what each tier brought. */

import type { Tier } from "../types.js";

export class Tally {
  readonly read: Record<Tier, number> = { memory: 0, disk: 0, network: 0, file: 0 };
  /** Requests that a server answered. */
  requests = 0;
}
