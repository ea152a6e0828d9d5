//! Who may publish, when, for how long: requests, verdicts, refusals, deadlines, back-pressure.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;
use weir::ingest::rtmp::{Cause, Limits};
use weir::ingest::{Line, Packet, Refusal, Request, Verdict};
use weir::secret::Secret;

use super::{Bench, PEER, all, guarded, tracks};
use crate::raw_rtmp::{Publisher, VIDEO, VIDEO_CONFIG, audio, number, session, string, video};

/// What the publisher must have been told, with a proper end and without a word of success.
async fn assert_refused<S>(publisher: &mut Publisher<S>, code: &str, reason: &str)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    publisher.until_closed().await.expect("closed without a reset");
    for text in ["onStatus", "error", code, reason] {
        assert!(publisher.has_heard(text), "{text:?} not in {:?}", String::from_utf8_lossy(&publisher.heard));
    }
}

async fn ask(bench: &mut Bench, publisher: &mut Publisher<tokio::io::DuplexStream>, key: &str) -> Request {
    publisher.connect("live").await;
    let bytes = publisher.to.publish(key);
    publisher.send(&bytes).await;
    bench.requests.recv().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_request_tells_peer_key_and_token() {
    let mut bench = Bench::new(Limits::default());
    let (mut publisher, _task) = bench.pipe(4096);
    let request = ask(&mut bench, &mut publisher, "anna?token=t1&x=y").await;
    assert_eq!((request.peer, request.app.as_str()), (PEER.parse().unwrap(), "live"));
    assert_eq!((request.key, request.token), (Secret::new("anna"), Some(Secret::new("t1"))));
}

#[test]
fn a_refused_publisher_reads_the_reason_and_never_a_success() {
    guarded(async {
        let mut bench = Bench::new(Limits::default());
        let (address, serving) = bench.listen().await;
        let mut publisher = Publisher::new(TcpStream::connect(address).await.unwrap());
        publisher.connect("live").await;
        let bytes = publisher.to.publish("deny_me");
        publisher.send(&bytes).await;
        let request = bench.requests.recv().await.unwrap();
        // Longer than the chunk size that a peer assumes at first.
        let reason = format!("stream key refused{}", ", really".repeat(60));
        let refusal = Refusal { code: Refusal::BAD_NAME, reason: reason.clone() };
        request.verdict.send(Verdict::Refuse(refusal)).unwrap();
        assert_refused(&mut publisher, Refusal::BAD_NAME, &reason).await;
        assert!(!publisher.has_heard("NetStream.Publish.Start"));
        drop(publisher);
        bench.shutdown.cancel();
        serving.await.unwrap();
        bench.assert_ended(Cause::Refused);
    });
}

#[tokio::test(start_paused = true)]
async fn other_applications_and_empty_keys_are_refused_without_asking() {
    for (app, key, reason) in
        [("vod", "anna", "must end in /live"), ("live", "", "no stream key"), ("live", "?token=t", "no stream key")]
    {
        let mut bench = Bench::new(Limits::default());
        let (mut publisher, task) = bench.pipe(4096);
        publisher.connect(app).await;
        let bytes = publisher.to.publish(key);
        publisher.send(&bytes).await;
        assert_refused(&mut publisher, Refusal::BAD_NAME, reason).await;
        drop(publisher);
        task.await.unwrap();
        bench.assert_ended(Cause::Refused);
        assert!(bench.requests.try_recv().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_slash_behind_the_application_is_forgiven() {
    let mut bench = Bench::new(Limits::default());
    let (mut publisher, _task) = bench.pipe(4096);
    publisher.connect("live/").await;
    let bytes = publisher.to.publish("anna");
    publisher.send(&bytes).await;
    assert_eq!(bench.requests.recv().await.unwrap().app, "live");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_request_or_a_worker_that_is_gone_means_shutting_down() {
    for case in ["request dropped", "requests closed", "shutdown"] {
        let mut bench = Bench::new(Limits::default());
        let (mut publisher, task) = bench.pipe(4096);
        publisher.connect("live").await;
        match case {
            "requests closed" => bench.requests.close(),
            "shutdown" => bench.shutdown.cancel(),
            _ => {}
        }
        let bytes = publisher.to.publish("anna");
        publisher.send(&bytes).await;
        if case == "request dropped" {
            drop(bench.requests.recv().await.unwrap());
        }
        assert_refused(&mut publisher, Refusal::REJECTED, "worker is shutting down").await;
        drop(publisher);
        task.await.unwrap();
        bench.assert_ended(Cause::Worker);
    }
}

#[tokio::test(start_paused = true)]
async fn media_behind_publish_wait_for_a_slow_verdict_and_are_not_lost() {
    let media: Vec<_> = std::iter::once(VIDEO_CONFIG.to_vec())
        .chain((0..20).map(|i| if i % 2 == 0 { video(500, true) } else { audio(100) }))
        .collect();
    let mut bench = Bench::new(Limits::default());
    let (mut publisher, task) = bench.pipe(64 << 10);
    publisher.send(&session(4096, "anna", &media)).await;
    let request = bench.requests.recv().await.unwrap();
    tokio::time::sleep(Duration::from_secs(9)).await;
    let (tx, packets) = tokio::sync::mpsc::channel(64);
    assert!(request.verdict.send(Verdict::Accept(tx, Default::default())).is_ok());
    publisher.until("NetStream.Publish.Start").await;
    drop(publisher);
    task.await.unwrap();
    let packets = all(packets).await;
    assert_eq!(packets.len(), media.len());
    assert!(matches!(packets[0], Packet::VideoConfig(..)));
    let (videos, audios) = tracks(&packets);
    assert_eq!(videos, (0..10).map(|i| (40 + 80 * i, 500)).collect::<Vec<_>>());
    assert_eq!(audios, (0..10).map(|i| (80 + 80 * i, 100)).collect::<Vec<_>>());
}

/// The reply that is withheld also announces our chunk size; the refusal must be readable without it.
#[tokio::test(start_paused = true)]
async fn a_refusal_can_be_read_by_a_publisher_that_waited_for_nothing() {
    let mut bench = Bench::new(Limits::default());
    let (mut publisher, _task) = bench.pipe(64 << 10);
    publisher.send(&session(4096, "anna", &[video(500, true)])).await;
    let refusal = Refusal { code: Refusal::BAD_NAME, reason: "no ".repeat(100) };
    bench.requests.recv().await.unwrap().verdict.send(Verdict::Refuse(refusal.clone())).unwrap();
    assert_refused(&mut publisher, Refusal::BAD_NAME, &refusal.reason).await;
    let chunk_size = b"\x02\x00\x00\x00\x00\x00\x04\x01\x00\x00\x00\x00\x00\x00\x10\x00";
    assert_eq!(&publisher.heard[3073..][..16], chunk_size, "the first message behind the handshake");
}

#[tokio::test(start_paused = true)]
async fn a_second_stream_on_one_connection_is_refused() {
    for second in ["publish", "createStream", "connect"] {
        let mut bench = Bench::new(Limits::default());
        let (mut publisher, packets, task) = bench.piped("anna").await;
        let to = publisher.to.clone();
        publisher.message(0, 6, 0, VIDEO, &video(9, true)).await;
        let bytes = match second {
            "connect" => to.connect("live"),
            "publish" => to.command(8, &[&string("publish"), &number(9.0), &[5], &string("ben"), &string("live")]),
            _ => to.command(3, &[&string("createStream"), &number(9.0), &[5]]),
        };
        publisher.send(&bytes).await;
        assert_refused(&mut publisher, Refusal::REJECTED, "a second stream on one connection").await;
        drop(publisher);
        task.await.unwrap();
        bench.assert_ended(Cause::Protocol);
        assert!(bench.requests.try_recv().is_err(), "{second}: the worker is not asked again");
        assert!(!all(packets).await.contains(&Packet::Unpublish), "{second}: no goodbye");
    }
}

#[tokio::test(start_paused = true)]
async fn codecs_that_we_do_not_take_are_named_to_the_publisher() {
    for (body, name) in [
        (&b"\x90vp09\x01"[..], "VP9 video (vp09) is not supported"),
        (b"\x96\x00av01\x00\x00", "multitrack video is not supported"),
        (b"\x14\x00", "VP6 video is not supported"),
    ] {
        let mut bench = Bench::new(Limits::default());
        let (mut publisher, packets, task) = bench.piped("anna").await;
        publisher.message(0, 6, 0, VIDEO, &video(9, true)).await;
        publisher.message(0, 6, 40, VIDEO, body).await;
        assert_refused(&mut publisher, Refusal::REJECTED, name).await;
        drop(publisher);
        task.await.unwrap();
        bench.assert_ended(Cause::Codec);
        assert_eq!(all(packets).await.len(), 1, "what came before is delivered");
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_drops_the_packets_ends_the_connection() {
    let mut bench = Bench::new(Limits::default());
    let (mut publisher, packets, task) = bench.piped("anna").await;
    drop(packets);
    assert_refused(&mut publisher, Refusal::REJECTED, "the worker ended the stream").await;
    drop(publisher);
    task.await.unwrap();
    bench.assert_ended(Cause::Worker);
}

/// The reason goes out also where the connection is waiting for the session.
#[tokio::test(start_paused = true)]
async fn a_session_that_says_why_is_quoted_to_the_publisher() {
    for full in [false, true] {
        let mut bench = Bench::new(Limits::default());
        let (mut publisher, task) = bench.pipe(64 << 10);
        let request = ask(&mut bench, &mut publisher, "anna").await;
        let (tx, packets) = tokio::sync::mpsc::channel(1);
        let line = std::sync::Arc::<Line>::default();
        assert!(request.verdict.send(Verdict::Accept(tx, line.clone())).is_ok());
        publisher.until("NetStream.Publish.Start").await;
        for i in 0..if full { 3 } else { 1 } {
            publisher.message(0, 6, 40 * i, VIDEO, &video(100, true)).await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(line.received() > 100, "{}", line.received());
        line.dismiss(Refusal { code: Refusal::REJECTED, reason: "no key frame".to_owned() });
        drop(packets);
        assert_refused(&mut publisher, Refusal::REJECTED, "no key frame").await;
        assert_eq!(line.blocked().as_secs(), if full { 2 } else { 0 });
        drop(publisher);
        task.await.unwrap();
        bench.assert_ended(Cause::Worker);
    }
}

#[test]
fn shutdown_closes_the_door_and_leaves_publishers_to_the_worker() {
    guarded(async {
        let mut bench = Bench::new(Limits::default());
        let (address, serving) = bench.listen().await;
        let (mut publisher, mut packets) = bench.publisher(address, "anna").await;
        bench.shutdown.cancel();
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        publisher.message(0, 6, 0, VIDEO, &video(9, true)).await;
        assert!(packets.recv().await.is_some());
        drop(packets);
        assert_refused(&mut publisher, Refusal::REJECTED, "the worker ended the stream").await;
        drop(publisher);
        serving.await.unwrap();
        assert_eq!((bench.stats.open(), bench.stats.ended(Cause::Worker)), (0, 1));
    });
}

#[tokio::test(start_paused = true)]
async fn each_deadline_ends_the_connection_at_its_time() {
    let limits = Limits { setup_ms: 7000, verdict_ms: 4000, write_ms: 3000, idle_ms: 5000, ..Limits::default() };
    let since = |start: Instant| start.elapsed().as_millis();

    let bench = Bench::new(limits.clone());
    let start = Instant::now();
    let (mut publisher, task) = bench.pipe(4096);
    publisher.connect("live").await;
    task.await.unwrap();
    assert_eq!(since(start), 7000);
    bench.assert_ended(Cause::Deadline);

    let mut bench = Bench::new(limits.clone());
    let start = Instant::now();
    let (mut publisher, task) = bench.pipe(4096);
    let request = ask(&mut bench, &mut publisher, "anna").await;
    assert_refused(&mut publisher, Refusal::REJECTED, "too busy").await;
    assert_eq!(since(start), 4000);
    assert!(request.verdict.is_closed(), "the worker can see that nobody waits");
    drop(publisher);
    task.await.unwrap();
    bench.assert_ended(Cause::Worker);

    // S0 to S2 do not fit the pipe, and nobody reads them.
    let bench = Bench::new(limits.clone());
    let start = Instant::now();
    let (mut publisher, task) = bench.pipe(2000);
    publisher.send(&crate::raw_rtmp::hello()).await;
    task.await.unwrap();
    assert_eq!(since(start), 3000);
    bench.assert_ended(Cause::Deadline);

    // Whoever does not close after our last word is not waited for.
    let mut bench = Bench::new(limits);
    let (mut publisher, _packets, task) = bench.piped("anna").await;
    let start = Instant::now();
    let bytes = publisher.to.goodbye("anna");
    publisher.send(&bytes).await;
    task.await.unwrap();
    assert_eq!(since(start), 2000);
    bench.assert_ended(Cause::Finished);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_may_pause_but_not_fall_silent() {
    let mut bench = Bench::new(Limits::default());
    let (mut publisher, packets, task) = bench.piped("anna").await;
    for i in 0..3 {
        tokio::time::sleep(Duration::from_millis(9_900)).await;
        publisher.message(0, 6, 9_900 * i, VIDEO, &video(10, true)).await;
    }
    let start = Instant::now();
    // Bytes that are no media do not keep a place.
    for _ in 0..9 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        publisher.message(0, 2, 0, crate::raw_rtmp::WINDOW_ACK_SIZE, &[0, 1, 0, 0]).await;
    }
    task.await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(10));
    bench.assert_ended(Cause::Deadline);
    assert_eq!(tracks(&all(packets).await).0.len(), 3);
}

/// A worker that takes nothing stops the reading; what is in flight stays within the queue's bytes, one message and one read.
#[tokio::test(start_paused = true)]
async fn a_slow_worker_slows_the_publisher_down_and_the_idle_deadline_does_not_count_that() {
    const MESSAGE: usize = 20_000;
    const PIPE: usize = 64 << 10;
    let limits = Limits { queued_bytes: 1 << 20, message_bytes: 1 << 20, ..Limits::default() };
    let mut bench = Bench::new(limits);
    let (mut publisher, mut packets, task) = bench.piped("anna").await;
    let before = bench.stats.bytes_in();
    let sending = tokio::spawn(async move {
        for i in 0..500 {
            publisher.message(0, 6, 40 * i, VIDEO, &video(MESSAGE, true)).await;
        }
        let bytes = publisher.to.goodbye("anna");
        publisher.send(&bytes).await;
        publisher
    });
    // Passes only when everybody waits for somebody else.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let in_flight = bench.stats.bytes_in() - before;
    let bound = (1 << 20) + MESSAGE as u64 + (16 << 10);
    assert!(in_flight <= bound && in_flight > 1_000_000, "{in_flight} of at most {bound} bytes");
    assert!(!sending.is_finished() && PIPE < 500 * MESSAGE);
    assert_eq!(bench.stats.publishing(), 1, "still connected");

    let mut got = Vec::new();
    while let Some(packet) = packets.recv().await {
        got.push(packet);
    }
    assert_eq!(tracks(&got).0, (0..500).map(|i| (40 * i, MESSAGE)).collect::<Vec<_>>());
    assert_eq!(got.last(), Some(&Packet::Unpublish));
    drop(sending.await.unwrap());
    task.await.unwrap();
    bench.assert_ended(Cause::Finished);
}

#[tokio::test(start_paused = true)]
async fn connections_over_a_limit_are_closed_at_once_and_places_come_back() {
    for (limits, cause) in [
        (Limits { connections: 1, ..Limits::default() }, Cause::Full),
        (Limits { connections_per_address: 1, ..Limits::default() }, Cause::AddressFull),
    ] {
        let mut bench = Bench::new(limits);
        let (first, _packets, task) = bench.piped("anna").await;
        let (mut second, refused) = bench.pipe(4096);
        second.until_closed().await.unwrap();
        assert!(second.heard.is_empty());
        refused.await.unwrap();
        assert_eq!((bench.stats.ended(cause), bench.stats.publishing()), (1, 1));
        drop(first);
        task.await.unwrap();
        bench.piped("anna").await;
    }
}
