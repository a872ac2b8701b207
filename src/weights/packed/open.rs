//! Opening a packed model: the manifest against the files.

use super::{MANIFEST, Manifest, PAGE, Packed, PackedExperts, RecordInfo, packed_expert_name, parse_expert_name};
use crate::weights::{
    checkpoint::Opened,
    huggingface::{CONFIG, read_config},
    safetensors,
    source::{WeightSource, display_name, read_small_file},
    tensors::{HeaderTensor, TensorTable, check_ranges, format_error},
    text::shown,
};
use crate::{Error, Result};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Real manifests have a few megabytes at most.
const MAX_MANIFEST: u64 = 64 << 20;

type Records = HashMap<(usize, usize), RecordInfo>;

/// Opens the directory if it is a packed model's.
pub(in crate::weights) async fn open(source: &dyn WeightSource) -> Result<Option<Opened>> {
    let Some(bytes) = read_small_file(source, MANIFEST, MAX_MANIFEST).await? else {
        return Ok(None);
    };
    let shown_manifest = display_name(source, MANIFEST);
    let manifest = Manifest::parse(&bytes).map_err(|problem| format_error(&shown_manifest, problem))?;
    drop(bytes);
    let config = read_config(source, manifest.format).await?;
    let mut tensors = TensorTable::default();
    let mut records = Records::new();
    for (file, stored) in &manifest.files {
        let shown_file = display_name(source, file);
        let Some(size) = source.size(file).await? else {
            let cause = format!("there is no such file, but {MANIFEST} names it");
            return Err(Error::Read { file: shown_file, cause });
        };
        if size != stored.bytes {
            let problem = format!("the file has {size} bytes, but {MANIFEST} says {}; was it cut off or changed?", stored.bytes);
            return Err(format_error(&shown_file, problem));
        }
        let listed = safetensors::read_header(source, file, size).await?;
        check_ranges(&listed, size).map_err(|problem| format_error(&shown_file, problem))?;
        let name: Arc<str> = Arc::from(file.as_str());
        let dense = sort(listed, &manifest, &name, &mut records).map_err(|problem| format_error(&shown_file, problem))?;
        tensors.add_file(&name, &shown_file, size, dense)?;
    }
    let fail = |problem| format_error(&shown_manifest, problem);
    if let Some(name) = manifest.tensors.keys().find(|name| !tensors.contains(name)) {
        return Err(fail(format!("it describes the tensor {}, which is in none of the files", shown(name))));
    }
    let experts = experts(&manifest, records).map_err(fail)?;
    let packed = Packed { experts, files: manifest.files };
    Ok(Some(Opened { format: manifest.format, file: display_name(source, CONFIG), config, tensors, packed: Some(packed) }))
}

/// Puts records aside, and gives tensors in block formats what the manifest says about them.
fn sort(
    listed: Vec<HeaderTensor>,
    manifest: &Manifest,
    file: &Arc<str>,
    records: &mut Records,
) -> Result<Vec<HeaderTensor>, String> {
    let mut dense = Vec::with_capacity(listed.len());
    for mut tensor in listed {
        let is_bytes = matches!(&tensor.dtype, Err(name) if name == "U8");
        if let Some(key) = parse_expert_name(&tensor.name).filter(|_| is_bytes) {
            let record = RecordInfo { file: file.clone(), range: tensor.range };
            if records.insert(key, record).is_some() {
                return Err(format!("{} is there twice", shown(&tensor.name)));
            }
            continue;
        }
        if let Some(stored) = manifest.tensors.get(&tensor.name) {
            if !is_bytes {
                return Err(format!("tensor {} is not stored as U8, as {MANIFEST} says", shown(&tensor.name)));
            }
            (tensor.dtype, tensor.shape) = (Ok(stored.dtype), stored.shape.clone());
        }
        dense.push(tensor);
    }
    Ok(dense)
}

/// The records of each layer in order: all that the manifest announces, and no others.
fn experts(manifest: &Manifest, mut records: Records) -> Result<BTreeMap<usize, PackedExperts>, String> {
    let mut packed = BTreeMap::new();
    for (&layer, experts) in &manifest.experts {
        let mut own = Vec::new();
        for expert in 0..experts.count {
            let name = packed_expert_name(layer, expert);
            let Some(record) = records.remove(&(layer, expert)) else {
                return Err(format!(
                    "it announces {} experts in layer {layer}, but {name} is in none of the files",
                    experts.count
                ));
            };
            if record.bytes() != experts.record_bytes || !record.range.start.is_multiple_of(PAGE) {
                return Err(format!(
                    "{name} lies at bytes {}..{} of {}, which is not a record of {} bytes at a multiple of {PAGE}",
                    record.range.start, record.range.end, record.file, experts.record_bytes
                ));
            }
            own.push(record);
        }
        packed.insert(layer, PackedExperts { layer: experts.layer(), records: own });
    }
    match records.keys().next() {
        None => Ok(packed),
        Some(&(layer, expert)) => {
            Err(format!("it does not announce {}, which is in the files", packed_expert_name(layer, expert)))
        }
    }
}
