//! The files of a packed model against their hashes.

use super::StoredFile;
use crate::Result;
use crate::weights::{
    source::{OnProgress, WeightSource, display_name, read_exactly},
    tensors::format_error,
};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Bytes that are read at a time.
const PIECE: u64 = 4 << 20;

/// Reads all files and tells `progress` after each piece how many bytes it had.
pub(in crate::weights) async fn verify(
    source: &dyn WeightSource,
    files: &BTreeMap<String, StoredFile>,
    progress: &mut OnProgress<'_, u64>,
) -> Result<()> {
    for (file, stored) in files {
        let mut hash = Sha256::new();
        let mut at = 0;
        while at < stored.bytes {
            let end = (at + PIECE).min(stored.bytes);
            hash.update(read_exactly(source, file, at..end).await?);
            progress(end - at);
            at = end;
        }
        if StoredFile::new(stored.bytes, &hash.finalize()) != *stored {
            let problem = "its content is not what was written: the hash differs; fetch or pack it again";
            return Err(format_error(&display_name(source, file), problem));
        }
    }
    Ok(())
}
