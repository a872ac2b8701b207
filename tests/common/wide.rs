//! A golden model whose experts are wide enough for the kernels that do several things at once.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::golden;

/// Rows of experts' gates in the golden model and here: those kernels take groups of 32 rows of gate and up.
const NARROW: usize = 20;
const WIDE: usize = 64;

/// `top2` with [`WIDE`] inner rows in every expert: each of its own rows several times, and the columns of down divided by how often.
/// It computes what `top2` does, so that the same numbers are expected of it.
pub fn top2_wide() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(make)
}

fn make() -> PathBuf {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(concat!("top2-wide-", env!("CARGO_CRATE_NAME")));
    std::fs::create_dir_all(&out).expect("a folder");
    let config = std::fs::read_to_string(golden("top2").join("config.json")).expect("config.json");
    let wide = config.replace(&format!("\"intermediate_size\": {NARROW},"), &format!("\"intermediate_size\": {WIDE},"));
    assert_ne!(config, wide);
    std::fs::write(out.join("config.json"), wide).expect("config.json");
    let file = std::fs::read(golden("top2").join("model.safetensors")).expect("model.safetensors");
    let narrow = SafeTensors::deserialize(&file).expect("safetensors");
    let widened = |name: &str, view: &TensorView<'_>| {
        let (values, shape) = (bytemuck::pod_collect_to_vec::<u8, f32>(view.data()), view.shape());
        let part = name.split_once(".experts.").or(name.split_once(".shared_expert."));
        match (part.map(|(_, part)| part), shape) {
            // [experts, hidden, gate and up]
            (Some("gate_up_proj"), &[experts, hidden, _]) => {
                let wide = values.chunks_exact(NARROW).flat_map(|row| (0..WIDE).map(|i| row[i % NARROW]));
                (wide.collect(), vec![experts, hidden, 2 * WIDE])
            }
            (Some("down_proj"), &[experts, _, hidden]) => {
                let rows: Vec<_> = values.chunks_exact(hidden).collect();
                let wide = rows.chunks_exact(NARROW).flat_map(|rows| (0..WIDE).flat_map(|i| shared(rows[i % NARROW], i)));
                (wide.collect(), vec![experts, WIDE, hidden])
            }
            (Some("gate_proj.weight" | "up_proj.weight"), &[_, hidden]) => {
                let rows: Vec<_> = values.chunks_exact(hidden).collect();
                ((0..WIDE).flat_map(|i| rows[i % NARROW]).copied().collect(), vec![WIDE, hidden])
            }
            (Some("down_proj.weight"), &[hidden, _]) => {
                let wide = values.chunks_exact(NARROW).flat_map(|row| (0..WIDE).map(|i| row[i % NARROW] / copies(i)));
                (wide.collect::<Vec<_>>(), vec![hidden, WIDE])
            }
            _ => (values, shape.to_vec()),
        }
    };
    let tensors: Vec<_> = narrow.iter().map(|(name, view)| (name, widened(name, &view))).collect();
    let views = tensors.iter().map(|(name, (values, shape))| {
        (*name, TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values)).expect("a tensor"))
    });
    safetensors::serialize_to_file(views, None, &out.join("model.safetensors")).expect("model.safetensors");
    out
}

/// How often the inner row that is the `i`th here is there.
fn copies(i: usize) -> f32 {
    (i % NARROW..WIDE).step_by(NARROW).count() as f32
}

fn shared(row: &[f32], i: usize) -> impl Iterator<Item = f32> {
    row.iter().map(move |value| value / copies(i))
}
