//! Asks a model a question: `cargo run --release --example hello -- MODEL`.

use std::path::Path;

use moxel::{Chat, Engine, EngineOptions, GenerateOptions, Gpu, GpuOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: hello MODEL")?;
    Ok(hello(path.as_ref())?)
}

pub fn hello(path: &Path) -> moxel::Result<()> {
    let gpu = Gpu::open(&GpuOptions::default())?;
    let engine = Engine::load_path(&gpu, path, &EngineOptions::default(), &mut |_| {})?;
    let mut chat = Chat::new(&engine, None)?;
    let options = GenerateOptions { max_tokens: Some(64), ..GenerateOptions::default() };
    for token in chat.say("What is the capital of France?", options)? {
        print!("{}", token?.text);
    }
    println!();
    Ok(())
}
