//! What an application may say about experts.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// How experts are kept on the GPU. The default suits a chat; none of the settings changes a model's output by one bit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertOptions {
    /// GPU memory that routed experts may take.
    pub budget: ExpertBudget,
    /// Which expert leaves when another one needs its place.
    pub policy: EvictionPolicy,
    /// Load what a token is likely to choose, from what it chose when it was seen before, before its first layer.
    pub prefetch: bool,
    /// How far the GPU runs ahead of the CPU while a chosen expert may be missing.
    pub sync: SyncMode,
}

impl Default for ExpertOptions {
    fn default() -> Self {
        Self { budget: ExpertBudget::Auto, policy: EvictionPolicy::Score, prefetch: true, sync: SyncMode::Auto }
    }
}

/// GPU memory for routed experts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ExpertBudget {
    /// All experts, or as many as the adapter has memory for. Where the source is not local, they are not loaded with the
    /// model but when they are chosen, or by [`Engine::load_experts`](crate::Engine::load_experts).
    #[default]
    Auto,
    /// A share of all experts, above 0 and up to 100. Raised to the least that works: k + 1 experts for each MoE layer.
    Percent(f64),
    /// Bytes.
    Bytes(u64),
}

/// Which expert is evicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EvictionPolicy {
    /// The one with the lowest score, see ARCHITECTURE.md.
    #[default]
    Score,
    /// The least recently used one, for comparison.
    Lru,
}

/// The unit of submission while experts are streamed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncMode {
    /// As measured on the adapter, and as often as experts are missing.
    #[default]
    Auto,
    /// A whole token, as if every expert were resident.
    Token,
    /// A few MoE layers.
    Segment,
    /// Every MoE layer waits for the CPU.
    Layer,
}

impl FromStr for ExpertBudget {
    type Err = Error;

    /// `auto`, `50%`, or bytes with a unit: `512MB`, `1.5GiB`, `536870912`.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::Request(format!("{text:?} is not an expert budget; give auto, a share like 50%, or a size like 512MB or 2GiB"))
        };
        let text = text.trim();
        if text.eq_ignore_ascii_case("auto") {
            return Ok(Self::Auto);
        }
        if let Some(share) = text.strip_suffix('%') {
            let share: f64 = share.trim().parse().map_err(|_| wrong())?;
            return if share > 0.0 && share <= 100.0 { Ok(Self::Percent(share)) } else { Err(wrong()) };
        }
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let number: f64 = text[..digits].parse().map_err(|_| wrong())?;
        let unit = match text[digits..].trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "k" | "kb" => 1e3,
            "m" | "mb" => 1e6,
            "g" | "gb" => 1e9,
            "kib" => 1024.0,
            "mib" => 1024.0 * 1024.0,
            "gib" => 1024.0 * 1024.0 * 1024.0,
            _ => return Err(wrong()),
        };
        Ok(Self::Bytes((number * unit) as u64))
    }
}

impl fmt::Display for ExpertBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Percent(share) => write!(f, "{share}%"),
            Self::Bytes(bytes) => write!(f, "{bytes} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_read() {
        for (text, budget) in [
            ("auto", ExpertBudget::Auto),
            ("50%", ExpertBudget::Percent(50.0)),
            ("37.5 %", ExpertBudget::Percent(37.5)),
            ("512MB", ExpertBudget::Bytes(512_000_000)),
            ("1.5GiB", ExpertBudget::Bytes(1_610_612_736)),
            ("4096", ExpertBudget::Bytes(4096)),
        ] {
            assert_eq!(text.parse::<ExpertBudget>().unwrap(), budget, "{text}");
        }
        for wrong in ["", "0%", "101%", "-5%", "nan%", "12 parsecs", "GB", "1e3"] {
            assert!(wrong.parse::<ExpertBudget>().is_err(), "{wrong}");
        }
    }
}
