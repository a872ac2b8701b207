//! Valid files with random damage: opening and reading them ends, without a panic and without
//! holding much more memory than the file has bytes.

use crate::{
    allocation::peak_of,
    build::{SHARD_INDEX, STRING, U8, array, gguf, packed_directory, safetensors_directory, safetensors_file, sharded_directory},
    open,
};
use moxel::weights::{MemorySource, WeightSource};
use pollster::block_on;
use proptest::{prelude::*, sample::Index};
use std::collections::BTreeMap;

/// What opening a file may hold beyond a small multiple of its size.
const ALLOWANCE: usize = 8 << 20;

#[derive(Clone, Debug)]
enum Damage {
    Set(Index, u8),
    Flip(Index, u8),
    Truncate(Index),
    Remove(Index),
    Insert(Index, Vec<u8>),
    /// Numbers at the edges of their range, where sums and products overflow.
    Word(Index, u64),
    Repeat(Index, u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    let edges = prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(u64::MAX - 31),
        Just(i64::MAX as u64),
        Just(u64::from(u32::MAX)),
        (0u32..64).prop_map(|bit| 1u64 << bit),
    ];
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (any::<Index>(), 0u8..8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        any::<Index>().prop_map(Damage::Truncate),
        any::<Index>().prop_map(Damage::Remove),
        (any::<Index>(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (any::<Index>(), edges).prop_map(|(at, word)| Damage::Word(at, word)),
        (any::<Index>(), 1u8..64).prop_map(|(at, times)| Damage::Repeat(at, times)),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    if bytes.is_empty() {
        return;
    }
    let length = bytes.len();
    match damage {
        Damage::Set(at, byte) => bytes[at.index(length)] = *byte,
        Damage::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
        Damage::Truncate(at) => bytes.truncate(at.index(length)),
        Damage::Remove(at) => {
            bytes.remove(at.index(length));
        }
        Damage::Insert(at, new) => {
            let at = at.index(length);
            bytes.splice(at..at, new.iter().copied());
        }
        Damage::Word(at, word) => {
            let at = at.index(length);
            let end = (at + 8).min(length);
            bytes[at..end].copy_from_slice(&word.to_le_bytes()[..end - at]);
        }
        Damage::Repeat(at, times) => {
            let at = at.index(length);
            let piece = bytes[at..(at + 16).min(length)].repeat(usize::from(*times));
            bytes.splice(at..at, piece);
        }
    }
}

/// Opens it and, if that works, reads every tensor; checks what that held in memory.
fn survives(files: BTreeMap<String, Vec<u8>>, entry: &str) -> Result<usize, TestCaseError> {
    let size: usize = files.values().map(Vec::len).sum();
    let source = MemorySource::new(files);
    let (_, peak) = peak_of(|| {
        if let Ok(checkpoint) = open(source, entry) {
            for tensor in checkpoint.tensors() {
                let bytes = block_on(checkpoint.read(tensor, 0..tensor.bytes())).unwrap();
                assert_eq!(tensor.dtype.bytes_for(tensor.elements()), Some(bytes.len() as u64));
            }
            if let Ok(record) = checkpoint.expert_record(1, 0) {
                let bytes = block_on(checkpoint.read_record(record, 0..record.bytes())).unwrap();
                assert_eq!(bytes.len() as u64, record.bytes());
            }
        }
    });
    prop_assert!(peak < 20 * size + ALLOWANCE, "{peak} bytes held for a file of {size}");
    Ok(peak)
}

fn contents(source: &MemorySource, names: &[&str]) -> BTreeMap<String, Vec<u8>> {
    let read = |name: &&str| {
        let size = block_on(source.size(name)).unwrap().unwrap();
        (name.to_string(), block_on(source.read(name, 0..size)).unwrap())
    };
    names.iter().map(read).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn gguf_files(damages in prop::collection::vec(damage(), 1..6)) {
        let mut bytes = gguf().bytes();
        damages.iter().for_each(|damage| apply(&mut bytes, damage));
        survives(BTreeMap::from([("m.gguf".to_owned(), bytes)]), "m.gguf")?;
    }

    #[test]
    fn safetensors_files(
        damages in prop::collection::vec((0usize..2, damage()), 1..6),
    ) {
        let names = ["model.safetensors", "config.json"];
        let mut files = contents(&safetensors_directory(), &names);
        for (file, damage) in &damages {
            apply(files.get_mut(names[*file]).unwrap(), damage);
        }
        survives(files, "")?;
    }

    #[test]
    fn packed_files(damages in prop::collection::vec((0usize..4, damage()), 1..6)) {
        let names = ["moxel.json", "x.safetensors", "moxel.json", "config.json"];
        let mut files = contents(&packed_directory(), &names);
        for (file, damage) in &damages {
            apply(files.get_mut(names[*file]).unwrap(), damage);
        }
        survives(files, "")?;
    }

    #[test]
    fn sharded_files(damages in prop::collection::vec((0usize..2, damage()), 1..6)) {
        let names = [
            "model.safetensors.index.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "config.json",
        ];
        let mut files = contents(&sharded_directory(SHARD_INDEX), &names);
        for (file, damage) in &damages {
            apply(files.get_mut(names[*file]).unwrap(), damage);
        }
        survives(files, "")?;
    }
}

/// The files that grow most when they are parsed: many short things.
#[test]
fn files_of_many_short_things_do_not_explode() {
    let mut file = gguf();
    file.keys.push(("t.bytes".into(), array(U8, 60_000, &[1; 60_000])));
    file.keys.push(("t.words".into(), array(STRING, 5_000, &[0; 40_000])));
    let peak = survives(BTreeMap::from([("m.gguf".to_owned(), file.bytes())]), "m.gguf").unwrap();
    assert!(peak > 60_000 * 32, "the arrays were not parsed: {peak}");

    let tensor = |index| format!(r#""{index}":{{"dtype":"F32","shape":[],"data_offsets":[0,0]}}"#);
    let tensors: Vec<_> = (0..50_000).map(tensor).collect();
    let header = format!("{{{}}}", tensors.join(","));
    let weights = safetensors_file(&header.replace("[]", "[0]"), 0);
    let config = format!("{{\"a\":[0{}]}}", ",0".repeat(99_990)).into_bytes();
    let files = [("model.safetensors".to_owned(), weights), ("config.json".to_owned(), config)];
    let peak = survives(BTreeMap::from(files), "").unwrap();
    assert!(peak > 50_000 * 100, "the tensors were not listed: {peak}");
}

/// Undamaged, all of them can be opened: damage to what is refused anyway would prove nothing.
#[test]
fn undamaged_files_are_opened() {
    for (source, tensors, is_packed) in
        [(safetensors_directory(), 2, false), (sharded_directory(SHARD_INDEX), 2, false), (packed_directory(), 1, true)]
    {
        let checkpoint = open(source, "").unwrap();
        assert_eq!(checkpoint.tensors().count(), tensors);
        assert_eq!((checkpoint.is_packed(), checkpoint.expert_record(1, 0).is_ok()), (is_packed, is_packed));
    }
}

/// The harness must be able to fail.
#[test]
fn too_much_memory_is_noticed() {
    let (_, peak) = peak_of(|| std::hint::black_box(vec![0u8; ALLOWANCE + 1]));
    assert!(peak > ALLOWANCE);
}
