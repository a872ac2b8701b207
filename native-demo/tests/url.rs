//! Models behind a URL, and the cache for them.

mod common;
#[path = "../../tests/common/http_server.rs"]
#[allow(dead_code, reason = "only a part of it is used here")]
mod http_server;

use std::fs;
use std::path::Path;

use common::{folder, golden, moxel};
use http_server::{Fault, Server};

#[test]
fn a_url_is_as_good_as_a_path() {
    let server = Server::new();
    server.put_folder("/tied", Path::new(&golden("llama_tied")));
    let cache = folder("a_url_is_as_good_as_a_path");
    let cache = cache.to_str().expect("UTF-8");
    let expected = moxel(&["inspect", &golden("llama_tied/model.gguf"), "--json"]).json();
    let url = server.url("/tied/model.gguf");
    let run = |url: &str, arguments: &[&str]| moxel(&[&["inspect", url, "--json"], arguments].concat());
    assert_eq!(run(&url, &["--no-cache"]).json(), expected);
    assert_eq!(fs::read_dir(cache).expect("a folder").count(), 0);
    assert_eq!(run(&url, &["--cache", cache]).json(), expected);
    assert_eq!(fs::read_dir(cache).expect("a folder").count(), 1);
    // What is kept is not asked for again.
    server.requests();
    assert_eq!(run(&url, &["--cache", cache]).json(), expected);
    assert!(server.requests().iter().all(|request| request.headers["range"] == "bytes=0-0"));

    // Where nothing can be kept, that is said, and the rest works.
    let in_the_way = format!("{cache}/file");
    fs::write(&in_the_way, "").expect("a file");
    let told = run(&url, &["--cache", &in_the_way]).ok();
    assert_eq!(told.stderr.matches("warning: nothing more is kept").count(), 1, "{}", told.stderr);
}

#[test]
fn what_is_wrong_with_a_url_is_said() {
    let server = Server::new();
    server.put_folder("/tied", Path::new(&golden("llama_tied")));
    server.always("/tied/model.safetensors", Fault::IgnoreRange);
    for (path, words) in [
        ("/tied/", ["/tied/model.safetensors", "ranges"]),
        ("/tied/absent.gguf", ["/tied/absent.gguf", "no such file"]),
        ("/nothing/", ["/nothing/config.json", "no such file"]),
    ] {
        let run = moxel(&["inspect", &server.url(path), "--no-cache"]);
        assert_eq!(run.status, 1);
        assert!(words.iter().all(|word| run.stderr.contains(word)), "{}", run.stderr);
    }
    let run = moxel(&["inspect", "http://", "--no-cache"]);
    assert_eq!(run.status, 1);
    assert!(run.stderr.contains("URL"), "{}", run.stderr);
}
