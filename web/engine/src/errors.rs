//! Errors as the package's users see them: an `Error` of JavaScript with a `code`.

use js_sys::Reflect;
use moxel::Error;
use wasm_bindgen::prelude::JsValue;

/// The code that `web/lib/types.ts` lists for an error.
fn code(error: &Error) -> &'static str {
    match error {
        Error::Read { .. } | Error::Write { .. } => "read",
        Error::Format { .. } | Error::Tensor { .. } => "format",
        Error::Config { .. } => "unsupported",
        Error::Tokenizer(_) => "tokenizer",
        Error::Template(_) => "template",
        Error::ContextFull { .. } => "context-full",
        Error::Request(_) => "request",
        Error::Adapter(_) | Error::Memory(_) => "too-small",
        Error::DeviceLost(_) => "device-lost",
        _ => "gpu",
    }
}

/// The library's sentence with its code.
pub fn thrown(error: &Error) -> JsValue {
    with_code(&error.to_string(), code(error))
}

/// An error of the browser's, not of the library's.
pub fn with_code(message: &str, code: &str) -> JsValue {
    let error = js_sys::Error::new(message);
    // Setting a property of a fresh object cannot fail.
    let _ = Reflect::set(&error, &"code".into(), &code.into());
    error.into()
}
