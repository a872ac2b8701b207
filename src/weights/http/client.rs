//! Requests: what is sent, what is made of the answers, and when to try again.

use super::{
    HttpOptions,
    answer::{Version, compression, content_length, content_range, retry_after},
};
use crate::{Error, Result};
use std::{
    io::{self, ErrorKind, Read},
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use ureq::{
    Agent, Body, ResponseExt, Timeout,
    http::{HeaderMap, Response, StatusCode, Uri, header},
    tls::{RootCerts, TlsConfig, TlsProvider},
};

/// Memory is taken as bytes arrive, not on the word of whoever announced them.
const FIRST_CAPACITY: u64 = 1 << 20;

/// An attempt that brought so much was none in vain.
const PROGRESS: usize = 64 << 10;

/// Connections that are kept for further requests.
const IDLE_CONNECTIONS: usize = 16;

const NO_RANGES: &str = "the server sends whole files only, and reading a model needs byte ranges (HTTP 206): use a server that has them, or download the model";
const CHANGED: &str = "it was changed on the server while it was being read";

/// Where a file is asked for.
pub(super) struct Place {
    url: Uri,
    /// How messages call it.
    shown: String,
    /// Where the server sent us: going there directly saves a round trip for every read, and hubs
    /// limit how often they can be asked.
    moved_to: Mutex<Option<Uri>>,
}

/// A file that the server has.
pub(super) struct RemoteFile {
    place: Place,
    pub size: u64,
    pub version: Version,
    /// Whether the server sends parts of it.
    pub has_ranges: bool,
}

impl Place {
    pub fn new(url: Uri, shown: String) -> Self {
        Self { url, shown, moved_to: Mutex::default() }
    }

    fn moved_to(&self) -> Option<Uri> {
        self.moved_to.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_moved_to(&self, url: Option<Uri>) {
        *self.moved_to.lock().unwrap_or_else(PoisonError::into_inner) = url;
    }
}

impl RemoteFile {
    pub fn shown(&self) -> &str {
        &self.place.shown
    }
}

/// Why an attempt failed.
enum Failure {
    /// Another attempt may succeed, after the time that the server asked for, if it did.
    Temporary { cause: String, wait: Option<Duration>, progress: bool },
    /// Trying again would not help.
    Final(String),
}

impl Failure {
    fn temporary(cause: impl Into<String>) -> Self {
        Self::Temporary { cause: cause.into(), wait: None, progress: false }
    }
}

/// The connections to a server, and how patient we are with it. Its methods block.
pub(super) struct Client {
    agent: Agent,
    options: HttpOptions,
    /// Whether there was ever an answer. A server that never gave one is rather a wrong address than
    /// a bad moment.
    answered: AtomicBool,
}

impl Client {
    pub fn new(options: HttpOptions) -> Self {
        let has_own_tls = cfg!(any(windows, target_vendor = "apple"));
        let provider = if has_own_tls { TlsProvider::NativeTls } else { TlsProvider::Rustls };
        let tls = TlsConfig::builder().provider(provider).root_certs(RootCerts::PlatformVerifier).build();
        let agent = Agent::config_builder()
            .user_agent(concat!("moxel/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .http_status_as_error(false)
            .timeout_connect(Some(options.stall))
            .timeout_per_read(Some(options.stall))
            .timeout_per_write(Some(options.stall))
            .max_idle_connections(IDLE_CONNECTIONS)
            .max_idle_connections_per_host(IDLE_CONNECTIONS)
            .tls_config(tls)
            .build()
            .new_agent();
        Self { agent, options, answered: AtomicBool::new(false) }
    }

    /// Asks what there is at `place`; `None` if the server says that there is nothing.
    ///
    /// The first byte is asked for, because a request without a body (HEAD) does not show whether
    /// ranges work, and signed URLs refuse it.
    pub fn find(&self, place: Place) -> Result<Option<RemoteFile>> {
        let found = self.patiently(&place.shown, || {
            let mut answer = self.send(&place, Some("bytes=0-0"), None)?;
            let headers = answer.headers();
            let range = content_range(headers);
            let (size, has_ranges) = match answer.status() {
                StatusCode::PARTIAL_CONTENT => (range.and_then(|range| range.size), true),
                StatusCode::RANGE_NOT_SATISFIABLE => (range.and_then(|range| range.size.filter(|&size| size == 0)), true),
                StatusCode::OK => (content_length(headers), false),
                StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
                status => return Err(refusal(status, headers)),
            };
            let size = size.ok_or_else(|| Failure::Final("the server does not tell how large it is".to_owned()))?;
            let version = Version::of(headers);
            if has_ranges {
                finish(&mut answer);
            }
            Ok(Some((size, version, has_ranges)))
        })?;
        Ok(found.map(|(size, version, has_ranges)| RemoteFile { place, size, version, has_ranges }))
    }

    /// The bytes `range` of the file. It must not be empty, and of a server without ranges it must
    /// be the whole file.
    pub fn fetch(&self, file: &RemoteFile, range: &Range<u64>) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from((range.end - range.start).min(FIRST_CAPACITY)).unwrap_or_default());
        self.patiently(&file.place.shown, || self.fetch_rest(file, range, &mut bytes))?;
        Ok(bytes)
    }

    /// Appends to `bytes` what is missing of `range`.
    fn fetch_rest(&self, file: &RemoteFile, range: &Range<u64>, bytes: &mut Vec<u8>) -> Result<(), Failure> {
        let whole = *range == (0..file.size);
        if !file.has_ranges {
            if !whole {
                return Err(Failure::Final(NO_RANGES.to_owned()));
            }
            bytes.clear();
        }
        let missing = range.start + bytes.len() as u64..range.end;
        let header = file.has_ranges.then(|| format!("bytes={}-{}", missing.start, missing.end - 1));
        let mut answer = self.send(&file.place, header.as_deref(), file.version.strong())?;
        let headers = answer.headers();
        let changed = || Failure::Final(CHANGED.to_owned());
        match answer.status() {
            StatusCode::PARTIAL_CONTENT | StatusCode::OK if file.version.contradicts(&Version::of(headers)) => {
                return Err(changed());
            }
            StatusCode::PARTIAL_CONTENT => {
                let sent = content_range(headers);
                if sent.as_ref().and_then(|sent| sent.size).is_some_and(|size| size != file.size) {
                    return Err(changed());
                }
                if sent.as_ref().and_then(|sent| sent.bytes.as_ref()) != Some(&missing) {
                    let cause = format!("the server was asked for bytes {}..{} and sent others", missing.start, missing.end);
                    return Err(Failure::Final(cause));
                }
            }
            StatusCode::OK if content_length(headers).is_some_and(|length| length != file.size) => return Err(changed()),
            StatusCode::OK if whole => bytes.clear(),
            StatusCode::OK => return Err(Failure::Final(NO_RANGES.to_owned())),
            StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(Failure::Final(format!("{CHANGED}: it no longer has bytes {}..{}", missing.start, missing.end)));
            }
            status => return Err(refusal(status, headers)),
        }
        if let Some(compression) = compression(headers) {
            return Err(Failure::Final(format!("the server sends it compressed ({compression}), which it was asked not to")));
        }
        self.receive(&mut answer, range, bytes)
    }

    /// Appends the body to `bytes` until they are all of `range`.
    fn receive(&self, answer: &mut Response<Body>, range: &Range<u64>, bytes: &mut Vec<u8>) -> Result<(), Failure> {
        let wanted = range.end - range.start;
        let before = bytes.len();
        let result = answer.body_mut().as_reader().take(wanted - before as u64).read_to_end(bytes);
        let received = bytes.len() as u64;
        if received == wanted {
            finish(answer);
            return Ok(());
        }
        let cause = match result {
            Err(error) => match self.failure(error.into()) {
                Failure::Temporary { cause, .. } => cause,
                last @ Failure::Final(_) => return Err(last),
            },
            Ok(_) => "the connection was closed".to_owned(),
        };
        let progress = bytes.len() - before >= PROGRESS;
        Err(Failure::Temporary { cause: format!("{cause} after {received} of {wanted} bytes"), wait: None, progress })
    }

    /// Sends a request, to where the server sent us before if it did.
    fn send(&self, place: &Place, range: Option<&str>, unless_changed: Option<&str>) -> Result<Response<Body>, Failure> {
        let get = |url: &Uri| {
            let mut request = self.agent.get(url);
            if let Some(range) = range {
                request = request.header(header::RANGE, range);
                if let Some(etag) = unless_changed {
                    request = request.header(header::IF_RANGE, etag);
                }
            }
            let answer = request.call().map_err(|error| self.failure(error))?;
            self.answered.store(true, Ordering::Relaxed);
            Ok(answer)
        };
        if let Some(url) = place.moved_to() {
            // The place that one is sent to is often good for an hour only.
            let answer = get(&url).inspect_err(|_| place.set_moved_to(None))?;
            if !answer.status().is_client_error() || is_temporary(answer.status()) {
                return Ok(answer);
            }
            place.set_moved_to(None);
        }
        let answer = get(&place.url)?;
        if answer.get_uri() != &place.url && answer.status().is_success() {
            place.set_moved_to(Some(answer.get_uri().clone()));
        }
        Ok(answer)
    }

    /// Tries until it succeeds or there is no hope.
    fn patiently<T>(&self, shown: &str, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T> {
        let fail = |cause: String| Error::Read { file: shown.to_owned(), cause };
        let mut failures = 0;
        let mut wait = self.options.first_wait;
        loop {
            let (cause, asked) = match attempt() {
                Ok(value) => return Ok(value),
                Err(Failure::Final(cause)) => return Err(fail(cause)),
                Err(Failure::Temporary { cause, wait: asked, progress }) => {
                    if progress {
                        (failures, wait) = (0, self.options.first_wait);
                    }
                    (cause, asked)
                }
            };
            failures += 1;
            if failures >= self.options.attempts {
                return Err(fail(format!("{cause} ({failures} attempts failed)")));
            }
            thread::sleep(asked.unwrap_or(wait).min(self.options.longest_wait));
            wait = wait.saturating_mul(2);
        }
    }

    /// What to make of a request that got no answer, or not all of it.
    fn failure(&self, error: ureq::Error) -> Failure {
        let unless_wrong_address = |cause: String| {
            if self.answered.load(Ordering::Relaxed) { Failure::temporary(cause) } else { Failure::Final(cause) }
        };
        match error {
            ureq::Error::Timeout(Timeout::PerRead | Timeout::PerWrite) => {
                Failure::temporary(format!("the server stalled for {:?}", self.options.stall))
            }
            ureq::Error::Timeout(_) => unless_wrong_address(format!("there was no connection within {:?}", self.options.stall)),
            ureq::Error::HostNotFound => unless_wrong_address("there is no host of this name".to_owned()),
            ureq::Error::ConnectionFailed | ureq::Error::Protocol(_) | ureq::Error::ConnectProxyFailed(_) => {
                unless_wrong_address(error.to_string())
            }
            ureq::Error::Io(error) => match error.kind() {
                ErrorKind::UnexpectedEof => Failure::temporary("the connection was closed"),
                ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
                    Failure::temporary(format!("the connection was lost ({error})"))
                }
                // Certificates that are not trusted arrive as invalid data.
                ErrorKind::InvalidData | ErrorKind::InvalidInput => Failure::Final(format!("no safe connection ({error})")),
                _ => unless_wrong_address(error.to_string()),
            },
            other => Failure::Final(other.to_string()),
        }
    }
}

/// Reads on to the end of a body that has ended: only then is its connection free for another request.
fn finish(answer: &mut Response<Body>) {
    // Nothing depends on it; at worst the next request makes a connection of its own.
    let _: io::Result<usize> = answer.body_mut().as_reader().read(&mut [0; 2]);
    let _: io::Result<usize> = answer.body_mut().as_reader().read(&mut [0; 1]);
}

fn is_temporary(status: StatusCode) -> bool {
    matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS)
        || status.is_server_error()
}

/// What to make of an answer without the file.
fn refusal(status: StatusCode, headers: &HeaderMap) -> Failure {
    let cause = format!("the server answered {status}");
    if is_temporary(status) {
        Failure::Temporary { cause, wait: retry_after(headers), progress: false }
    } else {
        Failure::Final(cause)
    }
}
