//! Generation: tokens and their text one after the other, until the model ends or something stops it.

use std::convert::Infallible;
use std::future::Future;

use async_channel::{Receiver, Sender};
use futures_core::Stream;
use futures_lite::{StreamExt, future, stream};

use crate::Result;
use crate::engine::Engine;
use crate::sampler::{Sampler, SamplingOptions};
use crate::session::{Continuation, Counters, Session};
use crate::tokenizer::{DecodeStream, StopStrings};

/// How a text is generated. The default is greedy, as long as the context allows.
#[derive(Clone, Debug, Default)]
pub struct GenerateOptions {
    /// Tokens to generate at most; `None`: until the context is full.
    pub max_tokens: Option<usize>,
    /// How each token is chosen.
    pub sampling: SamplingOptions,
    /// Strings that end the text; they are not part of it.
    pub stop: Vec<String>,
    /// Stops the generation from elsewhere.
    pub cancel: CancelToken,
}

/// Stops a generation from another thread or task. Clones share their state; a token that was used stays cancelled.
#[derive(Clone, Debug)]
pub struct CancelToken {
    /// A channel over which nothing ever comes: it is closed to cancel, which wakes whoever listens.
    closes: Sender<Infallible>,
    closed: Receiver<Infallible>,
}

impl Default for CancelToken {
    fn default() -> Self {
        let (closes, closed) = async_channel::bounded(1);
        Self { closes, closed }
    }
}

impl CancelToken {
    /// Asks the generation to stop at once, also where it waits for a file: the token that is being computed is given up.
    pub fn cancel(&self) {
        self.closes.close();
    }

    /// Whether it was asked to.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.closes.is_closed()
    }

    /// Waits for `work`, or until it is cancelled: `work` is dropped then, and there is `None`.
    pub async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let cancelled = async {
            let Err(_closed) = self.closed.recv().await;
            None
        };
        future::or(cancelled, async { Some(work.await) }).await
    }
}

/// One generated token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// The text that is complete with it: often more or less than the token's own, since a character may take several
    /// tokens and the start of a stop string is held back. Empty for a token that ends the generation, unless
    /// something was held back.
    pub text: String,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model ended it, or a stop string was met.
    Stop,
    /// As many tokens as allowed were generated, or the context is full.
    Length,
    /// It was cancelled.
    Cancelled,
}

/// A generation in progress: a stream of [`Token`]s, natively also an iterator.
///
/// It may be dropped at any time. The session then holds the prompt and the generated tokens but the last one, whose turn
/// to be computed would have been next.
pub struct Generation<'a> {
    ids: Continuation<'a>,
    decoder: DecodeStream,
    stops: StopStrings,
    end_ids: Vec<u32>,
    cancel: CancelToken,
    finished: Option<FinishReason>,
    /// Tokens that the prompt had to compute.
    prompt_tokens: usize,
    /// What was held back when it was cancelled.
    rest: String,
    /// Where the text is also written.
    transcript: Option<&'a mut String>,
}

impl Session {
    /// Generates what follows the session's tokens and `prompt`, whose text is continued.
    ///
    /// # Errors
    /// An empty prompt or one that does not fit into the context, options out of their range, a model without a
    /// tokenizer.
    pub fn generate(&mut self, prompt: &[u32], options: GenerateOptions) -> Result<Generation<'_>> {
        let decoder = DecodeStream::continuing(self.engine().files.tokenizer()?);
        Generation::new(self, prompt, options, decoder)
    }

    /// As [`Session::generate`], for a text of its own such as an answer in a chat: a space that the tokenizer puts before
    /// every text is left out.
    ///
    /// # Errors
    /// As there.
    pub fn answer(&mut self, prompt: &[u32], options: GenerateOptions) -> Result<Generation<'_>> {
        let decoder = DecodeStream::new(self.engine().files.tokenizer()?);
        Generation::new(self, prompt, options, decoder)
    }
}

impl<'a> Generation<'a> {
    fn new(session: &'a mut Session, prompt: &[u32], options: GenerateOptions, decoder: DecodeStream) -> Result<Self> {
        let left = options.max_tokens.unwrap_or(usize::MAX);
        let end_ids = session.engine().files.tokenizer()?.end_ids().to_vec();
        Ok(Self {
            ids: session.continuation(prompt, Sampler::new(options.sampling)?, left)?,
            stops: StopStrings::new(options.stop)?,
            end_ids,
            decoder,
            cancel: options.cancel,
            finished: (left == 0).then_some(FinishReason::Length),
            prompt_tokens: prompt.len(),
            rest: String::new(),
            transcript: None,
        })
    }

    /// Appends the text of every token to `transcript` as well.
    pub(crate) fn writing_to(self, transcript: &'a mut String) -> Self {
        Self { transcript: Some(transcript), ..self }
    }

    /// Computes the next token; `None` once the generation has ended.
    ///
    /// Dropped while it waits, it ends the generation; the session can be used again. Cancelled, it leaves the text that was
    /// held back to [`Generation::take_rest`].
    ///
    /// # Errors
    /// The GPU failed, or the model gives no usable numbers. The generation is over then.
    pub async fn next_token(&mut self) -> Result<Option<Token>> {
        if self.finished.is_some() {
            return Ok(None);
        }
        let cancel = self.cancel.clone();
        let Some(token) = cancel.unless_cancelled(self.advance()).await else {
            self.finished = Some(FinishReason::Cancelled);
            let rest = self.release();
            self.write_down(&rest);
            self.rest = rest;
            return Ok(None);
        };
        let token = token?;
        if let Some(token) = &token {
            self.write_down(&token.text);
        }
        Ok(token)
    }

    /// The end of a cancelled generation's text: what waited for the rest of a character, or could have become a stop string,
    /// and belongs to tokens that were handed out. Empty when asked again, and where the generation ended otherwise.
    #[must_use]
    pub fn take_rest(&mut self) -> String {
        std::mem::take(&mut self.rest)
    }

    /// The remaining tokens as a stream; pin it with [`std::pin::pin`].
    pub fn stream(&mut self) -> impl Stream<Item = Result<Token>> {
        stream::unfold(self, |generation| async {
            let token = generation.next_token().await.transpose()?;
            Some((token, generation))
        })
        .fuse()
    }

    /// Goes on with another engine of the same model, after the GPU of this one was lost: the session moves there and computes
    /// its tokens again with the next one. The text, the random numbers and what stops the generation go on as they were.
    ///
    /// # Errors
    /// The engine holds another model or a smaller context, or its GPU has no room for a session. The generation is as it was.
    pub async fn resume_on(&mut self, engine: &Engine) -> Result<()> {
        self.ids.resume_on(engine).await
    }

    /// Why it ended, once it has.
    #[must_use]
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finished
    }

    /// How many tokens of the prompt are new to the session and have to be computed.
    #[must_use]
    pub fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    /// The work that the session has done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.ids.session().counters()
    }

    async fn advance(&mut self) -> Result<Option<Token>> {
        let Some(id) = self.ids.next_id().await? else { return Ok(None) };
        Ok(Some(Token { id, text: self.accept(id) }))
    }

    /// Takes a new token: returns the text that may be shown now, and notices whether the generation has ended.
    fn accept(&mut self, id: u32) -> String {
        let ended = self.end_ids.contains(&id);
        let piece = if ended { None } else { self.decoder.push(id) };
        let (mut text, stopped) = self.stops.push(&piece.unwrap_or_default());
        if ended || stopped {
            self.finished = Some(FinishReason::Stop);
        } else if self.ids.is_over() {
            self.finished = Some(FinishReason::Length);
        }
        if self.finished.is_some() {
            text.push_str(&self.release());
        }
        text
    }

    /// What waited for the rest of a character or of a stop string: at the end it is text after all.
    fn release(&mut self) -> String {
        let (mut text, _) = self.stops.push(&self.decoder.flush().unwrap_or_default());
        text.push_str(&self.stops.flush());
        text
    }

    fn write_down(&mut self, text: &str) {
        if let Some(transcript) = &mut self.transcript {
            transcript.push_str(text);
        }
    }
}

/// The tokens, waiting for each.
#[cfg(any(unix, windows))]
impl Iterator for Generation<'_> {
    type Item = Result<Token>;

    fn next(&mut self) -> Option<Self::Item> {
        pollster::block_on(self.next_token()).transpose()
    }
}
