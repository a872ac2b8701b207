use std::sync::atomic::{AtomicUsize, Ordering};

use moxel::weights::Checkpoint;
use pollster::block_on;

use super::*;

/// Every byte tells where it is: tensor, block and place in the block.
#[derive(Default)]
struct Numbered {
    sizes: Vec<u64>,
    computed: AtomicUsize,
}

impl Tensors for Numbered {
    fn block(&self, tensor: usize, block: usize) -> BoxFuture<'_, Result<Vec<u8>>> {
        self.computed.fetch_add(1, Ordering::Relaxed);
        let bytes = (0..self.sizes[tensor]).map(|at| (50 * tensor as u64 + 10 * block as u64 + at) as u8).collect();
        Box::pin(async move { Ok(bytes) })
    }
}

fn specs() -> Vec<TensorSpec> {
    let spec =
        |name: &str, dtype, shape: &[usize], blocks| TensorSpec { name: name.into(), dtype, shape: shape.to_vec(), blocks };
    vec![spec("a", DType::F32, &[3, 5], 3), spec("b", DType::BF16, &[7], 1), spec("c", DType::F16, &[4, 3], 2)]
}

fn model(layout: Layout) -> VirtualModel<Numbered> {
    let sizes = layout.tensors.iter().map(|(_, spec)| spec.block_bytes()).collect();
    let side_files = BTreeMap::from([("config.json".to_owned(), br#"{"model_type":"llama"}"#.to_vec())]);
    VirtualModel::new("numbers".into(), side_files, layout, Numbered { sizes, computed: AtomicUsize::new(0) })
}

/// All pieces of a file, of every length and at every place, are those of the file read at once.
fn check_pieces(model: &VirtualModel<Numbered>, file: &str) {
    let size = block_on(model.size(file)).expect("a size").expect("the file is there");
    let whole = block_on(model.read(file, 0..size)).expect("the file");
    assert_eq!(whole.len() as u64, size);
    for start in 0..=size {
        for end in [start, start + 1, start + 9, start + 40, size].into_iter().filter(|&end| end >= start && end <= size) {
            let piece = block_on(model.read(file, start..end)).expect("a piece");
            assert_eq!(piece, whole[start as usize..end as usize], "{file} {start}..{end}");
        }
    }
    #[expect(clippy::reversed_empty_ranges, reason = "this is what must be refused")]
    for wrong in [0..size + 1, size + 1..size + 1, 2..1] {
        let error = block_on(model.read(file, wrong)).expect_err("outside the file").to_string();
        assert!(error.contains(file), "{error}");
    }
}

#[test]
fn a_safetensors_file_reads_as_a_checkpoint() {
    let model = model(safetensors::layout(specs()));
    check_pieces(&model, "model.safetensors");
    check_pieces(&model, "config.json");
    assert_eq!(block_on(model.size("tokenizer.json")).expect("no error"), None);
    assert!(block_on(model.read("tokenizer.json", 0..0)).is_err());
    let checkpoint = block_on(Checkpoint::open(Arc::new(model), "")).expect("a checkpoint");
    check_tensors(&checkpoint);
}

#[test]
fn a_gguf_file_reads_as_a_checkpoint() {
    use gguf::Value;
    let metadata = [
        ("general.architecture", Value::Text("llama".into())),
        ("a.count", Value::U32(7)),
        ("a.float", Value::F32(0.25)),
        ("a.flag", Value::Bool(true)),
        ("a.texts", Value::Texts(vec!["x".into(), "Ġy".into()])),
        ("a.numbers", Value::I32s(vec![-1, 5])),
    ];
    let layout = || gguf::layout(&metadata, specs());
    check_pieces(&model(layout()), "model.gguf");
    let checkpoint = block_on(Checkpoint::open(Arc::new(model(layout())), gguf::FILE)).expect("a checkpoint");
    check_tensors(&checkpoint);
    let expected = serde_json::json!({ "general.architecture": "llama", "a.count": 7, "a.float": 0.25, "a.flag": true,
        "a.texts": ["x", "Ġy"], "a.numbers": [-1, 5] });
    assert_eq!(Some(checkpoint.config()), expected.as_object());
}

fn check_tensors(checkpoint: &Checkpoint) {
    let found: Vec<_> = checkpoint.tensors().collect();
    assert_eq!(found.len(), specs().len());
    for (index, spec) in specs().iter().enumerate() {
        let tensor = checkpoint.tensor(&spec.name).expect("the tensor");
        assert_eq!((tensor.dtype, &tensor.shape), (spec.dtype, &spec.shape));
        let bytes = block_on(checkpoint.read(tensor, 0..tensor.bytes())).expect("its bytes");
        let block = spec.block_bytes() as usize;
        for (at, &byte) in bytes.iter().enumerate() {
            assert_eq!(byte, (50 * index + 10 * (at / block) + at % block) as u8, "{} byte {at}", spec.name);
        }
    }
}

/// Reading a block in pieces, and two blocks in turns, computes each once.
#[test]
fn recent_blocks_are_kept() {
    let model = model(safetensors::layout(specs()));
    let start = model.file.tensors[0].0;
    for piece in 0..20 {
        for block in 0..2 {
            let at = start + 20 * block + piece;
            block_on(model.read("model.safetensors", at..at + 1)).expect("a byte");
        }
    }
    assert_eq!(model.tensors.computed.load(Ordering::Relaxed), 2);
}

/// A block of the wrong size is an error and not a shifted file.
#[test]
fn a_block_of_another_size_is_refused() {
    let mut model = model(safetensors::layout(specs()));
    model.tensors.sizes[1] -= 1;
    let start = model.file.tensors[1].0;
    assert!(block_on(model.read("model.safetensors", start..start + 1)).is_err());
}
