//! `router` and `moe_group`.

use super::harness::{Random, as_floats, close, floats, poisoned, run, words};
use crate::gpu::Recorder;
use crate::kernels::{MAX_EXPERTS, RouterScore, max_tiles, moe_group, router};
use crate::reference::{self, NONE, Score};

const SCORES: [(RouterScore, Score); 3] = [
    (RouterScore::Sigmoid, Score::Sigmoid),
    (RouterScore::SoftmaxChosen, Score::SoftmaxChosen),
    (RouterScore::SoftmaxAll, Score::SoftmaxAll),
];

/// The kernel on rows of `experts` logits, each followed by values that are none.
fn compare(logits: &[f32], experts: usize, k: usize, score: RouterScore, twin: Score) -> Result<(), String> {
    let tokens = logits.len() / experts;
    let stride = experts + 3;
    let wide: Vec<f32> = logits.chunks_exact(experts).flat_map(|row| [row, &[1e9; 3]].concat()).collect();
    let (ids, weights) = (poisoned(tokens * k), poisoned(tokens * k));
    let mut recorder = Recorder::default();
    router(&mut recorder, &floats(&wide), &ids, &weights, experts, stride, k, score, tokens);
    let [ids, weights] = run(recorder, [&ids, &weights]);
    let (expected_ids, expected) = reference::router(logits, experts, k, twin);
    if ids != expected_ids {
        return Err(format!("ids {ids:?}, expected {expected_ids:?}"));
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
    let (ids, weights) = (poisoned(2), poisoned(2));
    let mut recorder = Recorder::default();
    router(&mut recorder, &floats(&[f32::NAN; 5]), &ids, &weights, 5, 5, 2, RouterScore::Sigmoid, 1);
    let [ids] = run(recorder, [&ids]);
    assert!(ids.iter().all(|&id| id < 5), "{ids:?}");
}

fn group(ids: &[u32], experts: usize, tile: usize) -> (Vec<u32>, Vec<u32>) {
    let room = max_tiles(ids.len(), experts, tile);
    let (tile_expert, tile_pairs) = (poisoned(room), poisoned(room * tile));
    let mut recorder = Recorder::default();
    moe_group(&mut recorder, &words(ids), &tile_expert, &tile_pairs, ids.len(), experts, tile);
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
fn a_moved_pair_is_noticed() {
    let tiles = reference::moe_group(&[1, 0, 1], 5, 4);
    assert_ne!(group(&[1, 1, 0], 5, 4).1[..8], tiles.into_iter().flat_map(|t| t.1).collect::<Vec<_>>());
}
