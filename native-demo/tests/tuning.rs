//! The choice of kernels: measured, shown, kept and found again.

mod common;

use std::fs;
use std::path::Path;

use common::demo_model::demo_model;
use common::{folder, golden, moxel, repository, spoken};
use serde_json::Value;

fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect()
}

/// The kernels that a run with this cache computes with.
fn used(model: &Path, options: &[&str]) -> Value {
    let arguments = ["generate", model.to_str().expect("UTF-8"), "--prompt", "Hi", "--max-tokens", "1", "--json"];
    moxel(&[&arguments[..], options].concat()).json()["kernels"].clone()
}

#[test]
fn a_choice_is_measured_once() {
    let Some(model) = demo_model(&repository()) else { return };
    let cache = folder("a_choice_is_measured_once");
    let file = cache.join("kernels.json");
    let kept = || serde_json::from_slice::<Value>(&fs::read(&file).expect("a choice")).expect("JSON");
    let cache = cache.to_str().expect("UTF-8");

    let report = moxel(&["tune", model.to_str().expect("UTF-8"), "--json", "--cache", cache]).json();
    let candidates = report["candidates"].as_array().expect("a list");
    let has = |feature| usize::from(report["key"]["tier"].as_str().expect("a tier").contains(feature));
    // Four lanes for many tokens are tried where they won for one; matrix units come in several sizes.
    let many = 4 + has("f16") + usize::from(report["kernels"]["matvec"] == "quads_bytes");
    let on_units = |c: &&Value| c["kernel"].as_str().expect("a name").starts_with("matrix units");
    let units = candidates.iter().filter(on_units).count();
    assert_eq!(candidates.len(), (5 + 2 * has("subgroups")) + 2 + many + units + 2);
    assert_eq!(units > 0, has("matrices") > 0);
    for candidate in candidates {
        assert!(candidate["dropped"].is_null() && candidate["milliseconds"].as_f64() > Some(0.0), "{candidate}");
    }
    assert_eq!(candidates.iter().filter(|c| c["chosen"] == true).count(), 4);
    assert_eq!(
        (&report["key"]["format"], &report["key"]["rows"], &report["key"]["cols"]),
        (&"Q4_1".into(), &1536.into(), &576.into())
    );
    assert_eq!(kept()[0]["kernels"], report["kernels"]);
    let adapters = moxel(&["adapters", "--json", "--cache", cache]).json();
    assert!(adapters.as_array().expect("a list").iter().any(|a| a["kernels"][0]["kernels"] == report["kernels"]), "{adapters}");

    // What is kept is used, also where measuring would choose otherwise; not with another precision.
    let mut changed = kept();
    changed[0]["kernels"] = serde_json::json!({ "matvec": "cooperative", "matmul": "tiled", "fused": false, "four_rows": true });
    fs::write(&file, changed.to_string()).expect("written");
    assert_eq!(used(&model, &["--cache", cache]), "matvec: cooperative, f32, separate; matmul: tiled, f32; attention: four rows");
    assert_eq!(kept(), changed);
    let plain = "matvec: rows, f32, fused; matmul: rows, f32; attention: one row";
    assert_eq!(used(&model, &["--cache", cache, "--no-tune"]), plain);
    assert_eq!(kept(), changed);
    used(&model, &["--cache", cache, "--precision", "exact"]);
    assert_eq!(kept().as_array().map(Vec::len), Some(2));

    // What another version has kept stays.
    let other = serde_json::json!([{ "kernels": 7 }]);
    fs::write(&file, other.to_string()).expect("written");
    used(&model, &["--cache", cache]);
    assert_eq!((kept().as_array().map(Vec::len), &kept()[0]), (Some(2), &other[0]));
    // A damaged file is as good as none, and replaced.
    for damaged in [&b"[{\"adapter\""[..], b"{}", b"\xff"] {
        fs::write(&file, damaged).expect("written");
        used(&model, &["--cache", cache]);
        assert_eq!(kept().as_array().map(Vec::len), Some(1));
    }
    assert!(names(cache).iter().all(|name| !name.ends_with(".tmp")), "half-written: {:?}", names(cache));
}

/// Where the driver can, its pipelines are kept; damaged ones are replaced and change nothing.
#[test]
fn pipelines_are_kept() {
    let cache = folder("pipelines_are_kept");
    let cache = cache.to_str().expect("UTF-8");
    let model = spoken("pipelines_are_kept_by", "scout");
    let ids = || moxel(&["generate", &model, "--prompt", "Hi", "--json", "--cache", cache]).json()["token_ids"].clone();
    let first = ids();
    let kept = names(cache);
    assert!(kept.len() <= 1 && kept.iter().all(|name| name.contains("pipeline_cache")), "{kept:?}");
    for name in &kept {
        let path = Path::new(cache).join(name);
        let good = fs::read(&path).expect("pipelines");
        let mut flipped = good.clone();
        flipped[40] ^= 1;
        for damaged in [&good[..good.len() / 2], &flipped, b""] {
            fs::write(&path, damaged).expect("written");
            assert_eq!(ids(), first);
            assert_ne!(fs::read(&path).expect("pipelines"), damaged);
        }
    }
    assert_eq!(ids(), first);
}

#[test]
fn small_models_are_not_measured() {
    let report = moxel(&["tune", &golden("scout"), "--json", "--no-cache"]).json();
    assert!(report["key"].is_null() && report["candidates"].as_array().is_some_and(Vec::is_empty), "{report}");
    assert!(moxel(&["tune", &golden("scout"), "--no-cache"]).ok().stdout.contains("too small"));
}
