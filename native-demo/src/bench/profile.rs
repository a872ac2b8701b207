//! Where the time of a step goes: its kernels, timed one by one on the GPU.

use moxel::{KernelTime, Session};
use serde::Serialize;

use super::plan::{Kind, Test};
use crate::output;

/// How the names of kernels begin that multiply weights by activations and do little else.
const PRODUCTS: [&str; 4] = ["matvec", "matmul", "gated", "residual"];

/// The kernels of a step of a test: of one token, or of the first chunk of a prompt.
#[derive(Clone, Debug, Serialize)]
pub struct Profile {
    /// Tokens of the step.
    pub profile_tokens: usize,
    /// Microseconds of all kernels, each watched alone: more than the step takes otherwise.
    pub profile_microseconds: f64,
    /// Bytes of weights per second that the kernels which multiply by them read.
    pub product_bytes_per_second: f64,
    /// The same of such a kernel alone, repeated: the best that it reaches on this adapter.
    pub best_product_bytes_per_second: Option<f64>,
    /// The first of these as a share of the second.
    pub product_share: Option<f64>,
    pub profile: Vec<KernelTime>,
}

/// Profiles a test behind its depth, which the session holds, the second time that it runs.
///
/// # Errors
/// A failing GPU.
pub fn measure(session: &mut Session, tokens: &[u32], test: Test, chunk: usize) -> moxel::Result<Option<Profile>> {
    let count = if test.kind == Kind::Generation { 1 } else { test.count.min(chunk) };
    let mut times = None;
    for _ in 0..2 {
        session.rewind(test.depth);
        times = pollster::block_on(session.profile(&tokens[test.depth..test.depth + count]))?;
    }
    Ok(times.map(|times| Profile::new(count, times)))
}

impl Profile {
    fn new(tokens: usize, times: Vec<KernelTime>) -> Self {
        let is_product = |time: &&KernelTime| PRODUCTS.iter().any(|product| time.kernel.starts_with(product));
        let sum = |times: &mut dyn Iterator<Item = &KernelTime>| {
            times.fold((0, 0.0), |(bytes, time), kernel| (bytes + kernel.weight_bytes, time + kernel.microseconds))
        };
        let (bytes, products) = sum(&mut times.iter().filter(is_product));
        let (_, all) = sum(&mut times.iter());
        Self {
            profile_tokens: tokens,
            profile_microseconds: all,
            product_bytes_per_second: if products > 0.0 { 1e6 * bytes as f64 / products } else { 0.0 },
            best_product_bytes_per_second: None,
            product_share: None,
            profile: times,
        }
    }

    /// Sets it beside the best that a product of one token reaches. A prompt's weights are read for many tokens at once.
    pub fn compare(&mut self, best: Option<f64>) {
        if self.profile_tokens == 1 {
            self.best_product_bytes_per_second = best;
            self.product_share = best.map(|best| self.product_bytes_per_second / best);
        }
    }

    /// What was profiled, in words.
    pub fn step(&self) -> String {
        if self.profile_tokens == 1 { "one token".into() } else { format!("{} tokens together", self.profile_tokens) }
    }

    /// Names, calls, times, shares and rates of the kernels, in words.
    pub fn lines(&self) -> impl Iterator<Item = [String; 5]> {
        self.profile.iter().map(|time| {
            let share = if self.profile_microseconds > 0.0 { time.microseconds / self.profile_microseconds } else { 0.0 };
            let rate = 1e6 * time.weight_bytes as f64 / time.microseconds.max(1e-3);
            let rate = if time.weight_bytes > 0 { format!("{}/s", output::bytes(rate as u64)) } else { String::new() };
            let (calls, microseconds) = (time.calls.to_string(), format!("{:.1}", time.microseconds));
            [time.kernel.clone(), calls, microseconds, format!("{:.1} %", 100.0 * share), rate]
        })
    }

    /// A sentence about the products.
    pub fn products(&self) -> String {
        let rate = output::bytes(self.product_bytes_per_second as u64);
        match (self.product_share, self.best_product_bytes_per_second) {
            (Some(share), Some(best)) => {
                let best = output::bytes(best as u64);
                format!("Products read {rate}/s, {:.0} % of the {best}/s that one alone reaches.", 100.0 * share)
            }
            _ => format!("Products read {rate}/s."),
        }
    }
}

/// Titles of [`Profile::lines`].
pub const TITLES: [&str; 5] = ["kernel", "calls", "µs", "share", "weights"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_told_from_other_kernels() {
        let time =
            |kernel: &str, microseconds, weight_bytes| KernelTime { kernel: kernel.into(), calls: 1, microseconds, weight_bytes };
        let times = vec![time("matvec.q4_0.quantized", 30.0, 6000), time("attention", 60.0, 0), time("gated", 10.0, 2000)];
        let mut profile = Profile::new(1, times.clone());
        assert_eq!(profile.product_bytes_per_second.round(), 2e8);
        profile.compare(Some(400e6));
        assert_eq!(profile.product_share.map(|share| (100.0 * share).round()), Some(50.0));
        let lines: Vec<_> = profile.lines().collect();
        assert_eq!(lines[0], ["matvec.q4_0.quantized", "1", "30.0", "30.0 %", "200.0 MB/s"]);
        assert_eq!(lines[1][4], "");
        let mut prompt = Profile::new(64, times);
        prompt.compare(Some(400e6));
        assert_eq!(prompt.product_share, None);
    }
}
