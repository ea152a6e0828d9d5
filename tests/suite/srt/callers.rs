//! Every kind of caller on one port: stream ids, passphrases and their lengths, programs, and what is refused.

use std::process::{Command, Stdio};

use weir::ingest::srt::Cause;

use super::{Bench, Book, Caller, guarded, ts};
use crate::harness::{beside_others, tools};

const SECRET: &str = "correct-horse-battery";

/// ffmpeg's pipe into srt-live-transmit, which takes options that ffmpeg does not have, and does not end with the pipe: it is told to, after 8 s of a clip of 6 s.
fn transmit(file: &str, url: &str) -> Caller {
    let script = format!(
        "ffmpeg -nostdin -v quiet -re -i '{file}' -c copy -f mpegts - | srt-live-transmit -q -timeout:8 -chunk:1316 file://con '{url}'"
    );
    Caller::spawn(Command::new("sh").args(["-c", &script]).stdin(Stdio::null()))
}

#[test]
fn callers_of_all_kinds_share_a_port() {
    let file = ts();
    let _machine = beside_others();
    guarded(async {
        let known = Book::default()
            .with("plain", None)
            .with("standard", None)
            .with("short", Some(SECRET))
            .with("middle", Some(SECRET))
            .with("long", Some(SECRET))
            .with("refresh", Some(SECRET))
            .with("gst", None);
        let mut bench = Bench::new(known).await;
        let (to, file_text) = (bench.address, tools::text(&file));
        let ffmpeg = |options: &[&str]| Caller::ffmpeg(&file, to, options);
        let standard = |key: &str| format!("#!::r=live/{key},m=publish");
        let callers = [
            ffmpeg(&["-srt_streamid", "plain"]),
            ffmpeg(&["-srt_streamid", &standard("standard")]),
            ffmpeg(&["-srt_streamid", &standard("short"), "-passphrase", SECRET, "-pbkeylen", "16"]),
            ffmpeg(&["-srt_streamid", "live/middle", "-passphrase", SECRET, "-pbkeylen", "24"]),
            ffmpeg(&["-srt_streamid", &standard("long"), "-passphrase", SECRET, "-pbkeylen", "32", "-latency", "400000"]),
            // A new key every 300 packets: several in the clip's 1,500.
            transmit(
                file_text,
                &format!("srt://{to}?streamid=refresh&passphrase={SECRET}&pbkeylen=32&kmrefreshrate=300&kmpreannounce=100"),
            ),
            Caller::spawn(
                Command::new("gst-launch-1.0")
                    .args([
                        "-q",
                        "filesrc",
                        &format!("location={file_text}"),
                        "!",
                        "tsparse",
                        "set-timestamps=true",
                        "alignment=7",
                    ])
                    .args([
                        "!",
                        "srtsink",
                        &format!("uri=srt://{to}?mode=caller"),
                        "streamid=gst",
                        "wait-for-connection=true",
                        "sync=true",
                    ]),
            ),
        ];
        let refused = [
            ("an unknown key", ffmpeg(&["-srt_streamid", "nobody"])),
            ("a wrong passphrase", ffmpeg(&["-srt_streamid", "short", "-passphrase", "battery-horse-correct"])),
            ("a missing one", ffmpeg(&["-srt_streamid", "long"])),
            ("an unexpected one", ffmpeg(&["-srt_streamid", "plain", "-passphrase", SECRET])),
            ("another way", ffmpeg(&["-srt_streamid", "#!::r=live/plain,m=request"])),
            ("no key", ffmpeg(&["-srt_streamid", "#!::m=publish"])),
            ("another application", ffmpeg(&["-srt_streamid", "vod/plain"])),
            ("a key that is looked up", ffmpeg(&["-srt_streamid", "slow"])),
        ];
        let mut came = Vec::new();
        for _ in 0..callers.len() {
            came.push(tokio::spawn(bench.accept().await.all()));
        }
        for (what, caller) in refused {
            assert!(!caller.end().await.success(), "{what} was taken");
        }
        let mut keys = Vec::new();
        for publication in came {
            let came = publication.await.unwrap();
            println!("{came:?}");
            came.is_whole();
            keys.push((came.key, came.numbers.key_length, came.numbers.latency_ms));
        }
        for caller in callers {
            assert!(caller.end().await.success());
        }
        keys.sort();
        let expected = [
            ("gst", 0, 250),
            ("long", 32, 400),
            ("middle", 24, 250),
            ("plain", 0, 250),
            ("refresh", 32, 250),
            ("short", 16, 250),
            ("standard", 0, 250),
        ];
        let expected = expected.map(|(key, length, latency)| (key.to_owned(), length, latency));
        assert_eq!(keys, expected);
        let ended = bench.ended();
        let expected =
            [(Cause::Finished, 7), (Cause::Refused, 1), (Cause::Busy, 1), (Cause::StreamId, 3), (Cause::Passphrase, 3)];
        assert_eq!(ended, expected);
        bench.stop().await;
    });
}

/// The worker's word: one that it refuses, and one that it ends.
#[test]
fn the_worker_refuses_and_ends_callers() {
    use tokio::sync::mpsc;
    use weir::ingest::{Refusal, Verdict};
    let file = ts();
    let _machine = beside_others();
    guarded(async {
        let mut bench = Bench::new(Book::default().with("a", None).with("b", None)).await;
        let refused = Caller::ffmpeg(&file, bench.address, &["-srt_streamid", "a"]);
        let request = bench.requests.recv().await.unwrap();
        assert_eq!((request.protocol.as_str(), request.app.as_str()), ("srt", "live"));
        request.verdict.send(Verdict::Refuse(Refusal { code: Refusal::REJECTED, reason: "full".into() })).unwrap();
        assert!(!refused.end().await.success());
        let ended = Caller::ffmpeg(&file, bench.address, &["-srt_streamid", "b?token=t"]);
        let request = bench.requests.recv().await.unwrap();
        assert_eq!((request.key.expose(), request.token.as_ref().map(|t| t.expose())), ("b", Some("t")));
        let (tx, mut packets) = mpsc::channel(1024);
        request.verdict.send(Verdict::Accept(tx, Default::default())).unwrap();
        packets.recv().await.unwrap();
        drop(packets);
        assert!(!ended.end().await.success());
        super::eventually("both ends", || (bench.stats.connected() == 0).then_some(())).await;
        assert_eq!(bench.ended(), [(Cause::Refused, 1), (Cause::Worker, 1)]);
        bench.stop().await;
    });
}

/// A worker that takes no packets of one stream: that one is held up, its neighbour is not, and memory stays bounded.
#[test]
fn a_stream_that_nobody_takes_holds_up_no_other() {
    let file = ts();
    let _machine = beside_others();
    guarded(async {
        // 256 KiB wait here, 1 MiB in the caller's window, the rest in libsrt.
        let limits = weir::ingest::rtmp::Limits { message_bytes: 256 << 10, queued_bytes: 256 << 10, ..Default::default() };
        let mut bench = Bench::with(Book::default().with("stuck", None).with("free", None), Default::default(), limits).await;
        let stuck_caller = Caller::ffmpeg(&file, bench.address, &["-srt_streamid", "stuck"]);
        let mut stuck = bench.accept().await;
        stuck.picture().await;
        let free_caller = Caller::ffmpeg(&file, bench.address, &["-srt_streamid", "free"]);
        let free = bench.accept().await;
        let line = std::sync::Arc::clone(&free.line);
        free.all().await.is_whole();
        assert!(free_caller.end().await.success());
        let (held, passed) = (stuck.line.received(), line.received());
        assert!(held < passed / 2, "{held} bytes were read of the one, {passed} of the other");
        drop((stuck, stuck_caller));
        bench.stop().await;
    });
}
