//! Every variant of every shader, without a GPU: valid WGSL within WebGPU's default limits, and uniforms as the Rust side
//! fills them.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use naga::proc::Layouter;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Block, Expression, Handle, Module, ScalarKind, Statement, TypeInner};

use crate::gpu::{HALVES, MATRICES, SUBGROUPS, Shader};
use crate::kernels::{
    KvType, Matmul, Matvec, Normed, add_bias, argmax, attention, combine, copy_memory, embed, gated, has_four_rows, is_quantized,
    matmul, merge_attention, moe_group, multiply_add, prompt_attention, residual, rms_norm, rope_append, router, sample, swiglu,
};
use crate::weights::DType;

/// A shader that the library can use, and the fields of its uniform.
pub(super) struct Variant {
    pub(super) shader: Shader,
    params: &'static [(&'static str, &'static str)],
}

/// All of them. What the kernel tests run must be among them, see `harness::run`.
pub(super) static ALL: LazyLock<Vec<Variant>> = LazyLock::new(|| {
    let mut all = Vec::new();
    // Prompts wait for their experts before they go on, and yardsticks have none: only what computes single tokens runs ahead.
    let waits = ["matmul", "matmul_matrix_units", "matmul_quads", "matmul_tiled", "moe_group", "copy_memory", "multiply_add"];
    let runs_ahead = |shader: &Shader| !waits.contains(&shader.label());
    let mut add = |params, shaders: Vec<Shader>| {
        let guarded: Vec<_> = shaders.iter().filter(|s| runs_ahead(s)).map(|s| s.clone().with("guarded")).collect();
        all.extend(shaders.into_iter().chain(guarded).map(|shader| Variant { shader, params }));
    };
    let either = [false, true];
    add(add_bias::PARAMS, vec![add_bias::shader()]);
    add(argmax::PARAMS, vec![argmax::shader()]);
    for (kv, head_dim) in KvType::ALL.into_iter().flat_map(|kv| [64, 128].map(|head_dim| (kv, head_dim))) {
        for normalized in either {
            add(attention::PARAMS, [1, 2, 3, 4].map(|heads| attention::shader(kv, head_dim, heads, normalized)).into());
        }
    }
    add(combine::PARAMS, either.map(combine::shader).into());
    add(copy_memory::PARAMS, vec![copy_memory::shader()]);
    add(embed::PARAMS, DType::ALL.map(embed::shader).into());
    for dtype in DType::ALL {
        let fits = |bytes: bool| !bytes || is_quantized(dtype);
        for experts in either {
            let kernels = || Matvec::ALL.into_iter().filter(|k| fits(k.bytes()));
            add(matmul::PARAMS, kernels().map(|k| matmul::matvec_shader(k, dtype, k.bytes(), experts)).collect());
            add(gated::PARAMS, kernels().map(|k| gated::shader(k, dtype, k.bytes(), experts)).collect());
            add(residual::PARAMS, kernels().map(|k| residual::shader(k, dtype, k.bytes(), experts)).collect());
        }
    }
    for dtype in DType::ALL {
        for kernel in Matmul::ALL.into_iter().filter(|k| is_quantized(dtype) || !k.bytes()) {
            let widths = BTreeSet::from([None, Some(kernel.expert_tile(usize::MAX, 1)), Some(kernel.expert_tile(0, 1))]);
            let shader = |width| matmul::matmul_shader(kernel, dtype, kernel.bytes(), width);
            add(matmul::PARAMS, widths.into_iter().map(shader).collect());
        }
    }
    add(merge_attention::PARAMS, either.map(merge_attention::shader).into());
    add(moe_group::PARAMS, vec![moe_group::shader()]);
    add(multiply_add::PARAMS, vec![multiply_add::shader()]);
    for (kv, head_dim) in KvType::ALL.into_iter().flat_map(|kv| [64, 128, 256].map(|head_dim| (kv, head_dim))) {
        let rows = either.into_iter().filter(|four_rows| !four_rows || has_four_rows(head_dim));
        add(prompt_attention::PARAMS, rows.map(|four_rows| prompt_attention::shader(kv, head_dim, four_rows)).collect());
    }
    add(rms_norm::PARAMS, Normed::ALL.map(rms_norm::shader).into());
    let normalized = |kv| either.map(|normalized| rope_append::shader(kv, normalized));
    add(rope_append::PARAMS, KvType::ALL.into_iter().flat_map(normalized).collect());
    add(router::PARAMS, std::iter::once(None).chain(DType::ALL.map(Some)).map(router::shader).collect());
    add(sample::PARAMS, vec![sample::shader()]);
    add(swiglu::PARAMS, either.into_iter().flat_map(|scaled| either.map(|bytes| swiglu::shader(scaled, bytes))).collect());
    all
});

/// What a variant may ask of a device: what WebGPU always has, and the feature that it says it needs. naga counts pack2x16float as a
/// capability, which only backends below WebGPU's level lack.
pub(super) fn capabilities(shader: &Shader) -> Capabilities {
    let mut found = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    found.set(Capabilities::SUBGROUP, shader.has(SUBGROUPS));
    found.set(Capabilities::SHADER_FLOAT16, shader.has(HALVES));
    if MATRICES.into_iter().any(|condition| shader.has(condition)) {
        found |= Capabilities::COOPERATIVE_MATRIX | Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16;
    }
    found
}

/// WGSL as naga understands and accepts it with these capabilities.
pub(super) fn valid(wgsl: &str, capabilities: Capabilities) -> Result<(Module, ModuleInfo), String> {
    let module = naga::front::wgsl::parse_str(wgsl).map_err(|e| e.emit_to_string(wgsl))?;
    let info = Validator::new(ValidationFlags::all(), capabilities).validate(&module).map_err(|e| e.emit_to_string(wgsl))?;
    Ok((module, info))
}

fn for_each(check: impl Fn(&Variant, &str) -> Result<(), String>) {
    for variant in ALL.iter() {
        let wgsl = variant.shader.wgsl().unwrap();
        check(variant, &wgsl).unwrap_or_else(|e| panic!("{}: {e}\n{wgsl}", variant.shader));
    }
}

/// The limits that every WebGPU device has.
fn within_default_limits(module: &Module) -> Result<(), String> {
    let mut layouts = Layouter::default();
    layouts.update(module.to_ctx()).map_err(|e| e.to_string())?;
    let (mut storage, mut workgroup) = (0, 0);
    for (_, variable) in module.global_variables.iter() {
        let size = layouts[variable.ty].size;
        match variable.space {
            AddressSpace::Storage { .. } => storage += 1,
            AddressSpace::WorkGroup => workgroup += size,
            AddressSpace::Uniform if size > 64 << 10 => return Err(format!("a uniform of {size} bytes")),
            _ => {}
        }
    }
    let [x, y, z] = module.entry_points.first().ok_or("no entry point")?.workgroup_size;
    match () {
        () if storage > 8 => Err(format!("{storage} storage buffers, 8 are guaranteed")),
        () if workgroup > 16 << 10 => Err(format!("{workgroup} bytes of workgroup memory, 16384 are guaranteed")),
        () if x * y * z > 256 || z > 64 => Err(format!("a workgroup of {x} x {y} x {z}, 256 invocations are guaranteed")),
        () => Ok(()),
    }
}

/// The struct `Params` has the fields that Rust writes, in their order, each of four bytes.
fn same_params(module: &Module, expected: &[(&str, &str)]) -> Result<(), String> {
    let params = module.types.iter().find(|(_, t)| t.name.as_deref() == Some("Params"));
    let Some(TypeInner::Struct { members, .. }) = params.map(|(_, t)| &t.inner) else {
        return Err("no struct Params".into());
    };
    let found: Vec<(String, &str, u32)> = members
        .iter()
        .map(|member| {
            let kind = match module.types[member.ty].inner {
                TypeInner::Scalar(s) if s.width == 4 && s.kind == ScalarKind::Uint => "u32",
                TypeInner::Scalar(s) if s.width == 4 && s.kind == ScalarKind::Float => "f32",
                _ => "neither u32 nor f32",
            };
            (member.name.clone().unwrap_or_default(), kind, member.offset)
        })
        .collect();
    let expected: Vec<_> = (0..).step_by(4).zip(expected).map(|(at, (name, kind))| ((*name).to_string(), *kind, at)).collect();
    if found == expected { Ok(()) } else { Err(format!("Params is {found:?}, Rust writes {expected:?}")) }
}

/// To write an element of a vector may be to write all of it, so that lanes which share one would undo each other's work.
fn only_whole_vectors_shared(module: &Module, info: &ModuleInfo) -> Result<(), String> {
    fn stores(block: &Block, found: &mut Vec<Handle<Expression>>) {
        for statement in block {
            match statement {
                Statement::Store { pointer, .. } => found.push(*pointer),
                Statement::Block(block) => stores(block, found),
                Statement::If { accept, reject, .. } => [accept, reject].into_iter().for_each(|block| stores(block, found)),
                Statement::Loop { body, continuing, .. } => [body, continuing].into_iter().for_each(|block| stores(block, found)),
                Statement::Switch { cases, .. } => cases.iter().for_each(|case| stores(&case.body, found)),
                _ => {}
            }
        }
    }
    let shared = |space| matches!(space, AddressSpace::WorkGroup | AddressSpace::Storage { .. });
    let functions = module.functions.iter().map(|(handle, function)| (function, &info[handle]));
    let main = module.entry_points.iter().enumerate().map(|(i, entry)| (&entry.function, info.get_entry_point(i)));
    for (function, info) in functions.chain(main) {
        let mut pointers = Vec::new();
        stores(&function.body, &mut pointers);
        for pointer in pointers {
            let (Expression::Access { base, .. } | Expression::AccessIndex { base, .. }) = function.expressions[pointer] else {
                continue;
            };
            let of_a_vector = match *info[base].ty.inner_with(&module.types) {
                TypeInner::Pointer { base, space } => {
                    shared(space) && matches!(module.types[base].inner, TypeInner::Vector { .. })
                }
                TypeInner::ValuePointer { size: Some(_), space, .. } => shared(space),
                _ => false,
            };
            if of_a_vector {
                return Err("an element of a shared vector is written".into());
            }
        }
    }
    Ok(())
}

/// `gpu::shader` switches wgpu's loop counters off because every loop is a `for` with a bound.
fn only_bounded_loops(wgsl: &str) -> Result<(), String> {
    let words: BTreeSet<&str> = wgsl.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    match ["loop", "while"].into_iter().find(|word| words.contains(word)) {
        Some(word) => Err(format!("a `{word}` statement")),
        None => Ok(()),
    }
}

#[test]
fn every_variant_is_valid_within_the_default_limits() {
    for_each(|variant, wgsl| {
        let (module, info) = valid(wgsl, capabilities(&variant.shader))?;
        within_default_limits(&module)?;
        only_whole_vectors_shared(&module, &info)?;
        same_params(&module, variant.params)?;
        only_bounded_loops(wgsl)
    });
}

#[test]
fn every_variant_has_a_name_of_its_own_and_every_shader_a_variant() {
    let names: BTreeSet<String> = ALL.iter().map(|v| v.shader.to_string()).collect();
    assert_eq!(names.len(), ALL.len());
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let shaders: BTreeSet<String> = files
        .filter(|path| path.extension().is_some_and(|e| e == "wgsl"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_string()))
        .collect();
    assert_eq!(ALL.iter().map(|v| v.shader.label().to_string()).collect::<BTreeSet<_>>(), shaders);
}

#[test]
fn what_breaks_a_rule_is_noticed() {
    let shader = |body: &str, globals: &str| format!("{globals}\n@compute @workgroup_size(64) fn main() {{ {body} }}");
    let base = capabilities(&Shader::new("matvec"));
    let module = |wgsl: &str| valid(wgsl, base).unwrap().0;

    assert!(valid(&shader("let x: u32 = 1.5;", ""), base).is_err());
    assert!(valid(&shader("let x = 1.5h;", "enable f16;"), base).is_err(), "an optional feature");
    let in_subgroup = shader("let x = subgroupAdd(1u);", "");
    assert!(valid(&in_subgroup, base).is_err(), "an optional feature");
    assert!(valid(&in_subgroup, capabilities(&Shader::new("matvec").with(SUBGROUPS))).is_ok());

    assert!(within_default_limits(&module(&shader("", "var<workgroup> a: array<f32, 4096>;"))).is_ok());
    assert!(within_default_limits(&module(&shader("", "var<workgroup> a: array<f32, 4097>;"))).is_err());
    let buffers = |count: u32| -> String {
        (0..count).map(|i| format!("@group(0) @binding({i}) var<storage, read> b{i}: array<u32>;")).collect()
    };
    assert!(within_default_limits(&module(&shader("", &buffers(8)))).is_ok());
    assert!(within_default_limits(&module(&shader("", &buffers(9)))).is_err());

    let vectors = "var<workgroup> v: array<vec4<f32>, 2>; var<private> mine: array<vec4<f32>, 2>;";
    let shared = |body: &str| {
        let (module, info) = valid(&shader(body, vectors), base).unwrap();
        only_whole_vectors_shared(&module, &info)
    };
    assert!(shared("v[1] = vec4(1.0); mine[0].x = v[0].y; for (var i = 0u; i < 4u; i++) { mine[1][i] = 1.0; }").is_ok());
    assert!(shared("v[1].x = 1.0;").is_err());
    assert!(shared("for (var i = 0u; i < 4u; i++) { if i > 2u { v[0][i] = 1.0; } }").is_err());

    let params = module(&shader("", "struct Params { a: u32, b: f32 } @group(0) @binding(0) var<uniform> p: Params;"));
    assert!(same_params(&params, &[("a", "u32"), ("b", "f32")]).is_ok());
    for wrong in [&[("b", "f32"), ("a", "u32")][..], &[("a", "u32"), ("b", "u32")], &[("a", "u32")]] {
        assert!(same_params(&params, wrong).is_err());
    }

    assert!(only_bounded_loops("for (var i = 0; i < 3; i++) {}").is_ok());
    assert!(only_bounded_loops("while true {}").is_err());
    assert!(only_bounded_loops("loop { break; }").is_err());
}
