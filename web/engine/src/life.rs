//! The engine over the loss of its GPU: opened files that are brought to a device, and to another one when that is lost.

use std::cell::RefCell;
use std::sync::Arc;

use js_sys::Date;
use moxel::{Engine, EngineOptions, Error, ExpertBudget, Gpu, GpuOptions, LoadPhase, ModelFiles, Result};
use serde_json::json;
use wasm_bindgen::prelude::{JsValue, wasm_bindgen};

use crate::js::{sleep, to_js};

/// A driver that was reset takes a moment to offer an adapter again: waits in milliseconds, each twice the one before.
const FIRST_WAIT: f64 = 250.0;
const LONGEST_WAIT: f64 = 8000.0;

#[wasm_bindgen]
extern "C" {
    /// Where the worker is told of things, `RawHooks` in `web/lib`.
    pub type Hooks;

    #[wasm_bindgen(method)]
    pub fn progress(this: &Hooks, loaded_bytes: f64, total_bytes: f64, phase: &str);

    #[wasm_bindgen(method)]
    fn event(this: &Hooks, event: &JsValue);
}

/// A model that is on a GPU, unless that was lost a moment ago.
pub struct Life {
    pub files: Arc<ModelFiles>,
    hooks: Hooks,
    options: RefCell<EngineOptions>,
    engine: RefCell<Option<Engine>>,
}

impl Life {
    /// Opens a device and loads the model.
    ///
    /// # Errors
    /// Whatever keeps the model from the GPU.
    pub async fn begin(files: Arc<ModelFiles>, options: EngineOptions, hooks: Hooks) -> Result<Self> {
        let life = Self { files, hooks, options: RefCell::new(options), engine: RefCell::default() };
        life.open().await?;
        Ok(life)
    }

    /// The engine, brought back if it was lost and could not be had again at once.
    ///
    /// # Errors
    /// It still cannot be had.
    pub async fn engine(&self) -> Result<Engine> {
        match self.now() {
            Some(engine) => Ok(engine),
            None => self.open().await,
        }
    }

    /// The engine, if it is there.
    pub fn now(&self) -> Option<Engine> {
        self.engine.borrow().clone()
    }

    /// Loads the model again on another device, and says so. Sessions of the lost engine are to be moved to the new one.
    ///
    /// # Errors
    /// No device can be had, or loading failed.
    pub async fn recover(&self, why: &str) -> Result<Engine> {
        let begin = Date::now();
        self.hooks.event(&to_js(&json!({ "type": "device-lost", "message": why })));
        self.engine.take();
        let mut wait = FIRST_WAIT;
        let engine = loop {
            match self.open().await {
                Err(Error::Adapter(_) | Error::DeviceLost(_)) if wait <= LONGEST_WAIT => {
                    sleep(wait).await;
                    wait *= 2.0;
                }
                result => break result?,
            }
        };
        self.hooks.event(&to_js(&json!({ "type": "recovered", "seconds": (Date::now() - begin) / 1e3 })));
        Ok(engine)
    }

    /// Loads the model again with another budget, on the same device. Sessions must have been dropped: there may be no room
    /// for both.
    ///
    /// # Errors
    /// The model has no experts, or the budget is too small: everything is as it was. Or loading failed.
    pub async fn set_budget(&self, budget: ExpertBudget) -> Result<Engine> {
        let gpu = Arc::clone(self.engine().await?.gpu());
        if self.files.expert_plan(budget, gpu.caps().max_binding_bytes)?.is_none() {
            return Err(Error::Request("this model has no experts, so there is no budget to set".into()));
        }
        let before = std::mem::replace(&mut self.options.borrow_mut().experts.budget, budget);
        self.engine.take();
        let loaded = self.load(&gpu).await;
        if loaded.is_err() {
            self.options.borrow_mut().experts.budget = before;
            // Where that fails too, the next request finds no engine and opens a device.
            let _ = self.load(&gpu).await;
        }
        loaded
    }

    async fn open(&self) -> Result<Engine> {
        let gpu = Gpu::new(&GpuOptions::default()).await?;
        self.load(&gpu).await
    }

    async fn load(&self, gpu: &Arc<Gpu>) -> Result<Engine> {
        let options = self.options.borrow().clone();
        let mut progress = |progress: moxel::LoadProgress| {
            let phase = match progress.phase {
                LoadPhase::Dense => "dense",
                LoadPhase::Experts => "experts",
            };
            self.hooks.progress(progress.read_bytes as f64, progress.total_bytes as f64, phase);
        };
        let engine = Engine::from_files(gpu, &self.files, &options, &mut progress).await?;
        self.engine.replace(Some(engine.clone()));
        Ok(engine)
    }
}
