//! `moxel bench`: speed of prompt processing (pp) and of generation (tg), measured as llama-bench does.

mod args;
mod bars;
mod compare;
mod date;
mod measure;
mod plan;
mod profile;
mod report;
mod row;
mod shape_model;
mod shapes;
mod subject;
mod table;

use anyhow::anyhow;
use moxel::{AdapterDescription, AdapterSelector, EngineOptions, Gpu, GpuOptions, Precision, Roofline};

pub use args::BenchArgs;
use args::Form;
use compare::EarlierRun;
use plan::Test;
use row::{Circumstances, Row};
use subject::Subject;

use crate::args::{Common, usage_error};
use crate::{model, output, trace_file};

pub fn run(common: &Common, args: &BenchArgs) -> anyhow::Result<()> {
    let tests = args.tests();
    if tests.is_empty() {
        usage_error("-p 0 and -n 0 leave nothing to measure");
    }
    let subjects = args.subjects();
    let earlier = args.compare.as_deref().map(EarlierRun::read).transpose()?;
    args.save.as_deref().map(trace_file::check_place).transpose()?;
    let adapters = adapters(common, args)?;
    let with = Circumstances { precision: common.precision_or(Precision::Fast), date: date::now() };
    let mut rows = Vec::new();
    let mut failure = None;
    for (selector, adapter) in &adapters {
        let mut roofline = None;
        for subject in &subjects {
            match measure(common, args, (selector, &mut roofline), subject, &tests, &with) {
                Ok(measured) => rows.extend(measured),
                Err(error) => {
                    rows.push(Row::failed(adapter, &subject.name(), &error, &with));
                    failure.get_or_insert(error);
                }
            }
            if let Some(file) = &args.save {
                trace_file::replace(file, &serde_json::to_string_pretty(&rows)?)?;
            }
        }
    }
    // What fails is a row beside others; alone it is an error.
    if let Some(error) = failure.filter(|_| rows.iter().all(|row| matches!(row, Row::Failed(_)))) {
        return Err(error);
    }
    let notes = earlier.map(|earlier| earlier.compare(&mut rows)).unwrap_or_default();
    show(args.output, &rows, &notes)
}

/// The adapters to measure on, each with how to select it.
fn adapters(common: &Common, args: &BenchArgs) -> anyhow::Result<Vec<(AdapterSelector, AdapterDescription)>> {
    if args.all_adapters {
        let found = pollster::block_on(moxel::adapters());
        anyhow::ensure!(!found.is_empty(), "no GPU adapter found; `moxel adapters` says what to do");
        return Ok(found.into_iter().map(|adapter| (AdapterSelector::Index(adapter.index), adapter)).collect());
    }
    let selector = common.selector();
    let gpu = Gpu::open(&GpuOptions { adapter: selector.clone(), ..GpuOptions::default() })?;
    Ok(vec![(selector, gpu.description().clone())])
}

/// All tests of one model on one adapter, whose roofline is measured unless it is known.
fn measure(
    common: &Common,
    args: &BenchArgs,
    (adapter, roofline): (&AdapterSelector, &mut Option<Roofline>),
    subject: &Subject,
    tests: &[Test],
    with: &Circumstances,
) -> anyhow::Result<Vec<Row>> {
    let gpu = model::open_gpu(adapter.clone())?;
    let best = match *roofline {
        Some(known) => known,
        None => *roofline.insert(pollster::block_on(Roofline::measure(&gpu))?),
    };
    let opened = subject.open(common, &gpu, tests)?;
    let trained = opened.files.info().trained_context;
    let most = common.context.map_or(trained, |context| context.min(trained));
    let (tests, too_long): (Vec<_>, Vec<_>) = tests.iter().partition(|test| test.positions() <= most);
    let refused = |test: &Test| anyhow!("{test} needs a context of {}; the model and --context allow {most}", test.positions());
    if tests.is_empty()
        && let Some(test) = too_long.first()
    {
        return Err(refused(test));
    }
    let context = common.context.or(tests.iter().map(Test::positions).max());
    let mut options = EngineOptions { context, ..model::options(common, Precision::Fast) };
    options.experts.budget = opened.budget;
    let engine = model::load_files(common, &gpu, &opened.files, &options)?;
    let mut measured = measure::all(&engine, &tests, args.repetitions, args.profile.then_some(options.first_chunk()))?;
    if measured.iter().any(|test| test.profile.is_some()) {
        // It needs memory of its own, which a model that fills the adapter leaves none of.
        let best = pollster::block_on(moxel::product_rate(&gpu, &opened.files, engine.kernel_choice())).unwrap_or_else(|error| {
            eprintln!("no product alone to compare with: {error}");
            None
        });
        measured.iter_mut().filter_map(|test| test.profile.as_mut()).for_each(|profile| profile.compare(best));
    } else if args.profile {
        eprintln!("no profile: {} has no timestamps, or not all experts have a place on it", gpu.description().name);
    }
    let name = subject.name();
    let measured = measured.into_iter().map(|measured| Row::measured(&engine, (&opened.model, &name), measured, best, with));
    let failed = too_long.iter().map(|test| Row::failed(gpu.description(), &name, &refused(test), with));
    Ok(measured.chain(failed).collect())
}

fn show(form: Form, rows: &[Row], notes: &[String]) -> anyhow::Result<()> {
    if !matches!(form, Form::Md | Form::Html) {
        notes.iter().for_each(|note| eprintln!("{note}"));
    }
    match form {
        Form::Json => output::show_json(&rows),
        Form::Md => Ok(output::show(&table::markdown(rows, notes))?),
        Form::Html => Ok(output::show(&report::html(rows, notes)?)?),
        Form::Csv => Ok(output::show(&table::csv(rows)?)?),
    }
}
