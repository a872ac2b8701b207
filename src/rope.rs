//! Frequencies of rotary position embeddings, and the tables of cosines and sines that the kernel reads.

use std::f64::consts::TAU;

use crate::Result;
use crate::config::ConfigReader;
use crate::kernels::FINE_POSITIONS;

/// How frequencies are changed for contexts longer than those of the first training.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scaling {
    None,
    /// Positions divided by a factor.
    Linear {
        factor: f64,
    },
    /// Llama 3.1: long wavelengths slowed by `factor`, short ones kept, a smooth passage between.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original_context: f64,
    },
}

/// Base and scaling of a model's rotation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rope {
    pub(crate) theta: f64,
    pub(crate) scaling: Scaling,
}

impl Rope {
    /// Reads `rope_parameters`, or the older pair `rope_theta` and `rope_scaling`, of a Hugging Face configuration.
    pub(crate) fn from_huggingface(config: &ConfigReader<'_>, default_theta: f32) -> Result<Self> {
        let older_theta = config.f32_or("rope_theta", default_theta)?;
        let rope = match config.object("rope_parameters")? {
            Some(rope) => Some(rope),
            None => config.object("rope_scaling")?,
        };
        let Some(rope) = rope else { return Ok(Self { theta: older_theta.into(), scaling: Scaling::None }) };
        let theta = rope.f32_or("rope_theta", older_theta)?.into();
        let kind = match rope.opt_str("rope_type")? {
            Some(kind) => kind,
            None => rope.opt_str("type")?.unwrap_or("default"),
        };
        let scaling = match kind {
            "default" => Scaling::None,
            "linear" => Scaling::Linear { factor: rope.f32("factor")?.into() },
            "llama3" => Scaling::Llama3 {
                factor: rope.f32("factor")?.into(),
                low: rope.f32("low_freq_factor")?.into(),
                high: rope.f32("high_freq_factor")?.into(),
                original_context: rope.usize("original_max_position_embeddings")? as f64,
            },
            other => return Err(rope.error("rope_type", &format!("{other:?} is not supported (default, linear and llama3 are)"))),
        };
        rope.finish(&["type", "rope_type"])?;
        Ok(Self { theta, scaling })
    }

    /// Reads `rope.freq_base` and `rope.scaling.*` of GGUF metadata; `keys` has the architecture's prefix.
    pub(crate) fn from_gguf(keys: &ConfigReader<'_>) -> Result<Self> {
        let theta = keys.f32_or("rope.freq_base", 10_000.0)?.into();
        let scaling = match keys.opt_str("rope.scaling.type")?.unwrap_or("none") {
            "none" => Scaling::None,
            "linear" => {
                // For information: the factor alone decides.
                keys.opt_usize("rope.scaling.original_context_length")?;
                Scaling::Linear { factor: keys.f32("rope.scaling.factor")?.into() }
            }
            other => return Err(keys.error("rope.scaling.type", &format!("{other:?} is not supported (none and linear are)"))),
        };
        Ok(Self { theta, scaling })
    }

    /// Radians per position of each of `head_dim` / 2 pairs.
    ///
    /// Su et al., arXiv:2104.09864: theta^(-2 i / head_dim). The Llama 3 rule is that of Meta's reference code: with
    /// wavelength w = 2 pi / f and original context c, f is divided by `factor` where w > c / low, kept where w < c / high,
    /// and blended linearly in c / w between.
    pub(crate) fn frequencies(&self, head_dim: usize) -> Vec<f64> {
        (0..head_dim / 2)
            .map(|pair| {
                let f = self.theta.powf(-2.0 * pair as f64 / head_dim as f64);
                match self.scaling {
                    Scaling::None => f,
                    Scaling::Linear { factor } => f / factor,
                    Scaling::Llama3 { factor, low, high, original_context } => {
                        let turns = original_context * f / TAU;
                        if turns < low {
                            f / factor
                        } else if turns > high || high <= low {
                            f
                        } else {
                            let keep = (turns - low) / (high - low);
                            f * (keep + (1.0 - keep) / factor)
                        }
                    }
                }
            })
            .collect()
    }
}

/// Floats of a [`table`] for so many frequencies.
pub(crate) fn table_len(frequencies: usize, context: usize) -> usize {
    2 * frequencies * (context.div_ceil(FINE_POSITIONS) + FINE_POSITIONS)
}

/// (cosine, sine) of position x frequency for every pair: rows for the multiples of [`FINE_POSITIONS`] up to `context`, then
/// rows for 0 to [`FINE_POSITIONS`] - 1. The kernel puts a position together from one of each, which is as exact as f32
/// at any position; the sine of a large argument on a GPU is not.
pub(crate) fn table(frequencies: &[f64], context: usize) -> Vec<f32> {
    let coarse = (0..context.div_ceil(FINE_POSITIONS)).map(|row| row * FINE_POSITIONS);
    coarse
        .chain(0..FINE_POSITIONS)
        .flat_map(|position| {
            frequencies.iter().flat_map(move |f| {
                let (sin, cos) = (position as f64 * f).sin_cos();
                [cos as f32, sin as f32]
            })
        })
        .collect()
}
