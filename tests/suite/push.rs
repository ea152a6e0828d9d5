//! `weir push` against an RTMP server that keeps everything, and the test picture itself.

use std::path::PathBuf;

use rtmp_runtime::server::{ServerConfig, ServerEvent, ServerSession};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use weir::push::{self, Error, Options, Target};

fn codec() -> PathBuf {
    env!("CARGO_BIN_EXE_weir-codec").into()
}

/// What one publisher sent.
#[derive(Default)]
struct Received {
    flv: Vec<u8>,
    key: String,
    said_goodbye: bool,
}

/// Takes one publisher, whose key must be `key`, to the end of its connection.
async fn serve(listener: TcpListener) -> Received {
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut session = ServerSession::new(ServerConfig::default().with_expected_stream_key(Some("key".into())));
    let mut received = Received::default();
    let mut chunk = vec![0; 65536];
    loop {
        let count = socket.read(&mut chunk).await.unwrap();
        if count == 0 {
            return received;
        }
        let (reply, events) = session.handle_data(&chunk[..count]).unwrap();
        socket.write_all(&reply).await.unwrap();
        for event in events {
            match event {
                ServerEvent::Media { flv } => received.flv.extend(flv),
                ServerEvent::Publish { stream_key, .. } => received.key = stream_key,
                ServerEvent::Eof => received.said_goodbye = true,
                _ => {}
            }
        }
    }
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn options(port: u16, key: &str) -> Options {
    let target = Target::parse(&format!("rtmp://127.0.0.1:{port}/live/{key}")).unwrap();
    Options { width: 320, height: 180, fps: 30, gop: 1.0, kbps: 400, seconds: Some(3), ..Options::new(target, codec()) }
}

/// Runs ffmpeg on the clip and returns what it wrote.
fn decode(path: &std::path::Path, arguments: &[&str]) -> Vec<u8> {
    let mut command = std::process::Command::new("ffmpeg");
    let out = command.args(["-hide_banner", "-nostdin", "-v", "error", "-i"]).arg(path).args(arguments).output().unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn the_picture_arrives_whole_and_in_step_with_its_sound() {
    let (listener, port) = listen().await;
    let server = tokio::spawn(serve(listener));
    let begun = std::time::Instant::now();
    push::run(options(port, "key")).await.unwrap();
    assert!(begun.elapsed().as_secs_f64() >= 2.9, "it is paced as a live stream");
    let received = server.await.unwrap();
    assert_eq!(received.key, "key");
    assert!(received.said_goodbye);
    assert!(received.flv.windows(10).any(|w| w == b"onMetaData"));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("push.flv");
    std::fs::write(&path, &received.flv).unwrap();
    let luma = decode(&path, &["-map", "0:v", "-pix_fmt", "gray", "-f", "rawvideo", "-"]);
    let pictures: Vec<_> = luma.chunks(320 * 180).collect();
    // A picture is left out only when the machine is a whole second late.
    assert_eq!(pictures.len(), 90);
    let mut flashes = Vec::new();
    for (index, picture) in pictures.iter().enumerate() {
        let number = (0..16).fold(0, |n, bit| n | usize::from(picture[5 * 320 + bit * 10 + 5] > 128) << bit);
        assert_eq!(number, index, "the frame counter can be read");
        let mean = picture.iter().map(|&s| usize::from(s)).sum::<usize>() / picture.len();
        if mean > 180 {
            flashes.push(index);
        }
    }
    assert_eq!(flashes, [0, 1, 2, 30, 31, 32, 60, 61, 62]);

    let sound = decode(&path, &["-map", "0:a", "-ac", "1", "-f", "s16le", "-"]);
    let loud: Vec<_> = sound.chunks_exact(2).map(|s| i16::from_le_bytes([s[0], s[1]]).unsigned_abs() > 2000).collect();
    for second in [1, 2] {
        let at = second * 48_000;
        let onset = (at - 4_800..at + 4_800).find(|&n| loud[n]).expect("a beep each second");
        // the encoder's own smear is below 5 ms
        assert!(onset.abs_diff(at) < 240, "beep {second} begins {} samples off", onset as i64 - at as i64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_is_told_in_the_servers_words() {
    let (listener, port) = listen().await;
    let server = tokio::spawn(serve(listener));
    let error = push::run(options(port, "wrong")).await.unwrap_err();
    assert!(matches!(&error, Error::Refused { code, .. } if code.starts_with("NetStream.Publish")), "{error}");
    assert!(!error.to_string().contains("wrong"));
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_an_error_with_the_address() {
    let (listener, port) = listen().await;
    drop(listener);
    let error = push::run(options(port, "key")).await.unwrap_err();
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
}
