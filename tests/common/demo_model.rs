//! Where the demo model is.

use std::path::{Path, PathBuf};

/// SmolLM2-135M-Instruct in Q4_1: what `MOXEL_DEMO_MODEL` names, or what `native-demo/get-model.sh` has put into `models/`.
///
/// Without it a test has nothing to say and returns; where `CI` or `MOXEL_REQUIRE_MODEL` is set, that is a failure.
pub fn demo_model(repository: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("MOXEL_DEMO_MODEL")
        .map_or_else(|| repository.join("models/SmolLM2-135M-Instruct.Q4_1.gguf"), PathBuf::from);
    if path.is_file() {
        return Some(path);
    }
    let required = ["CI", "MOXEL_REQUIRE_MODEL"].iter().any(|name| std::env::var_os(name).is_some());
    assert!(!required, "{} is missing; native-demo/get-model.sh fetches it", path.display());
    eprintln!("SKIPPED: {} is missing; native-demo/get-model.sh fetches it", path.display());
    None
}
