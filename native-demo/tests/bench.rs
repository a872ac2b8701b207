//! `moxel bench` of the built program: names, keys and forms that scripts rely on, and comparisons with earlier runs.

mod common;

use common::{Run, folder, golden, moxel};
use serde_json::{Value, json};

fn bench(options: &[&str]) -> Run {
    moxel(&[&["bench", &golden("scout"), "-r", "2"], options].concat())
}

fn rows(options: &[&str]) -> Vec<Value> {
    let rows = bench(&[options, &["-o", "json"]].concat()).json();
    rows.as_array().expect("rows").clone()
}

#[test]
fn rows_have_mean_and_deviation() {
    let rows = rows(&["-p", "8", "-n", "4"]);
    assert_eq!(rows.iter().map(|row| row["test"].as_str()).collect::<Vec<_>>(), [Some("pp8"), Some("tg4")]);
    for row in &rows {
        assert!(row["tokens_per_second"].as_f64() > Some(0.0) && row["stddev"].as_f64() >= Some(0.0));
        for key in ["model", "model_filename", "adapter", "backend", "driver", "version", "kernels", "precision", "experts"] {
            assert!(row[key].is_string(), "{key}: {row}");
        }
        assert_eq!(row["samples"].as_array().map(Vec::len), Some(2));
        let date = row["date"].as_str().expect("a date");
        assert!(date.starts_with("20") && date.ends_with('Z') && date.len() == 20, "{date}");
    }
    // Counts, which are the same on every machine: a token is one submission and one read-back. A prompt that is one chunk is one
    // read-back, and more submissions where the adapter is slow or busy.
    let counts = |row: &Value| ["submits_per_token", "readbacks_per_token"].map(|key| row[key].as_f64().unwrap_or(0.0));
    let [submits, readbacks] = counts(&rows[0]);
    assert!(submits >= 1.0 / 8.0 && readbacks == 1.0 / 8.0, "{}", rows[0]);
    assert_eq!(counts(&rows[1]), [1.0; 2]);
    assert!(rows[1]["weight_bytes_per_token"].as_f64() > rows[0]["weight_bytes_per_token"].as_f64());
    assert!(rows[1]["dispatches_per_token"].as_f64() > Some(5.0));
    // Shares of what the adapter reaches: memory for tokens one by one, arithmetic for prompts.
    let number = |row: &Value, key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key}: {row}"));
    for row in &rows {
        for key in ["copy_bytes_per_second", "f32_operations_per_second", "readback_microseconds", "upload_bytes_per_second"] {
            assert!(number(row, key) > 0.0, "{key}: {row}");
        }
    }
    assert!(rows[0]["bandwidth_share"].is_null() && number(&rows[0], "arithmetic_share") > 0.0);
    assert!(rows[1]["arithmetic_share"].is_null());
    let read = number(&rows[1], "weight_bytes_per_token") * number(&rows[1], "tokens_per_second");
    let share = read / number(&rows[1], "copy_bytes_per_second");
    assert!((number(&rows[1], "bandwidth_share") / share - 1.0).abs() < 1e-9, "{}", rows[1]);
}

#[test]
fn several_lengths_and_depths_are_measured() {
    let rows = rows(&["-p", "4,8", "-n", "0,2", "-d", "0,16"]);
    let tests: Vec<_> = rows.iter().map(|row| row["test"].as_str().expect("a test")).collect();
    assert_eq!(tests, ["pp4", "pp8", "tg2", "pp4 @ d16", "pp8 @ d16", "tg2 @ d16"]);
    let sizes: Vec<_> = rows.iter().map(|row| ["n_prompt", "n_gen", "n_depth"].map(|key| row[key].as_u64())).collect();
    assert_eq!(sizes[1], [Some(8), Some(0), Some(0)]);
    assert_eq!(sizes[5], [Some(0), Some(2), Some(16)]);
}

#[test]
fn tables_have_every_row() {
    let csv = bench(&["-p", "8", "-n", "4", "-o", "csv"]).ok().stdout;
    assert!(csv.starts_with("model,model_size,model_n_params,backend,adapter,test,tokens_per_second,stddev,"), "{csv}");
    assert_eq!(csv.lines().count(), 3, "{csv}");
    let header: Vec<_> = csv.lines().next().expect("a header").split(',').collect();
    for row in rows(&["-p", "8", "-n", "0"]) {
        for key in row.as_object().expect("an object").keys().filter(|key| *key != "samples") {
            assert!(header.contains(&key.as_str()), "{key} is missing in {header:?}");
        }
    }
    let table = bench(&["-p", "8", "-n", "4", "--output", "md"]).ok().stdout;
    assert!(table.contains("| pp8 |") && table.contains("| tg4 |") && table.contains(" ± "), "{table}");
    assert!(table.contains("matvec: ") && !table.contains("ratio"), "{table}");
}

/// One page that fetches nothing, with a chart for each kind of test and each share, and the same rows in a file beside it.
#[test]
fn a_report_is_one_page() {
    let file = folder("a_report_is_one_page").join("rows.json").display().to_string();
    let page = bench(&["-p", "4", "-n", "2", "-o", "html", "--save", &file]).ok().stdout;
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"), "{page}");
    assert_eq!(page.matches("<svg").count(), 4, "{page}");
    for word in ["pp4", "tg2", "% of copy", "% of f32", "FLOP/s", "matvec: "] {
        assert!(page.contains(word), "{word}: {page}");
    }
    let outside = ["<script", "<link", "src=", "href=", "url(", "@import"];
    assert!(!outside.iter().any(|mark| page.contains(mark)), "{page}");
    let saved: Value = serde_json::from_str(&std::fs::read_to_string(&file).expect("the file")).expect("rows");
    assert_eq!(saved.as_array().map(Vec::len), Some(2));
    assert!(page.contains(&format!("{:.2}", saved[1]["tokens_per_second"].as_f64().expect("a speed"))), "{page}");
    let refused = bench(&["-p", "4", "-n", "0", "--save", "no/such/folder/rows.json"]);
    assert!(refused.status == 1 && refused.stderr.contains("give a file in a folder that exists"), "{}", refused.stderr);
}

/// What the kernels of a step took, where the adapter has timestamps; a row is the same without.
#[test]
fn steps_are_profiled() {
    let adapters = moxel(&["adapters", "--json"]).json();
    let shape = ["bench", "--shape", "granite-1b", "--layers", "1", "-p", "4", "-n", "2", "-r", "1", "--profile"];
    let run = moxel(&[&shape[..], &["--adapter", "0", "-o", "json"]].concat());
    if adapters[0]["features"]["timestamps"] == false {
        assert!(run.stderr.contains("no profile") && run.json()[1]["profile"].is_null());
        return;
    }
    let rows = run.json();
    for (row, tokens) in rows.as_array().expect("rows").iter().zip([4, 1]) {
        assert_eq!(row["profile_tokens"], tokens);
        let kernels = row["profile"].as_array().expect("kernels");
        let sum = |key: &str| kernels.iter().map(|kernel| kernel[key].as_f64().expect("a number")).sum::<f64>();
        let steps = if tokens == 1 { 1.0 } else { 1.0 / 4.0 };
        assert_eq!(Some(sum("calls") * steps), row["dispatches_per_token"].as_f64(), "{row}");
        assert!((sum("weight_bytes") * steps / row["weight_bytes_per_token"].as_f64().expect("a count") - 1.0).abs() < 1e-9);
        assert!((sum("microseconds") / row["profile_microseconds"].as_f64().expect("a time") - 1.0).abs() < 1e-9);
        assert!(sum("microseconds") > 0.0 && row["product_bytes_per_second"].as_f64() > Some(0.0), "{row}");
    }
    assert!(rows[0]["product_share"].is_null() && rows[1]["product_share"].as_f64() > Some(0.0), "{rows}");
    let table = moxel(&shape).ok().stdout;
    assert!(table.contains("| kernel | calls |") && table.contains("Products read"), "{table}");
}

#[test]
fn an_earlier_run_is_compared() {
    let file = folder("an_earlier_run_is_compared").join("earlier.json");
    let path = file.display().to_string();
    let mut earlier = rows(&["-p", "8", "-n", "4"]);
    // Half as fast, one test that is not there now, one that failed, and a model of another size.
    earlier[0]["tokens_per_second"] = json!(earlier[0]["tokens_per_second"].as_f64().expect("a speed") / 2.0);
    let mut other = earlier[1].clone();
    earlier[1]["model_size"] = json!(1);
    other["test"] = json!("tg99");
    earlier.extend([other, json!({ "adapter": "Voodoo 2", "error": "no such luck" })]);
    let before = earlier[0]["tokens_per_second"].as_f64().expect("a speed");
    std::fs::write(&file, Value::from(earlier.clone()).to_string()).expect("a file");

    let run = bench(&["-p", "8", "-n", "4", "--compare", &path, "-o", "json"]);
    let (notes, compared) = (run.stderr.clone(), run.json());
    // A number that was read and written again may differ in its last digit.
    let is = |key: &str, number: f64| compared[0][key].as_f64().is_some_and(|found| (found / number - 1.0).abs() < 1e-9);
    assert!(is("earlier_tokens_per_second", before), "{compared}");
    assert!(is("ratio", compared[0]["tokens_per_second"].as_f64().expect("a speed") / before), "{compared}");
    assert!(compared[1]["ratio"].is_null(), "another model's speed was taken: {compared}");
    for note in ["has no tg4 of", "tg99 of", "tg4 of"] {
        assert!(notes.lines().any(|line| line.contains(note)), "{note}: {notes}");
    }
    assert!(!notes.contains("Voodoo"), "{notes}");

    // Rows of before there was a choice of caches have the precision's.
    let with = |kv: &Value| {
        let mut row = earlier[0].clone();
        row["kv"] = kv.clone();
        std::fs::write(&file, json!([row]).to_string()).expect("a file");
        let compared = bench(&["-p", "8", "-n", "0", "--compare", &path, "-o", "json"]).json();
        !compared[0]["ratio"].is_null()
    };
    assert_eq!([with(&json!("f16")), with(&Value::Null), with(&json!("f32"))], [true, true, false]);
    std::fs::write(&file, Value::from(earlier).to_string()).expect("a file");

    let table = bench(&["-p", "8", "-n", "4", "--compare", &path]).ok().stdout;
    assert!(table.contains("| earlier | ratio |") && table.contains(" x |") && table.contains("tg99 of"), "{table}");
}

#[test]
fn what_fails_is_a_row_beside_others_and_an_error_alone() {
    let missing = moxel(&["bench", "no/such/model", "-p", "4"]);
    assert!(missing.status == 1 && missing.stderr.contains("no/such/model") && missing.stdout.is_empty(), "{}", missing.stderr);

    let options = ["-p", "4", "-n", "0", "-r", "1"];
    let both = ["bench", "no/such/model", &golden("scout")];
    let found = moxel(&[&both[..], &options, &["-o", "json"]].concat()).json();
    assert!(found[0]["error"].as_str().is_some_and(|why| why.contains("no/such/model")), "{found}");
    assert_eq!((&found[0]["adapter"], &found[1]["test"]), (&found[1]["adapter"], &json!("pp4")));
    let table = moxel(&[&both[..], &options].concat()).ok().stdout;
    assert!(table.contains("| failed |") && table.contains("| pp4 |"), "{table}");
    let csv = moxel(&[&both[..], &options, &["-o", "csv"]].concat()).ok().stdout;
    assert!(csv.lines().count() == 3 && csv.contains("\"no/such/model\""), "{csv}");

    let adapters = moxel(&["adapters", "--json"]).json();
    let all = moxel(&[&["bench", &golden("scout"), "--all-adapters", "-o", "json"], &options[..]].concat()).json();
    assert_eq!(all.as_array().map(Vec::len), adapters.as_array().map(Vec::len));
    for (row, adapter) in all.as_array().expect("rows").iter().zip(adapters.as_array().expect("adapters")) {
        assert_eq!(row["adapter"], adapter["name"]);
    }
}

/// The smallest shape, of another family, cut to one layer.
#[test]
fn shapes_are_measured_without_files() {
    let options = ["-p", "4", "-n", "2", "-r", "1", "--layers", "1", "-o", "json"];
    let found = moxel(&[&["bench", "--shape", "granite-1b"], &options[..]].concat()).json();
    assert_eq!(found.as_array().map(Vec::len), Some(2));
    for row in found.as_array().expect("rows") {
        assert_eq!(row["model"], "granite-1b sizes, 1 of 24 layers of llama4, Q4_0");
        assert_eq!(row["model_filename"], "granite-1b");
        assert!(row["tokens_per_second"].as_f64() > Some(0.0), "{row}");
    }
    // The weights of a token: head, attention, router, seven experts and a shared one; 18 bytes for 32 of them.
    let (hidden, inner) = (1024.0, 512.0);
    let elements = 49_155.0 * hidden + 3.0 * hidden * hidden + 8.0 * 3.0 * hidden * inner;
    let bytes = elements * 18.0 / 32.0 + 32.0 * hidden * 4.0;
    let read = found[1]["weight_bytes_per_token"].as_f64().expect("a count");
    assert!((read / bytes - 1.0).abs() < 0.01, "{read} instead of {bytes}");

    let streamed = moxel(&["bench", "--shape", "granite-1b", "--expert-budget", "50%"]);
    assert!(streamed.status == 1 && streamed.stderr.contains("keeps all its experts"), "{}", streamed.stderr);
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_measured() {
    let scout = golden("scout");
    let wrong: [&[&str]; 8] = [
        &["bench", &scout, "--layers", "1"],
        &["bench", "--shape", "gpt-9"],
        &["bench", &scout, "-r", "0"],
        &["bench", &scout, "-p", "0", "-n", "0"],
        &["bench", &scout, "-p", "1,many"],
        &["bench"],
        &["bench", &scout, "-o", "pdf"],
        &["bench", &scout, "--all-adapters", "--adapter", "0"],
    ];
    for arguments in wrong {
        assert_eq!(moxel(arguments).status, 2, "{arguments:?}");
    }
    let broken = folder("what_makes_no_sense_is_refused").join("broken.json");
    std::fs::write(&broken, "{\"no\": \"list\"}").expect("a file");
    let broken = broken.display().to_string();
    for (file, word) in
        [(broken.as_str(), "is not what `moxel bench -o json` writes"), ("no/such/file", "cannot read no/such/file")]
    {
        let run = bench(&["--compare", file]);
        assert!(run.status == 1 && run.stderr.contains(word) && run.stdout.is_empty(), "{}", run.stderr);
    }
}

/// The model was trained for 512 positions.
#[test]
fn a_test_beyond_the_context_does_not_take_the_others_along() {
    let long = bench(&["-p", "8", "-n", "0", "-d", "1000"]);
    assert!(long.status == 1 && long.stderr.contains("1008"), "{}", long.stderr);
    let rows = rows(&["-p", "8", "-n", "0", "-d", "0,1000"]);
    assert_eq!((rows.len(), &rows[0]["test"], &rows[0]["n_ctx"]), (2, &json!("pp8"), &json!(8)));
    assert!(rows[1]["error"].as_str().is_some_and(|why| why.contains("pp8 @ d1000") && why.contains("512")), "{}", rows[1]);
}
