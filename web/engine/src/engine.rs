//! The class that the worker drives.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use async_lock::Mutex;
use js_sys::Function;
use moxel::{CancelToken, Counters, Engine, Error, FinishReason, ModelFiles, Result, Session};
use wasm_bindgen::prelude::{JsValue, wasm_bindgen};

use crate::errors::{thrown, with_code};
use crate::figures::{Figures, Info, LogitsBuilder, Outcome, heap_bytes, model_name};
use crate::js::{from_js, to_js};
use crate::life::{Hooks, Life};
use crate::request::{GenerateRequest, LoadRequest, messages};
use crate::source::{ByteSource, JsSource};

/// Devices that may be lost one after the other without a token in between.
const MOST_LOSSES: usize = 3;
/// Bytes of logits that are in the WebAssembly heap at a time.
const LOGIT_BYTES: usize = 8 << 20;

/// A loaded model. One request is computed at a time; others wait.
#[wasm_bindgen]
pub struct RawEngine {
    name: String,
    life: Rc<Life>,
    /// The conversation, or text, that was computed last: whatever the next request begins with in common is not computed again.
    session: Mutex<Option<Session>>,
    cancel: RefCell<CancelToken>,
    /// Work of the session, and of those before it.
    counters: Cell<Counters>,
    earlier: Cell<Counters>,
}

#[wasm_bindgen]
impl RawEngine {
    /// Loads the model that `entry` names in the source.
    pub async fn load(source: ByteSource, entry: String, options: JsValue, hooks: Hooks) -> Result<RawEngine, JsValue> {
        if moxel::adapters().await.is_empty() {
            let why = "this browser offers no WebGPU adapter; try a current Chrome, Edge, Firefox or Safari with hardware \
                       acceleration switched on";
            return Err(with_code(why, "no-webgpu"));
        }
        hooks.progress(0.0, 0.0, "open");
        let name = model_name(&moxel::weights::WeightSource::name(&JsSource(source.clone())), &entry);
        let opened = async {
            let options = from_js::<LoadRequest>(&options)?.options()?;
            let files = ModelFiles::open(Arc::new(JsSource(source)), &entry).await?;
            Life::begin(files, options, hooks).await
        };
        let life = opened.await.map_err(|error| thrown(&error))?;
        Ok(Self {
            name,
            life,
            session: Mutex::default(),
            cancel: RefCell::default(),
            counters: Cell::default(),
            earlier: Cell::default(),
        })
    }

    /// `ModelInfo` of the package; undefined while a lost device is being replaced.
    pub fn info(&self) -> JsValue {
        self.life.now().map_or(JsValue::UNDEFINED, |engine| to_js(&Info::new(self.name.clone(), &engine, &self.life.files)))
    }

    /// Continues messages or a prompt; `on_token` is called with the id and the text of each token.
    pub async fn generate(&self, request: JsValue, on_token: Function) -> Result<JsValue, JsValue> {
        self.continued(&request, &on_token).await.map(|outcome| to_js(&outcome)).map_err(|error| thrown(&error))
    }

    /// Ends the generation that is being computed, also where it waits for an expert or for a device.
    pub fn interrupt(&self) {
        self.cancel.borrow().cancel();
    }

    /// `Logits` of the package for these tokens, in a session of its own.
    pub async fn logits(&self, ids: Vec<u32>) -> Result<JsValue, JsValue> {
        let _busy = self.life.work();
        let mut conversation = self.session.lock().await;
        let mut result = self.computed(&ids, &mut conversation).await;
        if let Err(lost @ Error::DeviceLost(_)) = &result {
            self.forget(&mut conversation);
            self.life.give_up(lost).await;
            result = self.computed(&ids, &mut conversation).await;
        }
        result.map_err(|error| thrown(&error))
    }

    /// Text to ids.
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>, JsValue> {
        self.life.files.tokenizer().and_then(|tokenizer| tokenizer.encode(text, true)).map_err(|error| thrown(&error))
    }

    /// Ids to text.
    pub fn detokenize(&self, ids: &[u32]) -> Result<String, JsValue> {
        self.life.files.tokenizer().and_then(|tokenizer| tokenizer.decode(ids)).map_err(|error| thrown(&error))
    }

    /// The ids of a conversation through the model's chat template.
    #[wasm_bindgen(js_name = chatPrompt)]
    pub fn chat_prompt(&self, said: &JsValue) -> Result<Vec<u32>, JsValue> {
        from_js(said).and_then(|said| self.life.files.chat_prompt(&messages(said))).map_err(|error| thrown(&error))
    }

    /// What of the package's `Stats` the engine knows.
    pub async fn stats(&self) -> JsValue {
        let engine = self.life.now();
        let flags = |layers: Vec<Vec<bool>>| layers.iter().map(|layer| layer.iter().map(|&here| here.into()).collect()).collect();
        to_js(&Figures {
            loaded: engine.is_some(),
            counters: self.earlier.get() + self.counters.get(),
            experts: engine.as_ref().and_then(Engine::expert_stats),
            resident: engine.as_ref().and_then(Engine::resident_experts).map(flags),
            wasm_bytes: heap_bytes(),
            gpu_bytes: engine.map_or(0, |engine| engine.gpu().buffer_bytes()),
        })
    }

    /// What a token is waiting for: how many experts of which layer are being read, and their bytes.
    pub fn fetching(&self) -> JsValue {
        self.life.now().and_then(|engine| engine.fetching()).map_or(JsValue::UNDEFINED, |fetching| to_js(&fetching))
    }

    /// Changes the GPU memory for experts, after the answer that is being generated; resolves to the plan in a sentence.
    #[wasm_bindgen(js_name = setExpertBudget)]
    pub async fn set_expert_budget(&self, budget: String) -> Result<String, JsValue> {
        let _busy = self.life.work();
        let mut session = self.session.lock().await;
        let changed = async {
            let budget = budget.parse()?;
            self.forget(&mut session);
            self.replace_failed(&mut session).await;
            self.life.set_budget(budget).await
        };
        let engine = changed.await.map_err(|error| thrown(&error))?;
        Ok(engine.expert_plan().map(ToString::to_string).unwrap_or_default())
    }
}

impl RawEngine {
    async fn continued(&self, request: &JsValue, on_token: &Function) -> Result<Outcome> {
        let _busy = self.life.work();
        let mut request: GenerateRequest = from_js(request)?;
        let is_chat = request.is_chat();
        let mut session = self.session.lock().await;
        let cancel = CancelToken::default();
        self.cancel.replace(cancel.clone());
        let ids = request.ids(&self.life.files)?;
        let Some(session) = cancel.unless_cancelled(self.prepared(&mut session)).await else {
            return Ok(Outcome::cancelled(ids.len()));
        };
        let session = session?;
        let options = request.options(cancel.clone());

        let cached_tokens = session.keep_common(&ids);
        let fresh = ids.get(cached_tokens..).unwrap_or_default();
        let mut generation = if is_chat { session.answer(fresh, options)? } else { session.generate(fresh, options)? };
        let (mut completion_tokens, mut losses) = (0, 0);
        loop {
            match generation.next_token().await {
                Ok(Some(token)) => {
                    (completion_tokens, losses) = (completion_tokens + 1, 0);
                    self.counters.set(generation.counters());
                    on_token
                        .call2(&JsValue::UNDEFINED, &token.id.into(), &token.text.into())
                        .map_err(|_| Error::Request("the function that takes tokens threw an error".into()))?;
                }
                Ok(None) => break,
                Err(lost @ Error::DeviceLost(_)) if losses < MOST_LOSSES => {
                    losses += 1;
                    // Cancelled meanwhile, the next turn of this loop is the last.
                    if let Some(engine) = cancel.unless_cancelled(self.life.recover(&lost)).await {
                        generation.resume_on(&engine?).await?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        let finish_reason = generation.finish_reason().unwrap_or(FinishReason::Cancelled);
        let rest = generation.take_rest();
        Ok(Outcome { finish_reason, prompt_tokens: ids.len(), cached_tokens, completion_tokens, rest })
    }

    /// The conversation's session, or a new one, on a device that works.
    async fn prepared<'a>(&self, session: &'a mut Option<Session>) -> Result<&'a mut Session> {
        self.replace_failed(session).await;
        match session {
            Some(session) => Ok(session),
            none => Ok(none.insert(self.life.engine().await?.checked_session().await?)),
        }
    }

    /// Gives up an engine whose device has failed since the last request, and what was computed on one that is gone.
    async fn replace_failed(&self, session: &mut Option<Session>) {
        let has_failed = |session: &Session| session.gpu().check().is_err();
        if self.life.now().is_none() || session.as_ref().is_some_and(has_failed) {
            self.forget(session);
        }
        if let Some(fault) = self.life.fault() {
            self.life.give_up(&fault).await;
        }
    }

    /// Drops a session; its work goes on being counted.
    fn forget(&self, session: &mut Option<Session>) {
        if session.take().is_some() {
            self.earlier.set(self.earlier.get() + self.counters.take());
        }
    }

    async fn computed(&self, ids: &[u32], conversation: &mut Option<Session>) -> Result<JsValue> {
        self.replace_failed(conversation).await;
        let engine = self.life.engine().await?;
        let (vocab, context) = (engine.info().vocab, engine.context());
        if ids.len() > context {
            return Err(Error::ContextFull { tokens: ids.len(), context });
        }
        let mut session = match engine.checked_session().await {
            // Loading made sure of room for one session only: that of the conversation can be computed again.
            Err(Error::Memory(_)) if conversation.is_some() => {
                self.forget(conversation);
                engine.checked_session().await?
            }
            session => session?,
        };
        let mut all = LogitsBuilder::new(ids.len(), vocab)?;
        for some in ids.chunks((LOGIT_BYTES / (4 * vocab).max(1)).max(1)) {
            all.push(session.logits(some).await?);
        }
        self.earlier.set(self.earlier.get() + session.counters());
        Ok(all.finish())
    }
}
