//! `moxel logits`: what the model says after every token, for comparison with other programs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use moxel::{Logits, Precision};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize_to_file};

use crate::args::{Common, LogitsArgs, TokenArgs};
use crate::{model, output};

pub fn run(common: &Common, args: &LogitsArgs) -> anyhow::Result<()> {
    let tokens = read_tokens(&args.tokens)?;
    let engine = model::load(common, &args.model, Precision::Exact)?.engine;
    let logits = pollster::block_on(engine.session()?.logits(&tokens))?;
    write(&args.out, &logits, tokens.len()).with_context(|| format!("cannot write {}", args.out.display()))?;
    eprintln!("{} tokens, {}: {}", tokens.len(), args.out.display(), output::bytes(fs::metadata(&args.out)?.len()));
    Ok(())
}

fn read_tokens(args: &TokenArgs) -> anyhow::Result<Vec<u32>> {
    let tokens = match (&args.tokens, &args.tokens_file) {
        (Some(tokens), _) => tokens.clone(),
        (None, Some(file)) => {
            let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            let ids = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|id| !id.is_empty());
            ids.map(|id| id.parse().with_context(|| format!("{}: {id:?} is not a token id", file.display())))
                .collect::<anyhow::Result<_>>()?
        }
        (None, None) => Vec::new(),
    };
    if tokens.is_empty() {
        bail!("there are no tokens to compute logits for");
    }
    Ok(tokens)
}

/// Writes under another name first, so that the file is there completely or not at all.
fn write(path: &Path, all: &Logits, tokens: usize) -> anyhow::Result<()> {
    let mut tensors = BTreeMap::from([("logits".to_owned(), view(Dtype::F32, tokens, &all.logits)?)]);
    for routing in &all.routing {
        tensors.insert(format!("router.{}.ids", routing.layer), view(Dtype::I32, tokens, &routing.ids)?);
        tensors.insert(format!("router.{}.weights", routing.layer), view(Dtype::F32, tokens, &routing.weights)?);
    }
    let unfinished = unfinished_name(path);
    let written = serialize_to_file(tensors, None, &unfinished).map_err(anyhow::Error::from);
    let renamed = written.and_then(|()| Ok(fs::rename(&unfinished, path)?));
    if renamed.is_err() {
        // The error that matters is the one above.
        let _ = fs::remove_file(&unfinished);
    }
    renamed
}

fn view<T: bytemuck::Pod>(dtype: Dtype, rows: usize, values: &[T]) -> anyhow::Result<TensorView<'_>> {
    Ok(TensorView::new(dtype, vec![rows, values.len() / rows], bytemuck::cast_slice(values))?)
}

/// A name beside `path`, of this process.
fn unfinished_name(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}
