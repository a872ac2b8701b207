//! What a page asks for.

use js_sys::Math;
use moxel::chat_template::Message;
use moxel::sampler::SamplingOptions;
use moxel::{CancelToken, EngineOptions, Error, ExpertBudget, GenerateOptions, KvType, ModelFiles, Precision, Result};
use serde::Deserialize;

/// How a model is loaded.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadRequest {
    expert_budget: Option<String>,
    context: Option<usize>,
    precision: Option<String>,
    kv: Option<String>,
}

impl LoadRequest {
    /// The same as the library wants it.
    ///
    /// # Errors
    /// A value that is none of the known ones.
    pub fn options(self) -> Result<EngineOptions> {
        let mut options = EngineOptions { context: self.context, ..EngineOptions::default() };
        if let Some(budget) = self.expert_budget {
            options.experts.budget = budget.parse::<ExpertBudget>()?;
        }
        options.precision = match self.precision.as_deref() {
            None | Some("fast") => Precision::Fast,
            Some("exact") => Precision::Exact,
            Some(other) => return Err(Error::Request(format!("precision is {other:?}; there are \"fast\" and \"exact\""))),
        };
        options.kv = self.kv.map(|kv| kv.parse::<KvType>()).transpose()?;
        Ok(options)
    }
}

/// What is to be continued and how.
#[derive(Deserialize)]
pub struct GenerateRequest {
    messages: Option<Vec<Said>>,
    prompt: Option<Prompt>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<usize>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    seed: Option<i64>,
    max_tokens: Option<usize>,
    stop: Option<Stop>,
}

#[derive(Deserialize)]
pub struct Said {
    role: String,
    content: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Prompt {
    Text(String),
    Ids(Vec<u32>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Several(Vec<String>),
}

/// The library's messages.
pub fn messages(said: Vec<Said>) -> Vec<Message> {
    said.into_iter().map(|Said { role, content }| Message::new(role, content)).collect()
}

impl GenerateRequest {
    /// Whether it asks for an answer in a conversation, rather than for what follows a text.
    pub fn is_chat(&self) -> bool {
        self.messages.is_some()
    }

    /// The ids to continue from.
    ///
    /// # Errors
    /// Neither messages nor a prompt, or a model without a chat template or tokenizer.
    pub fn ids(&mut self, files: &ModelFiles) -> Result<Vec<u32>> {
        match (self.messages.take(), self.prompt.take()) {
            (Some(said), None) => files.chat_prompt(&messages(said)),
            (None, Some(Prompt::Text(text))) => files.tokenizer()?.encode(&text, true),
            (None, Some(Prompt::Ids(ids))) => Ok(ids),
            _ => Err(Error::Request("a request has either messages or a prompt".into())),
        }
    }

    /// How the text is generated.
    pub fn options(self, cancel: CancelToken) -> GenerateOptions {
        let usual = SamplingOptions::default();
        let sampling = SamplingOptions {
            temperature: self.temperature.unwrap_or(usual.temperature),
            top_k: self.top_k.unwrap_or(usual.top_k),
            top_p: self.top_p.unwrap_or(usual.top_p),
            min_p: self.min_p.unwrap_or(usual.min_p),
            repeat_penalty: self.repetition_penalty.unwrap_or(usual.repeat_penalty),
            // Whoever does not name a seed expects another text each time.
            seed: Some(self.seed.map_or_else(|| Math::random().to_bits(), i64::cast_unsigned)),
            ..usual
        };
        let stop = match self.stop {
            None => Vec::new(),
            Some(Stop::One(text)) => vec![text],
            Some(Stop::Several(texts)) => texts,
        };
        GenerateOptions { max_tokens: self.max_tokens, sampling, stop, cancel }
    }
}
