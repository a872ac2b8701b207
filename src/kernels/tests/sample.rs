//! The choice of a token against its twin: thousands of draws by all options, over rows of every kind.

use super::harness::{Random, floats, poisoned, run, words};
use crate::gpu::Recorder;
use crate::kernels::{DRAW_WORDS, Draw, SampleSlices, sample};
use crate::reference::{self, Sampling};

/// How near to a boundary, in probability, the kernel may choose the neighbour: sums of exponentials in f32.
const ROUNDING: f64 = 1e-5;

fn chosen(logits: &[f32], draw: Draw, recent: &[u32]) -> [u32; 2] {
    let (result, candidates) = (poisoned(2), poisoned(2 * logits.len()));
    let (last, others) = recent.split_last().map_or((0, recent), |(last, others)| (*last, others));
    let mut told = draw.words(others);
    told.resize(DRAW_WORDS, 0);
    let mut recorder = Recorder::default();
    let (logits_slice, step, told) = (floats(logits), words(&[17, 3, 5, last]), words(&told));
    let slices = SampleSlices { logits: &logits_slice, step: &step, draw: &told, candidates: &candidates, result: &result };
    sample(&mut recorder, &slices, logits.len(), 3);
    let [result] = run(recorder, [&result]);
    [result[0], result[1]]
}

/// Whether the kernel's choice is the twin's; another one is an error unless the draw lies at a boundary.
fn agrees(logits: &[f32], recent: &[u32], sampling: &Sampling, random: f32, twin: &Sampling) -> Result<bool, String> {
    let Sampling { temperature, top_k, top_p, min_p, penalty } = *sampling;
    let [id, _] = chosen(logits, Draw { random, temperature, top_k, top_p, min_p, penalty }, recent);
    let (line, near) = reference::sample(logits, recent, twin);
    let random = f64::from(random);
    let at = line.iter().position(|(_, end)| *end > random).unwrap_or(line.len() - 1);
    let begin = if at == 0 { 0.0 } else { line[at - 1].1 };
    let margin = (random - begin).min(line[at].1 - random).min(near);
    if line[at].0 == id || margin < ROUNDING {
        return Ok(line[at].0 == id);
    }
    Err(format!("{id} instead of {} of {} candidates, {margin} from a boundary: {random} {sampling:?}", line[at].0, line.len()))
}

/// Rows that are steep, flat, full of equals, or mostly impossible.
fn row(random: &mut Random, kind: usize, cols: usize) -> Vec<f32> {
    match kind {
        0 => random.floats(cols, 12.0),
        1 => random.floats(cols, 0.05),
        2 => random.floats(cols, 6.0).into_iter().map(f32::round).collect(),
        3 => (0..cols).map(|i| 9.0 - 2.0 * (1.0 + ((i * 7919) % cols) as f32).ln()).collect(),
        4 => vec![-3.5; cols],
        _ => {
            let mut row = random.floats(cols, 40.0);
            row.iter_mut().skip(1).step_by(2).for_each(|logit| *logit = f32::NEG_INFINITY);
            row
        }
    }
}

fn options(random: &mut Random, cols: usize) -> Sampling {
    let mut of = |choices: &[f32]| choices[random.below(choices.len())];
    let (temperature, top_p) = (of(&[0.0, 0.3, 0.7, 0.8, 1.0, 1.5, 4.0]), of(&[1.0, 1.0, 0.95, 0.9, 0.5, 0.99999, 0.01]));
    let (min_p, penalty) = (of(&[0.0, 0.0, 0.05, 0.5]), of(&[1.0, 1.0, 1.1, 2.0, 0.5]));
    let top_k = [0, 0, 1, 2, 40, 300, cols][random.below(7)];
    Sampling { temperature, top_k, top_p, min_p, penalty }
}

#[test]
fn draws_are_the_twins() {
    let mut random = Random(5);
    let mut others = 0;
    for case in 0..2400 {
        let cols = [1, 5, 255, 257, 643, 1000, 4099][random.below(7)];
        let logits = row(&mut random, case % 6, cols);
        let sampling = options(&mut random, cols);
        // Some several times; few, or none.
        let recent: Vec<u32> = (0..[0, 1, 9, 70][random.below(4)]).map(|_| random.below(cols.min(50)) as u32).collect();
        let sampling = Sampling { penalty: if recent.is_empty() { 1.0 } else { sampling.penalty }, ..sampling };
        let at = random.float().abs();
        let check = agrees(&logits, &recent, &sampling, at, &sampling);
        let same =
            check.unwrap_or_else(|e| panic!("case {case}, {cols} logits of kind {}, {} recent: {e}", case % 6, recent.len()));
        others += usize::from(!same);
    }
    assert!(others < 24, "{others} draws at boundaries");
}

/// As many as real vocabularies have, with more candidates than are usually sorted.
#[test]
fn a_large_vocabulary_has_many_candidates() {
    let mut random = Random(6);
    let usual = Sampling { temperature: 0.8, top_k: 0, top_p: 0.95, min_p: 0.0, penalty: 1.0 };
    let cases = [usual, Sampling { top_p: 1.0, ..usual }, Sampling { top_k: 40, ..usual }, Sampling { top_k: 5000, ..usual }];
    for (kind, sampling) in (0..5).flat_map(|kind| cases.map(|sampling| (kind, sampling))) {
        let logits = row(&mut random, kind, 49_152);
        let check = agrees(&logits, &[], &sampling, random.float().abs(), &sampling);
        check.unwrap_or_else(|e| panic!("kind {kind}: {e}"));
    }
}

#[test]
fn another_option_is_noticed() {
    let logits = row(&mut Random(7), 3, 643);
    let right = Sampling { temperature: 1.0, top_k: 40, top_p: 0.9, min_p: 0.02, penalty: 1.3 };
    let wrong = [
        Sampling { temperature: 1.2, ..right },
        Sampling { top_k: 3, ..right },
        Sampling { top_p: 0.7, ..right },
        Sampling { min_p: 0.3, ..right },
        Sampling { penalty: 1.6, ..right },
    ];
    let recent: Vec<u32> = (0..643).filter(|i| (i * 7919) % 643 < 9).collect();
    for twin in wrong {
        let disagrees = |i: usize| agrees(&logits, &recent, &right, i as f32 / 40.0, &twin).is_err();
        assert!((0..40).any(disagrees), "{twin:?} goes unnoticed");
    }
    assert!((0..40).all(|i| agrees(&logits, &recent, &right, i as f32 / 40.0, &right) == Ok(true)));
}

/// A penalty that leaves the range of floats is not taken for a damaged model.
#[test]
fn no_penalty_damages_logits() {
    let logits = row(&mut Random(9), 0, 643);
    let draw = Draw { random: 0.5, temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, penalty: 1e-38 };
    let best = (0..643).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).expect("logits");
    assert!(logits[best] > 4.0);
    let [id, highest] = chosen(&logits, draw, &[best as u32]);
    assert_eq!((id as usize, f32::from_bits(highest)), (best, 3.4e38));
}

#[test]
fn damaged_logits_are_reported() {
    let draw = Draw { random: 0.5, temperature: 0.7, top_k: 0, top_p: 0.95, min_p: 0.0, penalty: 1.0 };
    for value in [f32::NAN, f32::INFINITY] {
        let mut logits = row(&mut Random(8), 0, 643);
        assert!(f32::from_bits(chosen(&logits, draw, &[])[1]).is_finite());
        logits[600] = value;
        assert!(f32::from_bits(chosen(&logits, draw, &[])[1]).is_nan(), "{value}");
    }
}
