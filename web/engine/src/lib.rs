//! Moxel in a browser: the library's engine as a class that the package's worker drives.
//!
//! Everything that a page sees is in `web/lib`; here is only what has to cross from Rust: bytes in ([`source`]), requests in
//! ([`request`]), figures out ([`figures`]), errors with their code ([`errors`]), and the engine itself ([`engine`]), which
//! survives the loss of its GPU.
#![cfg(target_arch = "wasm32")]

mod engine;
mod errors;
mod figures;
mod js;
mod life;
mod request;
mod source;

use wasm_bindgen::prelude::wasm_bindgen;

/// A panic is a mistake of ours and ends the worker; its sentence must not be lost with it.
#[wasm_bindgen(start)]
fn start() {
    std::panic::set_hook(Box::new(|panic| js::complain(&panic.to_string())));
}
