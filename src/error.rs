//! The one error type of the library.

/// Everything that can go wrong, each with a sentence that names the file, tensor or key at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file (or another weight source) could not be read.
    #[error("cannot read {file}: {cause}")]
    Read {
        /// The file, as the source names it.
        file: String,
        /// What the operating system or the server said.
        cause: String,
    },
    /// A file could not be written.
    #[error("cannot write {file}: {cause}")]
    Write {
        /// The file or folder.
        file: String,
        /// What the operating system said.
        cause: String,
    },
    /// A file was read, and its content is not what its format promises.
    #[error("{file}: {problem}")]
    Format {
        /// The file.
        file: String,
        /// What is wrong, naming the offending tensor or key where there is one.
        problem: String,
    },
    /// The model's configuration is incomplete, contradictory or asks for something unknown.
    #[error("{file}: {key}: {problem}")]
    Config {
        /// The file that holds the configuration.
        file: String,
        /// The key at fault.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A tensor is missing or has the wrong type or shape.
    #[error("tensor {name}: {problem}")]
    Tensor {
        /// The tensor's name in the checkpoint.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The tokenizer could not be built or used.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The chat template could not be parsed or rendered.
    #[error("chat template: {0}")]
    Template(String),
    /// A prompt or a conversation does not fit into the context.
    #[error("{tokens} tokens do not fit into a context of {context}; raise the context size or shorten the prompt")]
    ContextFull {
        /// How many tokens were to be held.
        tokens: usize,
        /// How many the session can hold.
        context: usize,
    },
    /// A request that makes no sense: an empty prompt, a token id outside the vocabulary, a negative temperature.
    #[error("{0}")]
    Request(String),
    /// No usable GPU adapter, or one that is too small for what was asked.
    #[error("{0}")]
    Adapter(String),
    /// The GPU has too little memory for what was asked.
    #[error("not enough GPU memory: {0}")]
    Memory(String),
    /// The GPU refused or failed an operation.
    #[error("GPU: {0}")]
    Gpu(String),
    /// The GPU device was lost (driver reset, unplugged, destroyed).
    #[error("the GPU device was lost: {0}")]
    DeviceLost(String),
}

/// The library's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;
