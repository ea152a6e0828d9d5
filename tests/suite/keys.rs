//! Who may publish, asked of a real worker: by its files, by signatures, by a control plane that is well or not.

mod control_plane;
mod sources;
mod webhook;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::GUARD;
use crate::harness::worker::Worker;
use crate::raw_rtmp::Publisher;

/// A publisher that was accepted and sends nothing; dropped, its connection is cut.
struct Accepted(#[allow(dead_code, reason = "kept open")] Publisher<TcpStream>);

/// Asks to publish by this name: accepted, or the words of the refusal.
async fn publish(worker: SocketAddr, name: &str) -> Result<Accepted, String> {
    let mut publisher = Publisher::new(TcpStream::connect(worker).await.unwrap());
    publisher.connect("live").await;
    let bytes = publisher.to.publish(name);
    publisher.send(&bytes).await;
    let mut buffer = [0; 4096];
    loop {
        if publisher.has_heard("NetStream.Publish.Start") {
            return Ok(Accepted(publisher));
        }
        match timeout(GUARD, publisher.io.read(&mut buffer)).await.expect("an answer").unwrap_or(0) {
            0 => return Err(description(&publisher.heard)),
            n => publisher.heard.extend(&buffer[..n]),
        }
    }
}

/// The text behind the last `description` of AMF 0: marker 2, two bytes of length.
fn description(heard: &[u8]) -> String {
    const NAME: &[u8] = b"description";
    let at = heard.windows(NAME.len()).rposition(|w| w == NAME).expect("a description") + NAME.len();
    let length = usize::from(u16::from_be_bytes([heard[at + 1], heard[at + 2]]));
    String::from_utf8(heard[at + 3..at + 3 + length].to_vec()).unwrap()
}

fn refused(outcome: Result<Accepted, String>) -> String {
    outcome.err().expect("a refusal")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Writes a file that only its owner may read, beside it and renamed.
fn write_private(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// Sources are passed through only: nothing is encoded in these tests.
fn start(flags: &[&str]) -> Worker {
    Worker::start_with(&[&["--ladder", "none", "--set", "reconnect_grace=1"], flags].concat(), &[("WEIR_LOG", "trace")])
}

/// Whatever is said, at the finest level: no key, no passphrase, no signature. All of them here have `hunter` in them, or are given.
fn says_no_secret(worker: &Worker, more: &[&str]) {
    let pages = ["metrics", "v1/streams", "v1/worker", ""].map(|path| worker.get(path).text());
    let log = worker.log();
    for text in pages.iter().chain(&log) {
        for secret in more.iter().chain(&["hunter"]) {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}
