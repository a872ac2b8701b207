use super::*;

fn sampler(options: SamplingOptions) -> Sampler {
    Sampler::new(options).unwrap()
}

#[test]
fn greedy_takes_the_lowest_id_among_equals() {
    let mut greedy = sampler(SamplingOptions::default());
    assert!(greedy.is_greedy());
    assert_eq!(greedy.sample(&mut [1.0, 3.0, 3.0, f32::NEG_INFINITY], &[]).unwrap(), 1);
}

#[test]
fn the_generator_is_split_mix_64() {
    // The first numbers for this seed, as published with the reference implementation.
    let mut random = Random::new(1_234_567);
    let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
    assert_eq!(expected, [random.next(), random.next(), random.next()]);
}

#[test]
fn exp_is_the_exponential() {
    for step in 0..7_000 {
        let x = -f64::from(step) / 10.0;
        assert!((exp(x) / x.exp() - 1.0).abs() < 1e-14, "{x}");
    }
    assert_eq!(exp(-1e9), 0.0);
}
