//! HEVC and AV1 as Enhanced RTMP carries them: clips by x265 and libaom, and a publisher of our own, because ffmpeg 5.1 sends neither.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use weir::logic::model::Coding;

use super::boxes::{Init, Segment};
use super::clip::Clip;
use super::tools;
use super::worker::Worker;
use crate::raw_rtmp::{self, AUDIO, Chunker, VIDEO};

/// One access unit, or one temporal unit; times in whole milliseconds, as FLV has them.
#[derive(Debug, Clone)]
pub struct Unit {
    pub dts: i64,
    pub pts: i64,
    pub key: bool,
    pub data: Vec<u8>,
}

/// The pictures of a clip.
#[derive(Debug, Clone)]
pub struct Enhanced {
    pub coding: Coding,
    /// What stands in `hvcC` or `av1C`.
    pub record: Vec<u8>,
    pub units: Vec<Unit>,
}

/// A message of RTMP: its time, its type, its body.
pub type Message = (u32, u8, Vec<u8>);

/// What ffmpeg is told of each coding: closed GOPs of `gop` frames, with B-frames where the coding calls them so.
fn encoder(coding: Coding, gop: u32) -> String {
    match coding {
        Coding::H264 => panic!("ffmpeg sends that itself"),
        Coding::Hevc => format!(
            "-c:v libx265 -preset ultrafast -x265-params log-level=error:keyint={gop}:min-keyint={gop}:scenecut=0:open-gop=0:bframes=2 -tag:v hvc1"
        ),
        Coding::Av1 => format!("-c:v libaom-av1 -usage realtime -cpu-used 8 -b:v 800k -g {gop} -keyint_min {gop}"),
    }
}

impl Enhanced {
    /// The pictures of a clip of H.264, coded so; its options stand.
    pub fn of(clip: &Clip, coding: Coding) -> Self {
        let arguments = Clip { audio: false, ..*clip }.arguments();
        let source = arguments.iter().take_while(|a| *a != "-c:v").map(String::as_str);
        let encoder = encoder(coding, clip.gop);
        let mut options: Vec<&str> = source.chain(encoder.split(' ')).collect();
        if !clip.more.contains("-pix_fmt") {
            options.extend(["-pix_fmt", "yuv420p"]);
        }
        options.extend(clip.more.split(' ').filter(|o| !o.is_empty()));
        Self::make(coding, &options)
    }

    /// What ffmpeg makes of these arguments.
    pub fn make(coding: Coding, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clip.mp4");
        // A fragment for each picture: the simplest container with decode times that every ffmpeg writes for both. The header waits for the first of them: before it,
        // libaom's sequence header is not known to ffmpeg 5.1.
        let form = "-video_track_timescale 90000 -movflags frag_every_frame+empty_moov+delay_moov+default_base_moof -f mp4";
        tools::ffmpeg(arguments.iter().copied().chain(form.split(' ')).chain([tools::text(&file)]));
        let bytes = std::fs::read(&file).unwrap();
        let init = Init::read(&bytes);
        let grid = |ticks: i64| (ticks + 45) / 90;
        let samples = Segment::read(&bytes, &init).samples.into_iter();
        let units = samples.map(|s| Unit { dts: grid(s.dts), pts: grid(s.pts), key: s.sync, data: bytes[s.bytes].to_vec() });
        Self { coding, record: init.configuration, units: units.collect() }
    }

    fn fourcc(&self) -> &'static [u8; 4] {
        match self.coding {
            Coding::H264 => b"avc1",
            Coding::Hevc => b"hvc1",
            Coding::Av1 => b"av01",
        }
    }

    /// All of a clip, pictures and sound.
    pub fn of_clip(clip: &Clip, coding: Coding) -> Vec<Message> {
        let pictures = Self::of(clip, coding);
        [pictures.messages(), audio(clip, pictures.units[0].pts)].concat()
    }

    /// The bodies of video messages (Enhanced RTMP v2, ExVideoTagHeader), the configuration first.
    fn messages(&self) -> Vec<Message> {
        let start = [&[0x90], &self.fourcc()[..], &self.record].concat();
        let frame = |u: &Unit| {
            let composition = u.pts - u.dts;
            // CodedFrames has a composition time, but not of AV1; CodedFramesX saves one that is 0.
            let packet = if self.coding == Coding::Av1 || composition != 0 { 1 } else { 3 };
            let mut body = vec![if u.key { 0x90 } else { 0xa0 } | packet];
            body.extend(self.fourcc());
            if packet == 1 && self.coding != Coding::Av1 {
                body.extend(&i32::try_from(composition).unwrap().to_be_bytes()[1..]);
            }
            body.extend(&u.data);
            (u32::try_from(u.dts).unwrap(), VIDEO, body)
        };
        std::iter::once((0, VIDEO, start)).chain(self.units.iter().map(frame)).collect()
    }
}

/// The audio messages of a clip, as ffmpeg writes them into an FLV file, for pictures of which the first is shown at `start`, milliseconds.
fn audio(clip: &Clip, start: i64) -> Vec<Message> {
    let start = u32::try_from(start).unwrap();
    let file = std::fs::read(Clip { video: false, more: "", ..*clip }.file()).unwrap();
    let mut out = Vec::new();
    let mut rest = &file[13..];
    while rest.len() > 15 {
        let size = usize::from(rest[1]) << 16 | usize::from(rest[2]) << 8 | usize::from(rest[3]);
        let time = u32::from_be_bytes([rest[7], rest[4], rest[5], rest[6]]);
        if rest[0] == AUDIO {
            out.push((time + start, AUDIO, rest[11..11 + size].to_vec()));
        }
        rest = &rest[11 + size + 4..];
    }
    out
}

/// A push in real time. The connection must hold until the end unless it is asked for what became of it.
pub struct Pusher {
    task: JoinHandle<Result<(), String>>,
}

impl Pusher {
    /// The messages by their times.
    pub fn start(mut messages: Vec<Message>, worker: &Worker, key: &str) -> Self {
        messages.sort_by_key(|m| m.0);
        let url = worker.publish_url(key);
        let address = url.strip_prefix("rtmp://").unwrap().split('/').next().unwrap().to_owned();
        let key = key.to_owned();
        Self { task: std::thread::spawn(move || push(&address, &key, &messages)) }
    }

    pub fn finish(self) {
        self.outcome().expect("the server takes all of it");
    }

    /// What the server said before it closed, as an error.
    pub fn outcome(self) -> Result<(), String> {
        self.task.join().unwrap()
    }
}

fn push(address: &str, key: &str, messages: &[Message]) -> Result<(), String> {
    let mut io = TcpStream::connect(address).unwrap();
    io.set_nodelay(true).unwrap();
    let mut to = Chunker::default();
    io.write_all(&raw_rtmp::hello()).unwrap();
    let mut answer = vec![0; 3073];
    io.read_exact(&mut answer).unwrap();
    io.write_all(&answer[1..1537]).unwrap();
    let begin = [to.set_size(65_536), to.connect("live"), to.publish(key)].concat();
    io.write_all(&begin).unwrap();
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    while !heard.windows(21).any(|w| w == b"NetStream.Publish.Sta") {
        match io.read(&mut buffer).unwrap() {
            0 => return Err(String::from_utf8_lossy(&heard).into_owned()),
            n => heard.extend(&buffer[..n]),
        }
    }
    let mut reader = io.try_clone().unwrap();
    let listener = std::thread::spawn(move || {
        let mut said = Vec::new();
        // A reset is an end too.
        let _ = reader.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    });
    let begun = Instant::now();
    for (time, kind, body) in messages {
        let due = begun + Duration::from_millis((*time).into());
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let chunk_stream = if *kind == VIDEO { 6 } else { 4 };
        if io.write_all(&to.message(0, chunk_stream, *time, *kind, body)).is_err() {
            return Err(listener.join().unwrap());
        }
    }
    match io.write_all(&to.goodbye(key)) {
        Ok(()) => {
            let said = listener.join().unwrap();
            if said.contains("Rejected") { Err(said) } else { Ok(()) }
        }
        Err(_) => Err(listener.join().unwrap()),
    }
}
