//! Another implementation as a publisher: GStreamer's `rtmp2sink`.

use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

use weir::ingest::rtmp::{Cause, Limits};
use weir::ingest::{Packet, Refusal, Verdict};

use super::{Bench, all, guarded, tracks};

/// Pushes two seconds of 25 pictures each, with AAC, as fast as it goes.
fn push(to: SocketAddr, key: &str) -> tokio::task::JoinHandle<Output> {
    let line = format!(
        "videotestsrc num-buffers=50 ! video/x-raw,width=160,height=120,framerate=25/1 ! x264enc speed-preset=ultrafast key-int-max=25 \
         ! h264parse ! flvmux name=mux streamable=true ! rtmp2sink location=rtmp://{to}/live/{key} \
         audiotestsrc num-buffers=94 samplesperbuffer=1024 ! audio/x-raw,rate=48000,channels=2 ! avenc_aac ! aacparse ! mux."
    );
    tokio::task::spawn_blocking(move || {
        Command::new("gst-launch-1.0")
            .arg("-q")
            .args(line.split_whitespace())
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|e| panic!("gst-launch-1.0 is needed for this test (Debian package gstreamer1.0-tools): {e}"))
    })
}

#[test]
fn what_rtmp2sink_pushes_arrives() {
    guarded(async {
        let mut bench = Bench::new(Limits::default());
        let (address, serving) = bench.listen().await;
        let pushing = push(address, "anna");
        let packets = all(bench.accept().await).await;
        let pushed = pushing.await.unwrap();
        assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
        bench.shutdown.cancel();
        serving.await.unwrap();
        bench.assert_ended(Cause::Finished);
        let (video, audio) = tracks(&packets);
        let times: Vec<u32> = video.iter().map(|(time, _)| time - video[0].0).collect();
        assert_eq!(times, (0..50).map(|i| 40 * i).collect::<Vec<u32>>());
        // The encoder's first frame holds no sound of ours and may be left out by the muxer.
        assert!((93..=96).contains(&audio.len()), "{}", audio.len());
        assert_eq!(packets.last(), Some(&Packet::Unpublish));
    });
}

#[test]
fn rtmp2sink_prints_why_it_was_refused() {
    guarded(async {
        let mut bench = Bench::new(Limits::default());
        let (address, _serving) = bench.listen().await;
        let pushing = push(address, "wrong");
        let request = bench.requests.recv().await.unwrap();
        let reason = "unknown stream key";
        request.verdict.send(Verdict::Refuse(Refusal { code: Refusal::BAD_NAME, reason: reason.to_owned() })).unwrap();
        let pushed = pushing.await.unwrap();
        assert!(!pushed.status.success());
        let said = String::from_utf8_lossy(&pushed.stderr).into_owned() + &String::from_utf8_lossy(&pushed.stdout);
        assert!(said.contains(reason), "{said}");
    });
}
