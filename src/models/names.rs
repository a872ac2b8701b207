//! Tensor names in the two containers.

/// Which container a checkpoint has, and what its text model's names begin with in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    HuggingFace { prefix: &'static str },
    Gguf,
}

/// A module's name within a layer: in a Hugging Face checkpoint and in a GGUF file.
pub(super) type Module = (&'static str, &'static str);

impl Names {
    /// A tensor outside the layers.
    pub(super) fn global(self, (huggingface, gguf): Module) -> String {
        match self {
            Self::HuggingFace { prefix } => format!("{prefix}{huggingface}"),
            Self::Gguf => gguf.into(),
        }
    }

    /// A tensor of layer `l`, with its last part written out.
    pub(super) fn tensor(self, l: usize, (huggingface, gguf): Module) -> String {
        match self {
            Self::HuggingFace { prefix } => format!("{prefix}model.layers.{l}.{huggingface}"),
            Self::Gguf => format!("blk.{l}.{gguf}"),
        }
    }

    /// The weight of a module of layer `l`.
    pub(super) fn weight(self, l: usize, module: Module) -> String {
        self.tensor(l, module) + ".weight"
    }

    /// The biases of modules of layer `l`, or no names if the model has none there.
    pub(super) fn biases(self, l: usize, present: bool, modules: &[Module]) -> Vec<String> {
        modules.iter().filter(|_| present).map(|&m| self.tensor(l, m) + ".bias").collect()
    }
}
