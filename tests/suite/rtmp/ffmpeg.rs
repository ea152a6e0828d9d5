//! A real encoder's traffic: Debian's ffmpeg pushes a file, and the packets must be the file's.

use std::path::Path;
use std::process::{Command, Output};

use weir::ingest::rtmp::{Cause, Limits};
use weir::ingest::{Packet, Refusal, Verdict};

use super::{Bench, all, guarded};

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{program} is needed for this test (Debian package ffmpeg): {e}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A moving picture and a tone.
const LIVELY: [&str; 2] = ["testsrc2=size=320x180:rate=30", "sine=frequency=440:sample_rate=48000"];

/// Black and silence: messages of equal length, whose headers ffmpeg leaves out (chunks of type 3 that begin a message).
const STILL: [&str; 2] = ["color=black:size=320x180:rate=30", "anullsrc=r=48000:cl=stereo"];

/// Three seconds of H.264 with B-frames and AAC, as FLV.
fn make_clip(path: &Path, [video, audio]: [&str; 2]) {
    let done = run(
        "ffmpeg",
        &[
            "-v",
            "error",
            "-y",
            "-f",
            "lavfi",
            "-i",
            video,
            "-f",
            "lavfi",
            "-i",
            audio,
            "-t",
            "3",
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-threads",
            "1",
            "-bf",
            "3",
            "-g",
            "60",
            "-pix_fmt",
            "yuv420p",
            "-c:a",
            "aac",
            path.to_str().unwrap(),
        ],
    );
    assert!(done.status.success(), "{}", text(&done.stderr));
}

/// A packet: video or audio, decode and presentation time in milliseconds, length, key frame.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    video: bool,
    dts: i64,
    pts: i64,
    bytes: usize,
    key: bool,
}

fn rows_of_file(path: &Path) -> Vec<Row> {
    let entries = "packet=codec_type,dts,pts,size,flags";
    let probed = run(
        "ffprobe",
        &["-v", "error", "-show_entries", entries, "-of", "compact=nokey=0:print_section=0", path.to_str().unwrap()],
    );
    assert!(probed.status.success(), "{}", text(&probed.stderr));
    let row = |line: &str| {
        let field =
            |name: &str| line.split('|').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap().to_owned();
        let video = field("codec_type") == "video";
        Row {
            video,
            dts: field("dts").parse().unwrap(),
            pts: field("pts").parse().unwrap(),
            bytes: field("size").parse().unwrap(),
            key: video && field("flags").starts_with('K'),
        }
    };
    text(&probed.stdout).lines().map(row).collect()
}

fn rows_of_packets(packets: &[Packet]) -> Vec<Row> {
    let row = |packet: &Packet| match packet {
        Packet::Video { time, composition, key, data } => {
            let dts = i64::from(*time);
            Some(Row { video: true, dts, pts: dts + i64::from(*composition), bytes: data.len(), key: *key })
        }
        Packet::Audio { time, data } => {
            Some(Row { video: false, dts: i64::from(*time), pts: i64::from(*time), bytes: data.len(), key: false })
        }
        _ => None,
    };
    packets.iter().filter_map(row).collect()
}

/// Both sorted by time, with the first time taken off: ffmpeg may begin anywhere.
fn from_zero(mut rows: Vec<Row>) -> Vec<Row> {
    let first = rows.iter().map(|r| r.dts).min().unwrap_or_default();
    for row in &mut rows {
        row.dts -= first;
        row.pts -= first;
    }
    rows.sort();
    rows
}

/// Pushes without waiting for real time; the output is ffmpeg's when it has ended.
fn push(clip: &Path, to: &str) -> tokio::task::JoinHandle<Output> {
    let (clip, to) = (clip.to_owned(), to.to_owned());
    tokio::task::spawn_blocking(move || {
        run("ffmpeg", &["-v", "error", "-i", clip.to_str().unwrap(), "-c", "copy", "-f", "flv", &to])
    })
}

#[test]
fn what_ffmpeg_pushes_arrives_packet_by_packet() {
    arrives(LIVELY);
}

#[test]
fn black_and_silence_arrive_packet_by_packet() {
    arrives(STILL);
}

fn arrives(sources: [&str; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip.flv");
    make_clip(&clip, sources);
    guarded(async {
        let mut bench = Bench::new(Limits::default());
        let (address, serving) = bench.listen().await;
        let pushing = push(&clip, &format!("rtmp://{address}/live/anna?token=t1"));
        let packets = all(bench.accept().await).await;
        let pushed = pushing.await.unwrap();
        assert!(pushed.status.success() && pushed.stderr.is_empty(), "{}", text(&pushed.stderr));
        bench.shutdown.cancel();
        serving.await.unwrap();
        bench.assert_ended(Cause::Finished);

        let want = from_zero(rows_of_file(&clip));
        assert_eq!(want.iter().filter(|r| r.video).count(), 90);
        assert!(want.iter().any(|r| r.pts > r.dts + 33), "the clip has B-frames");
        assert_eq!(from_zero(rows_of_packets(&packets)), want);
        assert_eq!(packets.last(), Some(&Packet::Unpublish));
        let first = |wanted: fn(&Packet) -> bool| packets.iter().position(wanted).unwrap();
        assert!(first(|p| matches!(p, Packet::VideoConfig(..))) < first(|p| matches!(p, Packet::Video { .. })));
        assert!(first(|p| matches!(p, Packet::AudioConfig(_))) < first(|p| matches!(p, Packet::Audio { .. })));
        assert_eq!(first(|p| matches!(p, Packet::Metadata(m) if m.frame_rate_milli == Some(30_000))), 0);
    });
}

#[test]
fn ffmpeg_prints_why_it_was_refused() {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip.flv");
    make_clip(&clip, LIVELY);
    guarded(async {
        let mut bench = Bench::new(Limits::default());
        let (address, serving) = bench.listen().await;
        let pushing = push(&clip, &format!("rtmp://{address}/live/wrong"));
        let request = bench.requests.recv().await.unwrap();
        let reason = "unknown stream key: copy it again from your dashboard";
        request.verdict.send(Verdict::Refuse(Refusal { code: Refusal::BAD_NAME, reason: reason.to_owned() })).unwrap();
        let pushed = pushing.await.unwrap();
        assert!(!pushed.status.success());
        assert!(text(&pushed.stderr).contains(reason), "{}", text(&pushed.stderr));

        let pushed = push(&clip, &format!("rtmp://{address}/vod/anna")).await.unwrap();
        assert!(text(&pushed.stderr).contains("the server address must end in /live"), "{}", text(&pushed.stderr));
        bench.shutdown.cancel();
        serving.await.unwrap();
        bench.assert_ended(Cause::Refused);
    });
}
