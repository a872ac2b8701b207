/// For each lane the sum of twelve numbers, (lane mod 32 + n) / 64 after 128 times v * `factor` + `addend`.
pub(crate) fn multiply_add(lanes: usize, factor: f32, addend: f32) -> Vec<f32> {
    let (factor, addend) = (f64::from(factor), f64::from(addend));
    let number = |lane: usize, n: usize| (0..128).fold((lane % 32 + n) as f64 / 64.0, |v, _| v * factor + addend);
    (0..lanes).map(|lane| (0..12).map(|n| number(lane, n)).sum::<f64>() as f32).collect()
}
