//! A source that reads a folder of a web server.

mod address;
mod answer;
mod client;

pub(super) use address::Address;

use super::source::{BoxFuture, WeightSource, past_the_end};
use crate::{Error, Result};
use blocking::unblock;
use client::{Client, Place, RemoteFile};
use std::{
    collections::HashMap,
    fmt,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// A read of more bytes is split among connections, because one alone seldom fills the line.
const LEAST_PIECE: u64 = 1 << 20;
const MOST_PIECES: u64 = 4;

/// How patient an [`HttpSource`] is. The default suits the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpOptions {
    /// A connection that cannot be made, or brings no byte, for so long is given up, and what is
    /// missing is asked for over another.
    pub stall: Duration,
    /// After so many failed attempts in a row a read fails.
    pub attempts: u32,
    /// The time before the second attempt; it doubles with each further one.
    pub first_wait: Duration,
    /// The longest time between attempts, even where the server asks for more (`Retry-After`).
    pub longest_wait: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(20),
            attempts: 6,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(30),
        }
    }
}

/// The files of one folder behind HTTP or HTTPS, read by ranges.
///
/// A read is retried where the connection is lost, the server stalls or says that it is busy, and
/// goes on from the bytes that have arrived. Of each file the ETag or date is remembered: a file that
/// is replaced while it is read is an error, never a mixture. Small files, such as `config.json`,
/// can be read whole from a server that does not send ranges; tensors cannot.
///
/// Redirects are followed, and the proxy that the environment names (`HTTPS_PROXY`, `NO_PROXY` and
/// their kin) is used. A user and password in the URL are sent to that host, and appear in no message;
/// the same goes for the URL's query.
///
/// Requests wait on worker threads and begin when the future is first polled; they are not ended by
/// dropping it.
#[derive(Clone)]
pub struct HttpSource {
    folder: Address,
    client: Arc<Client>,
    known: Arc<Mutex<HashMap<String, Arc<RemoteFile>>>>,
}

impl HttpSource {
    /// The folder at `url`. Nothing is asked of the server yet.
    ///
    /// # Errors
    /// [`Error::Read`] if it is no URL of HTTP or HTTPS.
    pub fn new(url: &str, options: HttpOptions) -> Result<Self> {
        let (folder, name) = Address::parse(url)?;
        Ok(Self::at(folder.join(&name), options))
    }

    pub(super) fn at(folder: Address, options: HttpOptions) -> Self {
        Self { folder, client: Arc::new(Client::new(options)), known: Arc::default() }
    }

    /// What the server has under this name, as it was when first asked.
    async fn remote(&self, file: &str) -> Result<Option<Arc<RemoteFile>>> {
        if let Some(remote) = self.lock().get(file) {
            return Ok(Some(Arc::clone(remote)));
        }
        let place = Place::new(self.folder.of_file(file)?, self.folder.shown_file(file));
        let client = Arc::clone(&self.client);
        let Some(remote) = unblock(move || client.find(place)).await? else {
            return Ok(None);
        };
        // Whoever asked at the same time and was first decides: all reads go by one version.
        Ok(Some(Arc::clone(self.lock().entry(file.to_owned()).or_insert_with(|| Arc::new(remote)))))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<RemoteFile>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read_range(&self, file: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let Some(remote) = self.remote(file).await? else {
            return Err(Error::Read {
                file: self.folder.shown_file(file),
                cause: "there is no such file on the server".to_owned(),
            });
        };
        if range.start > range.end || range.end > remote.size {
            return Err(past_the_end(remote.shown().to_owned(), &range, remote.size));
        }
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let fetch = |piece: Range<u64>| {
            let (client, remote) = (Arc::clone(&self.client), Arc::clone(&remote));
            unblock(move || client.fetch(&remote, &piece))
        };
        if !remote.has_ranges {
            return fetch(range).await;
        }
        // All are on their way before the first is waited for.
        let on_their_way: Vec<_> = pieces(&range).map(fetch).collect();
        let mut bytes = Vec::new();
        for piece in on_their_way {
            let piece = piece.await?;
            if bytes.is_empty() { bytes = piece } else { bytes.extend_from_slice(&piece) }
        }
        Ok(bytes)
    }
}

impl WeightSource for HttpSource {
    fn name(&self) -> String {
        self.folder.shown()
    }

    fn size<'a>(&'a self, file: &'a str) -> BoxFuture<'a, Result<Option<u64>>> {
        Box::pin(async move { Ok(self.remote(file).await?.map(|remote| remote.size)) })
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Vec<u8>>> {
        Box::pin(self.read_range(file, range))
    }

    fn version<'a>(&'a self, file: &'a str) -> BoxFuture<'a, Result<Option<String>>> {
        Box::pin(async move {
            let remote = self.remote(file).await?;
            Ok(remote.and_then(|remote| remote.version.as_text().map(str::to_owned)))
        })
    }
}

impl fmt::Debug for HttpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSource").field("folder", &self.name()).finish_non_exhaustive()
    }
}

/// A range in a few parts of about the same size, fewer if they would be small.
fn pieces(range: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let Range { start, end } = *range;
    let count = ((end - start) / LEAST_PIECE).clamp(1, MOST_PIECES);
    let length = (end - start).div_ceil(count);
    (0..count).map(move |index| start + index * length..start.saturating_add((index + 1) * length).min(end))
}

#[cfg(test)]
mod tests {
    use super::{LEAST_PIECE, pieces};

    #[test]
    fn pieces_make_up_the_range() {
        let cases = [
            (5..6, 1),
            (7..7 + 2 * LEAST_PIECE - 1, 1),
            (7..7 + 2 * LEAST_PIECE, 2),
            (3..3 + 9 * LEAST_PIECE + 5, 4),
            (u64::MAX - 5 * LEAST_PIECE - 2..u64::MAX, 4),
        ];
        for (range, count) in cases {
            let pieces: Vec<_> = pieces(&range).collect();
            assert_eq!(pieces.len(), count);
            assert_eq!((pieces[0].start, pieces[count - 1].end), (range.start, range.end));
            assert!(pieces.windows(2).all(|pair| pair[0].end == pair[1].start), "{pieces:?}");
        }
    }
}
