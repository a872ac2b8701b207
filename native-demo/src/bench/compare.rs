//! Rows of an earlier run beside those of this one.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

use super::row::{Earlier, Row, TestRow};

/// An earlier run, as `-o json` wrote it.
pub struct EarlierRun {
    file: String,
    rows: Vec<EarlierRow>,
}

/// What of a row is needed here; a row that tells of a failure has no test.
#[derive(Deserialize)]
struct EarlierRow {
    #[serde(default)]
    model: String,
    #[serde(default)]
    model_size: u64,
    #[serde(default)]
    model_n_params: u64,
    adapter: String,
    #[serde(default)]
    backend: String,
    #[serde(default)]
    precision: String,
    /// `None` of what was measured when the precision decided it.
    #[serde(default)]
    kv: Option<String>,
    #[serde(default)]
    experts: Option<String>,
    test: Option<String>,
    tokens_per_second: Option<f64>,
}

impl EarlierRun {
    /// # Errors
    /// The file cannot be read, or is something else.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let name = file.display().to_string();
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
        let rows: Vec<EarlierRow> =
            serde_json::from_str(&text).with_context(|| format!("{name} is not what `moxel bench -o json` writes"))?;
        Ok(Self { file: name, rows })
    }

    /// Gives every row its earlier speed where there is one, and says in sentences what has no counterpart.
    pub fn compare(&self, rows: &mut [Row]) -> Vec<String> {
        let mut matched = vec![false; self.rows.len()];
        let mut unmatched = Vec::new();
        for row in rows {
            let Row::Measured(row) = row else { continue };
            // A file may hold a test twice, as when two runs were joined: the later one counts.
            let found = self.rows.iter().rposition(|earlier| earlier.is_test_of(row));
            let speed = found.and_then(|index| self.rows[index].speed());
            match speed {
                Some(speed) => {
                    row.earlier = Some(Earlier { earlier_tokens_per_second: speed, ratio: row.tokens_per_second / speed });
                }
                None => unmatched.push(format!("{} has no {} of {} on {}", self.file, row.test, row.model, row.adapter)),
            }
            for (earlier, matched) in self.rows.iter().zip(&mut matched) {
                *matched |= earlier.is_test_of(row);
            }
        }
        let left = self.rows.iter().zip(matched).filter(|(_, matched)| !matched);
        let tests = left.filter_map(|(earlier, _)| Some((earlier, earlier.test.as_ref()?)));
        unmatched.extend(tests.map(|(earlier, test)| {
            format!("{test} of {} on {} is in {} and was not measured now", earlier.model, earlier.adapter, self.file)
        }));
        unmatched
    }
}

impl EarlierRow {
    /// Whether it is the same test of the same model on the same adapter, with as many experts on it. A model is told by its
    /// sizes, wherever its file was.
    fn is_test_of(&self, row: &TestRow) -> bool {
        self.test.as_ref() == Some(&row.test)
            && (&self.adapter, &self.backend) == (&row.adapter, &row.backend)
            && (&self.precision, &self.experts) == (&row.precision, &row.experts)
            && self.kv() == row.kv
            && (&self.model, self.model_size, self.model_n_params) == (&row.model, row.model_size, row.model_n_params)
    }

    /// Its KV cache; before there was a choice, the precision decided.
    fn kv(&self) -> &str {
        self.kv.as_deref().unwrap_or(if self.precision == "exact" { "f32" } else { "f16" })
    }

    fn speed(&self) -> Option<f64> {
        self.tokens_per_second.filter(|&speed| speed > 0.0)
    }
}
