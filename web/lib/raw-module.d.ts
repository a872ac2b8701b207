/** What wasm-bindgen makes; its own declarations are there only after a build. */
declare module "*/moxel_web.js" {
  const init: (options: { module_or_path: URL }) => Promise<unknown>;
  export default init;
  export const RawEngine: unknown;
}
