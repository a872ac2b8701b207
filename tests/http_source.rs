//! Models behind HTTP, from a server that has every fault that servers have.

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fs, net, path, process};

use common::http_server::{Fault, Server};
use common::{golden, gpu, load};
use moxel::weights::{CacheOptions, Checkpoint, HttpOptions, HttpSource, WeightSource, open};
use moxel::{Engine, EngineOptions, Error, Precision};
use pollster::block_on;

/// Patient with a slow machine, impatient between attempts.
const OPTIONS: HttpOptions = HttpOptions {
    stall: Duration::from_secs(20),
    attempts: 4,
    first_wait: Duration::from_millis(1),
    longest_wait: Duration::from_millis(5),
};

/// Enough for several pieces.
const SIZE: usize = 5 << 20;

fn content(seed: usize) -> Vec<u8> {
    (0..SIZE).map(|at| ((at + seed).wrapping_mul(0x9E37_79B9) >> 24) as u8).collect()
}

/// A server with the file `/d/f`, and the source for its folder.
fn serve() -> (Server, HttpSource) {
    let server = Server::new();
    server.put("/d/f", content(1), Some("\"1\""));
    let source = HttpSource::new(&server.url("/d"), OPTIONS).expect("a URL");
    (server, source)
}

#[track_caller]
fn reads(source: &HttpSource, range: std::ops::Range<u64>) {
    let bytes = block_on(source.read("f", range.clone())).unwrap_or_else(|error| panic!("{range:?}: {error}"));
    assert!(bytes == content(1)[range.start as usize..range.end as usize], "{range:?}");
}

/// Fails unless reading does, with all these words.
#[track_caller]
fn fails(source: &HttpSource, range: std::ops::Range<u64>, words: &[&str]) {
    let message = block_on(source.read("f", range)).expect_err("an error").to_string();
    for word in words {
        assert!(message.contains(word), "{message:?} does not say {word:?}");
    }
}

#[test]
fn files_are_read_in_ranges() {
    let (server, source) = serve();
    server.put("/d/empty", "", None);
    server.put("/d/a%20b%25", "12345", None);
    assert_eq!(source.name(), server.url("/d"));
    assert!(!source.is_local());
    assert_eq!(block_on(source.size("f")).unwrap(), Some(SIZE as u64));
    assert_eq!(block_on(source.version("f")).unwrap().as_deref(), Some("\"1\""));
    for range in [0..1, 7..1000, 5..5, 0..SIZE as u64, 3..SIZE as u64 - 3] {
        reads(&source, range);
    }
    assert_eq!(block_on(source.size("empty")).unwrap(), Some(0));
    assert_eq!(block_on(source.read("empty", 0..0)).unwrap(), b"");
    assert_eq!(block_on(source.read("a b%", 1..3)).unwrap(), b"23");
    assert_eq!(block_on(source.size("absent")).unwrap(), None);
    assert!(block_on(source.read("absent", 0..0)).unwrap_err().to_string().contains("no such file"));
    #[expect(clippy::reversed_empty_ranges, reason = "the wrong range is the test")]
    for range in [0..SIZE as u64 + 1, 3..2, u64::MAX..u64::MAX] {
        fails(&source, range, &["/d/f", "the file has"]);
    }
    for name in ["../f", "", ".", "..", "d/f", "\\f"] {
        assert!(block_on(source.size(name)).unwrap_err().to_string().contains("leads out"), "{name}");
    }
}

#[test]
fn a_busy_server_is_asked_again() {
    for status in ["500 Internal Server Error", "503 Service Unavailable", "429 Too Many Requests", "408 Request Timeout"] {
        // A server that would have us wait for an hour is asked again after the longest wait that we accept.
        let fault = Fault::Status(status, "Retry-After: 3600\r\n");
        let (server, source) = serve();
        server.next("/d/f", [fault.clone(), fault.clone(), Fault::None, fault.clone(), fault.clone()]);
        reads(&source, 0..10);
        assert_eq!(server.requests().len(), 6, "{status}");
        server.next("/d/f", vec![fault; 4]);
        fails(&source, 0..10, &["/d/f", status, "4 attempts"]);
        // The source can go on.
        reads(&source, 0..10);
    }
}

#[test]
fn a_refusal_is_not_repeated() {
    for status in ["400 Bad Request", "401 Unauthorized", "403 Forbidden"] {
        let (server, source) = serve();
        server.next("/d/f", [Fault::Status(status, "")]);
        fails(&source, 0..10, &["/d/f", status]);
        assert_eq!(server.requests().len(), 1);
        reads(&source, 0..10);
    }
    // Between one read and the next.
    let (server, source) = serve();
    reads(&source, 0..10);
    server.remove("/d/f");
    fails(&source, 0..10, &["/d/f", "404 Not Found"]);
    server.put("/d/f", vec![0; 5], None);
    fails(&source, 10..20, &["/d/f", "changed on the server"]);
    server.next("/d/f", [Fault::Status("416 Range Not Satisfiable", "")]);
    fails(&source, 10..20, &["/d/f", "changed on the server"]);
}

#[test]
fn what_has_arrived_is_not_fetched_again() {
    let (server, source) = serve();
    reads(&source, 0..1);
    server.requests();
    // One piece, cut three times: more often than attempts may fail, were there no progress.
    server.next(
        "/d/f",
        [Fault::Cut(100_000), Fault::Hang, Fault::Cut(0), Fault::Cut(200_000), Fault::Hang, Fault::Cut(10), Fault::None],
    );
    reads(&source, 50..1_000_050);
    let ranges: Vec<_> = server.requests().into_iter().map(|request| request.headers["range"].clone()).collect();
    let starts = [50, 100_050, 100_050, 100_050, 300_050, 300_050, 300_060];
    assert_eq!(ranges, starts.map(|start| format!("bytes={start}-1000049")));

    server.next("/d/f", vec![Fault::Cut(10); 4]);
    fails(&source, 0..1000, &["/d/f", "40 of 1000 bytes", "4 attempts"]);
    // Several pieces at once, some of which fail.
    server.next("/d/f", [Fault::Cut(9), Fault::None, Fault::Hang, Fault::Cut(900_000)]);
    reads(&source, 0..SIZE as u64);
}

#[test]
fn a_server_that_stalls_is_left() {
    let server = Server::new();
    server.put("/d/f", content(1), Some("\"1\""));
    let options = HttpOptions { stall: Duration::from_secs(1), ..OPTIONS };
    let source = HttpSource::new(&server.url("/d/"), options).unwrap();
    reads(&source, 0..1);
    server.requests();
    server.next("/d/f", [Fault::Stall(0), Fault::Stall(70_000), Fault::Stall(3)]);
    reads(&source, 0..100_000);
    let ranges: Vec<_> = server.requests().into_iter().map(|request| request.headers["range"].clone()).collect();
    assert_eq!(ranges, [0, 0, 70_000, 70_003].map(|start| format!("bytes={start}-99999")));
    server.next("/d/f", vec![Fault::Stall(0); 4]);
    fails(&source, 0..10, &["/d/f", "stalled for 1s", "4 attempts"]);
}

#[test]
fn a_server_that_is_not_there_is_an_error_at_once() {
    let address = net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
    let source = HttpSource::new(&format!("http://me:secret@{address}/d?key=secret"), HttpOptions::default()).unwrap();
    let message = block_on(source.size("f")).unwrap_err().to_string();
    assert!(message.contains(&format!("http://{address}/d/f: ")) && message.contains("refused"), "{message}");
    assert!(!message.contains("attempts"), "{message}");
    assert!(!message.contains("secret") && !format!("{source:?}").contains("secret"), "{message}");
}

#[test]
fn a_file_that_changes_is_never_a_mixture() {
    let (server, source) = serve();
    reads(&source, 0..10);
    // The same size: only the ETag tells.
    server.put("/d/f", content(2), Some("\"2\""));
    fails(&source, 0..10, &["/d/f", "changed on the server"]);
    fails(&source, 0..SIZE as u64, &["/d/f", "changed on the server"]);
    // Another size, and nothing else that tells.
    server.put("/d/f", &content(1)[..SIZE - 1], None);
    fails(&source, 0..10, &["/d/f", "changed on the server"]);
    // In the middle of a body, before the rest is asked for.
    server.put("/d/f", content(1), Some("\"1\""));
    server.next(
        "/d/f",
        [Fault::Cut(500), Fault::Status("206 Partial Content", "ETag: \"2\"\r\nContent-Range: bytes 500-999/5242880\r\n")],
    );
    fails(&source, 0..1000, &["/d/f", "changed on the server"]);
    reads(&source, 0..10);
}

#[test]
fn what_was_not_asked_for_is_refused() {
    let (server, source) = serve();
    reads(&source, 0..1);
    server.next("/d/f", [Fault::OtherRange]);
    fails(&source, 10..20, &["/d/f", "bytes 10..20 and sent others"]);
    server.next("/d/f", [Fault::Status("206 Partial Content", "")]);
    fails(&source, 10..20, &["/d/f", "bytes 10..20 and sent others"]);
    server.next("/d/f", [Fault::Compressed]);
    fails(&source, 10..20, &["/d/f", "compressed (gzip)"]);
    server.next("/d/f", [Fault::IgnoreRange]);
    fails(&source, 10..20, &["/d/f", "whole files only"]);
    reads(&source, 10..20);
}

#[test]
fn without_ranges_only_whole_files_are_read() {
    let (server, source) = serve();
    server.always("/d/f", Fault::IgnoreRange);
    assert_eq!(block_on(source.size("f")).unwrap(), Some(SIZE as u64));
    reads(&source, 0..SIZE as u64);
    fails(&source, 0..SIZE as u64 - 1, &["/d/f", "whole files only", "206"]);
    // It cannot be resumed, and begins again.
    server.next("/d/f", [Fault::Cut(SIZE - 1), Fault::Hang]);
    reads(&source, 0..SIZE as u64);
    server.put("/d/f", content(2), Some("\"2\""));
    fails(&source, 0..SIZE as u64, &["/d/f", "changed on the server"]);
}

#[test]
fn redirects_are_followed_and_remembered_until_they_expire() {
    let (server, source) = serve();
    server.put("/elsewhere", content(1), Some("\"1\""));
    server.always("/d/f", Fault::Status("302 Found", "Location: /elsewhere?signature=1\r\n"));
    reads(&source, 0..10);
    reads(&source, 10..20);
    let targets = |server: &Server| server.requests().into_iter().map(|request| request.target).collect::<Vec<_>>();
    // Once for the size.
    assert_eq!(targets(&server), ["/d/f", "/elsewhere?signature=1", "/elsewhere?signature=1", "/elsewhere?signature=1"]);
    server.next("/elsewhere", [Fault::Status("403 Forbidden", "")]);
    reads(&source, 20..30);
    assert_eq!(targets(&server), ["/elsewhere?signature=1", "/d/f", "/elsewhere?signature=1"]);
    server.always("/d/f", Fault::Status("302 Found", "Location: /d/f\r\n"));
    server.remove("/elsewhere");
    fails(&source, 0..10, &["/d/f", "too many redirects"]);
}

#[test]
fn user_and_query_go_with_every_request() {
    let (server, _) = serve();
    let url = server.url("/d?key=1").replace("http://", "http://me:secret@");
    let source = HttpSource::new(&url, OPTIONS).unwrap();
    reads(&source, 0..10);
    for request in server.requests() {
        assert_eq!(request.target, "/d/f?key=1");
        assert_eq!(request.headers["authorization"], "Basic bWU6c2VjcmV0");
        assert_eq!(request.headers["accept-encoding"], "identity");
    }
}

/// What `open` finds at a URL of the server, without its cache.
fn entry(server: &Server, path: &str) -> String {
    block_on(open(server.url(path).as_ref(), None)).map(|(_, entry)| entry).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn urls_lead_to_checkpoints() {
    let server = Server::new();
    server.put_folder("/nested", &golden("nested"));
    server.put_folder("/tied", &golden("llama_tied"));
    assert_eq!(entry(&server, "/tied/"), "");
    assert_eq!(entry(&server, "/tied"), "");
    assert_eq!(entry(&server, "/tied/model.gguf"), "model.gguf");
    assert_eq!(entry(&server, "/tied/model.safetensors?download=true"), "");
    assert_eq!(entry(&server, "/nested/model-00002-of-00002.safetensors"), "");
    assert_eq!(entry(&server, "/tied/x-00002-of-00002.safetensors"), "x-00002-of-00002.safetensors");
    for path in ["/tied", "/tied/model.gguf", "/nested/model-00001-of-00002.safetensors"] {
        let (source, entry) = block_on(open(server.url(path).as_ref(), None)).unwrap();
        assert!(block_on(Checkpoint::open(source, &entry)).unwrap().tensors().count() > 0);
    }
    for (path, word) in [("/nowhere", "/nowhere/config.json"), ("/tied/absent.gguf", "/tied/absent.gguf")] {
        let (source, entry) = block_on(open(server.url(path).as_ref(), None)).unwrap();
        let message = block_on(Checkpoint::open(source, &entry)).unwrap_err().to_string();
        assert!(message.contains(word) && message.contains("no such file"), "{message}");
    }
    assert!(matches!(block_on(open("http://".as_ref(), None)), Err(Error::Read { .. })));
}

/// A model behind HTTP computes what it computes from the disk; kept on the disk, its second run fetches nothing; and
/// what the cache's disk spoils is noticed.
#[test]
fn a_model_behind_http_is_the_model() {
    let server = Server::new();
    server.put_folder("/scout", &golden("scout"));
    server.put_folder("/quants", &golden("llama_quants"));
    let folder = std::env::temp_dir().join(format!("moxel-http-model-{}", process::id()));
    let _ = fs::remove_dir_all(&folder);
    let problems = Arc::new(Mutex::new(0));
    for (url, path) in [("/scout", golden("scout")), ("/quants/model.gguf", golden("llama_quants").join("model.gguf"))] {
        let expected = logits(&load(&path, Precision::Exact, 128));
        for run in ["fresh", "kept", "spoilt", "without"] {
            let count = Arc::clone(&problems);
            let on_problem = Arc::new(move |_: &str| *count.lock().unwrap() += 1);
            let cache = CacheOptions { folder: folder.clone(), max_bytes: 1 << 30, on_problem };
            server.requests();
            let (source, entry) = block_on(open(server.url(url).as_ref(), (run != "without").then_some(cache))).unwrap();
            let options = EngineOptions { precision: Precision::Exact, prefill_chunk: Some(128), ..EngineOptions::default() };
            let engine = block_on(Engine::load(&gpu(), source, &entry, &options, &mut |_| {})).unwrap();
            let fetched = server.requests().iter().filter(|request| request.headers["range"] != "bytes=0-0").count();
            assert_eq!(fetched == 0, run == "kept", "{url} {run}: {fetched} requests for content");
            let largest = logits(&engine).iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // Loading measures which kernels are fastest, and they differ in the order of their sums.
            assert!(largest < 1e-4, "{url} {run}: {largest}");
            if run == "kept" {
                spoil(&folder);
            }
        }
    }
    assert_eq!(*problems.lock().unwrap(), 0);
    fs::remove_dir_all(&folder).unwrap();
}

fn logits(engine: &Engine) -> Vec<f32> {
    block_on(engine.session().unwrap().logits(&[5, 60, 17, 3, 99, 42, 8])).unwrap().logits
}

/// Changes a byte in the middle of every file of the cache.
fn spoil(folder: &path::Path) {
    for file in fs::read_dir(folder).unwrap().flatten().flat_map(|sub| fs::read_dir(sub.path()).unwrap().flatten()) {
        let mut bytes = fs::read(file.path()).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 16;
        fs::write(file.path(), bytes).unwrap();
    }
}
