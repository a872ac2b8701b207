//! Bytes that TypeScript fetches, caches or reads from picked files, as a source of weights.

use std::ops::Range;

use js_sys::{Reflect, Uint8Array};
use moxel::weights::{BoxFuture, WeightSource};
use moxel::{Error, Result};
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::{JsValue, wasm_bindgen};

#[wasm_bindgen]
extern "C" {
    /// The worker's side of it, `ByteSource` in `web/lib/tiers`.
    #[derive(Clone)]
    pub type ByteSource;

    #[wasm_bindgen(method, getter)]
    fn name(this: &ByteSource) -> String;

    #[wasm_bindgen(method, getter)]
    fn local(this: &ByteSource) -> bool;

    #[wasm_bindgen(method, catch)]
    async fn size(this: &ByteSource, file: &str) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, catch)]
    async fn read(this: &ByteSource, file: &str, offset: f64, length: f64) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, catch)]
    async fn version(this: &ByteSource, file: &str) -> Result<JsValue, JsValue>;
}

/// The same as the library wants it.
pub struct JsSource(pub ByteSource);

impl JsSource {
    /// What a rejected promise says.
    fn error(&self, file: &str, rejected: &JsValue) -> Error {
        let message = Reflect::get(rejected, &"message".into()).ok().and_then(|message| message.as_string());
        let cause = message.or_else(|| rejected.as_string()).unwrap_or_else(|| "the browser gave no reason".into());
        Error::Read { file: format!("{}/{file}", self.0.name().trim_end_matches('/')), cause }
    }
}

impl WeightSource for JsSource {
    fn name(&self) -> String {
        self.0.name()
    }

    fn size<'a>(&'a self, file: &'a str) -> BoxFuture<'a, Result<Option<u64>>> {
        Box::pin(async move {
            let size = self.0.size(file).await.map_err(|rejected| self.error(file, &rejected))?;
            Ok(size.as_f64().map(|bytes| bytes as u64))
        })
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move {
            let length = range.end.saturating_sub(range.start);
            let read = self.0.read(file, range.start as f64, length as f64).await;
            let bytes = read.and_then(|bytes| bytes.dyn_into::<Uint8Array>());
            Ok(bytes.map_err(|rejected| self.error(file, &rejected))?.to_vec())
        })
    }

    fn is_local(&self) -> bool {
        self.0.local()
    }

    fn version<'a>(&'a self, file: &'a str) -> BoxFuture<'a, Result<Option<String>>> {
        Box::pin(async move {
            let version = self.0.version(file).await.map_err(|rejected| self.error(file, &rejected))?;
            Ok(version.as_string())
        })
    }
}
