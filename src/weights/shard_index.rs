//! `model.safetensors.index.json`: which shard holds which tensor.

use super::{tensors::MAX_TENSORS, text::shown};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use std::{
    collections::{BTreeMap, HashSet},
    fmt,
};

/// The tensors of each shard, shards in the order of their names.
type Shards = BTreeMap<String, Vec<String>>;

/// Parses the index. Typed, because a general JSON value takes many times the size of its text and
/// this file may have megabytes.
pub(super) fn parse(bytes: &[u8]) -> Result<Shards, String> {
    #[derive(Deserialize)]
    struct Index {
        #[serde(deserialize_with = "shards")]
        weight_map: Shards,
    }
    serde_json::from_slice::<Index>(bytes)
        .map(|index| index.weight_map)
        .map_err(|error| format!("not a valid index of shards: {error}"))
}

fn shards<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Shards, D::Error> {
    struct WeightMap;

    impl<'de> Visitor<'de> for WeightMap {
        type Value = Shards;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of tensor names and file names")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shards, A::Error> {
            let mut shards = Shards::new();
            let mut seen = HashSet::new();
            while let Some((name, file)) = map.next_entry::<String, String>()? {
                check_file_name(&file).map_err(|problem| A::Error::custom(format!("{}: {problem}", shown(&name))))?;
                if seen.len() == MAX_TENSORS {
                    return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
                }
                if !seen.insert(name.clone()) {
                    return Err(A::Error::custom(format!("{} is there twice", shown(&name))));
                }
                shards.entry(file).or_default().push(name);
            }
            Ok(shards)
        }
    }

    deserializer.deserialize_map(WeightMap)
}

/// The name comes from a downloaded file and goes into paths and URLs: it must stay in its folder.
pub(super) fn check_file_name(file: &str) -> Result<(), String> {
    if !file.ends_with(".safetensors") || file.starts_with('.') || file.contains(['/', '\\', ':', '\0', '?', '#', '%']) {
        return Err(format!("\"{}\" is no plain name of a safetensors file", shown(file)));
    }
    Ok(())
}
