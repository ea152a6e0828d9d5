//! What is written to the log: one line per connection, and never a key.

use std::io::Write;
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;
use weir::ingest::rtmp::Limits;
use weir::ingest::{Refusal, Verdict};

use super::{Bench, PEER, alone};
use crate::raw_rtmp::{VIDEO, video};

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

impl Log {
    fn take(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }
}

/// A subscriber of one thread misses lines whose call sites another thread without one has met first: hence a process of its own.
#[test]
fn each_connection_leaves_one_line_with_peer_and_reason_and_no_key() {
    alone("rtmp::log::each_connection_leaves_one_line_with_peer_and_reason_and_no_key", || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(read_the_log());
    });
}

async fn read_the_log() {
    const KEY: &str = "hunter2?token=hunter3";
    let log = Log::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(log.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let check = |want: &[&str]| {
        let lines = log.take();
        assert_eq!(lines.len(), 1, "{lines:?}");
        for text in want.iter().chain(&[PEER]) {
            assert!(lines[0].contains(text), "{text:?} not in {:?}", lines[0]);
        }
        assert!(!lines[0].contains("hunter"), "{}", lines[0]);
    };

    let mut bench = Bench::new(Limits::default());
    let (mut publisher, _packets, task) = bench.piped(KEY).await;
    let bytes = publisher.to.goodbye(KEY);
    publisher.send(&bytes).await;
    drop(publisher);
    task.await.unwrap();
    check(&["INFO", "publisher finished"]);

    let (mut publisher, task) = bench.pipe(4096);
    publisher.connect("live").await;
    let bytes = publisher.to.publish(KEY);
    publisher.send(&bytes).await;
    let refusal = Refusal { code: Refusal::BAD_NAME, reason: "unknown key".into() };
    bench.requests.recv().await.unwrap().verdict.send(Verdict::Refuse(refusal)).unwrap();
    publisher.until_closed().await.unwrap();
    drop(publisher);
    task.await.unwrap();
    check(&["WARN", "blame=\"publisher\"", "cause=\"refused\"", "unknown key (NetStream.Publish.BadName)"]);

    let (mut publisher, task) = bench.pipe(4096);
    publisher.connect("li\nve").await;
    let bytes = publisher.to.publish(KEY);
    publisher.send(&bytes).await;
    publisher.until_closed().await.unwrap();
    drop(publisher);
    task.await.unwrap();
    check(&["application \"li\\nve\" refused"]);

    let (mut publisher, _packets, task) = bench.piped(KEY).await;
    publisher.message(0, 6, 1234, VIDEO, b"\x17").await;
    publisher.until_closed().await.unwrap();
    drop(publisher);
    task.await.unwrap();
    check(&["cause=\"protocol\"", "bad media message at 1234 ms: AVC packet type is cut short"]);

    let (mut publisher, _packets, task) = bench.piped(KEY).await;
    publisher.message(0, 6, 0, VIDEO, &video(9, true)).await;
    drop(publisher);
    task.await.unwrap();
    check(&["cause=\"cut\"", "connection cut while publishing"]);
}
