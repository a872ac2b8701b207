//! How many tokens of a prompt are computed together: more than at first where the adapter is fast.
//!
//! A pass reads every weight once, whatever the number of its tokens, and the fewer of them an expert gets, the worse a GPU is used.

use std::sync::Arc;

use super::{Session, buffers};
use crate::Result;

impl Session {
    /// How many of a prompt's `left` tokens to compute next, after making room for them.
    pub(super) async fn next_chunk(&mut self, left: usize) -> usize {
        let first = self.engine.first_chunk;
        let mut most = self.chunk;
        if self.engine.chunks_grow {
            // Further on in a text fewer may be right again: each token's attention takes longer.
            most = self.pace.chunk(first).min(self.most_chunk);
            if most > self.chunk && left > self.chunk && self.grow(most).await.is_err() {
                // Prompts go on as they did, and next time half as many are tried.
                self.most_chunk = (most / 2).max(first);
            }
            most = most.min(self.chunk);
        }
        let count = left.min(most);
        // A token that is computed alone takes other kernels, which round otherwise. Whether one is alone must not follow from time.
        let leaves_one = count == left && count > first && count % first == 1;
        count - usize::from(leaves_one)
    }

    /// Makes room for passes of so many tokens.
    async fn grow(&mut self, chunk: usize) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        let what = format!("prompts of {chunk} tokens at a time");
        let (scratch, staging) = engine.gpu.in_memory(&what, || buffers(&engine, chunk)).await?;
        // Programs name the buffers that they were recorded for.
        self.programs.clear();
        self.scratch = scratch;
        self.staging[0] = staging;
        self.unread[0] = false;
        self.chunk = chunk;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pollster::block_on;

    use super::*;
    use crate::{Engine, EngineOptions, Gpu, GpuOptions, Precision};

    /// Bits of the logits behind prompts of these lengths, and in how many passes each was computed.
    fn prompts(session: &mut Session, lengths: &[usize]) -> Vec<(Vec<u32>, u64)> {
        let prompt = |&length: &usize| {
            let tokens: Vec<u32> = (0..length as u32).map(|i| (i * 31 + 5) % 200).collect();
            session.rewind(0);
            let before = session.counters().readbacks;
            block_on(session.prefill(&tokens)).unwrap();
            let passes = session.counters().readbacks - before;
            (block_on(session.logits(&[7])).unwrap().logits.into_iter().map(f32::to_bits).collect(), passes)
        };
        lengths.iter().map(prompt).collect()
    }

    #[test]
    fn a_session_that_grew_gives_the_same_bits_in_fewer_passes() {
        let gpu = block_on(Gpu::new(&GpuOptions::default())).unwrap();
        for name in ["llama_tied", "top2"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
            let options = EngineOptions { precision: Precision::Exact, prefill_chunk: Some(32), ..EngineOptions::default() };
            let engine = Engine::load_path(&gpu, &path, &options, &mut |_| {}).unwrap();
            let lengths = [1, 2, 32, 33, 34, 97, 128, 129, 130, 161, 257];
            let mut session = engine.session().unwrap();
            let small = prompts(&mut session, &lengths);
            block_on(session.grow(128)).unwrap();
            let large = prompts(&mut session, &lengths);
            for ((length, small), large) in lengths.iter().zip(&small).zip(&large) {
                assert!(small.0 == large.0, "{name}: {length} tokens");
            }
            let chunks = [97, 129, 161].map(|left| block_on(session.next_chunk(left)));
            assert_eq!(chunks, [96, 128, 128], "a last token that would have been alone is not");
            assert_eq!((small[6].1, large[6].1), (4, 1), "passes of 128 tokens");
        }
    }
}
