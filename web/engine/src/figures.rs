//! What an engine is and what it has done, with the names of `web/lib/types.ts`.

use js_sys::{Array, Float32Array, Function, Object, Reflect, Uint32Array, WebAssembly};
use moxel::{Counters, Engine, Error, ExpertStats, FinishReason, Logits, ModelFiles, Result};
use serde::Serialize;
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::JsValue;

/// `ModelInfo` of the package.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Info<'a> {
    name: String,
    architecture: &'a str,
    parameters: u64,
    layers: usize,
    hidden: usize,
    vocab: usize,
    context: usize,
    trained_context: usize,
    weight_bytes: u64,
    expert_bytes: u64,
    moe_layers: &'a [usize],
    experts: usize,
    experts_per_token: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    expert_plan: Option<String>,
    chat: bool,
    kernels: String,
    adapter: Adapter<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Adapter<'a> {
    name: &'a str,
    backend: &'a str,
    tier: &'a str,
    max_binding_bytes: u64,
    max_buffer_bytes: u64,
}

impl<'a> Info<'a> {
    /// Of a loaded model; `name` is what people call it.
    pub fn new(name: String, engine: &'a Engine, files: &'a ModelFiles) -> Self {
        let (info, adapter) = (files.info(), engine.gpu().description());
        Self {
            name,
            architecture: &info.architecture,
            parameters: info.parameters,
            layers: info.layers,
            hidden: info.hidden,
            vocab: info.vocab,
            context: engine.context(),
            trained_context: info.trained_context,
            weight_bytes: info.weight_bytes,
            expert_bytes: info.expert_bytes,
            moe_layers: &info.moe_layers,
            experts: info.experts,
            experts_per_token: info.experts_per_token,
            expert_plan: engine.expert_plan().map(ToString::to_string),
            chat: files.can_chat(),
            kernels: engine.kernels(),
            adapter: Adapter {
                name: &adapter.name,
                backend: &adapter.backend,
                tier: &adapter.tier,
                max_binding_bytes: adapter.caps.max_binding_bytes,
                max_buffer_bytes: adapter.caps.max_buffer_bytes,
            },
        }
    }
}

/// What people call a model: its file without the ending, or its folder; on a hub, the repository.
pub fn model_name(folder: &str, entry: &str) -> String {
    if !entry.is_empty() {
        return entry.trim_end_matches(".gguf").trim_end_matches(".safetensors").to_owned();
    }
    let path = folder.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
    let repository = path.split_once("/resolve/").map_or(path, |(repository, _)| repository);
    repository.rsplit('/').next().unwrap_or_default().to_owned()
}

/// How a generation ended, and what it was made of.
#[derive(Serialize)]
pub struct Outcome {
    pub finish_reason: FinishReason,
    pub prompt_tokens: usize,
    pub cached_tokens: usize,
    pub completion_tokens: usize,
    /// Text of the tokens that was held back when the generation was cancelled.
    pub rest: String,
}

impl Outcome {
    /// Of a generation that was cancelled before it began.
    pub fn cancelled(prompt_tokens: usize) -> Self {
        let finish_reason = FinishReason::Cancelled;
        Self { finish_reason, prompt_tokens, cached_tokens: 0, completion_tokens: 0, rest: String::new() }
    }
}

/// What of `Stats` the engine knows.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// There is an engine: none while a lost device is replaced or another budget takes effect.
    pub loaded: bool,
    pub counters: Counters,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experts: Option<ExpertStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident: Option<Vec<Vec<u8>>>,
    pub wasm_bytes: f64,
    pub gpu_bytes: u64,
}

/// Bytes of the WebAssembly heap.
pub fn heap_bytes() -> f64 {
    let memory: WebAssembly::Memory = wasm_bindgen::memory().unchecked_into();
    Reflect::get(&memory.buffer(), &"byteLength".into()).ok().and_then(|bytes| bytes.as_f64()).unwrap_or_default()
}

/// Logits that arrive in pieces, kept outside of the WebAssembly heap.
pub struct LogitsBuilder {
    logits: Float32Array,
    vocab: usize,
    tokens: usize,
    filled: usize,
    routing: Vec<moxel::Routing>,
}

impl LogitsBuilder {
    /// Room for the logits of so many tokens.
    ///
    /// # Errors
    /// More than the browser gives.
    pub fn new(tokens: usize, vocab: usize) -> Result<Self> {
        let length = tokens as u64 * vocab as u64;
        let too_many = || {
            let bytes = 4 * length;
            Error::Request(format!(
                "the logits of {tokens} tokens take {bytes} bytes, more than the browser gives; ask for fewer at a time"
            ))
        };
        // The constructor throws where there is no room; called directly, that would end the worker.
        let made = u32::try_from(length).ok().and_then(|length| {
            let class = Reflect::get(&js_sys::global(), &"Float32Array".into()).ok()?.dyn_into::<Function>().ok()?;
            Reflect::construct(&class, &Array::of1(&length.into())).ok()?.dyn_into::<Float32Array>().ok()
        });
        Ok(Self { logits: made.ok_or_else(too_many)?, vocab, tokens, filled: 0, routing: Vec::new() })
    }

    /// Appends the logits of some tokens.
    pub fn push(&mut self, some: Logits) {
        let end = self.filled + some.logits.len();
        self.logits.subarray(self.filled as u32, end as u32).copy_from(&some.logits);
        self.filled = end;
        if self.routing.is_empty() {
            self.routing = some.routing;
            return;
        }
        for (all, new) in self.routing.iter_mut().zip(some.routing) {
            all.ids.extend(new.ids);
            all.weights.extend(new.weights);
        }
    }

    /// `Logits` of the package.
    pub fn finish(self) -> JsValue {
        let routing = Array::new();
        for layer in self.routing {
            routing.push(&object(&[
                ("layer", (layer.layer as f64).into()),
                ("ids", Uint32Array::from(&layer.ids[..]).into()),
                ("weights", Float32Array::from(&layer.weights[..]).into()),
            ]));
        }
        object(&[
            ("logits", self.logits.into()),
            ("tokens", (self.tokens as f64).into()),
            ("vocab", (self.vocab as f64).into()),
            ("routing", routing.into()),
        ])
    }
}

fn object(fields: &[(&str, JsValue)]) -> JsValue {
    let object = Object::new();
    for (name, value) in fields {
        // Setting a property of a fresh object cannot fail.
        let _ = Reflect::set(&object, &(*name).into(), value);
    }
    object.into()
}
