//! Tokens that follow each other, each submitted before the one before it was read.

use super::recording::Mode;
use super::run::Submitted;
use super::{Session, Tail, tail_for};
use crate::engine::Engine;
use crate::sampler::Sampler;
use crate::{Error, Result};

/// Ids that follow a session's tokens, chosen by a sampler one after the other. Nothing but their number ends it: the end of a text
/// is for [`Generation`](crate::Generation) to notice.
///
/// Where every expert is on the GPU, and no more than 256 recent tokens are penalised, an id goes from the choice to the next pass without the CPU, which submits that pass before it
/// reads the id: the GPU does not wait. What was submitted when nobody asks for more is computed in vain; it does not show in the
/// timeline, the counters and the random numbers, and the session can be used again at once.
///
/// It may be dropped at any time. The session then holds what was given and the ids that came but the last one, whose turn to be
/// computed would have been next.
pub struct Continuation<'a> {
    session: &'a mut Session,
    /// What the model has not seen yet: at first what was given, later the last id.
    input: Vec<u32>,
    sampler: Sampler,
    left: usize,
    /// The pass of `input`, if it was submitted already.
    ahead: Option<Submitted>,
    /// An id was begun and not finished: it failed, or whoever waited for it left.
    broken: bool,
}

impl Session {
    /// At most `most` ids that follow the session's tokens and `tokens`.
    ///
    /// # Errors
    /// No token at all, an id outside the vocabulary, or no room in the context.
    pub fn continuation(&mut self, tokens: &[u32], sampler: Sampler, most: usize) -> Result<Continuation<'_>> {
        self.check(tokens)?;
        if tokens.is_empty() {
            return Err(Error::Request("the prompt is empty; there must be at least one token to continue from".into()));
        }
        Ok(Continuation { session: self, input: tokens.to_vec(), sampler, left: most, ahead: None, broken: false })
    }

    /// Submits the pass of tokens that the GPU does not know yet.
    async fn submit_told(&mut self, tokens: &[u32], tail: Tail, sampler: &Sampler) -> Result<Submitted> {
        self.begin(tokens).await?;
        let before = tokens.split_last().map_or(&[][..], |(_, before)| before);
        self.submit_choice((self.tokens.len(), tokens.len()), tail, (sampler, 0), before, 0)
    }

    /// Submits the pass of the token that follows `tokens`, which are being computed: it will be where they are chosen.
    fn submit_fed(&mut self, tokens: &[u32], tail: Tail, sampler: &Sampler, staging: usize) -> Result<Submitted> {
        let position = self.tokens.len() + tokens.len();
        self.engine.gpu.write_slice(&self.scratch.step, 0, &(position as u32).to_le_bytes());
        self.submit_choice((position, 1), tail, (sampler, 1), tokens, staging)
    }

    fn submit_choice(
        &mut self,
        (position, count): (usize, usize),
        tail: Tail,
        (sampler, draw): (&Sampler, u64),
        before: &[u32],
        staging: usize,
    ) -> Result<Submitted> {
        if tail == Tail::Sampled {
            self.tell_draw(sampler, draw, before);
        }
        let shape = self.shape(position, count, tail, Mode::Resident);
        let programs = self.programs(shape)?;
        let submitted = self.submit_resident(&programs, count, staging);
        self.keep(shape, programs);
        submitted
    }
}

impl Continuation<'_> {
    /// The next id; `None` once there were as many as asked for, or the context is full.
    ///
    /// Dropped while it waits, it ends the continuation.
    ///
    /// # Errors
    /// The GPU failed, or the model gives no usable numbers. The continuation is over then.
    pub async fn next_id(&mut self) -> Result<Option<u32>> {
        if self.is_over() || std::mem::replace(&mut self.broken, true) {
            return Ok(None);
        }
        loop {
            let chunk = self.session.next_chunk(self.input.len()).await;
            if chunk == self.input.len() {
                break;
            }
            self.session.run(&self.input[..chunk], Tail::Wait).await?;
            // A device that is lost now must not find these tokens here as well as in the session.
            self.input.drain(..chunk);
        }
        let tail = tail_for(&self.sampler);
        let id = if self.session.engine.experts.complete() && tail.chooses() {
            self.next_resident(tail).await?
        } else {
            self.session.next(&self.input, &mut self.sampler).await?
        };
        self.input = vec![id];
        self.left -= 1;
        self.broken = false;
        Ok(Some(id))
    }

    async fn next_resident(&mut self, tail: Tail) -> Result<u32> {
        let (session, input) = (&mut *self.session, &self.input);
        let submitted = match self.ahead.take() {
            Some(submitted) => submitted,
            None => session.submit_told(input, tail, &self.sampler).await?,
        };
        if self.left > 1 && session.tokens.len() + input.len() < session.engine.context {
            self.ahead = Some(session.submit_fed(input, tail, &self.sampler, 1 - submitted.staging)?);
        }
        let id = session.finish(submitted, input).await?.choice()?;
        session.tokens.extend_from_slice(input);
        self.sampler.drawn();
        Ok(id)
    }

    /// Whether no more ids will come because there were enough, or the context is full.
    pub(crate) fn is_over(&self) -> bool {
        self.left == 0 || self.session.check(&self.input).is_err()
    }

    /// The session that it continues.
    #[must_use]
    pub fn session(&self) -> &Session {
        self.session
    }

    /// See [`Generation::resume_on`](crate::Generation::resume_on).
    pub(crate) async fn resume_on(&mut self, engine: &Engine) -> Result<()> {
        let tokens = [self.session.tokens(), &self.input].concat();
        let session = self.session.moved_to(engine).await?;
        session.check(&tokens)?;
        *self.session = session;
        self.input = tokens;
        self.ahead = None;
        self.broken = false;
        Ok(())
    }
}
