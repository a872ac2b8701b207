//! `moxel logits` against the reference's numbers, through the file that it writes.

mod common;

use std::fs;

use common::{folder, golden, moxel, repository};
use safetensors::{Dtype, SafeTensors};

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytemuck::pod_collect_to_vec(bytes)
}

#[test]
fn logits_and_routing_are_the_references() {
    let expected = fs::read(repository().join("tests/golden/top2/expected.safetensors")).expect("golden");
    let expected = SafeTensors::deserialize(&expected).expect("golden");
    let ids: Vec<u32> = bytemuck::pod_collect_to_vec(expected.tensor("tokens").expect("tokens").data());
    let text: Vec<String> = ids.iter().map(u32::to_string).collect();
    let folder = folder("logits_and_routing_are_the_references");
    let (list, out) = (folder.join("ids.txt"), folder.join("out.safetensors"));
    // Any mixture of commas and white space separates ids.
    fs::write(&list, text.join(", ").replacen(',', "\n", 5)).expect("a file of ids");
    moxel(&["logits", &golden("top2"), "--tokens-file", &list.display().to_string(), "--out", &out.display().to_string()]).ok();

    let written = fs::read(&out).expect("the file is there");
    let written = SafeTensors::deserialize(&written).expect("safetensors");
    assert_eq!(written.len(), 1 + 2 * 3, "logits, and two tensors for each MoE layer: {:?}", written.names());
    let logits = written.tensor("logits").expect("logits");
    assert_eq!((logits.dtype(), logits.shape()), (Dtype::F32, &[75, 259][..]));
    let reference = floats(expected.tensor("logits").expect("logits").data());
    let largest = floats(logits.data()).iter().zip(&reference).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let spread = reference.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    // The default is exact precision; tests/golden.rs holds the real bound.
    assert!(largest <= 1e-3 * spread, "{largest} of {spread}");
    for layer in [0, 2, 3] {
        let ids = written.tensor(&format!("router.{layer}.ids")).expect("ids");
        assert_eq!((ids.dtype(), ids.shape()), (Dtype::I32, &[75, 2][..]));
        assert_eq!(ids.data(), expected.tensor(&format!("router.{layer}.ids")).expect("golden").data(), "layer {layer}");
        let weights = written.tensor(&format!("router.{layer}.weights")).expect("weights");
        assert_eq!((weights.dtype(), weights.shape()), (Dtype::F32, &[75, 2][..]));
    }
    let files = fs::read_dir(&folder).expect("the folder").count();
    assert_eq!(files, 2, "the list of ids and the result, nothing unfinished");
}

/// A second run replaces the file as a whole, a failed one leaves it alone.
#[test]
fn a_failed_run_leaves_the_old_file() {
    let out = folder("a_failed_run_leaves_the_old_file").join("out.safetensors");
    let path = out.display().to_string();
    moxel(&["logits", &golden("llama_tied"), "--tokens", "1,2,3", "--out", &path]).ok();
    let first = fs::read(&out).expect("the first result");
    assert_eq!(moxel(&["logits", &golden("llama_tied"), "--tokens", "1,99999", "--out", &path]).status, 1);
    assert_eq!(fs::read(&out).expect("still there"), first);
    moxel(&["logits", &golden("llama_tied"), "--tokens", "1,2", "--out", &path, "--precision", "fast"]).ok();
    let second = fs::read(&out).expect("the second result");
    assert_eq!(SafeTensors::deserialize(&second).expect("safetensors").names(), ["logits"]);
    assert!(second.len() < first.len());
}
