//! Small checkpoints made in memory, valid unless a test spoils them.

use moxel::weights::MemorySource;

/// A GGUF file in pieces, each of which a test can replace.
pub struct Gguf {
    pub magic: [u8; 4],
    pub version: u32,
    /// Key, and value with its type number in front.
    pub keys: Vec<(String, Vec<u8>)>,
    pub tensors: Vec<GgufTensor>,
    /// What the header says instead of the true counts.
    pub claimed_keys: Option<u64>,
    pub claimed_tensors: Option<u64>,
    pub alignment: usize,
    /// Bytes cut off at the end.
    pub cut: usize,
}

pub struct GgufTensor {
    pub name: String,
    /// Innermost first, as GGUF stores them.
    pub dims: Vec<u64>,
    pub type_id: u32,
    pub offset: u64,
    /// How much data it brings to the file, at its offset if that is where the data has come to.
    pub bytes: usize,
}

pub const U8: u32 = 0;
pub const U32: u32 = 4;
pub const F32: u32 = 6;
pub const BOOL: u32 = 7;
pub const STRING: u32 = 8;
pub const ARRAY: u32 = 9;
pub const U64: u32 = 10;

pub fn value(type_id: u32, content: &[u8]) -> Vec<u8> {
    [&type_id.to_le_bytes(), content].concat()
}

pub fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

pub fn array(type_id: u32, count: u64, content: &[u8]) -> Vec<u8> {
    value(ARRAY, &[&type_id.to_le_bytes()[..], &count.to_le_bytes(), content].concat())
}

/// Two tensors, `a` of F32 [2, 4] and `b` of Q8_0 [3, 32], and a third whose format is unsupported.
pub fn gguf() -> Gguf {
    let tokens = [string(b"<s>"), string("ü".as_bytes())].concat();
    Gguf {
        magic: *b"GGUF",
        version: 3,
        keys: vec![
            ("general.architecture".into(), value(STRING, &string(b"llama"))),
            ("llama.block_count".into(), value(U32, &2u32.to_le_bytes())),
            ("llama.eps".into(), value(F32, &1e-5f32.to_le_bytes())),
            ("tokenizer.ggml.tokens".into(), array(STRING, 2, &tokens)),
        ],
        tensors: vec![
            GgufTensor { name: "a".into(), dims: vec![4, 2], type_id: 0, offset: 0, bytes: 32 },
            GgufTensor { name: "b".into(), dims: vec![32, 3], type_id: 8, offset: 32, bytes: 102 },
            GgufTensor { name: "c".into(), dims: vec![32], type_id: 20, offset: 160, bytes: 18 },
        ],
        claimed_keys: None,
        claimed_tensors: None,
        alignment: 32,
        cut: 0,
    }
}

impl Gguf {
    pub fn bytes(&self) -> Vec<u8> {
        let mut file = self.magic.to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend(self.claimed_tensors.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        file.extend(self.claimed_keys.unwrap_or(self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            file.extend(string(key.as_bytes()));
            file.extend(value);
        }
        for tensor in &self.tensors {
            file.extend(string(tensor.name.as_bytes()));
            file.extend((tensor.dims.len() as u32).to_le_bytes());
            for dim in &tensor.dims {
                file.extend(dim.to_le_bytes());
            }
            file.extend(tensor.type_id.to_le_bytes());
            file.extend(tensor.offset.to_le_bytes());
        }
        for (index, tensor) in self.tensors.iter().enumerate() {
            file.resize(file.len().next_multiple_of(self.alignment), 0);
            file.extend((0..tensor.bytes).map(|byte| (byte + index * 10) as u8));
        }
        file.truncate(file.len() - self.cut);
        file
    }

    pub fn source(&self) -> MemorySource {
        MemorySource::default().with("m.gguf", self.bytes())
    }
}

/// A safetensors file with this header and `data` bytes of content.
pub fn safetensors_file(header: &str, data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend((0..data).map(|byte| byte as u8));
    file
}

pub const SAFETENSORS_HEADER: &str = concat!(
    r#"{"__metadata__":{"format":"pt"},"#,
    r#""a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"#,
    r#""b":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]},"#,
    r#""ids":{"dtype":"I64","shape":[1],"data_offsets":[24,32]}}"#
);

pub const CONFIG: &str = r#"{"model_type":"llama","hidden_size":4,"rope":{"theta":1e4},"layers":[1,2,null],"tie":true}"#;

/// A directory with one safetensors file.
pub fn safetensors_directory() -> MemorySource {
    MemorySource::default().with("config.json", CONFIG).with("model.safetensors", safetensors_file(SAFETENSORS_HEADER, 32))
}

/// A directory with two shards; the index as given.
pub fn sharded_directory(index: &str) -> MemorySource {
    MemorySource::default()
        .with("config.json", CONFIG)
        .with("model.safetensors.index.json", index)
        .with(
            "model-00001-of-00002.safetensors",
            safetensors_file(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 8),
        )
        .with(
            "model-00002-of-00002.safetensors",
            safetensors_file(r#"{"b":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}"#, 4),
        )
}

pub const SHARD_INDEX: &str = concat!(
    r#"{"metadata":{"total_size":12},"weight_map":"#,
    r#"{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#
);

/// A packed model: a tensor in Q8_0 and one record of a page.
pub fn packed_directory() -> MemorySource {
    let header = concat!(
        r#"{"moxel.experts.1.0":{"dtype":"U8","shape":[4096],"data_offsets":[0,4096]},"#,
        r#""a":{"dtype":"U8","shape":[68],"data_offsets":[4096,4164]}}"#
    );
    let manifest = concat!(
        r#"{"version":1,"made_by":"a test","format":"huggingface","tensors":{"a":{"dtype":"Q8_0","shape":[2,32]}},"#,
        r#""experts":{"1":{"count":1,"record_bytes":4096,"gate_up":[{"dtype":"F16","rows":8,"cols":4}],"#,
        r#""down":[{"dtype":"F32","rows":4,"cols":4}]}},"files":{"x.safetensors":{"bytes":8260,"#,
        r#""sha256":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}}}"#
    );
    MemorySource::default()
        .with("config.json", CONFIG)
        .with("moxel.json", manifest)
        .with("x.safetensors", safetensors_file(&format!("{header:<4088}"), 4164))
}
