//! A web server on this machine that serves files from memory, and misbehaves as it is told.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What goes wrong with one answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Nothing.
    None,
    /// This status line and these header lines, and an empty body.
    Status(&'static str, &'static str),
    /// The whole file with status 200, whatever was asked for.
    IgnoreRange,
    /// The connection ends before there is an answer.
    Hang,
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// Silence after so many bytes of the body.
    Stall(usize),
    /// Other bytes than those that were asked for, and a header that says so.
    OtherRange,
    /// A header that says that the body is compressed.
    Compressed,
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// With the query.
    pub target: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
}

struct File {
    bytes: Arc<Vec<u8>>,
    etag: Option<String>,
}

#[derive(Default)]
struct State {
    files: Mutex<BTreeMap<String, File>>,
    once: Mutex<HashMap<String, VecDeque<Fault>>>,
    always: Mutex<HashMap<String, Fault>>,
    log: Mutex<Vec<Request>>,
    stopped: AtomicBool,
}

/// The server; it ends when this is dropped.
pub struct Server {
    address: SocketAddr,
    state: Arc<State>,
}

impl Server {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = Self { address: listener.local_addr().expect("an address"), state: Arc::default() };
        let state = Arc::clone(&server.state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if state.stopped.load(Ordering::Relaxed) {
                    break;
                }
                let state = Arc::clone(&state);
                // A client that goes away is no failure of the server.
                thread::spawn(move || drop(state.converse(stream)));
            }
        });
        server
    }

    /// The URL of `path`, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Serves `bytes` at `path`, in the place of what was there.
    pub fn put(&self, path: &str, bytes: impl Into<Vec<u8>>, etag: Option<&str>) {
        let file = File { bytes: Arc::new(bytes.into()), etag: etag.map(str::to_owned) };
        self.state.files.lock().unwrap().insert(path.to_owned(), file);
    }

    /// Serves every file of a folder at `path`.
    pub fn put_folder(&self, path: &str, folder: &std::path::Path) {
        for entry in std::fs::read_dir(folder).unwrap().flatten().filter(|entry| entry.path().is_file()) {
            let name = entry.file_name().into_string().unwrap();
            self.put(&format!("{path}/{name}"), std::fs::read(entry.path()).unwrap(), Some(&format!("\"{name}\"")));
        }
    }

    pub fn remove(&self, path: &str) {
        self.state.files.lock().unwrap().remove(path);
    }

    /// What happens to the next requests for `path`, one after the other.
    pub fn next(&self, path: &str, faults: impl IntoIterator<Item = Fault>) {
        self.state.once.lock().unwrap().insert(path.to_owned(), faults.into_iter().collect());
    }

    /// What happens to every request for `path` for which nothing else was said.
    pub fn always(&self, path: &str, fault: Fault) {
        self.state.always.lock().unwrap().insert(path.to_owned(), fault);
    }

    /// The requests since the last call.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.log.lock().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    /// Answers the requests of one connection.
    fn converse(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some(request) = read_request(&mut reader)? {
            self.log.lock().unwrap().push(request.clone());
            if !self.answer(&request, &mut stream)? {
                break;
            }
        }
        Ok(())
    }

    fn fault(&self, path: &str) -> Fault {
        let next = self.once.lock().unwrap().get_mut(path).and_then(VecDeque::pop_front);
        next.or_else(|| self.always.lock().unwrap().get(path).cloned()).unwrap_or(Fault::None)
    }

    /// Whether the connection can be used again.
    fn answer(&self, request: &Request, stream: &mut TcpStream) -> std::io::Result<bool> {
        let path = request.target.split('?').next().unwrap();
        let fault = self.fault(path);
        match fault {
            Fault::Hang => return Ok(false),
            Fault::Status(status, headers) => return respond(stream, status, headers, &[]),
            _ => {}
        }
        let files = self.files.lock().unwrap();
        let Some(File { bytes, etag }) = files.get(path) else {
            drop(files);
            return respond(stream, "404 Not Found", "", b"no such file");
        };
        let (bytes, etag) = (Arc::clone(bytes), etag.clone());
        drop(files);
        let mut headers = etag.as_ref().map(|etag| format!("ETag: {etag}\r\n")).unwrap_or_default();
        let unchanged = request.headers.get("if-range").is_none_or(|wanted| Some(wanted) == etag.as_ref());
        let range = request.headers.get("range").filter(|_| unchanged && !matches!(fault, Fault::IgnoreRange));
        let (status, body) = match range.map(|range| parse_range(range, bytes.len())) {
            None => ("200 OK", 0..bytes.len()),
            Some(None) => {
                headers += &format!("Content-Range: bytes */{}\r\n", bytes.len());
                return respond(stream, "416 Range Not Satisfiable", &headers, &[]);
            }
            Some(Some(mut range)) => {
                if matches!(fault, Fault::OtherRange) {
                    range.end -= 1;
                }
                headers += &format!("Content-Range: bytes {}-{}/{}\r\n", range.start, range.end - 1, bytes.len());
                ("206 Partial Content", range)
            }
        };
        if matches!(fault, Fault::Compressed) {
            headers += "Content-Encoding: gzip\r\n";
        }
        let body = &bytes[body];
        match fault {
            Fault::Cut(sent) | Fault::Stall(sent) => {
                write!(stream, "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len())?;
                stream.write_all(&body[..sent.min(body.len())])?;
                stream.flush()?;
                if matches!(fault, Fault::Stall(_)) {
                    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
                    // Until the client loses patience.
                    let _ = stream.read(&mut [0]);
                }
                Ok(false)
            }
            _ => respond(stream, status, &headers, body),
        }
    }
}

fn respond(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) -> std::io::Result<bool> {
    write!(stream, "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len())?;
    stream.write_all(body)?;
    stream.flush()?;
    Ok(true)
}

/// The next request of a connection; `None` at its end.
fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = HashMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Ok(Some(Request { target, headers }))
}

/// The bytes that a `Range` header asks for; `None` if the file has none of them.
fn parse_range(header: &str, size: usize) -> Option<Range<usize>> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    (first < size).then(|| first..(last + 1).min(size))
}
