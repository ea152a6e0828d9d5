//! RTMPS: real handshakes, a certificate that is replaced while a stream runs, and what knocks at the wrong door.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use weir::ingest::Packet;
use weir::ingest::rtmp::{Cause, Front, Limits};
use weir::ingest::tls::{Files, Look, Outcome, Tls};

use super::{Bench, all, ends_behind, guarded};
use crate::raw_rtmp::{Publisher, VIDEO, hello, video};
use crate::tls_client::Pair;

/// TLS with this pair, whose files lie in this folder.
fn tls(pair: &Pair, folder: &tempfile::TempDir) -> Arc<Tls> {
    let (certificate, key) = pair.write(folder.path());
    Arc::new(Tls::open(Files { certificate, key }).unwrap())
}

fn front(tls: &Arc<Tls>) -> Front {
    Front { tls: Some(Arc::clone(tls)), ..Front::default() }
}

#[test]
fn a_certificate_is_replaced_while_a_stream_runs() {
    let (folder, old, new) = (tempfile::tempdir().unwrap(), Pair::new(), Pair::new());
    let tls = tls(&old, &folder);
    guarded(async {
        let mut bench = Bench::new(Limits::default());
        let (address, serving) = bench.listen_behind(front(&tls)).await;
        let mut first = Publisher::new(old.dial(address, &rustls::version::TLS12).await.unwrap());
        first.connect("live").await;
        let packets = bench.publish(&mut first, "anna").await;
        first.message(0, 6, 0, VIDEO, &video(10, true)).await;

        new.write(folder.path());
        assert!(matches!(tls.look(false), Look::Replaced));
        old.dial(address, &rustls::version::TLS13).await.expect_err("the old certificate is not shown any more");
        let mut second = Publisher::new(new.dial(address, &rustls::version::TLS13).await.unwrap());
        second.connect("live").await;
        let more = bench.publish(&mut second, "berta").await;

        // Longer than a record of TLS.
        first.message(0, 6, 40, VIDEO, &video(100_000, true)).await;
        for (publisher, key) in [(&mut first, "anna"), (&mut second, "berta")] {
            let bytes = publisher.to.goodbye(key);
            publisher.send(&bytes).await;
            publisher.io.shutdown().await.unwrap();
            publisher.until_closed().await.expect("closed as TLS closes");
        }
        drop((first, second));
        let lengths: Vec<_> = all(packets)
            .await
            .iter()
            .map(|p| match p {
                Packet::Video { data, .. } => data.len(),
                _ => 0,
            })
            .collect();
        assert_eq!(lengths, [10, 100_000, 0]);
        assert_eq!(all(more).await, [Packet::Unpublish]);
        bench.shutdown.cancel();
        serving.await.unwrap();
        assert_eq!((bench.stats.ended(Cause::Finished), bench.stats.ended(Cause::Tls)), (2, 1));
        assert_eq!((tls.stats().handshakes(Outcome::Done), tls.stats().handshakes(Outcome::Failed)), (2, 1));
    });
}

#[test]
fn whoever_shakes_no_hands_is_cut_by_its_cause() {
    let (folder, pair) = (tempfile::tempdir().unwrap(), Pair::new());
    let tls = tls(&pair, &folder);
    guarded(async {
        for (bytes, closes, cause, outcome) in [
            (&b""[..], false, Cause::Deadline, Some(Outcome::Deadline)),
            (b"\x16\x03\x01\x02", false, Cause::Deadline, Some(Outcome::Deadline)),
            (b"", true, Cause::Left, None),
            (b"\x16\x03\x01\x02", true, Cause::Tls, Some(Outcome::Left)),
            (b"\x16\x03\x01\x00\x04\xff\xff\xff\xff", false, Cause::Tls, Some(Outcome::Failed)),
            (b"GET / HTTP/1.1\r\n\r\n", false, Cause::Tls, Some(Outcome::NotTls)),
            (&hello(), false, Cause::Tls, Some(Outcome::NotTls)),
            (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", false, Cause::Proxy, None),
        ] {
            let before = Outcome::ALL.map(|o| tls.stats().handshakes(o));
            ends_behind(front(&tls), bytes, closes, cause).await;
            let counted: Vec<_> =
                Outcome::ALL.into_iter().zip(before).filter(|&(o, n)| tls.stats().handshakes(o) > n).map(|(o, _)| o).collect();
            assert_eq!(counted, Vec::from_iter(outcome), "{bytes:?}");
        }
    });
}

#[test]
fn a_connection_that_is_cut_without_tls_goodbye_is_cut() {
    let (folder, pair) = (tempfile::tempdir().unwrap(), Pair::new());
    let tls = tls(&pair, &folder);
    guarded(async {
        let mut bench = Bench::new(Limits::default());
        let (address, serving) = bench.listen_behind(front(&tls)).await;
        let mut publisher = Publisher::new(pair.dial(address, &rustls::version::TLS13).await.unwrap());
        publisher.connect("live").await;
        let packets = bench.publish(&mut publisher, "anna").await;
        // The socket without TLS's last words.
        let (socket, _tls) = publisher.io.get_mut();
        socket.shutdown().await.unwrap();
        assert!(all(packets).await.is_empty());
        bench.shutdown.cancel();
        serving.await.unwrap();
        bench.assert_ended(Cause::Cut);
    });
}

#[test]
fn tls_at_the_door_of_rtmp_is_named() {
    guarded(async {
        let bench = Bench::new(Limits::default());
        let (address, serving) = bench.listen().await;
        let pair = Pair::new();
        let refused = pair.dial(address, &rustls::version::TLS13);
        tokio::time::timeout(Duration::from_secs(5), refused).await.expect("at once").expect_err("no TLS here");
        bench.shutdown.cancel();
        serving.await.unwrap();
        bench.assert_ended(Cause::Protocol);
    });
}
