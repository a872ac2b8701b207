//! A model from a source of one's own, here a folder behind a slow line, with half of its experts on the GPU, and what that
//! costs.
//!
//!     cargo run --release --example own_source -- models/demo-moe 50% 200

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moxel::weights::{BoxFuture, FileSource, WeightSource};
use moxel::{Chat, Engine, EngineOptions, ExpertBudget, ExpertOptions, GenerateOptions, Gpu, GpuOptions};

/// A folder whose bytes arrive no faster than a line lets them.
struct SlowLine {
    folder: FileSource,
    bytes_per_second: f64,
}

impl WeightSource for SlowLine {
    fn name(&self) -> String {
        self.folder.name()
    }

    fn size<'a>(&'a self, file: &'a str) -> BoxFuture<'a, moxel::Result<Option<u64>>> {
        self.folder.size(file)
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> BoxFuture<'a, moxel::Result<Vec<u8>>> {
        Box::pin(async move {
            let begin = Instant::now();
            let bytes = self.folder.read(file, range).await?;
            let needed = Duration::from_secs_f64(bytes.len() as f64 / self.bytes_per_second);
            // Blocking here is what makes reads wait for one another, as they do on a line. Other sources should not.
            std::thread::sleep(needed.saturating_sub(begin.elapsed()));
            Ok(bytes)
        })
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, budget, megabytes] = &arguments[..] else {
        return Err("usage: own_source FOLDER BUDGET MEGABYTES_PER_SECOND".into());
    };
    println!("{}", run(model.as_ref(), budget.parse()?, megabytes.parse()?)?);
    Ok(())
}

/// Says something to the model and returns the figures of its answer in words.
pub fn run(model: &Path, budget: ExpertBudget, megabytes_per_second: f64) -> moxel::Result<String> {
    let source = SlowLine { folder: FileSource::new(model), bytes_per_second: 1e6 * megabytes_per_second };
    let experts = ExpertOptions { budget, ..ExpertOptions::default() };
    let options = EngineOptions { experts, ..EngineOptions::default() };

    let gpu = Gpu::open(&GpuOptions::default())?;
    let engine = pollster::block_on(Engine::load(&gpu, Arc::new(source), "", &options, &mut |_| {}))?;
    let mut chat = Chat::new(&engine, None)?;
    let options = GenerateOptions { max_tokens: Some(200), ..GenerateOptions::default() };
    let (mut first, mut tokens) = (None, 0);
    for token in chat.say("Tell me a story about the sea.", options)? {
        print!("{}", token?.text);
        tokens += usize::from(first.is_some());
        first.get_or_insert_with(Instant::now);
    }
    println!();
    let seconds = first.map_or(0.0, |first| first.elapsed().as_secs_f64());
    let mut figures = format!("{:.2} tokens/s", tokens as f64 / seconds);
    if let (Some(plan), Some(stats)) = (engine.expert_plan(), engine.expert_stats()) {
        figures += &format!(
            " | experts: {plan} | {:.1} % hits, {:.2} stalled layers per token, {:.0} ms reading, {:.0} ms uploading",
            100.0 * stats.hit_rate,
            stats.stalled_layers_per_token,
            stats.stall_ms.read,
            stats.stall_ms.upload
        );
    }
    Ok(figures)
}
