//! Where the bytes of a checkpoint come from: one trait natively and in the browser.

use crate::{Error, Result};
use std::ops::Range;

#[cfg(not(target_arch = "wasm32"))]
mod platform {
    use std::{future::Future, pin::Pin};

    /// A boxed future; it can move between threads except in the browser, where JavaScript's
    /// promises cannot.
    pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

    /// Told of something as it goes on; it can move between threads as [`BoxFuture`] can.
    pub type OnProgress<'a, T> = dyn FnMut(T) + Send + 'a;

    /// [`Send`], except in the browser, where it holds for everything.
    pub trait MaybeSend: Send {}
    impl<T: Send + ?Sized> MaybeSend for T {}

    /// [`Sync`], except in the browser, where it holds for everything.
    pub trait MaybeSync: Sync {}
    impl<T: Sync + ?Sized> MaybeSync for T {}
}

#[cfg(target_arch = "wasm32")]
mod platform {
    use std::{future::Future, pin::Pin};

    /// A boxed future; it can move between threads except in the browser, where JavaScript's
    /// promises cannot.
    pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

    /// Told of something as it goes on; it can move between threads as [`BoxFuture`] can.
    pub type OnProgress<'a, T> = dyn FnMut(T) + 'a;

    /// [`Send`], except in the browser, where it holds for everything.
    pub trait MaybeSend {}
    impl<T: ?Sized> MaybeSend for T {}

    /// [`Sync`], except in the browser, where it holds for everything.
    pub trait MaybeSync {}
    impl<T: ?Sized> MaybeSync for T {}
}

pub use platform::{BoxFuture, MaybeSend, MaybeSync, OnProgress};

/// A folder of named files, read by byte ranges.
///
/// File names are plain names inside the folder, as a checkpoint's own index spells them; an
/// implementation must not let them lead out of the folder.
pub trait WeightSource: MaybeSend + MaybeSync {
    /// The folder or URL, for messages.
    fn name(&self) -> String;

    /// The size of `file` in bytes, or `None` where there is no such file.
    fn size<'a>(&'a self, file: &'a str) -> BoxFuture<'a, Result<Option<u64>>>;

    /// Exactly the bytes `range` of `file`.
    ///
    /// # Errors
    /// [`Error::Read`] if any of them cannot be had, a range past the end of the file included.
    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Vec<u8>>>;

    /// Whether reading costs so little that taking everything at once is sensible; otherwise only what
    /// is needed should be read, when it is needed.
    fn is_local(&self) -> bool {
        false
    }

    /// A text that changes when the content of `file` does, such as a server's ETag; `None` where nothing tells.
    ///
    /// Whoever keeps copies of what was read compares it.
    ///
    /// # Errors
    /// [`Error::Read`] if the source cannot be asked.
    fn version<'a>(&'a self, _file: &'a str) -> BoxFuture<'a, Result<Option<String>>> {
        Box::pin(async { Ok(None) })
    }
}

/// How messages name `file` of `source`.
pub(super) fn display_name(source: &dyn WeightSource, file: &str) -> String {
    let folder = source.name();
    if folder.is_empty() { file.to_owned() } else { format!("{}/{file}", folder.trim_end_matches('/')) }
}

/// Reads `range` of `file` and makes sure that the source returned neither less nor more.
pub(super) async fn read_exactly(source: &dyn WeightSource, file: &str, range: Range<u64>) -> Result<Vec<u8>> {
    let wanted = range.end.saturating_sub(range.start);
    let bytes = source.read(file, range).await?;
    if bytes.len() as u64 != wanted {
        return Err(Error::Read {
            file: display_name(source, file),
            cause: format!("asked for {wanted} bytes and received {}", bytes.len()),
        });
    }
    Ok(bytes)
}

/// Reads a whole small file of at most `limit` bytes; `None` where there is no such file.
pub(super) async fn read_small_file(source: &dyn WeightSource, file: &str, limit: u64) -> Result<Option<Vec<u8>>> {
    let Some(size) = source.size(file).await? else {
        return Ok(None);
    };
    if size > limit {
        return Err(Error::Format {
            file: display_name(source, file),
            problem: format!("the file has {size} bytes; at most {limit} are accepted here"),
        });
    }
    read_exactly(source, file, 0..size).await.map(Some)
}

/// The error for a `range` that `file`, which has `size` bytes, does not hold.
pub(super) fn past_the_end(file: String, range: &Range<u64>, size: u64) -> Error {
    Error::Read {
        file,
        cause: format!(
            "bytes {}..{} were asked for, but the file has {size} bytes (was it changed or cut off after it was opened?)",
            range.start, range.end
        ),
    }
}
