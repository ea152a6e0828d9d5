//! The whole worker with SRT: from a caller to a ladder, and workers on which SRT does not work.

use std::process::{Command, Stdio};
use std::sync::Arc;

use weir::ingest::auth;
use weir::secret::Secret;

use super::{CLIP, Caller, ts};
use crate::harness::track::Track;
use crate::harness::watch::Watch;
use crate::harness::worker::{FREE_PORTS, SMALL_LADDER, Worker};
use crate::harness::{alone, beside_others, tools, until};

const PASSPHRASE: &str = "correct horse battery";

#[test]
fn a_caller_becomes_a_ladder() {
    let file = ts();
    let _machine = alone();
    let keys = tempfile::NamedTempFile::new().unwrap();
    let entry = auth::entry(&"anna".parse().unwrap(), &Secret::new("key of anna"));
    std::fs::write(&keys, format!("{entry}passphrase = '{PASSPHRASE}'\nlatency_ms = 300\n")).unwrap();
    let keys = keys.path().to_str().unwrap();
    let flags = ["--keys", keys, "--srt", "127.0.0.1:0", "--ladder", SMALL_LADDER, "--set", "reconnect_grace=1"];
    let worker = Arc::new(Worker::start_with(&flags, &[]));
    let to = worker.srt.expect("a listener");
    let watch = Watch::start(&worker, "anna");
    let mut caller = Caller::ffmpeg(
        &file,
        to,
        &["-srt_streamid", "#!::r=live/key of anna,m=publish", "-passphrase", PASSPHRASE, "-pbkeylen", "32"],
    );
    let measured = until("SRT's numbers", || {
        let stream = worker.stream("anna")?;
        stream["input"]["srt"]["packets"].as_u64().filter(|n| *n > 500).map(|_| stream)
    });
    let metrics = worker.get("metrics").text();
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", worker.pid())).unwrap();
    assert!(!maps.contains("libsrt"), "the supervisor maps libsrt");
    assert!(until("the caller's end", || caller.0.try_wait().unwrap()).success());
    let seen = watch.finish();
    let worker = Arc::into_inner(worker).expect("the watch is over");
    let log = worker.log().join("\n");
    worker.stop();

    let srt = &measured["input"]["srt"];
    assert_eq!(
        (srt["latency_ms"].as_u64(), srt["ts_holes"].as_u64(), srt["encryption"].as_str()),
        (Some(300), Some(0), Some("AES-256")),
        "{srt}"
    );
    let findings = measured["health"]["findings"].as_array().unwrap();
    assert!(findings.iter().any(|f| f["code"] == "line_loss" && f["severity"] == "ok"), "{findings:?}");
    for name in [
        "weir_srt_connections_open 1",
        "weir_srt_process_up 1",
        "weir_srt_packets_lost_total{stream=\"anna\"} 0",
        "weir_srt_latency_seconds{stream=\"anna\"} 0.3",
    ] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }
    assert!(log.contains("srt: publisher finished") && !log.contains("ERROR"), "{log}");
    for text in [&log, &metrics, &measured.to_string()] {
        assert!(!text.contains("key of anna") && !text.contains(PASSPHRASE), "a secret in {text}");
    }

    assert_eq!(seen.rungs(), ["src", "240p"]);
    let rungs: Vec<Track> = seen.rungs().iter().map(|name| Track::of(&seen, name)).collect();
    let audio = Track::of(&seen, "audio");
    for track in rungs.iter().chain([&audio]) {
        track.check();
    }
    // 90 kHz from end to end: the pictures' distance is a thirtieth of a second to the tick.
    let times = rungs[0].times();
    assert_eq!(rungs[1].times(), times);
    let steps: Vec<i64> = times.windows(2).map(|w| w[1] - w[0]).collect();
    let (last, others) = steps.split_last().unwrap();
    assert!(others.iter().all(|step| *step == 3000), "{steps:?}");
    // The caller closed, and what was in its latency window is lost: of the last pictures, which are not sent in the order in which they are shown, one or two.
    assert!([3000, 6000, 9000].contains(last), "{steps:?}");
    assert!(times.len() > CLIP.frames() - 20, "{}", times.len());
}

#[test]
fn a_caller_with_hevc_becomes_a_ladder() {
    let (clip, folder) = (ts(), tempfile::tempdir().unwrap());
    let file = folder.path().join("hevc.ts");
    let coded =
        "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=60:min-keyint=60:scenecut=0:open-gop=0:bframes=2";
    let arguments = ["-i", tools::text(&clip)].into_iter().chain(coded.split(' ')).chain(["-c:a", "copy", "-f", "mpegts"]);
    tools::ffmpeg(arguments.chain([tools::text(&file)]));
    let _machine = alone();
    let passed = r#"passthrough_codecs=["h264", "hevc"]"#;
    let flags = ["--open", "--srt", "127.0.0.1:0", "--ladder", SMALL_LADDER, "--set", "reconnect_grace=1", "--set", passed];
    let worker = Arc::new(Worker::start_with(&flags, &[]));
    let watch = Watch::start(&worker, "anna");
    let mut caller = Caller::ffmpeg(&file, worker.srt.expect("a listener"), &["-srt_streamid", "anna"]);
    assert!(until("the caller's end", || caller.0.try_wait().unwrap()).success());
    let seen = watch.finish();
    Arc::into_inner(worker).expect("the watch is over").stop();
    assert_eq!(seen.rungs(), ["src", "top", "240p"]);
    let rungs: Vec<Track> = seen.rungs().iter().map(|name| Track::of(&seen, name)).collect();
    for (rung, kind) in rungs.iter().zip(["hvc1", "avc1", "avc1"]) {
        rung.check();
        assert_eq!(
            (rung.init.kind.as_str(), rung.starts(), rung.times()),
            (kind, rungs[0].starts(), rungs[0].times()),
            "{}",
            rung.name
        );
    }
    let pictures = rungs[0].times().len();
    assert!(pictures > CLIP.frames() - 20, "{pictures}");
}

fn run(flags: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(["run", "--open", "--ladder", "none"]).args(FREE_PORTS);
    command.arg("--store").arg(format!("folder:{}", folder.path().display())).arg("--state-dir").arg(folder.path()).args(flags);
    let done = command.stdin(Stdio::null()).output().unwrap();
    (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
}

#[test]
fn a_listener_that_was_asked_for_must_work() {
    let (code, said) = run(&["--srt", "127.0.0.1:0", "--set", "srt_listener.program=/nowhere/weir-srt"]);
    assert!(code == Some(3) && said.contains("cannot start /nowhere/weir-srt"), "{code:?} {said}");
    // Starts, and says nothing on the link: as where the loader does not find libsrt.
    let (code, said) = run(&["--srt", "127.0.0.1:0", "--set", "srt_listener.program=/bin/false"]);
    assert!(code == Some(3) && said.contains("is libsrt1.5-gnutls installed?"), "{code:?} {said}");
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (code, said) = run(&["--srt", &taken.local_addr().unwrap().to_string()]);
    assert!(code == Some(3) && said.contains("SRT listener 127.0.0.1"), "{code:?} {said}");
    assert_eq!(run(&["--srt", "8890"]).0, Some(2));
}

#[test]
fn a_worker_without_libsrt_runs_without_srt() {
    let _machine = beside_others();
    // The default address, which another worker may have too: either way it is a warning.
    let worker = Worker::start_by_default(&["--open", "--ladder", "none", "--set", "srt_listener.program=/nowhere/weir-srt"]);
    worker.logged("there is no SRT listener");
    assert_eq!(worker.srt, None);
    assert_eq!(worker.get("readyz").status, 200);
    worker.stop();
}
