//! What goes to the terminal: numbers with units, and text as it is made.

use std::io::{self, Write};
use std::time::Duration;

/// Whether an error says that nobody reads our output any more.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Writes text to standard output at once.
pub fn show(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes a line of JSON.
pub fn show_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    Ok(show(&format!("{}\n", serde_json::to_string_pretty(value)?))?)
}

/// A number of bytes in the unit that suits it.
pub fn bytes(count: u64) -> String {
    scaled(count, "B")
}

/// A count in thousands, millions, billions.
pub fn count(count: u64) -> String {
    scaled(count, "").trim_end().to_owned()
}

/// A number of operations in the unit that suits it.
pub fn operations(count: u64) -> String {
    scaled(count, "FLOP")
}

fn scaled(count: u64, unit: &str) -> String {
    let (scale, prefix) = match count {
        0..1_000 => return format!("{count} {unit}"),
        1_000..1_000_000 => (1e3, if unit.is_empty() { "K" } else { "k" }),
        1_000_000..1_000_000_000 => (1e6, "M"),
        1_000_000_000..1_000_000_000_000 => (1e9, if unit.is_empty() { "B" } else { "G" }),
        _ => (1e12, "T"),
    };
    format!("{:.1} {prefix}{unit}", count as f64 / scale)
}

/// Milliseconds to the microsecond.
pub fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// The most memory that this process has had in use, where the system tells.
pub fn peak_memory() -> Option<u64> {
    kilobytes("/proc/self/status", "VmHWM:")
}

/// Memory that programs can still take without the system having to swap, where it tells.
pub fn free_memory() -> Option<u64> {
    kilobytes("/proc/meminfo", "MemAvailable:")
}

/// The bytes on the line of one of Linux's tables that begins with `name`.
fn kilobytes(file: &str, name: &str) -> Option<u64> {
    let table = std::fs::read_to_string(file).ok()?;
    let line = table.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_suit_the_number() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_500), "1.5 kB");
        assert_eq!(bytes(98_362_432), "98.4 MB");
        assert_eq!(bytes(2_000_000_000_000), "2.0 TB");
        assert_eq!(operations(51_200_000_000_000), "51.2 TFLOP");
        assert_eq!(count(12), "12");
        assert_eq!(count(134_515_008), "134.5 M");
        assert_eq!(count(17_000_000_000), "17.0 B");
    }

    #[test]
    fn only_broken_pipes_are_taken_for_one() {
        assert!(is_broken_pipe(&io::Error::from(io::ErrorKind::BrokenPipe).into()));
        assert!(!is_broken_pipe(&io::Error::from(io::ErrorKind::NotFound).into()));
        assert!(!is_broken_pipe(&anyhow::anyhow!("broken pipe")));
    }
}
