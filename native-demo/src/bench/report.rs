//! The result as one HTML file that needs no other: charts, and tables with everything that the rows say.

use super::bars::{self, Bar};
use super::plan::Kind;
use super::profile::TITLES;
use super::row::{Row, TestRow};
use crate::output;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:62rem;padding:0 1rem;color:#1a1a1a}\
    table{border-collapse:collapse;font-size:13px;margin:.6rem 0}th,td{padding:.25rem .6rem;border-bottom:1px solid #ddd;\
    text-align:left;vertical-align:top;white-space:nowrap}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\
    .wide{overflow-x:auto}svg{max-width:100%;height:auto}h2{margin-top:2rem}";

/// The whole page; `notes` are sentences to add.
pub fn html(rows: &[Row], notes: &[String]) -> anyhow::Result<String> {
    let tests: Vec<&TestRow> = rows.iter().filter_map(Row::test).collect();
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width\">\n<title>Moxel benchmark</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>Moxel benchmark</h1>\n"
    );
    if let Some(first) = tests.first() {
        page += &format!("<p>Moxel {}, {}</p>\n", escaped(first.version), escaped(&first.date));
    }
    page += &chart("Generation, tokens per second", &of_kind(&tests, Kind::Generation), speed, 0.0)?;
    page += &chart("Prompts, tokens per second", &of_kind(&tests, Kind::Prompt), speed, 0.0)?;
    let generation = of_kind(&tests, Kind::Generation);
    page += &chart("Generation, % of the bandwidth that a copy reaches", &generation, |row| share(row.bandwidth_share), 1.0)?;
    let prompts = of_kind(&tests, Kind::Prompt);
    page +=
        &chart("Prompts, % of the f32 arithmetic that the adapter reaches", &prompts, |row| share(row.arithmetic_share), 1.0)?;
    page += &adapters(&tests);
    page += &tests_table(&tests);
    tests.iter().for_each(|row| page += &profile(row));
    page += &failures(rows);
    notes.iter().for_each(|note| page += &format!("<p>{}</p>\n", escaped(note)));
    Ok(page + "</body>\n</html>\n")
}

fn of_kind<'a>(tests: &[&'a TestRow], kind: Kind) -> Vec<&'a TestRow> {
    tests.iter().copied().filter(|row| row.kind() == kind).collect()
}

fn speed(row: &TestRow) -> (f64, String) {
    (row.tokens_per_second, format!("{:.2}", row.tokens_per_second))
}

fn share(share: Option<f64>) -> (f64, String) {
    let share = share.unwrap_or(0.0);
    (share, format!("{:.1} %", 100.0 * share))
}

fn chart(title: &str, rows: &[&TestRow], value: impl Fn(&TestRow) -> (f64, String), full: f64) -> anyhow::Result<String> {
    if rows.is_empty() {
        return Ok(String::new());
    }
    let bars: Vec<_> = rows.iter().map(|row| bar(row, &value)).collect();
    Ok(format!("<h2>{}</h2>\n{}\n", escaped(title), bars::draw(&bars, full)?))
}

fn bar(row: &TestRow, value: impl Fn(&TestRow) -> (f64, String)) -> Bar {
    let (value, number) = value(row);
    Bar { label: format!("{} · {} · {}", row.test, row.model, row.adapter), value, number }
}

/// What each adapter reaches at best.
fn adapters(tests: &[&TestRow]) -> String {
    let titles = ["adapter", "driver", "tier", "copy", "f32", "dispatch", "read-back", "upload"];
    let mut lines: Vec<String> = Vec::new();
    for row in tests {
        let [copy, upload] = [row.roofline.copy_bytes_per_second, row.roofline.upload_bytes_per_second];
        let line = cells(&[
            format!("{} ({})", row.adapter, row.backend),
            format!("{} {}", row.driver, row.driver_info),
            row.tier.clone(),
            format!("{}/s", output::bytes(copy as u64)),
            format!("{}/s", output::operations(row.roofline.f32_operations_per_second as u64)),
            format!("{:.1} µs", row.roofline.dispatch_microseconds),
            format!("{:.0} µs", row.roofline.readback_microseconds),
            format!("{}/s", output::bytes(upload as u64)),
        ]);
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    table("Adapters, measured", &titles, &lines)
}

fn tests_table(tests: &[&TestRow]) -> String {
    let titles = [
        "model",
        "adapter",
        "test",
        "tokens/s",
        "±",
        "share",
        "earlier",
        "ratio",
        "kernels",
        "precision",
        "KV cache",
        "experts",
        "dispatches/token",
        "submits/token",
        "read-backs/token",
        "weights/token",
    ];
    let line = |row: &&TestRow| {
        let (before, ratio) = row.earlier.map_or_else(Default::default, |earlier| {
            (format!("{:.2}", earlier.earlier_tokens_per_second), format!("{:.2}", earlier.ratio))
        });
        cells(&[
            row.model.clone(),
            row.adapter.clone(),
            row.test.clone(),
            format!("{:.2}", row.tokens_per_second),
            format!("{:.2}", row.stddev),
            row.share(),
            before,
            ratio,
            row.kernels.clone(),
            row.precision.clone(),
            row.kv.to_owned(),
            row.experts.clone().unwrap_or_default(),
            format!("{:.2}", row.dispatches_per_token),
            format!("{:.3}", row.submits_per_token),
            format!("{:.3}", row.readbacks_per_token),
            output::bytes(row.weight_bytes_per_token as u64),
        ])
    };
    table("Tests", &titles, &tests.iter().map(line).collect::<Vec<_>>())
}

/// The kernels of a row's step, if it was profiled.
fn profile(row: &TestRow) -> String {
    let Some(profile) = &row.profile else { return String::new() };
    let lines: Vec<_> = profile.lines().map(|line| cells(&line)).collect();
    let what = format!("{} of {} on {}", row.test, row.model, row.adapter);
    let title = format!("Kernels of {}: {}", profile.step(), escaped(&what));
    format!("{}<p>{}</p>\n", table(&title, &TITLES, &lines), escaped(&profile.products()))
}

fn failures(rows: &[Row]) -> String {
    let line = |row: &Row| match row {
        Row::Failed(row) => Some(cells(&[row.model_filename.clone(), row.adapter.clone(), row.error.clone()])),
        Row::Measured(_) => None,
    };
    table("What could not be measured", &["model", "adapter", "why"], &rows.iter().filter_map(line).collect::<Vec<_>>())
}

fn cells(texts: &[String]) -> String {
    let cell = |text: &String| {
        let class = if text.starts_with(|c: char| c.is_ascii_digit()) { " class=\"n\"" } else { "" };
        format!("<td{class}>{}</td>", escaped(text))
    };
    texts.iter().map(cell).collect()
}

fn table(title: &str, titles: &[&str], lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let head: String = titles.iter().map(|title| format!("<th>{title}</th>")).collect();
    let body: String = lines.iter().map(|line| format!("<tr>{line}</tr>\n")).collect();
    format!("<h2>{title}</h2>\n<div class=\"wide\"><table>\n<tr>{head}</tr>\n{body}</table></div>\n")
}

/// Text that says what it says also where it names a tag: paths and drivers' names come from outside.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::{cells, escaped};

    #[test]
    fn names_from_outside_stay_text() {
        assert_eq!(escaped("<b class=\"x\">&"), "&lt;b class=&quot;x&quot;&gt;&amp;");
        assert_eq!(cells(&["1.5".into(), "<i>".into()]), "<td class=\"n\">1.5</td><td>&lt;i&gt;</td>");
    }
}
