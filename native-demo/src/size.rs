//! Numbers of bytes as people write them.

/// Reads `2GB`, `500 MB`, `1.5GiB` or a plain number of bytes.
pub fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let scale = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1_048_576.0,
        "gib" => 1_073_741_824.0,
        _ => return Err(format!("{unit:?} is no unit of bytes; write 500MB, 2GB or 1.5GiB")),
    };
    let number: f64 = number.parse().map_err(|_| "a number of bytes was expected, such as 500MB or 2GB".to_owned())?;
    let bytes = (number * scale).round();
    // Above this not every integer is a float, and no disk is that large.
    if !(1.0..=9e15).contains(&bytes) {
        return Err(format!("{text} is not a sensible number of bytes"));
    }
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("2GB", 2_000_000_000),
            ("500 MB", 500_000_000),
            ("1.5GiB", 1_610_612_736),
            ("4096", 4096),
            (" 10kb ", 10_000),
            ("1b", 1),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "GB", "-1", "1.2.3", "5 parsecs", "0", "1e9", "99999999TB", "NaN"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
