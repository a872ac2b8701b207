//! `moxel adapters`: what there is to run on.

use moxel::{AdapterDescription, Caps};
use serde::Serialize;
use serde_json::json;

use crate::args::Common;
use crate::known_kernels::{KnownChoice, KnownKernels};
use crate::output::{self, bytes};

/// An adapter as `--json` lists it.
#[derive(Serialize)]
struct Row<'a> {
    index: usize,
    name: &'a str,
    backend: &'a str,
    kind: &'a str,
    driver: &'a str,
    driver_info: &'a str,
    tier: &'a str,
    features: serde_json::Value,
    limits: serde_json::Value,
    /// Matrix kernels that were chosen on it before.
    kernels: Vec<KnownChoice>,
}

pub fn run(common: &Common, json: bool) -> anyhow::Result<()> {
    let adapters = pollster::block_on(moxel::adapters());
    let known = KnownKernels::read(common);
    if json {
        output::show_json(&adapters.iter().map(|adapter| row(adapter, &known)).collect::<Vec<_>>())?;
    } else {
        output::show(&adapters.iter().map(|adapter| text(adapter, &known)).collect::<String>())?;
    }
    anyhow::ensure!(
        !adapters.is_empty(),
        "no GPU adapter found; install a graphics driver with Vulkan, Metal or DirectX 12 \
         (on Linux without a GPU: the software driver in mesa-vulkan-drivers)"
    );
    Ok(())
}

fn row<'a>(adapter: &'a AdapterDescription, known: &'a KnownKernels) -> Row<'a> {
    let Caps { f16, subgroups, subgroup_size, matrix_units, timestamps, .. } = adapter.caps;
    let caps = &adapter.caps;
    Row {
        index: adapter.index,
        name: &adapter.name,
        backend: &adapter.backend,
        kind: &adapter.kind,
        driver: &adapter.driver,
        driver_info: &adapter.driver_info,
        tier: &adapter.tier,
        features: json!({
            "f16": f16,
            "subgroups": subgroups,
            "subgroup_size": subgroup_size,
            "matrix_units": matrix_units,
            "timestamps": timestamps,
        }),
        limits: json!({
            "max_binding_bytes": caps.max_binding_bytes,
            "max_buffer_bytes": caps.max_buffer_bytes,
            "max_workgroup_invocations": caps.max_workgroup_invocations,
            "max_workgroups_per_dimension": caps.max_workgroups_per_dimension,
        }),
        kernels: known.of(adapter).collect(),
    }
}

fn text(adapter: &AdapterDescription, known: &KnownKernels) -> String {
    let caps = &adapter.caps;
    let subgroups = match caps.subgroup_size {
        (0, 0) => String::new(),
        (least, most) if least == most => format!(" subgroups of {least};"),
        (least, most) => format!(" subgroups of {least} to {most};"),
    };
    let matrices = caps.matrix_units.map_or(String::new(), |size| format!(" matrices of {size};"));
    let kernels = known.of(adapter).map(|KnownChoice { key, kernels }| {
        let precision = format!("{:?}", key.precision).to_lowercase();
        format!("   {} {} x {}, {precision}: {kernels}\n", key.format, key.rows, key.cols)
    });
    format!(
        "{}: {}\n   {} on {} ({} {})\n   tier {};{subgroups}{matrices} bindings up to {}, buffers up to {}\n{}",
        adapter.index,
        adapter.name,
        adapter.kind,
        adapter.backend,
        adapter.driver,
        adapter.driver_info,
        adapter.tier,
        bytes(caps.max_binding_bytes),
        bytes(caps.max_buffer_bytes),
        kernels.collect::<String>(),
    )
}
