//! A conversation: messages, and a session that holds their tokens so that only what is new is computed.

use crate::Result;
use crate::chat_template::Message;
use crate::engine::Engine;
use crate::generate::{GenerateOptions, Generation};
use crate::session::Session;
use crate::tokenizer::DecodeStream;

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
        let kept = common_prefix(self.session.tokens(), &prompt);
        self.session.rewind(kept);
        let decoder = DecodeStream::new(self.engine.tokenizer()?);
        let generation = Generation::new(&mut self.session, prompt.get(kept..).unwrap_or_default(), options, decoder)?;
        self.messages = messages;
        let answer = &mut self.messages.push_mut(Message::new("assistant", "")).content;
        Ok(generation.writing_to(answer))
    }
}

/// How many tokens the two begin with in common, leaving at least one of `prompt` to be computed.
fn common_prefix(held: &[u32], prompt: &[u32]) -> usize {
    let same = held.iter().zip(prompt).take_while(|(a, b)| a == b).count();
    same.min(prompt.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::common_prefix;

    #[test]
    fn what_is_held_is_kept_up_to_the_last_token() {
        assert_eq!(common_prefix(&[], &[1, 2, 3]), 0);
        assert_eq!(common_prefix(&[1, 2], &[1, 2, 3]), 2);
        assert_eq!(common_prefix(&[1, 2, 9, 9], &[1, 2, 3]), 2);
        // One token has to be computed: its logits are wanted.
        assert_eq!(common_prefix(&[1, 2, 3, 4], &[1, 2, 3]), 2);
        assert_eq!(common_prefix(&[9], &[1, 2, 3]), 0);
        assert_eq!(common_prefix(&[1], &[]), 0);
    }
}
