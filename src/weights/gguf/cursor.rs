//! Reading little-endian values from the part of a header that has been read so far.

use super::MAX_HEADER;

/// Why parsing stopped.
#[derive(Debug, PartialEq)]
pub(super) enum Stop {
    /// The header goes on beyond what has been read; the file is long enough for it.
    More,
    /// The header is wrong, and this is why.
    Bad(String),
}

impl Stop {
    /// Puts in front of the reason what it is about.
    pub fn about(self, what: impl FnOnce() -> String) -> Stop {
        match self {
            Stop::More => Stop::More,
            Stop::Bad(problem) => Stop::Bad(format!("{}: {problem}", what())),
        }
    }
}

pub(super) type Parsed<T> = Result<T, Stop>;

/// A position in the window at the start of a file.
pub(super) struct Cursor<'a> {
    window: &'a [u8],
    position: usize,
    file_size: u64,
}

impl<'a> Cursor<'a> {
    pub fn new(window: &'a [u8], file_size: u64) -> Self {
        Self { window, position: 0, file_size }
    }

    pub fn position(&self) -> u64 {
        self.position as u64
    }

    /// An error unless `count` more things of at least `least` bytes each can follow.
    pub fn expect_room(&self, count: u64, least: u64) -> Parsed<()> {
        let end = count.checked_mul(least).and_then(|bytes| bytes.checked_add(self.position()));
        match end {
            Some(end) if end <= self.file_size.min(MAX_HEADER) => Ok(()),
            Some(end) if end <= self.file_size => {
                Err(Stop::Bad(format!("the header would be larger than {} MB", MAX_HEADER >> 20)))
            }
            _ => Err(Stop::Bad(format!(
                "the header goes on past the end of the file ({} bytes); it is damaged or was cut off",
                self.file_size
            ))),
        }
    }

    pub fn bytes(&mut self, count: u64) -> Parsed<&'a [u8]> {
        self.expect_room(count, 1)?;
        let rest = self.window.get(self.position..).unwrap_or_default();
        let taken = usize::try_from(count).ok().and_then(|count| rest.get(..count)).ok_or(Stop::More)?;
        self.position += taken.len();
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        // `bytes` returns exactly N of them or an error, so `More` is never made here.
        self.bytes(N as u64)?.try_into().map_err(|_| Stop::More)
    }

    pub fn u32(&mut self) -> Parsed<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Parsed<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A string: its length in bytes, then UTF-8.
    pub fn string(&mut self) -> Parsed<&'a str> {
        let length = self.u64()?;
        let bytes = self.bytes(length)?;
        std::str::from_utf8(bytes).map_err(|error| Stop::Bad(format!("not valid UTF-8: {error}")))
    }
}
