//! A model's files, opened: what of it needs no GPU. Engines are made from it, one after the other or several.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::chat_template::{ChatTemplate, Message};
use crate::experts::{ExpertBudget, ExpertPlan};
use crate::models::{Architecture, ModelInfo, architecture, plan_experts};
use crate::tokenizer::Tokenizer;
use crate::weights::{Checkpoint, Format, WeightSource};
use crate::{Error, Result};

/// A checkpoint whose headers, configuration, tokenizer and chat template have been read, and no tensor yet.
///
/// [`Engine::from_files`](crate::Engine::from_files) brings it to a GPU: again after a device was lost, or with another
/// budget for its experts. An engine keeps the files that it was made from.
pub struct ModelFiles {
    pub(crate) checkpoint: Arc<Checkpoint>,
    pub(crate) architecture: Box<dyn Architecture>,
    info: ModelInfo,
    /// Or why there is none: logits need no tokenizer.
    tokenizer: Result<Tokenizer, String>,
    /// Or why there is none: raw completion needs no template.
    template: Result<ChatTemplate, String>,
}

impl ModelFiles {
    /// Opens the model that `entry` names in the source, see [`Checkpoint::open`].
    ///
    /// # Errors
    /// Files that cannot be read or are malformed, or an unsupported model; the sentence names the file, key or tensor.
    pub async fn open(source: Arc<dyn WeightSource>, entry: &str) -> Result<Arc<Self>> {
        let mut checkpoint = Checkpoint::open(source, entry).await?;
        let info = ModelInfo::new(&checkpoint)?;
        let architecture = architecture(&checkpoint)?;
        let (tokenizer, template) = read_text_files(&checkpoint).await?;
        checkpoint.forget_keys("tokenizer.");
        Ok(Arc::new(Self { checkpoint: Arc::new(checkpoint), architecture, info, tokenizer, template }))
    }

    /// What the checkpoint holds.
    #[must_use]
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// What a budget gives the routed experts; `None` for a dense model. See [`expert_plan`](crate::expert_plan()).
    ///
    /// # Errors
    /// Fewer bytes than the least that works.
    pub fn expert_plan(&self, budget: ExpertBudget, max_binding_bytes: u64) -> Result<Option<ExpertPlan>> {
        plan_experts(&*self.architecture, &self.checkpoint, budget, max_binding_bytes)
    }

    /// Text to ids and back.
    ///
    /// # Errors
    /// The checkpoint has no tokenizer, or one that cannot be used.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_ref().map_err(|why| Error::Tokenizer(why.clone()))
    }

    /// Whether the model can chat: it has a chat template and a tokenizer.
    #[must_use]
    pub fn can_chat(&self) -> bool {
        self.template.is_ok() && self.tokenizer.is_ok()
    }

    /// The ids of a prompt: a conversation through the model's chat template, ready for the assistant's answer.
    ///
    /// # Errors
    /// The model has no chat template or tokenizer, or the template refuses the conversation.
    pub fn chat_prompt(&self, messages: &[Message]) -> Result<Vec<u32>> {
        let template = self.template.as_ref().map_err(|why| Error::Template(why.clone()))?;
        self.tokenizer()?.encode(&template.render(messages, true)?, false)
    }
}

impl fmt::Debug for ModelFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelFiles").field("checkpoint", &self.checkpoint).finish_non_exhaustive()
    }
}

/// The tokenizer and the chat template, from the files or keys where the container keeps them. A model without a usable one
/// can do what needs none.
async fn read_text_files(checkpoint: &Checkpoint) -> Result<(Result<Tokenizer, String>, Result<ChatTemplate, String>)> {
    let (tokenizer, template) = if checkpoint.format() == Format::Gguf {
        (Tokenizer::from_gguf(checkpoint.config()), ChatTemplate::from_gguf(checkpoint.config()))
    } else {
        let config = json(checkpoint, "tokenizer_config.json").await?;
        let generation = json(checkpoint, "generation_config.json").await?;
        let tokenizer = match checkpoint.side_file("tokenizer.json").await? {
            None => Err(Error::Tokenizer("tokenizer.json is missing beside config.json".into())),
            Some(text) => Tokenizer::from_huggingface(&text, config.as_ref(), checkpoint.config(), generation.as_ref()),
        };
        let template = checkpoint.side_file("chat_template.jinja").await?;
        let template = template.as_deref().map(|t| utf8("chat_template.jinja", t)).transpose()?;
        (tokenizer, ChatTemplate::from_huggingface(template, config.as_ref()))
    };
    let template = template
        .map_err(|e| plain(&e))
        .and_then(|found| found.ok_or_else(|| "the model has none: it may not be made for chat; use raw completion".into()));
    Ok((tokenizer.map_err(|e| plain(&e)), template))
}

/// The sentence without the prefix that its kind of error puts before it again.
fn plain(error: &Error) -> String {
    match error {
        Error::Tokenizer(why) | Error::Template(why) => why.clone(),
        other => other.to_string(),
    }
}

async fn json(checkpoint: &Checkpoint, file: &str) -> Result<Option<Value>> {
    let Some(bytes) = checkpoint.side_file(file).await? else { return Ok(None) };
    let malformed = |e: serde_json::Error| Error::Format { file: file.into(), problem: e.to_string() };
    serde_json::from_slice(&bytes).map(Some).map_err(malformed)
}

fn utf8<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str> {
    std::str::from_utf8(bytes).map_err(|e| Error::Format { file: file.into(), problem: format!("is not UTF-8 text: {e}") })
}
