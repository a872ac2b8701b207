//! Which kernels were chosen by measuring, kept for the next run.

use moxel::{AdapterDescription, KernelChoice, TuningKey};
use serde::{Deserialize, Serialize};

use crate::args::Common;
use crate::kept::KeptFile;

const FILE: &str = "kernels.json";
/// Choices that are kept at most; the oldest go first.
const MOST: usize = 200;

/// A choice, and what it was measured for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KnownChoice {
    #[serde(flatten)]
    pub key: TuningKey,
    pub kernels: KernelChoice,
}

/// The choices in the folder of the cache, the oldest first.
pub struct KnownKernels {
    file: Option<KeptFile>,
    choices: Vec<KnownChoice>,
}

impl KnownKernels {
    /// A file that is not what this version writes is as good as none.
    pub fn read(common: &Common) -> Self {
        let file = KeptFile::new(common, FILE);
        let choices =
            file.as_ref().and_then(KeptFile::read).and_then(|content| serde_json::from_slice(&content).ok()).unwrap_or_default();
        Self { file, choices }
    }

    pub fn find(&self, key: &TuningKey) -> Option<KernelChoice> {
        self.choices.iter().find(|known| known.key == *key).map(|known| known.kernels)
    }

    /// What this version measured on an adapter.
    pub fn of<'a>(&'a self, adapter: &AdapterDescription) -> impl Iterator<Item = &'a KnownChoice> {
        let AdapterDescription { name, backend, driver, driver_info, .. } = adapter.clone();
        self.choices.iter().filter(move |KnownChoice { key, .. }| {
            (&key.adapter, &key.backend, &key.driver, &key.driver_info) == (&name, &backend, &driver, &driver_info)
                && key.version == env!("CARGO_PKG_VERSION")
        })
    }

    /// Keeps a choice, instead of an earlier one for the same.
    pub fn save(mut self, key: TuningKey, kernels: KernelChoice) {
        let Some(file) = self.file else { return };
        self.choices.retain(|known| known.key != key);
        self.choices.push(KnownChoice { key, kernels });
        let surplus = self.choices.len().saturating_sub(MOST);
        self.choices.drain(..surplus);
        match serde_json::to_vec_pretty(&self.choices) {
            Ok(content) => file.write(&content),
            Err(error) => eprintln!("warning: cannot keep the choice of kernels: {error}"),
        }
    }
}
