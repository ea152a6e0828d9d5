//! A real `weir-codec` at the other end of a socket pair.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use h264_reader::avcc::AvcDecoderConfigurationRecord;
use h264_reader::nal::sps::SeqParameterSet;
use weir::link::wire::{self, Encoder, FromCodec, Plan, ToCodec};
use weir::logic::ladder::Rung;
use weir::logic::model::FrameRate;

use super::clip::{Clip, ffmpeg};

/// No test of these sizes needs a third of it, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// A started process.
pub struct Codec {
    child: Child,
    socket: UnixStream,
    input: BytesMut,
}

/// What one rung gave.
#[derive(Debug, Default, Clone)]
pub struct RungOut {
    pub configs: Vec<Bytes>,
    /// `(pts, idr, data)`
    pub units: Vec<(i64, bool, Bytes)>,
}

impl RungOut {
    pub fn keys(&self) -> Vec<i64> {
        self.units.iter().filter(|u| u.1).map(|u| u.0).collect()
    }

    pub fn times(&self) -> Vec<i64> {
        let mut times: Vec<_> = self.units.iter().map(|u| u.0).collect();
        times.sort_unstable();
        times
    }

    pub fn sps(&self) -> SeqParameterSet {
        let record = AvcDecoderConfigurationRecord::try_from(&self.configs[0][..]).unwrap();
        record.create_context().unwrap().sps().next().unwrap().clone()
    }

    /// As an elementary stream (ITU-T H.264, annex B).
    pub fn annex_b(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |nal: &[u8]| {
            out.extend([0, 0, 0, 1]);
            out.extend(nal);
        };
        let sets = parameter_sets(&self.configs[0]);
        nals(&sets).for_each(&mut put);
        for (_, _, data) in &self.units {
            nals(data).for_each(&mut put);
        }
        out
    }

    /// Number of pictures that ffmpeg decodes; it must have nothing to complain about.
    pub fn decoded(&self) -> usize {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rung.h264");
        std::fs::write(&path, self.annex_b()).unwrap();
        let hashes = ffmpeg("warning", &["-fps_mode", "passthrough", "-f", "framemd5", "-"], Some(&path));
        String::from_utf8(hashes).unwrap().lines().filter(|l| !l.starts_with('#')).count()
    }
}

/// The parameter sets of an AVCDecoderConfigurationRecord, behind 4-byte lengths.
pub fn parameter_sets(record: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = &record[5..];
    for mask in [0x1f, 0xff] {
        let count = rest[0] & mask;
        rest = &rest[1..];
        for _ in 0..count {
            let (nal, tail) = rest[2..].split_at(usize::from(rest[0]) << 8 | usize::from(rest[1]));
            out.extend((nal.len() as u32).to_be_bytes());
            out.extend(nal);
            rest = tail;
        }
    }
    out
}

/// NAL units behind 4-byte lengths.
pub fn nals(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = data.split_first_chunk::<4>()?;
        let (nal, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        data = rest;
        Some(nal)
    })
}

/// Everything that came back.
#[derive(Debug, Default)]
pub struct Output {
    pub rungs: Vec<RungOut>,
    /// `(pts, JPEG)`
    pub thumbnails: Vec<(i64, Bytes)>,
    pub ended: bool,
    pub failed: Option<String>,
}

impl Codec {
    pub fn start() -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_weir-codec")))
    }

    /// By this command, which may have arguments and environment already.
    pub fn start_by(mut command: Command) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let child = command
            .args(["--parent", &std::process::id().to_string()])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        ours.set_read_timeout(Some(DEADLINE)).unwrap();
        ours.set_write_timeout(Some(DEADLINE)).unwrap();
        Self { child, socket: ours, input: BytesMut::new() }
    }

    /// The next message, `None` at the end of the link.
    pub fn receive(&mut self) -> Option<(FromCodec, Bytes)> {
        loop {
            if let Some(found) = wire::decode(&mut self.input).unwrap() {
                return Some(found);
            }
            let mut chunk = [0; 65536];
            match self.socket.read(&mut chunk) {
                Ok(0) => return None,
                Ok(n) => self.input.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return None,
                // With a time limit a signal ends the call: a child of another test's has ended (signal(7)).
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => panic!("the codec process said nothing for {DEADLINE:?}: {e}"),
            }
        }
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        // The process may be gone already, which is what some tests are about.
        let _ = self.socket.write_all(bytes);
    }

    /// The way in, for another thread.
    pub fn writer(&self) -> UnixStream {
        self.socket.try_clone().unwrap()
    }

    pub fn greet(&mut self) {
        let (hello, _) = self.receive().unwrap();
        assert!(matches!(hello, FromCodec::Hello { version: wire::VERSION, .. }), "{hello:?}");
        self.send_raw(&message(&ToCodec::Hello { version: wire::VERSION }, &[]));
    }

    /// Runs a clip through as stream 1 and collects everything until it has ended or failed.
    pub fn run(&mut self, plan: &Plan, clip: &Clip, cuts: &[i64]) -> Output {
        self.send_raw(&message(&ToCodec::Start { stream: 1, plan: Box::new(plan.clone()) }, &[]));
        let mut writer = self.socket.try_clone().unwrap();
        let (units, cuts) = (clip.units.clone(), cuts.to_vec());
        let feeding = std::thread::spawn(move || {
            for u in units {
                let cut = cuts.contains(&u.pts);
                let video = ToCodec::Video { stream: 1, pts: u.pts, dts: u.dts, idr: u.idr, cut };
                if writer.write_all(&message(&video, &u.data)).is_err() {
                    return;
                }
            }
            let _ = writer.write_all(&message(&ToCodec::End { stream: 1 }, &[]));
        });
        let mut out = Output { rungs: vec![RungOut::default(); plan.rungs.len()], ..Output::default() };
        while !out.ended && out.failed.is_none() {
            let (message, payload) = self.receive().expect("the process answers before it goes");
            match message {
                FromCodec::Config { rung, .. } => out.rungs[usize::from(rung)].configs.push(payload),
                FromCodec::Unit { rung, pts, idr, .. } => out.rungs[usize::from(rung)].units.push((pts, idr, payload)),
                FromCodec::Thumbnail { pts, .. } => out.thumbnails.push((pts, payload)),
                FromCodec::Ended { .. } => out.ended = true,
                FromCodec::Failed { reason, .. } => out.failed = Some(reason),
                other => panic!("{other:?}"),
            }
        }
        feeding.join().unwrap();
        out
    }

    /// Closes the link and waits; the log comes with the status.
    pub fn finish(mut self) -> (ExitStatus, String) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        let end = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "the process does not end");
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (status, log)
    }
}

impl Drop for Codec {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn message(message: &ToCodec, payload: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    wire::encode(message, payload, &mut frame).unwrap();
    frame
}

/// A plan for a clip with rungs `(width, height, halved)`.
pub fn plan(clip: &Clip, rungs: &[(u32, u32, bool)]) -> Plan {
    let rung = |&(width, height, halved): &(u32, u32, bool)| {
        let fps: FrameRate = if halved { clip.format.fps.halved() } else { clip.format.fps };
        Rung { name: format!("{height}p").parse().unwrap(), width, height, fps, halved, kbps: 400, max_kbps: 600 }
    };
    Plan {
        source: clip.format.clone(),
        rungs: rungs.iter().map(rung).collect(),
        thumbnail: None,
        encoder: Encoder::Software { preset: "ultrafast".into(), threads: 1 },
        decoder_threads: 1,
        low_delay: false,
    }
}
