//! Rows as a Markdown table and as comma-separated values.

use serde_json::Value;

use super::profile::TITLES;
use super::row::{Row, TestRow};
use crate::output;

/// Columns of the comma-separated form: all names of all rows but the lists. New ones are added behind.
const COLUMNS: [&str; 41] = [
    "model",
    "model_size",
    "model_n_params",
    "backend",
    "adapter",
    "test",
    "tokens_per_second",
    "stddev",
    "model_filename",
    "n_prompt",
    "n_gen",
    "n_depth",
    "precision",
    "experts",
    "kernels",
    "dispatches_per_token",
    "submits_per_token",
    "readbacks_per_token",
    "weight_bytes_per_token",
    "bandwidth_share",
    "arithmetic_share",
    "copy_bytes_per_second",
    "f32_operations_per_second",
    "dispatch_microseconds",
    "readback_microseconds",
    "upload_bytes_per_second",
    "driver",
    "driver_info",
    "tier",
    "version",
    "date",
    "earlier_tokens_per_second",
    "ratio",
    "profile_tokens",
    "profile_microseconds",
    "product_bytes_per_second",
    "best_product_bytes_per_second",
    "product_share",
    "error",
    "n_ctx",
    "kv",
];

/// A table for people, and below it what does not change from row to row; `notes` are sentences to add.
pub fn markdown(rows: &[Row], notes: &[String]) -> String {
    let compared = rows.iter().any(|row| matches!(row, Row::Measured(row) if row.earlier.is_some()));
    let (more_titles, more_rules) = if compared { (" earlier | ratio |", "---:|---:|") } else { ("", "") };
    let mut text = format!(
        "| model | size | params | backend | adapter | test | tokens/s | share |{more_titles}\n\
         |---|---:|---:|---|---|---:|---:|---:|{more_rules}\n"
    );
    let mut about = Vec::new();
    for row in rows {
        match row {
            Row::Measured(row) => {
                text += &markdown_row(row, compared);
                push_new(&mut about, abilities(row));
                let (file, adapter, driver) = (&row.model_filename, &row.adapter, &row.driver_info);
                push_new(&mut about, format!("{file} on {adapter} ({driver}): {}; KV cache in {}", row.kernels, row.kv));
            }
            Row::Failed(row) => {
                let empty = if compared { " | |" } else { "" };
                text += &format!("| {} | | | {} | {} | failed | | |{empty}\n", row.model_filename, row.backend, row.adapter);
                push_new(&mut about, format!("{} on {}: {}", row.model_filename, row.adapter, row.error));
            }
        }
    }
    rows.iter().filter_map(Row::test).for_each(|row| text += &profile(row));
    about.iter().chain(notes).for_each(|line| text += &format!("\n{line}\n"));
    text
}

fn markdown_row(row: &TestRow, compared: bool) -> String {
    let mut text = format!(
        "| {} | {} | {} | {} | {} | {} | {:.2} ± {:.2} | {} |",
        row.model,
        output::bytes(row.model_size),
        output::count(row.model_n_params),
        row.backend,
        row.adapter,
        row.test,
        row.tokens_per_second,
        row.stddev,
        row.share(),
    );
    if compared {
        text += &row
            .earlier
            .map_or(" | |".to_owned(), |earlier| format!(" {:.2} | {:.2} x |", earlier.earlier_tokens_per_second, earlier.ratio));
    }
    text + "\n"
}

/// The kernels of a row's step, if it was profiled.
fn profile(row: &TestRow) -> String {
    let Some(profile) = &row.profile else { return String::new() };
    let mut text = format!("\n{} of {} on {}, kernels of {}:\n\n", row.test, row.model, row.adapter, profile.step());
    text += &format!("| {} |\n|---|---:|---:|---:|---:|\n", TITLES.join(" | "));
    profile.lines().for_each(|line| text += &format!("| {} |\n", line.join(" | ")));
    text + "\n" + &profile.products() + "\n"
}

/// What the adapter reaches at best, in words.
fn abilities(row: &TestRow) -> String {
    let best = &row.roofline;
    format!(
        "{} copies {}/s, computes {}/s in f32, takes {:.1} µs for a dispatch, {:.0} µs for a read-back, and {}/s in uploads",
        row.adapter,
        output::bytes(best.copy_bytes_per_second as u64),
        output::operations(best.f32_operations_per_second as u64),
        best.dispatch_microseconds,
        best.readback_microseconds,
        output::bytes(best.upload_bytes_per_second as u64)
    )
}

fn push_new(lines: &mut Vec<String>, line: String) {
    if !lines.contains(&line) {
        lines.push(line);
    }
}

/// A header line and a line for each row; what a row has not is empty.
pub fn csv(rows: &[Row]) -> anyhow::Result<String> {
    let mut text = COLUMNS.join(",") + "\n";
    for row in rows {
        let row = serde_json::to_value(row)?;
        let cells: Vec<_> = COLUMNS.iter().map(|column| cell(&row[column])).collect();
        text += &(cells.join(",") + "\n");
    }
    Ok(text)
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        // Adapters' names may have commas.
        Value::String(text) => format!("\"{}\"", text.replace('"', "\"\"")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::cell;

    #[test]
    fn fields_are_quoted() {
        let name = "llvmpipe (LLVM 19, \"256\" bits)".into();
        assert_eq!(cell(&name), "\"llvmpipe (LLVM 19, \"\"256\"\" bits)\"");
        assert_eq!((cell(&1.5.into()), cell(&serde_json::Value::Null)), ("1.5".to_owned(), String::new()));
    }
}
