//! What an adapter or device can do, reduced to what the kernels ask about.

use serde::Serialize;

/// Abilities and limits that decide which kernels run and how tensors are split.
///
/// The base tier needs none of the flags: everything works with WebGPU's default limits and no optional feature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Caps {
    /// `shader-f16`: 16-bit floats in shaders.
    pub f16: bool,
    /// `subgroups`: operations between the lanes of a subgroup.
    pub subgroups: bool,
    /// Smallest and largest subgroup size in lanes, (0, 0) where unknown.
    pub subgroup_size: (u32, u32),
    /// `timestamp-query`: times of passes measured on the GPU.
    pub timestamps: bool,
    /// Largest storage-buffer binding in bytes (WebGPU guarantees 128 MiB).
    pub max_binding_bytes: u64,
    /// Largest buffer in bytes (WebGPU guarantees 256 MiB).
    pub max_buffer_bytes: u64,
    /// Largest number of invocations in a workgroup (WebGPU guarantees 256).
    pub max_workgroup_invocations: u32,
    /// Largest number of workgroups in one dimension of a dispatch (WebGPU guarantees 65,535).
    pub max_workgroups_per_dimension: u32,
}

impl Caps {
    pub(super) fn new(features: wgpu::Features, limits: &wgpu::Limits, info: &wgpu::AdapterInfo) -> Self {
        Self {
            f16: features.contains(wgpu::Features::SHADER_F16),
            subgroups: features.contains(wgpu::Features::SUBGROUP),
            subgroup_size: (info.subgroup_min_size, info.subgroup_max_size),
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            max_binding_bytes: limits.max_storage_buffer_binding_size,
            max_buffer_bytes: limits.max_buffer_size,
            max_workgroup_invocations: limits.max_compute_invocations_per_workgroup,
            max_workgroups_per_dimension: limits.max_compute_workgroups_per_dimension,
        }
    }

    /// The tier in words: `base`, or the optional features present joined by `+`.
    #[must_use]
    pub fn tier(&self) -> String {
        let flags = [("f16", self.f16), ("subgroups", self.subgroups)];
        let named: Vec<_> = flags.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
        if named.is_empty() { "base".into() } else { named.join("+") }
    }
}
