//! Which kernels were chosen by measuring, kept for the next run.

use moxel::{AdapterDescription, Gpu, KernelChoice, TuningKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// Each a [`KnownChoice`], or what another version has kept.
    choices: Vec<Value>,
}

impl KnownKernels {
    /// A damaged file is as good as none.
    pub fn read(common: &Common) -> Self {
        let file = KeptFile::new(common, FILE);
        let choices = file.as_ref().map(choices_in).unwrap_or_default();
        Self { file, choices }
    }

    pub fn find(&self, key: &TuningKey, gpu: &Gpu) -> Option<KernelChoice> {
        self.choices
            .iter()
            .filter_map(known)
            .find(|known| known.key == *key)
            .map(|known| known.kernels)
            .filter(|kernels| key.allows(kernels, gpu))
    }

    /// What this version measured on an adapter.
    pub fn of(&self, adapter: &AdapterDescription) -> impl Iterator<Item = KnownChoice> {
        self.choices.iter().filter_map(known).filter(|known| known.key.is_of(adapter))
    }

    /// Keeps a choice, instead of an earlier one for the same.
    pub fn save(mut self, key: TuningKey, kernels: KernelChoice) {
        let Some(file) = self.file else { return };
        // Another process may have kept something while this one measured.
        self.choices = choices_in(&file);
        self.choices.retain(|choice| known(choice).is_none_or(|known| known.key != key));
        let kept = serde_json::to_value(KnownChoice { key, kernels }).and_then(|choice| {
            self.choices.push(choice);
            let surplus = self.choices.len().saturating_sub(MOST);
            self.choices.drain(..surplus);
            serde_json::to_vec_pretty(&self.choices)
        });
        match kept {
            Ok(content) => file.write(&content),
            Err(error) => eprintln!("warning: cannot keep the choice of kernels: {error}"),
        }
    }
}

fn choices_in(file: &KeptFile) -> Vec<Value> {
    file.read().and_then(|content| serde_json::from_slice(&content).ok()).unwrap_or_default()
}

fn known(choice: &Value) -> Option<KnownChoice> {
    KnownChoice::deserialize(choice).ok()
}
