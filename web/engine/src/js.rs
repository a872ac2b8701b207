//! What of JavaScript has no better home.

use js_sys::{Function, JSON, Promise};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::prelude::{JsValue, wasm_bindgen};
use wasm_bindgen_futures::JsFuture;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = setTimeout)]
    fn set_timeout(callback: &Function, milliseconds: f64);

    /// Writes an error to the browser's console.
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    pub fn complain(text: &str);
}

/// A plain object or array with the value's fields, by way of JSON: these are small and few.
pub fn to_js(value: &impl Serialize) -> JsValue {
    serde_json::to_string(value).ok().and_then(|text| JSON::parse(&text).ok()).unwrap_or(JsValue::UNDEFINED)
}

/// What a plain object holds.
///
/// # Errors
/// A field of another type than expected, by name.
pub fn from_js<T: DeserializeOwned>(value: &JsValue) -> moxel::Result<T> {
    let text = JSON::stringify(value).ok().and_then(|text| text.as_string()).unwrap_or_default();
    serde_json::from_str(&text).map_err(|error| moxel::Error::Request(format!("the request cannot be read: {error}")))
}

/// Waits.
pub async fn sleep(milliseconds: f64) {
    let timer = Promise::new(&mut |resolve, _| set_timeout(&resolve, milliseconds));
    // It is never rejected.
    let _ = JsFuture::from(timer).await;
}
