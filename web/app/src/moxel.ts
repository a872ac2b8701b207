// The engine's package. The build leaves this import to the browser: `moxel/moxel.js` beside the page.
export { Moxel, MoxelError, type Support } from "../../lib/index.js";
export type * from "../../lib/types.js";
