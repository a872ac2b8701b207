//! Conversations to prompts, by the Jinja template that the model brings.
//!
//! Templates are programs by strangers. They run in `minijinja`, which can reach nothing outside, with limits on
//! instructions, nesting, and the text they make. The environment is the one of `transformers.apply_chat_template`, so that the
//! prompt is the one the model was trained with.

mod date;
mod guard;
mod json;
mod lexer;
mod methods;
mod rewrite;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value as Jinja, ValueKind};
use minijinja::{Environment, ErrorKind};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use guard::Budget;

/// Instructions that one rendering may take, and so many more for each message: real templates take about a hundred.
const FUEL: u64 = 200_000;
const FUEL_PER_MESSAGE: u64 = 2_000;
/// Nested macros, loops and blocks.
const MAX_RECURSION: usize = 100;
/// Templates are a few kilobytes; the largest known is under a hundred.
const MAX_SOURCE: usize = 256 << 10;
const NAME: &str = "chat template";

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message of `role` saying `content`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A compiled chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos: Option<String>,
    eos: Option<String>,
}

impl ChatTemplate {
    /// Compiles a Jinja template; `bos` and `eos` are what it sees as `bos_token` and `eos_token`.
    ///
    /// # Errors
    /// A template that does not parse; the sentence names the line.
    pub fn new(source: &str, bos: Option<&str>, eos: Option<&str>) -> Result<Self> {
        if source.len() > MAX_SOURCE {
            return Err(Error::Template(format!("{} bytes are too long for a template", source.len())));
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(template_error)?;
        environment.set_syntax(syntax);
        environment.set_recursion_limit(MAX_RECURSION);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        // As in Jinja: a text is a sequence too, and `default` takes its second argument by name as well.
        environment
            .add_test("sequence", |value: &Jinja| matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map));
        let default = |value: Jinja, other: Option<Jinja>, boolean: Option<bool>, options: Kwargs| {
            let other = other.or(options.get("default_value")?).unwrap_or_else(|| Jinja::from(""));
            let boolean = boolean.or(options.get("boolean")?).unwrap_or(false);
            options.assert_all_used()?;
            Ok(if value.is_undefined() || boolean && !value.is_true() { other } else { value })
        };
        environment.add_filter("default", default);
        environment.add_filter("d", default);
        environment.add_function("raise_exception", |message: String| -> Result<Jinja, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
        });
        environment.add_template_owned(NAME, rewrite::guarded(source).map_err(Error::Template)?).map_err(template_error)?;
        Ok(Self { environment, source: source.to_owned(), bos: bos.map(str::to_owned), eos: eos.map(str::to_owned) })
    }

    /// The template of a Hugging Face directory: the text of `chat_template.jinja` if there is one, otherwise
    /// `chat_template` in `tokenizer_config.json` (a string, or a list of named templates with one called `default`).
    ///
    /// # Errors
    /// A template that does not parse, or a `chat_template` of another form.
    pub fn from_huggingface(chat_template_jinja: Option<&str>, tokenizer_config: Option<&Value>) -> Result<Option<Self>> {
        let key = |key: &str| tokenizer_config.and_then(|config| config.get(key)).filter(|value| !value.is_null());
        let configured = match key("chat_template") {
            None => None,
            Some(Value::String(source)) => Some(source.as_str()),
            Some(Value::Array(named)) => named
                .iter()
                .find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))
                .and_then(|entry| entry.get("template")?.as_str()),
            Some(_) => {
                return Err(Error::Template(
                    "tokenizer_config.json: chat_template is neither a string nor a list of named templates".to_owned(),
                ));
            }
        };
        let token = |name| key(name).and_then(|value| value.as_str().or_else(|| value.get("content")?.as_str()));
        chat_template_jinja.or(configured).map(|source| Self::new(source, token("bos_token"), token("eos_token"))).transpose()
    }

    /// The template of a GGUF file: `tokenizer.chat_template`.
    ///
    /// # Errors
    /// A template that does not parse.
    pub fn from_gguf(metadata: &Map<String, Value>) -> Result<Option<Self>> {
        let Some(source) = metadata.get("tokenizer.chat_template") else { return Ok(None) };
        let source = source.as_str().ok_or_else(|| Error::Template("tokenizer.chat_template is not a string".to_owned()))?;
        let token = |key: &str| {
            let id = usize::try_from(metadata.get(key)?.as_u64()?).ok()?;
            metadata.get("tokenizer.ggml.tokens")?.as_array()?.get(id)?.as_str()
        };
        Self::new(source, token("tokenizer.ggml.bos_token_id"), token("tokenizer.ggml.eos_token_id")).map(Some)
    }

    /// Gives the template a date: `strftime_now` then formats `unix_seconds`, seconds since 1970 in the reader's time
    /// zone. Without it templates that ask whether `strftime_now` is defined write the date they carry themselves.
    pub fn with_now(mut self, unix_seconds: i64) -> Self {
        self.environment.add_function("strftime_now", move |format: &str| date::strftime(format, unix_seconds));
        self
    }

    /// The template's source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Writes the prompt for `messages`, and with `add_generation_prompt` the start of the assistant's answer.
    ///
    /// # Errors
    /// What the template raises (such as roles that do not alternate), what it gets wrong, or a limit that it exceeds.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let bytes = messages.iter().map(|message| message.role.len() + message.content.len()).sum::<usize>();
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(FUEL + FUEL_PER_MESSAGE * messages.len() as u64));
        guard::install(&mut environment, Budget::new(bytes + self.source.len(), messages.len()));
        let messages: Vec<Jinja> = messages
            .iter()
            .map(|message| Jinja::from_pairs([("role", message.role.as_str()), ("content", message.content.as_str())]))
            .collect();
        let mut context = vec![
            ("messages", Jinja::from(messages)),
            ("add_generation_prompt", Jinja::from(add_generation_prompt)),
            // transformers passes these two as None when there are none, and templates test them for it.
            ("tools", Jinja::from(())),
            ("documents", Jinja::from(())),
        ];
        context.extend(self.bos.as_deref().map(|token| ("bos_token", Jinja::from(token))));
        context.extend(self.eos.as_deref().map(|token| ("eos_token", Jinja::from(token))));
        let template = environment.get_template(NAME).map_err(template_error)?;
        template.render(Jinja::from_pairs(context)).map_err(template_error)
    }
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Marks what `raise_exception` says, so that it can be passed on without the engine's words around it.
const RAISED: &str = "\u{1}";

fn template_error(error: minijinja::Error) -> Error {
    if let Some(message) = error.detail().and_then(|detail| detail.strip_prefix(RAISED)) {
        return Error::Template(message.to_owned());
    }
    let what = match error.kind() {
        ErrorKind::OutOfFuel => "it does not come to an end within the allowed number of steps".to_owned(),
        kind => error.detail().map_or_else(|| kind.to_string(), |detail| format!("{kind}: {detail}")),
    };
    Error::Template(match error.line() {
        Some(line) => format!("line {line}: {what}"),
        None => what,
    })
}

#[cfg(test)]
mod tests;
