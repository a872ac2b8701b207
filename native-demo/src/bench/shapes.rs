//! Sizes of well-known models, so that any GPU can be measured without downloading one.

use clap::ValueEnum;
use moxel::KvType;

/// A model by its sizes. They are those of the `config.json` that each was published with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Llama 4 Scout: 48 layers of 16 experts, 1 chosen beside a shared one
    #[value(name = "llama4-scout")]
    Llama4Scout,
    /// Llama 4 Maverick: 48 layers, every second with 128 experts, 1 chosen beside a shared one
    #[value(name = "llama4-maverick")]
    Llama4Maverick,
    /// OLMoE 1B-7B: 16 layers of 64 experts, 8 chosen
    #[value(name = "olmoe")]
    Olmoe,
    /// Qwen3 30B-A3B: 48 layers of 128 experts, 8 chosen
    #[value(name = "qwen3-30b-a3b")]
    Qwen3,
    /// Granite 3.0 1B-A400M: 24 layers of 32 experts, 8 chosen
    #[value(name = "granite-1b")]
    Granite,
    /// Llama 3 8B: 32 dense layers
    #[value(name = "llama-8b")]
    Llama8b,
}

/// The sizes of a model.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub layers: usize,
    pub hidden: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub vocab: usize,
    /// The embedding is the head too.
    pub tied: bool,
    pub rope_base: f32,
    /// Neurons of feed-forward layers without experts.
    pub inner: usize,
    /// `None`: a dense model.
    pub experts: Option<Experts>,
}

/// The sizes of layers with experts.
#[derive(Clone, Copy, Debug)]
pub struct Experts {
    pub count: usize,
    /// Experts of a token, a shared one included.
    pub chosen: usize,
    pub inner: usize,
    /// Every so many layers has experts, the last of them.
    pub every: usize,
    /// It is Llama 4 itself: chunked attention, layers without rotation, and a shared expert of its own.
    pub native: bool,
}

impl Shape {
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    pub fn sizes(self) -> Sizes {
        let llama4 = Sizes {
            layers: 48,
            hidden: 5120,
            heads: 40,
            kv_heads: 8,
            head_dim: 128,
            vocab: 202_048,
            tied: false,
            rope_base: 500_000.0,
            inner: 16_384,
            experts: None,
        };
        let native = |count, every| Some(Experts { count, chosen: 2, inner: 8192, every, native: true });
        let foreign = |count, inner| Some(Experts { count, chosen: 8, inner, every: 1, native: false });
        match self {
            Self::Llama4Scout => Sizes { experts: native(16, 1), ..llama4 },
            Self::Llama4Maverick => Sizes { experts: native(128, 2), ..llama4 },
            Self::Olmoe => Sizes {
                layers: 16,
                hidden: 2048,
                heads: 16,
                kv_heads: 16,
                vocab: 50_304,
                rope_base: 10_000.0,
                inner: 1024,
                experts: foreign(64, 1024),
                ..llama4
            },
            Self::Qwen3 => Sizes {
                hidden: 2048,
                heads: 32,
                kv_heads: 4,
                vocab: 151_936,
                rope_base: 1_000_000.0,
                inner: 768,
                experts: foreign(128, 768),
                ..llama4
            },
            Self::Granite => Sizes {
                layers: 24,
                hidden: 1024,
                heads: 16,
                kv_heads: 8,
                head_dim: 64,
                vocab: 49_155,
                tied: true,
                rope_base: 10_000.0,
                inner: 512,
                experts: foreign(32, 512),
            },
            Self::Llama8b => {
                Sizes { layers: 32, hidden: 4096, heads: 32, vocab: 128_256, inner: 14_336, experts: None, ..llama4 }
            }
        }
    }
}

impl Sizes {
    /// Layers that repeat: fewer of them would be another model.
    pub fn period(&self) -> usize {
        self.experts.map_or(1, |experts| experts.every)
    }

    /// The same with at most this many layers, in whole periods and at least one.
    pub fn cut(&self, layers: usize) -> Self {
        let period = self.period();
        Self { layers: (layers / period * period).clamp(period, self.layers), ..*self }
    }

    /// Bytes of the KV cache for so many positions.
    pub fn kv_bytes(&self, kv: KvType, context: usize) -> u64 {
        (2 * self.layers * self.kv_heads) as u64 * kv.bytes(self.head_dim, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_cut_in_whole_periods() {
        let maverick = Shape::Llama4Maverick.sizes();
        for (asked, layers) in [(0, 2), (1, 2), (5, 4), (48, 48), (99, 48)] {
            assert_eq!(maverick.cut(asked).layers, layers, "{asked}");
        }
        assert_eq!(Shape::Granite.sizes().cut(1).layers, 1);
    }
}
