//! The engine over the loss of its GPU: opened files that are brought to a device, and to another one when that is lost.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use async_lock::Mutex;
use js_sys::Date;
use moxel::{
    CancelToken, Engine, EngineOptions, Error, ExpertBudget, Gpu, GpuOptions, KernelChoice, LoadPhase, ModelFiles, Result,
    Tuning, TuningKey,
};
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

    #[wasm_bindgen(method, catch, js_name = knownKernels)]
    async fn known_kernels(this: &Hooks, key: &str) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, js_name = keepKernels)]
    fn keep_kernels(this: &Hooks, key: &str, kernels: &str);
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
    /// Ends that.
    called: RefCell<CancelToken>,
    /// When the device was lost that has not been replaced yet, in milliseconds.
    lost_at: Cell<Option<f64>>,
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
        let (spare_time, called) = (Mutex::default(), RefCell::default());
        let (busy, lost_at) = (Cell::new(0), Cell::default());
        let life = Rc::new(Self { files, hooks, options, engine, busy, spare_time, called, lost_at });
        life.open().await?;
        spawn_local(load_the_rest(Rc::downgrade(&life)));
        Ok(life)
    }

    /// Says that there is something to do, until what it returns is dropped. What is done in spare time ends at once: it may be
    /// waiting for a server, and a token would wait for it.
    pub fn work(self: &Rc<Self>) -> Busy {
        self.busy.update(|requests| requests + 1);
        self.called.borrow().cancel();
        Busy(Rc::clone(self))
    }

    /// The engine, brought back if it was lost and could not be had again at once.
    ///
    /// # Errors
    /// It still cannot be had.
    pub async fn engine(&self) -> Result<Engine> {
        match self.now() {
            Some(engine) => Ok(engine),
            None => self.open_again().await,
        }
    }

    /// The engine, if it is there.
    pub fn now(&self) -> Option<Engine> {
        self.engine.borrow().clone()
    }

    /// What is wrong with the engine's device: it was lost, or ran out of memory, or failed in another way while nobody was
    /// looking. It does not recover from any of these.
    pub fn fault(&self) -> Option<Error> {
        self.now().and_then(|engine| engine.gpu().check().err())
    }

    /// Gives up the engine, whose device was lost or has failed, and says so; [`Life::engine`] gets another one. Sessions keep
    /// the memory of a device that is still there: they are to be dropped before.
    pub async fn give_up(&self, why: &Error) {
        self.leave().await;
        if self.lost_at.get().is_none() {
            self.lost_at.set(Some(Date::now()));
            let message = if let Error::DeviceLost(why) = why { why.clone() } else { why.to_string() };
            self.hooks.event(&to_js(&json!({ "type": "device-lost", "message": message })));
        }
    }

    /// Loads the model again on another device. Sessions of the lost engine are to be moved to the new one. May be dropped
    /// while it waits: whoever needs the engine next begins anew.
    ///
    /// # Errors
    /// No device can be had, or loading failed.
    pub async fn recover(&self, why: &Error) -> Result<Engine> {
        self.give_up(why).await;
        self.open_again().await
    }

    /// Loads the model again with another budget, on the same device if that still works. Sessions must have been dropped:
    /// there may be no room for both.
    ///
    /// # Errors
    /// The model has no experts, or the budget is too small: everything is as it was. Or loading failed.
    pub async fn set_budget(&self, budget: ExpertBudget) -> Result<Engine> {
        let gpu = match self.now() {
            Some(engine) => Arc::clone(engine.gpu()),
            None => Gpu::new(&GpuOptions::default()).await?,
        };
        if self.files.expert_plan(budget, gpu.caps().max_binding_bytes)?.is_none() {
            return Err(Error::Request("this model has no experts, so there is no budget to set".into()));
        }
        let before = std::mem::replace(&mut self.options.borrow_mut().experts.budget, budget);
        self.leave().await;
        let loaded = match self.load(&gpu).await {
            Err(lost @ Error::DeviceLost(_)) => self.recover(&lost).await,
            loaded => loaded,
        };
        if loaded.is_err() {
            self.options.borrow_mut().experts.budget = before;
            // Where that fails too, the next request finds no engine and opens a device.
            let _ = if gpu.check().is_ok() { self.load(&gpu).await } else { self.open().await };
        }
        loaded
    }

    /// Drops the engine, once nobody uses it in spare time any more.
    async fn leave(&self) {
        drop(self.spare_time.lock().await);
        self.engine.take();
    }

    async fn open_again(&self) -> Result<Engine> {
        let mut wait = FIRST_WAIT;
        loop {
            match self.open().await {
                Err(Error::Adapter(_) | Error::DeviceLost(_)) if wait <= LONGEST_WAIT => {
                    sleep(wait).await;
                    wait *= 2.0;
                }
                result => return result,
            }
        }
    }

    async fn open(&self) -> Result<Engine> {
        let gpu = Gpu::new(&GpuOptions::default()).await?;
        self.load(&gpu).await
    }

    async fn load(&self, gpu: &Arc<Gpu>) -> Result<Engine> {
        let mut options = self.options.borrow().clone();
        let measured = TuningKey::new(gpu, &self.files, options.precision)?;
        let known = if let Some(key) = &measured { self.hooks.kernels_for(key, gpu).await } else { None };
        options.tuning = known.map_or(Tuning::Measure, Tuning::Known);
        let mut progress = |progress: moxel::LoadProgress| {
            let phase = match progress.phase {
                LoadPhase::Dense => "dense",
                LoadPhase::Experts => "experts",
            };
            self.hooks.progress(progress.read_bytes as f64, progress.total_bytes as f64, phase);
        };
        let engine = Engine::from_files(gpu, &self.files, &options, &mut progress).await?;
        if let (Some(key), None) = (measured, known) {
            self.hooks.keep_kernels(&json!(key).to_string(), &json!(engine.kernel_choice()).to_string());
        }
        self.engine.replace(Some(engine.clone()));
        if let Some(lost_at) = self.lost_at.take() {
            self.hooks.event(&to_js(&json!({ "type": "recovered", "seconds": (Date::now() - lost_at) / 1e3 })));
        }
        Ok(engine)
    }
}

impl Hooks {
    /// What was measured before. Texts that are none were written by somebody else.
    async fn kernels_for(&self, key: &TuningKey, gpu: &Gpu) -> Option<KernelChoice> {
        let kept = self.known_kernels(&json!(key).to_string()).await.ok()?.as_string()?;
        serde_json::from_str(&kept).ok().filter(|kernels| key.allows(kernels, gpu))
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
        let called = CancelToken::default();
        life.called.replace(called.clone());
        // What cannot be read now is asked for again after the next request, or by the token that chooses it.
        if let Some(Ok(false) | Err(_)) = called.unless_cancelled(engine.load_experts()).await {
            return;
        }
    }
}
