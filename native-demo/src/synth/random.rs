//! Random numbers that need no state: each is a function of where it is used.

/// One sequence of random numbers, of which any can be had alone.
#[derive(Clone, Copy)]
pub struct Stream(u64);

impl Stream {
    /// The sequence for part `part` of whatever `seed` stands for.
    pub fn new(seed: u64, part: u64) -> Self {
        Self(mixed(seed ^ mixed(part)))
    }

    /// 64 random bits.
    pub fn bits(self, index: u64) -> u64 {
        mixed(self.0.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// Nearly normal with mean 0 and variance 1: the sum of four uniform numbers, which ends at 3.5.
    pub fn normal(self, index: u64) -> f32 {
        let bits = self.bits(index);
        let sum: u64 = (0..4).map(|part| bits >> (16 * part) & 0xffff).sum();
        (sum as f32 / 65_535.0 - 2.0) * 3f32.sqrt()
    }
}

/// The output function of SplitMix64 (Steele, Lea and Flood, 2014).
fn mixed(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_numbers_are_nearly_normal() {
        let stream = Stream::new(1, 2);
        let values: Vec<f32> = (0..100_000).map(|index| stream.normal(index)).collect();
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let moment = |power| values.iter().map(|v| (v - mean).powi(power)).sum::<f32>() / values.len() as f32;
        // Four standard errors of each; the fourth moment of a sum of four uniform numbers is 2.7.
        assert!(mean.abs() < 0.013 && (moment(2) - 1.0).abs() < 0.017 && (moment(4) - 2.7).abs() < 0.08, "{mean}");
    }

    #[test]
    fn streams_and_seeds_differ() {
        let first = |seed, part| Stream::new(seed, part).bits(0);
        let all = [first(0, 0), first(0, 1), first(1, 0), first(1, 1), Stream::new(0, 0).bits(1)];
        for (n, bits) in all.iter().enumerate() {
            assert!(!all[..n].contains(bits));
        }
        assert_eq!(first(5, 7), first(5, 7));
    }
}
