//! What naga makes of every variant for the other graphics APIs. The table in shaders/README.md says what it should be.

use naga::back::{glsl, hlsl, msl, spv};
use naga::proc::BoundsCheckPolicies;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Module, ShaderStage, TypeInner};

use super::variants::{ALL, capabilities, valid};
use crate::gpu::{HALVES, MATRICES, SUBGROUPS, Shader};

type Translate = fn(&Module, &ModuleInfo) -> Result<String, String>;

/// The targets by their names in the table.
const TARGETS: [(&str, Translate); 5] =
    [("SPIR-V 1.3", spir_v), ("MSL 2.0", metal), ("HLSL 6.0", hlsl_6), ("HLSL 5.1", hlsl_5), ("GLSL ES 3.1", gl_es)];

fn spir_v(module: &Module, info: &ModuleInfo) -> Result<String, String> {
    let options = spv::Options { lang_version: (1, 3), ..spv::Options::default() };
    let words = spv::write_vec(module, info, &options, None).map_err(|e| e.to_string())?;
    Ok(format!("{} words", words.len()))
}

fn metal(module: &Module, info: &ModuleInfo) -> Result<String, String> {
    metal_of(module, info, (2, 0))
}

fn metal_of(module: &Module, info: &ModuleInfo, lang_version: (u8, u8)) -> Result<String, String> {
    let options = msl::Options { lang_version, ..msl::Options::default() };
    let pipeline = msl::PipelineOptions::default();
    msl::write_string(module, info, &options, &pipeline).map(|(text, _)| text).map_err(|e| e.to_string())
}

/// Writers that know no matrices panic where they meet some.
fn without_matrices(module: &Module, supported: Capabilities) -> Result<(), String> {
    let has_some = module.types.iter().any(|(_, t)| matches!(t.inner, TypeInner::CooperativeMatrix { .. }));
    if has_some && !supported.contains(Capabilities::COOPERATIVE_MATRIX) { Err("no matrices".into()) } else { Ok(()) }
}

fn hlsl_of(module: &Module, info: &ModuleInfo, shader_model: hlsl::ShaderModel) -> Result<String, String> {
    without_matrices(module, hlsl::supported_capabilities())?;
    let (mut text, pipeline) = (String::new(), hlsl::PipelineOptions::default());
    let options = hlsl::Options { shader_model, ..hlsl::Options::default() };
    let done = hlsl::Writer::new(&mut text, &options, &pipeline).write(module, info, None);
    done.map(|_| ()).map_err(|e| e.to_string())?;
    Ok(text)
}

fn hlsl_6(module: &Module, info: &ModuleInfo) -> Result<String, String> {
    hlsl_of(module, info, hlsl::ShaderModel::V6_0)
}

fn hlsl_5(module: &Module, info: &ModuleInfo) -> Result<String, String> {
    hlsl_of(module, info, hlsl::ShaderModel::V5_1)
}

fn gl_es(module: &Module, info: &ModuleInfo) -> Result<String, String> {
    without_matrices(module, glsl::supported_capabilities())?;
    let mut text = String::new();
    let options = glsl::Options { version: glsl::Version::new_gles(310), ..glsl::Options::default() };
    let entry_point = module.entry_points.first().map(|e| e.name.clone()).unwrap_or_default();
    let pipeline = glsl::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point, multiview: None };
    let writer = glsl::Writer::new(&mut text, module, info, &options, &pipeline, BoundsCheckPolicies::default());
    writer.and_then(|mut w| w.write()).map_err(|e| e.to_string())?;
    Ok(text)
}

/// The name of a variant's row: variants that need an optional feature have one of their own.
fn row(shader: &Shader) -> String {
    let feature = [SUBGROUPS, HALVES].into_iter().find(|feature| shader.has(feature));
    feature.map_or(shader.label().to_owned(), |feature| format!("{}.{feature}", shader.label()))
}

/// The cell of a row in the table: `ok`, or why it cannot be translated.
fn written(shader: &str, column: usize) -> Option<&'static str> {
    let row = include_str!("../../../shaders/README.md").lines().find(|line| line.starts_with(&format!("| `{shader}` |")))?;
    row.split('|').nth(2 + column).map(str::trim)
}

#[test]
fn every_variant_is_translated_as_the_table_says() {
    for variant in ALL.iter() {
        let (module, info) = valid(&variant.shader.wgsl().unwrap(), capabilities(&variant.shader)).unwrap();
        for (column, (target, translate)) in TARGETS.into_iter().enumerate() {
            let Some(expected) = written(&row(&variant.shader), column) else {
                panic!("{} has no cell for {target} in shaders/README.md", row(&variant.shader));
            };
            let result = translate(&module, &info);
            assert_eq!(result.is_ok(), expected == "ok", "{} to {target}: written {expected:?}, {result:?}", variant.shader);
            assert_ne!(result.as_deref(), Ok(""), "{} to {target}", variant.shader);
        }
    }
}

/// The version that has matrices, where the table has none.
#[test]
fn matrix_units_are_translated_for_metal() {
    for variant in ALL.iter().filter(|variant| MATRICES.into_iter().any(|condition| variant.shader.has(condition))) {
        let (module, info) = valid(&variant.shader.wgsl().unwrap(), capabilities(&variant.shader)).unwrap();
        let text = metal_of(&module, &info, (2, 3)).unwrap();
        assert!(text.contains("simdgroup_multiply_accumulate"), "{text}");
        assert!(text.contains("simdgroup_load"), "{text}");
    }
}

#[test]
fn the_table_names_the_targets() {
    let header = TARGETS.map(|(target, _)| target).join(" | ");
    assert!(include_str!("../../../shaders/README.md").contains(&format!("| shader | {header} |\n")));
}

#[test]
fn what_cannot_be_translated_is_noticed() {
    let wgsl = "enable f16; @compute @workgroup_size(1) fn main() { var x = 1.5h; x += 2.5h; }";
    let module = naga::front::wgsl::parse_str(wgsl).unwrap();
    let info = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module).unwrap();
    assert!(spir_v(&module, &info).is_ok());
    assert!(gl_es(&module, &info).is_err());
    assert_eq!(written("no_such_shader", 0), None);
}
