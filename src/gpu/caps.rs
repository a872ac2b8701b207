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
    /// `wgpu-cooperative-matrix`: rows and columns of the matrices of 16-bit floats that a subgroup multiplies at once and adds up in
    /// f32, 8 or 16. `None` where there are none, and on a device of an application's own, which does not tell.
    pub matrix_units: Option<u32>,
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

/// What the kernels for matrix units need.
pub(super) const MATRIX_FEATURES: wgpu::Features =
    wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX.union(wgpu::Features::SHADER_F16).union(wgpu::Features::SUBGROUP);

/// The largest of the matrices that the kernels can use.
pub(super) fn usable_size(matrices: &[wgpu::CooperativeMatrixProperties]) -> Option<u32> {
    use wgpu::CooperativeScalarType::{F16, F32};
    let usable = |matrix: &&wgpu::CooperativeMatrixProperties| {
        let sizes = [matrix.m_size, matrix.n_size, matrix.k_size];
        (matrix.ab_type, matrix.cr_type) == (F16, F32) && [[8; 3], [16; 3]].contains(&sizes)
    };
    matrices.iter().filter(usable).map(|matrix| matrix.m_size).max()
}

impl Caps {
    /// `matrices` is what the adapter says of cooperative matrices.
    pub(super) fn new(
        features: wgpu::Features,
        limits: &wgpu::Limits,
        info: &wgpu::AdapterInfo,
        matrices: &[wgpu::CooperativeMatrixProperties],
    ) -> Self {
        Self {
            matrix_units: features.contains(MATRIX_FEATURES).then(|| usable_size(matrices)).flatten(),
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
        let flags = [("f16", self.f16), ("subgroups", self.subgroups), ("matrices", self.matrix_units.is_some())];
        let named: Vec<_> = flags.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
        if named.is_empty() { "base".into() } else { named.join("+") }
    }
}

#[cfg(test)]
mod tests {
    use wgpu::CooperativeScalarType::{F16, F32, I32};
    use wgpu::{CooperativeMatrixProperties, CooperativeScalarType};

    use super::*;

    fn matrix([m_size, n_size, k_size]: [u32; 3], types: [CooperativeScalarType; 2]) -> CooperativeMatrixProperties {
        CooperativeMatrixProperties {
            m_size,
            n_size,
            k_size,
            ab_type: types[0],
            cr_type: types[1],
            saturating_accumulation: false,
        }
    }

    #[test]
    fn only_square_matrices_of_halves_that_add_up_in_floats_are_used() {
        let small = matrix([8; 3], [F16, F32]);
        let large = matrix([16; 3], [F16, F32]);
        let others = [
            matrix([16, 8, 16], [F16, F32]),
            matrix([16; 3], [F16, F16]),
            matrix([8; 3], [F32, F32]),
            matrix([16; 3], [I32, I32]),
            matrix([32; 3], [F16, F32]),
        ];
        assert_eq!(usable_size(&others), None);
        assert_eq!(usable_size(&[small]), Some(8));
        assert_eq!(usable_size(&[&others[..], &[large, small]].concat()), Some(16));

        let (limits, info) = (wgpu::Limits::default(), wgpu::AdapterInfo::new(wgpu::DeviceType::Other, wgpu::Backend::Noop));
        let units = |features| Caps::new(features, &limits, &info, &[large]);
        assert_eq!(units(MATRIX_FEATURES).matrix_units, Some(16));
        assert_eq!(units(MATRIX_FEATURES).tier(), "f16+subgroups+matrices");
        for missing in MATRIX_FEATURES.iter() {
            assert_eq!(units(MATRIX_FEATURES - missing).matrix_units, None, "{missing:?}");
        }
    }
}
