//! An engine: a model's files and their weights, bound to a GPU. Immutable and shared by its sessions.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use web_time::Instant;

use crate::chat_template::Message;
use crate::dims::Dims;
use crate::experts::{
    ExpertBudget, ExpertOptions, ExpertPlan, ExpertStats, Experts, Fetching, Pools, SyncCosts, Trace, allocate,
};
use crate::gpu::{Compiling, Gpu};
use crate::kernels::{KernelChoice, KvType};
use crate::kv_cache::KvCache;
use crate::model_files::ModelFiles;
use crate::models::{Loader, Model, ModelInfo, fill};
use crate::session::{Session, first_shaders};
use crate::tokenizer::Tokenizer;
use crate::tuning::{self, Tuning};
use crate::weights::{OnProgress, WeightSource};
use crate::{Error, Result};

/// How exactly the model computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// f32 activations and, unless told otherwise, an f32 KV cache: for comparison with reference implementations.
    Exact,
    /// An f16 KV cache unless told otherwise, and products of bytes (activations quantised in blocks of 32) where the adapter is faster with
    /// them.
    #[default]
    Fast,
}

/// How an engine is made. The default suits a chat.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineOptions {
    /// Positions that a session can hold; `None`: what the model was trained for, at most 4096.
    pub context: Option<usize>,
    /// How exactly it computes.
    pub precision: Precision,
    /// What sessions keep of past tokens; `None`: f32 in exact precision, f16 in fast.
    pub kv: Option<KvType>,
    /// Tokens of a prompt that are computed together, from 1 to 512. `None`: 128, and up to 512 where every expert is on the GPU and
    /// the adapter computes as many in one submission of a quarter of a second; sessions take the memory for it when they meet a
    /// prompt that is longer. What is computed is the same, to the last bit.
    pub prefill_chunk: Option<usize>,
    /// How a model's routed experts are kept on the GPU.
    pub experts: ExpertOptions,
    /// How it comes to its kernels for matrix products.
    pub tuning: Tuning,
}

/// Tokens of a prompt that are computed together unless asked for otherwise, until the adapter is known to be fast.
const FIRST_CHUNK: usize = 128;
/// The most that are.
pub(crate) const MOST_CHUNK: usize = 512;
/// Context of sessions unless asked for otherwise: a long one costs memory whether it is used or not.
const DEFAULT_CONTEXT: usize = 4096;

impl EngineOptions {
    /// Tokens of a prompt that are computed together at first.
    #[must_use]
    pub fn first_chunk(&self) -> usize {
        self.prefill_chunk.unwrap_or(FIRST_CHUNK).clamp(1, MOST_CHUNK)
    }

    /// What the KV cache of a session holds.
    #[must_use]
    pub fn kv_type(&self) -> KvType {
        self.kv.unwrap_or(match self.precision {
            Precision::Exact => KvType::F32,
            Precision::Fast => KvType::F16,
        })
    }

    /// The same for this model.
    ///
    /// # Errors
    /// It cannot hold heads of this size.
    pub fn kv_for(&self, info: &ModelInfo) -> Result<KvType> {
        let kv = self.kv_type();
        if kv.holds(info.head_dim) {
            return Ok(kv);
        }
        Err(Error::Request(format!(
            "a KV cache in {kv} needs heads of a multiple of 32 dimensions, this model's have {}; choose f16",
            info.head_dim
        )))
    }

    /// The positions that a session of this model would hold.
    ///
    /// # Errors
    /// More were asked for than the model was trained for, or none.
    pub fn context_for(&self, info: &ModelInfo) -> Result<usize> {
        let context = self.context.unwrap_or(info.trained_context.min(DEFAULT_CONTEXT));
        if context == 0 || context > info.trained_context {
            return Err(Error::Request(format!(
                "a context of {context} is not within the model's 1 to {}",
                info.trained_context
            )));
        }
        Ok(context)
    }
}

/// How far loading has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadProgress {
    /// What is being loaded.
    pub phase: LoadPhase,
    /// Bytes of tensors read so far.
    pub read_bytes: u64,
    /// Bytes of all tensors that loading reads: without the experts where they are read when a token chooses them. Loading
    /// may end below it: tensors that take no part in text are not read.
    pub total_bytes: u64,
}

/// The parts of loading, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadPhase {
    /// What every token needs.
    Dense,
    /// The routed experts.
    Experts,
}

/// What loading a model took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadTimes {
    /// Choosing kernels for matrix products.
    pub tuning: Duration,
    /// Reading, repacking and uploading the weights, with all that is allocated for them, and recording what will be compiled meanwhile.
    pub weights: Duration,
}

/// A loaded model. Cloning shares it; the weights leave the GPU with the last clone and the last session.
#[derive(Clone)]
pub struct Engine {
    loaded: Arc<Loaded>,
}

/// What sessions use of an engine.
pub(crate) struct Loaded {
    pub(crate) gpu: Arc<Gpu>,
    pub(crate) model: Box<dyn Model>,
    pub(crate) dims: Dims,
    pub(crate) context: usize,
    pub(crate) kv: KvType,
    pub(crate) choice: KernelChoice,
    load_times: LoadTimes,
    /// What the first tokens need.
    compiling: Compiling,
    pub(crate) experts: Experts,
    /// Tokens of a prompt that are computed together at first.
    pub(crate) first_chunk: usize,
    /// More of them may be, later.
    pub(crate) chunks_grow: bool,
    pub(crate) files: Arc<ModelFiles>,
}

impl Engine {
    /// Loads a model to the GPU.
    ///
    /// `entry` names what to open in the source, see [`Checkpoint::open`](crate::weights::Checkpoint::open); `progress` is
    /// called as tensors are read.
    ///
    /// # Errors
    /// Files that cannot be read or are malformed, an unsupported model, or a GPU that is too small; the sentence names
    /// the file, key, tensor or buffer.
    pub async fn load(
        gpu: &Arc<Gpu>,
        source: Arc<dyn WeightSource>,
        entry: &str,
        options: &EngineOptions,
        progress: &mut OnProgress<'_, LoadProgress>,
    ) -> Result<Self> {
        let files = ModelFiles::open(source, entry).await?;
        Self::from_files(gpu, &files, options, progress).await
    }

    /// Loads the weights of opened files to the GPU.
    ///
    /// Natively, threads compile pipelines meanwhile. Dropping the future, or the engine soon after, waits for those that they have begun.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub async fn from_files(
        gpu: &Arc<Gpu>,
        files: &Arc<ModelFiles>,
        options: &EngineOptions,
        progress: &mut OnProgress<'_, LoadProgress>,
    ) -> Result<Self> {
        let (info, architecture, checkpoint) = (files.info(), &files.architecture, &files.checkpoint);
        let dims = architecture.dims();
        let context = options.context_for(info)?;
        let kv = options.kv_for(info)?;
        KvCache::check(gpu, &dims, context, kv)?;
        let begin = Instant::now();
        let choice = tuning::kernels(gpu, files, options.tuning, options.precision).await?;
        let tuning = begin.elapsed();
        // What was dropped a moment ago may still be in use, and its memory be missing.
        gpu.flush().await;
        let layers = architecture.expert_layers(checkpoint)?;
        let other_bytes = info.weight_bytes - info.expert_bytes + session_bytes(info, context, options);
        let (plan, pools) = allocate(
            options.experts.budget,
            |budget| ExpertPlan::new(&layers, dims.chosen, gpu.caps().max_binding_bytes, budget),
            async |plan| {
                let what = format!("{} experts ({} bytes)", plan.slots(), plan.bytes());
                let pools = gpu.in_memory(&what, || Pools::new(gpu, &layers, plan)).await?;
                gpu.has_room(other_bytes.saturating_sub(pools.shared_bytes())).await?;
                Ok(pools)
            },
        )
        .await?;
        // Unless all were asked for, the first token need not wait for experts from far away that it does not choose.
        let at_once = plan.holds_all() && (checkpoint.is_local() || options.experts.budget != ExpertBudget::Auto);
        let total_bytes = info.weight_bytes - if at_once { 0 } else { info.expert_bytes };
        let costs = if at_once { SyncCosts::default() } else { tuning::sync_costs(gpu).await? };
        let mut loader = Loader::new(gpu, checkpoint, context, &pools);
        let model = gpu.in_memory("the model's weights", || architecture.bind(&mut loader)).await?;
        let fills = loader.finish();
        let mut loaded = Loaded {
            gpu: Arc::clone(gpu),
            model,
            dims,
            context,
            kv,
            choice,
            load_times: LoadTimes::default(),
            compiling: Compiling::default(),
            experts: Experts::new(Arc::clone(checkpoint), layers, pools, plan, options.experts, costs),
            first_chunk: options.first_chunk(),
            chunks_grow: options.prefill_chunk.is_none(),
            files: Arc::clone(files),
        };
        // Where there is no room for a session, whoever makes one is told.
        let shaders = first_shaders(&loaded, at_once).await.unwrap_or_default();
        let compiling = gpu.compile_ahead(&shaders);
        let read_all = async {
            let mut read = 0;
            let mut on_read = |read_bytes| {
                read = read_bytes;
                progress(LoadProgress { phase: LoadPhase::Dense, read_bytes, total_bytes });
            };
            fill(gpu, checkpoint, &fills, &mut on_read).await?;
            gpu.flush().await;
            if at_once {
                let experts_read = |bytes| {
                    read += bytes;
                    progress(LoadProgress { phase: LoadPhase::Experts, read_bytes: read, total_bytes });
                };
                loaded.experts.load_all(gpu, experts_read).await?;
            }
            Ok::<_, Error>(())
        };
        compiling.meanwhile(gpu, read_all).await?;
        loaded.compiling = compiling;
        loaded.load_times = LoadTimes { tuning, weights: begin.elapsed() - tuning };
        Ok(Self { loaded: Arc::new(loaded) })
    }

    /// Loads the model at a path (a Hugging Face directory or a GGUF file), waiting until it is there.
    ///
    /// # Errors
    /// As [`Engine::load`].
    #[cfg(any(unix, windows))]
    pub fn load_path(
        gpu: &Arc<Gpu>,
        path: &std::path::Path,
        options: &EngineOptions,
        progress: &mut OnProgress<'_, LoadProgress>,
    ) -> Result<Self> {
        let (source, entry) = crate::weights::open_path(path)?;
        pollster::block_on(Self::load(gpu, source, &entry, options, progress))
    }

    /// A new, empty session.
    ///
    /// # Errors
    /// The GPU has no room for its KV cache and buffers.
    pub fn session(&self) -> Result<Session> {
        Session::new(Arc::clone(&self.loaded))
    }

    /// As [`Engine::session`]; where the device tells only later that it had no room, as in a browser, it waits for that.
    /// Otherwise the lack of room would be an error of the device, on which nothing could be computed any more.
    ///
    /// # Errors
    /// As there.
    pub async fn checked_session(&self) -> Result<Session> {
        let what = format!("a session of {} positions", self.context());
        self.loaded.gpu.in_memory(&what, || self.session()).await
    }

    /// What the checkpoint holds.
    #[must_use]
    pub fn info(&self) -> &ModelInfo {
        self.loaded.files.info()
    }

    /// The files that it was made from.
    #[must_use]
    pub fn files(&self) -> &Arc<ModelFiles> {
        &self.loaded.files
    }

    /// The device that it runs on.
    #[must_use]
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.loaded.gpu
    }

    /// The kernels for matrix products, in words.
    #[must_use]
    pub fn kernels(&self) -> String {
        self.loaded.choice.to_string()
    }

    /// The kernels for matrix products, to be handed in again as [`Tuning::Known`].
    #[must_use]
    pub fn kernel_choice(&self) -> KernelChoice {
        self.loaded.choice
    }

    /// What loading took.
    #[must_use]
    pub fn load_times(&self) -> LoadTimes {
        self.loaded.load_times
    }

    /// Positions that a session can hold.
    #[must_use]
    pub fn context(&self) -> usize {
        self.loaded.context
    }

    /// What the KV cache of a session holds.
    #[must_use]
    pub fn kv_type(&self) -> KvType {
        self.loaded.kv
    }

    /// How many experts have a place on the GPU; `None` for a dense model.
    #[must_use]
    pub fn expert_plan(&self) -> Option<&ExpertPlan> {
        Some(self.loaded.experts.plan()).filter(|plan| plan.experts() > 0)
    }

    /// Loads a few of the experts that have a place and have not been needed yet, in the order of the file: for times when
    /// nothing is generated. Returns whether there are more. Nothing is loaded where only some of the experts have a place.
    ///
    /// # Errors
    /// The source or the GPU fails.
    pub async fn load_experts(&self) -> Result<bool> {
        self.loaded.experts.load_some(&self.loaded.gpu).await
    }

    /// What keeping experts on the GPU has cost so far, or `None` for a dense model. Never waits, also not for a token that is
    /// being computed.
    #[must_use]
    pub fn expert_stats(&self) -> Option<ExpertStats> {
        self.expert_plan().map(|_| self.loaded.experts.stats())
    }

    /// For each MoE layer in order and each of its experts, whether it is on the GPU now; `None` for a dense model. Never waits.
    #[must_use]
    pub fn resident_experts(&self) -> Option<Vec<Vec<bool>>> {
        self.expert_plan().map(|_| self.loaded.experts.resident())
    }

    /// The experts that are being read now because a token or a prompt needs them; `None` while nothing is read. Never waits:
    /// ask from another thread, or between two polls of what is waiting.
    #[must_use]
    pub fn fetching(&self) -> Option<Fetching> {
        self.loaded.experts.fetching()
    }

    /// Begins to record which experts every token chooses, in all sessions; what was recorded before is dropped. `model` is
    /// what the trace calls the model.
    ///
    /// # Errors
    /// The model has no experts.
    pub fn start_trace(&self, model: &str) -> Result<()> {
        self.loaded.experts.start_trace(model, self.loaded.dims.chosen)
    }

    /// Ends the recording and hands it out, or `None` where there is none.
    #[must_use]
    pub fn take_trace(&self) -> Option<Trace> {
        self.loaded.experts.take_trace()
    }

    /// Text to ids and back.
    ///
    /// # Errors
    /// The checkpoint has no tokenizer, or one that cannot be used.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.loaded.files.tokenizer()
    }

    /// The ids of a prompt: a conversation through the model's chat template, ready for the assistant's answer.
    ///
    /// # Errors
    /// The model has no chat template or tokenizer, or the template refuses the conversation.
    pub fn chat_prompt(&self, messages: &[Message]) -> Result<Vec<u32>> {
        self.loaded.files.chat_prompt(messages)
    }
}

/// Bytes of GPU memory that a session takes: its KV cache, and an estimate of the buffers that it works in once its chunks have grown:
/// 64 bytes for each token and dimension (Llama 4 Scout takes 52), and the logits of 16 tokens twice.
fn session_bytes(info: &ModelInfo, context: usize, options: &EngineOptions) -> u64 {
    let chunk = if options.prefill_chunk.is_some() { options.first_chunk() } else { MOST_CHUNK };
    info.kv_cache_bytes(options.kv_type(), context) + 64 * chunk as u64 * info.hidden as u64 + 128 * info.vocab as u64
}
