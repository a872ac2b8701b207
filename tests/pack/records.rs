//! What a record should hold and what it holds, written from the description of the layout and not from its code.

use moxel::weights::{Checkpoint, DType, Format, PackedMatrix, TensorInfo};
use pollster::block_on;

/// The matrices of an expert as the checkpoint has them: gate over up, then down, rows of outputs.
pub fn from_stacks(source: &Checkpoint, layer: usize, expert: usize) -> Vec<Vec<f32>> {
    let stack = |name: &str| source.tensors().find(|t| t.name.ends_with(name)).unwrap_or_else(|| panic!("no tensor {name}"));
    match source.format() {
        Format::HuggingFace => ["gate_up_proj", "down_proj"]
            .map(|name| transposed(source, stack(&format!("model.layers.{layer}.feed_forward.experts.{name}")), expert))
            .into(),
        Format::Gguf => {
            let slice = |name| slice(source, stack(&format!("blk.{layer}.{name}_exps.weight")), expert);
            vec![[slice("ffn_gate"), slice("ffn_up")].concat(), slice("ffn_down")]
        }
    }
}

fn slice(source: &Checkpoint, stack: &TensorInfo, expert: usize) -> Vec<f32> {
    let bytes = stack.bytes() / stack.shape[0] as u64;
    let begin = expert as u64 * bytes;
    floats(&block_on(source.read(stack, begin..begin + bytes)).expect("bytes"), stack.dtype)
}

/// An expert of a stack [experts, inputs, outputs], as rows of outputs.
fn transposed(source: &Checkpoint, stack: &TensorInfo, expert: usize) -> Vec<f32> {
    let values = slice(source, stack, expert);
    let (inputs, outputs) = (stack.shape[1], stack.shape[2]);
    (0..outputs).flat_map(|row| (0..inputs).map(move |col| col * outputs + row)).map(|at| values[at]).collect()
}

fn floats(bytes: &[u8], dtype: DType) -> Vec<f32> {
    let size = dtype.block_bytes();
    bytes.chunks(size).map(|bytes| float(bytes, dtype)).collect()
}

fn float(bytes: &[u8], dtype: DType) -> f32 {
    match dtype {
        DType::F32 => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        DType::F16 => half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
        DType::BF16 => half::bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
        other => panic!("{other} is no float"),
    }
}

/// The matrices of a record, decoded. All that follows them must be zeros.
pub fn decoded(packed: &Checkpoint, layer: usize, expert: usize) -> Vec<Vec<f32>> {
    let record = packed.expert_record(layer, expert).expect("a record");
    let bytes = block_on(packed.read_record(record, 0..record.bytes())).expect("bytes");
    let mut rest = bytes.as_slice();
    let matrices = packed.packed_experts(layer).expect("a layer of experts").matrices();
    let decoded = matrices.map(|matrix| decode(&mut rest, matrix)).collect();
    assert!(rest.len() < 4096 && rest.iter().all(|&byte| byte == 0), "{} bytes follow", rest.len());
    decoded
}

/// Takes a matrix off the front: groups of 32 rows, in which the 16-byte vectors of a block of 32 columns lie side by side.
fn decode(bytes: &mut &[u8], matrix: &PackedMatrix) -> Vec<f32> {
    let PackedMatrix { dtype, rows, cols } = *matrix;
    let (groups, blocks) = (rows.div_ceil(32), cols.div_ceil(32));
    let block_bytes = match dtype {
        DType::Q8_0 => 32,
        DType::Q4_1 => 16,
        float => 32 * float.block_bytes(),
    };
    // Scales: an f16 for each block, two to a word; with a minimum a word for each block.
    let side_words = match dtype {
        DType::Q8_0 => blocks.div_ceil(2),
        DType::Q4_1 => blocks,
        _ => 0,
    };
    let (quants, rest) = bytes.split_at(groups * blocks * block_bytes * 32);
    let (side, rest) = rest.split_at(groups * side_words * 32 * 4);
    *bytes = rest;
    let quant = |row: usize, block: usize, byte: usize| {
        let vector = block * block_bytes / 16 + byte / 16;
        quants[(row / 32) * blocks * block_bytes * 32 + (vector * 32 + row % 32) * 16 + byte % 16]
    };
    let half = |row: usize, word: usize, upper: usize| {
        let at = ((row / 32 * side_words + word) * 32 + row % 32) * 4 + 2 * upper;
        half::f16::from_le_bytes([side[at], side[at + 1]]).to_f32()
    };
    let value = |row: usize, col: usize| {
        let (block, e) = (col / 32, col % 32);
        match dtype {
            DType::Q8_0 => half(row, block / 2, block % 2) * f32::from(quant(row, block, e).cast_signed()),
            DType::Q4_1 => {
                let nibble = quant(row, block, e % 16) >> (4 * (e / 16)) & 15;
                half(row, block, 0) * f32::from(nibble) + half(row, block, 1)
            }
            _ => {
                let size = dtype.block_bytes();
                let bytes: Vec<u8> = (0..size).map(|byte| quant(row, block, e * size + byte)).collect();
                float(&bytes, dtype)
            }
        }
    };
    (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col))).map(|(row, col)| value(row, col)).collect()
}
