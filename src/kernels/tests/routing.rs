//! `router` and `moe_group`.

use super::harness::{POISON, Random, as_floats, close, floats, padded, poisoned, run, words};
use super::weights::{matrix, odd_columns, random_weights, values};
use crate::gpu::{Recorder, Slice};
use crate::kernels::{
    GroupSlices, MAX_EXPERTS, Norm, RouterInput, RouterScore, RouterShape, add_bias, max_tiles, moe_group, router,
};
use crate::packing::Layout;
use crate::reference::{self, NONE, Score};
use crate::weights::DType;

const SCORES: [(RouterScore, Score); 3] = [
    (RouterScore::Sigmoid, Score::Sigmoid),
    (RouterScore::SoftmaxChosen, Score::SoftmaxChosen),
    (RouterScore::SoftmaxAll, Score::SoftmaxAll),
];

/// Words between what the router says.
const GAP: usize = 3;

/// Ids, weights and slots of the second of two layers.
fn route(
    mut recorder: Recorder,
    input: RouterInput<'_>,
    table: &[u32],
    (experts, chosen): (usize, usize),
    score: RouterScore,
    tokens: usize,
) -> [Vec<u32>; 3] {
    let part = tokens * chosen + GAP;
    let routing = poisoned(3 * part);
    let shape = RouterShape { experts, chosen, score, table_at: experts, part, shared: None };
    router(&mut recorder, &shape, input, &words(table), &routing, tokens);
    let [routing] = run(recorder, [&routing]);
    [0, 1, 2].map(|n| {
        let (said, behind) = routing[n * part..][..part].split_at(tokens * chosen);
        assert_eq!(behind, [POISON; GAP], "something was written behind");
        said.to_vec()
    })
}

/// The kernel on rows of `experts` logits, each followed by values that are none.
fn compare(logits: &[f32], experts: usize, k: usize, score: RouterScore, twin: Score) -> Result<(), String> {
    let tokens = logits.len() / experts;
    let stride = experts + 3;
    let wide: Vec<f32> = logits.chunks_exact(experts).flat_map(|row| [row, &[1e9; 3]].concat()).collect();
    // Expert e of the second of two layers is in slot 2 e + 1; the first layer's experts are elsewhere.
    let table: Vec<u32> = (0..experts).map(|_| 7).chain((0..experts).map(|e| 2 * e as u32 + 1)).collect();
    let wide = floats(&wide);
    let said = route(Recorder::default(), RouterInput::Logits(&wide, stride), &table, (experts, k), score, tokens);
    judge(said, logits, experts, k, twin)
}

/// What the router said of experts whose slots are 2 e + 1, against the twin.
fn judge([ids, weights, slots]: [Vec<u32>; 3], logits: &[f32], experts: usize, k: usize, twin: Score) -> Result<(), String> {
    let (expected_ids, expected) = reference::router(logits, experts, k, twin);
    if ids != expected_ids {
        return Err(format!("ids {ids:?}, expected {expected_ids:?}"));
    }
    if slots != expected_ids.iter().map(|id| 2 * id + 1).collect::<Vec<_>>() {
        return Err(format!("slots {slots:?} of experts {ids:?}"));
    }
    close(&as_floats(&weights), &expected, |i| 2e-5 * expected[i] + 1e-30)
}

#[test]
fn the_k_highest_in_order() {
    for experts in [1, 5, 24, 33, 128, MAX_EXPERTS] {
        for k in [1, 2, 8].into_iter().filter(|&k| k <= experts) {
            for (score, twin) in SCORES {
                for (tokens, scale) in [(1, 1.0), (5, 30.0), (75, 4.0)] {
                    let logits = Random(experts as u64).floats(tokens * experts, scale);
                    compare(&logits, experts, k, score, twin).unwrap_or_else(|e| panic!("{experts}, {k}, {score:?}: {e}"));
                }
            }
        }
    }
}

#[test]
fn equals_in_the_order_of_their_index() {
    for (score, twin) in SCORES {
        compare(&[1.5; 24], 24, 8, score, twin).unwrap();
        let few_values: Vec<f32> = Random(9).floats(128 * 5, 2.0).iter().map(|x| x.round()).collect();
        compare(&few_values, 128, 8, score, twin).unwrap();
    }
}

#[test]
fn far_apart_logits_do_not_overflow() {
    for (score, twin) in SCORES {
        compare(&[-300.0, 300.0, 0.0, 299.0, -300.0], 5, 2, score, twin).unwrap();
    }
}

#[test]
fn another_score_is_noticed() {
    let logits = Random(2).floats(24, 3.0);
    assert!(compare(&logits, 24, 2, RouterScore::Sigmoid, Score::SoftmaxAll).is_err());
    assert!(compare(&logits, 24, 2, RouterScore::SoftmaxChosen, Score::SoftmaxAll).is_err());
}

#[test]
fn logits_that_are_no_numbers_choose_valid_experts() {
    let logits = floats(&[f32::NAN; 5]);
    let [ids, ..] = route(Recorder::default(), RouterInput::Logits(&logits, 5), &[0; 10], (5, 2), RouterScore::Sigmoid, 1);
    assert!(ids.iter().all(|&id| id < 5), "{ids:?}");
}

/// A residual stream, the norm's weight, and a matrix of the format.
fn routed_stream(dtype: DType, experts: usize, cols: usize) -> (Vec<f32>, Vec<f32>, Vec<u8>) {
    let mut random = Random(experts as u64);
    let raw = random_weights(dtype, experts * cols, &mut random);
    (random.floats(cols, 5.0), random.floats(cols, 2.0), raw)
}

#[test]
fn the_router_of_one_token_computes_its_logits() {
    for dtype in DType::ALL {
        for (experts, k) in [(5, 1), (24, 8), (128, 2)] {
            let cols = odd_columns(dtype)[1];
            let (x, weight, raw) = routed_stream(dtype, experts, cols);
            let h = reference::rms_norm(&x, &weight, 1e-5);
            let mut logits = reference::matmul(&values(dtype, &raw), &h, cols);
            // Logits that no rounding can exchange: only experts whose neighbours are far enough off are compared.
            let mut order = logits.clone();
            order.sort_by(|a, b| b.total_cmp(a));
            let spread = order[0].abs() + order[experts - 1].abs();
            let clear = order.windows(2).take(k).all(|pair| pair[0] - pair[1] > 1e-5 * spread);
            assert!(clear, "{dtype} {experts}: choose another seed");
            let stride = cols.next_multiple_of(32);
            let norm = Norm { weight: floats(&padded(&weight, cols, stride)), cols, eps: 1e-5 };
            let stream = floats(&padded(&x, cols, stride));
            let w = matrix(Layout::new(dtype, experts, cols), &raw, &[]);
            let table: Vec<u32> = (0..experts).map(|_| 7).chain((0..experts).map(|e| 2 * e as u32 + 1)).collect();
            let compare = |logits: &[f32]| {
                let input = RouterInput::Stream(&stream, &norm, &w);
                let [ids, weights, slots] = route(Recorder::default(), input, &table, (experts, k), RouterScore::Sigmoid, 1);
                let (expected_ids, expected) = reference::router(logits, experts, k, Score::Sigmoid);
                if ids != expected_ids || slots != expected_ids.iter().map(|id| 2 * id + 1).collect::<Vec<_>>() {
                    return Err(format!("ids {ids:?}, slots {slots:?}, expected {expected_ids:?}"));
                }
                close(&as_floats(&weights), &expected, |_| 1e-5 * spread)
            };
            compare(&logits).unwrap_or_else(|e| panic!("{dtype} {experts}: {e}"));
            logits[experts - 1] += 2.0 * spread;
            assert!(compare(&logits).is_err(), "{dtype} {experts}: another logit goes unnoticed");
        }
    }
}

#[test]
fn a_missing_expert_raises_the_flag_and_nothing_is_written_behind_a_raised_one() {
    // The second column of W is the logits: x is (0, 1, 0, ...) behind its norm.
    let logits = [0.0f32, 3.0, 1.0, 2.0];
    let columns: Vec<u8> = logits.iter().flat_map(|l| [&[0.0, *l][..], &[0.0; 30]].concat()).flat_map(f32::to_le_bytes).collect();
    let w = matrix(Layout::new(DType::F32, 4, 32), &columns, &[]);
    let mut x = [0.0; 32];
    x[1] = 32.0f32.sqrt().recip();
    let norm = Norm { weight: floats(&[1.0; 32]), cols: 32, eps: 0.0 };
    let (stream, logits) = (floats(&x), floats(&logits));
    for input in [RouterInput::Logits(&logits, 4), RouterInput::Stream(&stream, &norm, &w)] {
        let mut table = vec![NONE; 4];
        table.extend([5, 6, 7, 8]);
        let route =
            |flag: &Slice, table: &[u32]| route(Recorder::guarded(flag.clone()), input, table, (4, 2), RouterScore::Sigmoid, 1);
        let flag = words(&[0]);
        assert_eq!(route(&flag, &table)[..1], [vec![1, 3]]);
        assert_eq!(run(Recorder::default(), [&flag]), [[0]], "nothing is missing");
        table[4 + 3] = NONE;
        let [ids, _, slots] = route(&flag, &table);
        assert_eq!((ids, slots), (vec![1, 3], vec![6, NONE]));
        assert_eq!(run(Recorder::default(), [&flag]), [[1]], "one is missing");
        assert_eq!(route(&flag, &table), [const { [POISON; 2] }; 3].map(Vec::from));
    }
}

/// Behind those of the chosen ones, and not where a prompt's next token has its own.
#[test]
fn the_only_token_passes_one_more_expert() {
    let (experts, chosen, part) = (5, 2, 11);
    for tokens in [1, 3] {
        let logits = floats(&Random(7).floats(tokens * experts, 3.0));
        let table = words(&(0..experts as u32).map(|e| 2 * e + 1).collect::<Vec<_>>());
        let route = |shared| {
            let routing = poisoned(3 * part);
            let mut recorder = Recorder::default();
            let shape = RouterShape { experts, chosen, score: RouterScore::Sigmoid, table_at: 0, part, shared };
            router(&mut recorder, &shape, RouterInput::Logits(&logits, experts), &table, &routing, tokens);
            let [routing] = run(recorder, [&routing]);
            routing
        };
        let mut expected = route(None);
        if tokens == 1 {
            expected[part + chosen] = 1.0f32.to_bits();
            expected[2 * part + chosen] = 77;
        }
        assert_eq!(route(Some(77)), expected, "{tokens} tokens");
    }
}

#[test]
fn behind_a_raised_flag_other_kernels_do_nothing() {
    for (raised, expected) in [(0, 3.0), (1, 1.0)] {
        let y = floats(&[1.0; 40]);
        let mut recorder = Recorder::guarded(words(&[raised]));
        add_bias(&mut recorder, &floats(&[2.0; 40]), &y, 40, 40, 0, 1);
        let [y] = run(recorder, [&y]);
        assert_eq!(as_floats(&y), [expected; 40]);
    }
}

fn group(ids: &[u32], experts: usize, tile: usize) -> (Vec<u32>, Vec<u32>) {
    group_by(ids, &(0..experts as u32).collect::<Vec<_>>(), tile)
}

/// With the slots of the experts, behind those of another layer.
fn group_by(ids: &[u32], slots: &[u32], tile: usize) -> (Vec<u32>, Vec<u32>) {
    let experts = slots.len();
    let room = max_tiles(ids.len(), experts, tile);
    let (tile_expert, tile_pairs) = (poisoned(room), poisoned(room * tile));
    let (ids_slice, table) = (words(ids), words(&[&[99; 3], slots].concat()));
    let slices = GroupSlices { ids: &ids_slice, table: (&table, 3), tile_expert: &tile_expert, tile_pairs: &tile_pairs };
    let mut recorder = Recorder::default();
    moe_group(&mut recorder, &slices, ids.len(), experts, tile);
    let [tile_expert, tile_pairs] = run(recorder, [&tile_expert, &tile_pairs]);
    (tile_expert, tile_pairs)
}

#[test]
fn pairs_are_grouped_by_expert() {
    for experts in [1, 5, 24, 65, 128, MAX_EXPERTS] {
        for pairs in [1, 3, 4, 5, 75, 600] {
            let mut random = Random(pairs as u64);
            let spread: Vec<u32> = (0..pairs).map(|_| random.below(experts) as u32).collect();
            let one = vec![experts as u32 - 1; pairs];
            let each: Vec<u32> = (0..pairs).map(|p| (p % experts) as u32).collect();
            for (ids, tile) in [spread, one, each].into_iter().flat_map(|ids| [(ids.clone(), 4), (ids, 32)]) {
                let (tile_expert, tile_pairs) = group(&ids, experts, tile);
                let tiles = reference::moe_group(&ids, experts as u32, tile);
                let (expected, behind) = tile_expert.split_at(tiles.len());
                assert_eq!(expected, tiles.iter().map(|t| t.0).collect::<Vec<_>>(), "{experts} experts, {ids:?}");
                assert!(behind.iter().all(|&e| e == NONE), "{experts} experts, {ids:?}: {behind:?}");
                let pairs: Vec<u32> = tiles.into_iter().flat_map(|t| t.1).collect();
                assert_eq!(tile_pairs[..pairs.len()], pairs, "{experts} experts, {ids:?}");
            }
        }
    }
}

#[test]
fn absent_experts_get_no_tile_and_the_others_their_slot() {
    let (tile_expert, tile_pairs) = group_by(&[2, 0, 1, 2, 0, 2], &[NONE, 8, 4, 5], 4);
    assert_eq!(tile_expert, [8, 4, NONE, NONE, NONE]);
    assert_eq!(tile_pairs[..8], [2, NONE, NONE, NONE, 0, 3, 5, NONE]);
}

#[test]
fn a_moved_pair_is_noticed() {
    let tiles = reference::moe_group(&[1, 0, 1], 5, 4);
    assert_ne!(group(&[1, 1, 0], 5, 4).1[..8], tiles.into_iter().flat_map(|t| t.1).collect::<Vec<_>>());
}
