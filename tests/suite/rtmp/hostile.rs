//! What no encoder sends: every connection ends with a cause, within its bounds, and the server goes on.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weir::ingest::rtmp::{Cause, Limits};

use super::{Bench, all, guarded};
use crate::raw_rtmp::{
    AUDIO_CONFIG, COMMAND, Chunker, DATA, NULL, Publisher, VIDEO, VIDEO_CONFIG, audio, hello, number, session, string, video,
};

/// Sends bytes that end the connection, over a pipe, and waits for that end.
async fn ends(bytes: &[u8], cause: Cause) -> Bench {
    let bench = Bench::new(Limits::default());
    let (mut publisher, task) = bench.pipe(1 << 20);
    // The server may be gone before all is written.
    let _ = publisher.io.write_all(bytes).await;
    if cause == Cause::Left || cause == Cause::Cut {
        drop(publisher);
    }
    task.await.unwrap();
    bench.assert_ended(cause);
    bench
}

/// Handshake and connect, then this.
fn connected(size: usize, then: impl FnOnce(&Chunker) -> Vec<u8>) -> Vec<u8> {
    let mut to = Chunker::default();
    let mut bytes = [hello(), vec![0; 1536]].concat();
    bytes.extend(to.set_size(size));
    bytes.extend(to.connect("live"));
    bytes.extend(then(&to));
    bytes
}

#[tokio::test(start_paused = true)]
async fn half_a_handshake_and_close_is_no_more_than_that() {
    ends(b"", Cause::Left).await;
    ends(b"\x03", Cause::Left).await;
    ends(&hello()[..700], Cause::Left).await;
    ends(&[hello(), vec![0; 700]].concat(), Cause::Left).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_rtmp_is_cut() {
    ends(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Cause::Protocol).await;
    ends(&[hello(), vec![0; 1536], vec![0xff; 3000]].concat(), Cause::Protocol).await;
}

#[tokio::test(start_paused = true)]
async fn a_stranger_may_send_64_kib() {
    // One video message that never ends; it is not media before `publish`, and its bytes count all the same.
    let endless = connected(65_536, |_| [Chunker::header(0, 6, 0, 1 << 20, VIDEO), vec![0; 200_000]].concat());
    let bench = ends(&endless, Cause::Limit).await;
    assert_eq!(bench.stats.bytes_in(), 64 << 10);
}

#[tokio::test(start_paused = true)]
async fn deep_or_endless_amf_is_an_error_not_a_stack_overflow() {
    let deep = [string("connect"), number(1.0), vec![3], b"\x00\x01a\x03".repeat(10_000)].concat();
    ends(&connected(65_536, |to| to.command(3, &[&deep])), Cause::Protocol).await;
    let arrays = [string("xyz"), number(1.0), b"\x0a\x00\x00\x00\x01".repeat(10_000)].concat();
    ends(&connected(65_536, |to| to.command(3, &[&arrays])), Cause::Protocol).await;
    let endless = [string("xyz"), number(1.0), b"\x0a\xff\xff\xff\xff".to_vec()].concat();
    ends(&connected(65_536, |to| to.command(3, &[&endless])), Cause::Protocol).await;
}

#[tokio::test(start_paused = true)]
async fn commands_out_of_order_or_of_the_wrong_type_are_errors() {
    let publish = |to: &Chunker, name: &[u8]| to.command(8, &[&string("publish"), &number(5.0), NULL, name]);
    ends(&connected(4096, |to| publish(to, &string("anna"))), Cause::Protocol).await;
    let number_as_name = connected(4096, |to| {
        [to.command(3, &[&string("createStream"), &number(4.0), NULL]), publish(to, &number(7.0))].concat()
    });
    ends(&number_as_name, Cause::Protocol).await;
    ends(&connected(4096, |to| to.goodbye("anna")), Cause::Left).await;
}

/// An accepted publisher sends messages that must end his connection for this cause.
async fn publishes(messages: &[(u8, Vec<u8>)], cause: Cause) {
    let mut bench = Bench::new(Limits::default());
    let (mut publisher, packets, task) = bench.piped("anna").await;
    publisher.set_chunk_size(65_536).await;
    for (kind, body) in messages {
        publisher.message(0, if *kind == COMMAND { 3 } else { 6 }, 40, *kind, body).await;
    }
    let _ = publisher.until_closed().await;
    drop(publisher);
    task.await.unwrap();
    bench.assert_ended(cause);
    assert!(all(packets).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn media_messages_that_lie_are_errors() {
    for body in [
        &b"\x17\x01\x00"[..],    // no room for the composition time
        b"\x17",                 // nor for the packet type
        b"\x17\x09\x00\x00\x00", // no such packet type
        b"\x97\xff\xff\xffavc1", // 65536 bytes of ModEx that are not there
        b"\x91avc",              // three letters of four
        b"\x97\x00\x00\x07\x00\x00\x07\x00\x00\x07\x00\x00\x07\x00\x00\x07\x00\x00\x07\x00\x00\x07\x00\x00\x07\x00\x00\x07",
    ] {
        publishes(&[(VIDEO, body.to_vec())], Cause::Protocol).await;
    }
    publishes(&[(VIDEO, [&VIDEO_CONFIG[..5], &[1; 5000]].concat())], Cause::Protocol).await;
}

#[tokio::test(start_paused = true)]
async fn commands_of_a_publisher_are_no_more_trusted_than_a_strangers() {
    let deep = [string("xyz"), number(1.0), vec![3], b"\x00\x01a\x03".repeat(20_000)].concat();
    publishes(&[(COMMAND, deep)], Cause::Protocol).await;
    publishes(&[(COMMAND, b"\x02\xff\xff".to_vec())], Cause::Protocol).await;
}

#[tokio::test(start_paused = true)]
async fn bad_metadata_is_only_skipped() {
    let mut bench = Bench::new(Limits::default());
    let (mut publisher, packets, task) = bench.piped("anna").await;
    let deep = [string("onMetaData"), vec![3], b"\x00\x01a\x03".repeat(10_000)].concat();
    for body in [&b"\x02\xff\xff"[..], b"", &deep, &[5; 100_000]] {
        publisher.message(0, 6, 0, DATA, body).await;
    }
    publisher.message(0, 6, 0, VIDEO, &video(9, true)).await;
    drop(publisher);
    task.await.unwrap();
    assert_eq!(all(packets).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn messages_over_the_limit_and_many_unfinished_ones_are_cut_before_they_are_stored() {
    // A single one over 8 MiB by its header; then many small enough ones that together would be 200 MiB.
    for (length, count) in [(0x9f_ff00, 1), (1 << 20, 200)] {
        let mut bench = Bench::new(Limits::default());
        let (mut publisher, _packets, task) = bench.piped("anna").await;
        publisher.set_chunk_size(1024).await;
        let before = bench.stats.bytes_in();
        for csid in 5..5 + count {
            let chunk = [Chunker::header(0, csid, 0, length, VIDEO), vec![0; 1024]].concat();
            if publisher.io.write_all(&chunk).await.is_err() {
                break;
            }
        }
        let _ = publisher.until_closed().await;
        drop(publisher);
        task.await.unwrap();
        bench.assert_ended(Cause::Protocol);
        assert!(bench.stats.bytes_in() - before < 64 << 10);
    }
    let limits = Limits { message_bytes: 65_536, ..Limits::default() };
    let mut bench = Bench::new(limits);
    let (mut publisher, packets, task) = bench.piped("anna").await;
    publisher.message(0, 6, 0, VIDEO, &video(65_531, true)).await;
    publisher.message(0, 6, 0, VIDEO, &video(65_532, true)).await;
    publisher.until_closed().await.unwrap();
    assert!(publisher.has_heard("message of 65537 bytes"));
    drop(publisher);
    task.await.unwrap();
    bench.assert_ended(Cause::Limit);
    assert_eq!(all(packets).await.len(), 1);
}

#[test]
fn a_hostile_connection_leaves_the_listener_alone() {
    guarded(async {
        let mut bench = Bench::new(Limits::default());
        let (address, serving) = bench.listen().await;
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x03abc"] {
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.write_all(bytes).await.unwrap();
            socket.shutdown().await.unwrap();
            let _ = socket.read_to_end(&mut Vec::new()).await;
        }
        let (publisher, packets) = bench.publisher(address, "anna").await;
        drop(publisher);
        assert!(all(packets).await.is_empty());
        bench.shutdown.cancel();
        serving.await.unwrap();
        assert_eq!(bench.stats.connections(), 3);
        assert_eq!(
            (bench.stats.ended(Cause::Protocol), bench.stats.ended(Cause::Left), bench.stats.ended(Cause::Cut)),
            (1, 1, 1)
        );
    });
}

/// A lawful session with some bytes changed: whatever comes of it, the connection's task ends by itself and does not panic.
#[tokio::test(start_paused = true)]
async fn mutated_sessions_never_panic_and_always_end() {
    let media = [VIDEO_CONFIG.to_vec(), AUDIO_CONFIG.to_vec(), video(700, true), audio(90), video(300, false)];
    let mut lawful = session(200, "key", &media);
    lawful.extend(Chunker { size: 200 }.goodbye("key"));
    let mut random = Random(21);
    for round in 0..1000 {
        let mut bytes = lawful.clone();
        // The handshake's 3073 bytes mean little; most changes belong behind it.
        let from = if round % 10 == 0 { 0 } else { 3073 };
        for _ in 0..=random.below(6) {
            let at = from + random.below(bytes.len() - from);
            bytes[at] = random.byte();
        }
        let mut bench = Bench::new(Limits::default());
        let (Publisher { mut io, .. }, mut task) = bench.pipe(64 << 10);
        io.write_all(&bytes).await.unwrap();
        if round % 2 == 0 {
            io.shutdown().await.unwrap();
        }
        let ended = loop {
            tokio::select! {
                ended = &mut task => break ended,
                Some(request) = bench.requests.recv() => {
                    let (tx, rx) = tokio::sync::mpsc::channel(4);
                    let _ = request.verdict.send(weir::ingest::Verdict::Accept(tx, Default::default()));
                    tokio::spawn(all(rx));
                }
            }
        };
        ended.unwrap_or_else(|e| panic!("round {round}: {e}"));
        assert_eq!(Cause::ALL.into_iter().map(|c| bench.stats.ended(c)).sum::<u64>(), 1);
    }
}

/// xorshift64: the same sessions in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }
}
