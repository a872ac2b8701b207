//! A conversation: messages, and a session that holds their tokens so that only what is new is computed.

use crate::Result;
use crate::chat_template::Message;
use crate::engine::Engine;
use crate::generate::{GenerateOptions, Generation};
use crate::session::Session;

/// A conversation with a model.
pub struct Chat {
    engine: Engine,
    session: Session,
    messages: Vec<Message>,
}

impl Chat {
    /// A new conversation, with instructions for the model if `system` is given.
    ///
    /// # Errors
    /// The GPU has no room for a session.
    pub fn new(engine: &Engine, system: Option<&str>) -> Result<Self> {
        let messages = system.map(|text| Message::new("system", text)).into_iter().collect();
        Ok(Self { engine: engine.clone(), session: engine.session()?, messages })
    }

    /// The model that answers.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What was said so far, the instructions first.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Forgets everything but the instructions.
    pub fn clear(&mut self) {
        self.messages.retain(|message| message.role == "system");
    }

    /// Says something and starts the model's answer, which becomes part of the conversation token by token, also when it
    /// is cancelled or dropped half-way.
    ///
    /// The conversation is written with the model's chat template each time; the session keeps as many of its tokens as
    /// are still the same and computes the others.
    ///
    /// # Errors
    /// The model has no chat template, the conversation does not fit into the context, or options are out of their range.
    /// The conversation is then as it was before.
    pub fn say(&mut self, text: &str, options: GenerateOptions) -> Result<Generation<'_>> {
        let mut messages = self.messages.clone();
        messages.push(Message::new("user", text));
        let prompt = self.engine.chat_prompt(&messages)?;
        let kept = self.session.keep_common(&prompt);
        let generation = self.session.answer(prompt.get(kept..).unwrap_or_default(), options)?;
        self.messages = messages;
        let answer = &mut self.messages.push_mut(Message::new("assistant", "")).content;
        Ok(generation.writing_to(answer))
    }
}
