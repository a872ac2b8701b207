//! Progress bars on standard error, invisible where that is no terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that counts bytes and says how much time is left; its length is set when it is known.
pub fn bytes_bar(action: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {bar:40} {bytes}/{total_bytes} ({bytes_per_sec}, {eta} left)");
    ProgressBar::new(0).with_prefix(action).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
