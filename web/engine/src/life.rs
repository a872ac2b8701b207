//! The engine over the loss of its GPU: opened files that are brought to a device, and to another one when that is lost.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use async_lock::Mutex;
use js_sys::Date;
use moxel::{Engine, EngineOptions, Error, ExpertBudget, Gpu, GpuOptions, LoadPhase, ModelFiles, Result};
use serde_json::json;
use wasm_bindgen::prelude::{JsValue, wasm_bindgen};
use wasm_bindgen_futures::spawn_local;

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
    /// Requests that are being computed or wait for it.
    busy: Cell<usize>,
    /// Held while experts are loaded that nobody needs yet, and an engine with them.
    spare_time: Mutex<()>,
}

/// A request that is being computed or waits for it; while there is one, nothing is loaded that nobody needs.
pub struct Busy(Rc<Life>);

impl Life {
    /// Opens a device and loads the model.
    ///
    /// # Errors
    /// Whatever keeps the model from the GPU.
    pub async fn begin(files: Arc<ModelFiles>, options: EngineOptions, hooks: Hooks) -> Result<Rc<Self>> {
        let (options, engine) = (RefCell::new(options), RefCell::default());
        let life = Rc::new(Self { files, hooks, options, engine, busy: Cell::new(0), spare_time: Mutex::default() });
        life.open().await?;
        spawn_local(load_the_rest(Rc::downgrade(&life)));
        Ok(life)
    }

    /// Says that there is something to do, until what it returns is dropped.
    pub fn work(self: &Rc<Self>) -> Busy {
        self.busy.update(|requests| requests + 1);
        Busy(Rc::clone(self))
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
        drop(self.spare_time.lock().await);
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

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.update(|requests| requests - 1);
        if self.0.busy.get() == 0 {
            spawn_local(load_the_rest(Rc::downgrade(&self.0)));
        }
    }
}

/// Loads experts that have a place and were not needed yet, as long as nobody asks for anything.
async fn load_the_rest(life: Weak<Life>) {
    loop {
        let Some(life) = life.upgrade().filter(|life| life.busy.get() == 0) else { return };
        let (Some(_turn), Some(engine)) = (life.spare_time.try_lock(), life.now()) else { return };
        // What cannot be read now is asked for again after the next request, or by the token that chooses it.
        if !engine.load_experts().await.unwrap_or(false) {
            return;
        }
    }
}
