//! Shader variants: WESL sources with conditions and imports, translated to WGSL and compiled once per device.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use wesl::{CompileOptions, Feature, Features, ModulePath, NoMangler, VirtualResolver};

use super::Gpu;
use crate::{Error, Result};

/// The modules of `shaders/` by name, `shared/half.wgsl` being `shared::half`.
macro_rules! sources {
    ($($name:literal),* $(,)?) => {
        /// Name and text of every shader module.
        const MODULES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../shaders/", $name, ".wgsl")))),*];
    };
}

sources![
    "shared/blocks",
    "shared/half",
    "shared/formats",
    "shared/dot",
    "shared/cache",
    "shared/product",
    "shared/guard",
    "shared/lanes",
    "shared/newest",
    "shared/pairs",
    "shared/rotation",
    "shared/spans",
    "add_bias",
    "argmax",
    "attention",
    "combine",
    "copy_memory",
    "embed",
    "gated",
    "matmul",
    "matmul_matrix_units",
    "matmul_quads",
    "matmul_tiled",
    "matvec",
    "matvec_quads",
    "merge_attention",
    "moe_group",
    "multiply_add",
    "prompt_attention",
    "residual",
    "rms_norm",
    "rope_append",
    "router",
    "sample",
    "swiglu",
];

/// The condition of variants that need the optional feature of this name.
pub(crate) const SUBGROUPS: &str = "subgroups";

/// The condition of variants that need `shader-f16`.
pub(crate) const HALVES: &str = "halves";

/// The conditions of variants that need [`Caps::matrix_units`](super::Caps::matrix_units) of 8 and of 16.
pub(crate) const MATRICES: [&str; 2] = ["matrices_8", "matrices_16"];

/// The condition that asks for what a browser wants to be told and naga not: the features that a variant uses.
const BROWSER: &str = "browser";

/// A number that is another one when any shader module is.
pub(crate) fn fingerprint() -> u64 {
    // FNV-1a, <http://www.isthe.com/chongo/tech/comp/fnv/>.
    let bytes = MODULES.iter().flat_map(|(name, text)| name.bytes().chain(text.bytes()));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A variant of a kernel: its source module, whose name is the kernel's name everywhere, and the conditions that are on.
///
/// Two equal shaders are one pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shader {
    source: &'static str,
    conditions: BTreeSet<&'static str>,
}

pub(super) struct Pipeline {
    /// The shader's, for who looks at it.
    pub(super) name: String,
    pub(super) raw: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
}

impl fmt::Display for Shader {
    /// The kernel and its conditions, joined by dots.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.source)?;
        self.conditions.iter().try_for_each(|condition| write!(f, ".{condition}"))
    }
}

impl Shader {
    pub(crate) fn new(source: &'static str) -> Self {
        Self { source, conditions: BTreeSet::new() }
    }

    /// Turns a condition (`@if(name)`) on.
    #[must_use]
    pub(crate) fn with(mut self, condition: &'static str) -> Self {
        self.conditions.insert(condition);
        self
    }

    #[must_use]
    pub(crate) fn with_if(self, on: bool, condition: &'static str) -> Self {
        if on { self.with(condition) } else { self }
    }

    /// Whether a condition is on.
    #[cfg(test)]
    pub(crate) fn has(&self, condition: &str) -> bool {
        self.conditions.contains(condition)
    }

    /// The same kernel as a browser's compiler has to read it.
    #[must_use]
    pub(crate) fn in_browser(self) -> Self {
        self.with(BROWSER)
    }

    /// The kernel's name.
    pub(crate) fn label(&self) -> &'static str {
        self.source
    }

    /// The WGSL text of this variant.
    pub(crate) fn wgsl(&self) -> Result<String> {
        let fail = |e: &dyn fmt::Display| Error::Gpu(format!("shader {self}: {e}"));
        let mut resolver = VirtualResolver::new();
        for (name, text) in MODULES {
            let path = format!("package::{}", name.replace('/', "::")).parse::<ModulePath>().map_err(|e| fail(&e))?;
            resolver.add_module(path, Cow::Borrowed(*text));
        }
        let root = format!("package::{}", self.source).parse::<ModulePath>().map_err(|e| fail(&e))?;
        let features = Features {
            default: Feature::Disable,
            flags: self.conditions.iter().map(|c| ((*c).to_string(), Feature::Enable)).collect(),
        };
        // It knows no names of wgpu's own, like those of matrices.
        let validate = !MATRICES.iter().any(|condition| self.conditions.contains(condition));
        let options = CompileOptions { features, validate, ..CompileOptions::default() };
        // No mangling: names are unique over all modules, and error messages and captures stay readable.
        let compiled = wesl::compile(&root, &resolver, &NoMangler, &options).map_err(|e| fail(&e))?;
        Ok(compiled.to_string())
    }
}

impl Pipeline {
    pub(super) fn compile(gpu: &Gpu, shader: &Shader) -> Result<Self> {
        let text = if gpu.in_browser() { shader.clone().in_browser().wgsl()? } else { shader.wgsl()? };
        let name = shader.to_string();
        let descriptor = wgpu::ShaderModuleDescriptor { label: Some(&name), source: wgpu::ShaderSource::Wgsl(text.into()) };
        // wgpu's own loop counters and index clamps keep drivers from unrolling and from holding arrays in registers: without
        // them a product of many tokens takes a third to four fifths of the time on lavapipe. Browsers check regardless.
        let mut checks = wgpu::ShaderRuntimeChecks::checked();
        checks.force_loop_bounding = false;
        checks.bounds_checks = false;
        let make = || {
            // SAFETY: every loop has a bound that a uniform or a constant sets (a test refuses `loop` and `while`). Every index
            // follows from sizes that the dispatching code took from the bound buffers' own making, from token ids and
            // positions that `Session` has checked, or from expert and token ids that the shader which chose them limits.
            let module = unsafe { gpu.device.create_shader_module_trusted(descriptor, checks) };
            gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&name),
                layout: None,
                module: &module,
                entry_point: None,
                // Every kernel writes its workgroup memory before it reads it; clearing it costs as much as a small kernel.
                compilation_options: wgpu::PipelineCompilationOptions {
                    zero_initialize_workgroup_memory: false,
                    ..Default::default()
                },
                cache: gpu.pipelines.kept.get(),
            })
        };
        // What a driver's own compiler refuses is an internal error.
        let made = gpu.caught(wgpu::ErrorFilter::Internal, || gpu.caught(wgpu::ErrorFilter::Validation, make));
        gpu.count_object();
        let raw = made.and_then(|made| made).map_err(|error| Error::Gpu(format!("shader {name}: {error}")))?;
        let layout = raw.get_bind_group_layout(0);
        Ok(Self { name, raw, layout })
    }
}
