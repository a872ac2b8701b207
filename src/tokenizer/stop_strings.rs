//! Ending a generation on given strings.

use crate::error::{Error, Result};

/// Watches generated text for stop strings.
///
/// Text that could be the start of a stop string is held back until it is clear that it is not, so that nothing of a
/// stop string is ever shown.
pub struct StopStrings {
    stops: Vec<String>,
    held: String,
    stopped: bool,
}

impl StopStrings {
    /// Watches for any of `stops`; none is allowed and holds nothing back.
    ///
    /// # Errors
    /// An empty stop string, which every text contains.
    pub fn new(stops: Vec<String>) -> Result<Self> {
        if stops.iter().any(String::is_empty) {
            return Err(Error::Request("a stop string must not be empty".to_owned()));
        }
        Ok(Self { stops, held: String::new(), stopped: false })
    }

    /// Takes more text; returns what may be shown, and whether a stop string has been met (which, like anything after
    /// it, is not shown).
    pub fn push(&mut self, text: &str) -> (String, bool) {
        if self.stopped {
            return (String::new(), true);
        }
        self.held.push_str(text);
        if let Some(start) = self.stops.iter().filter_map(|stop| self.held.find(stop)).min() {
            self.stopped = true;
            self.held.truncate(start);
            return (std::mem::take(&mut self.held), true);
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// Ends the text and returns what was held back.
    pub fn flush(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// The length of the longest end of `text` that is a proper start of `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    stop.char_indices().map(|(length, _)| length).rev().find(|&length| text.ends_with(&stop[..length])).unwrap_or(0)
}
