//! A publisher with a camera, a microphone and an upload, all of which can fail.

use std::collections::VecDeque;

use super::*;

/// 1280x720 at 30 (High), 640x360 at 25, 1920x1080 at 60 and 320x180 at 15 (Baseline, by x264), and the first at a level that browsers do not play.
const RECORDS: [&[u8]; 4] = [
    RECORD_720P30,
    &[
        0x01, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0x00, 0x19, 0x67, 0x42, 0xc0, 0x1e, 0xda, 0x02, 0x80, 0xbf, 0xe5, 0xc0, 0x44, 0x00,
        0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0xc8, 0x3c, 0x58, 0xba, 0x80, 0x01, 0x00, 0x04, 0x68, 0xce, 0x0f, 0xc8,
    ],
    &[
        0x01, 0x42, 0xc0, 0x2a, 0xff, 0xe1, 0x00, 0x18, 0x67, 0x42, 0xc0, 0x2a, 0xda, 0x01, 0xe0, 0x08, 0x9f, 0x97, 0x01, 0x10,
        0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x07, 0x80, 0xf1, 0x83, 0x2a, 0x01, 0x00, 0x04, 0x68, 0xce, 0x0f, 0xc8,
    ],
    &[
        0x01, 0x42, 0xc0, 0x0c, 0xff, 0xe1, 0x00, 0x17, 0x67, 0x42, 0xc0, 0x0c, 0xda, 0x05, 0x06, 0x7e, 0x7c, 0x04, 0x40, 0x00,
        0x00, 0x03, 0x00, 0x40, 0x00, 0x00, 0x07, 0x83, 0xc5, 0x0a, 0xa8, 0x01, 0x00, 0x04, 0x68, 0xce, 0x0f, 0xc8,
    ],
];

/// 48 kHz stereo, 44.1 kHz mono, 8 kHz mono, 48 kHz 5.1 (for which there is no canned silence).
const ASCS: [(&[u8], i64); 4] =
    [(&[0x11, 0x90], 48_000), (&[0x12, 0x08], 44_100), (&[0x15, 0x88], 8000), (&[0x11, 0xb0], 48_000)];

/// What a publisher brings. Pictures and frames are fewer than usual, so that many schedules fit into a second.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// Of [`RECORDS`]; `None`: no video.
    pub record: Option<usize>,
    /// Another level in the record: the same size with other parameter sets.
    pub level: bool,
    pub fps: i64,
    /// Pictures per GOP.
    pub gop: i64,
    pub b_frames: bool,
    /// Of [`ASCS`].
    pub audio: Option<usize>,
    /// Where the clocks of both tracks begin, ms.
    pub clocks: [u32; 2],
}

impl Source {
    fn video_config(&self) -> Option<Packet> {
        let mut record = RECORDS[self.record?].to_vec();
        record[3] = if self.level { 0x33 } else { record[3] };
        Some(Packet::VideoConfig(Coding::H264, record.into()))
    }

    fn audio_config(&self) -> Option<Packet> {
        Some(Packet::AudioConfig(Bytes::from_static(ASCS[self.audio?].0)))
    }

    /// How many pictures the `k`th of a GOP in decode order is shown later than its place there: I P B B P B B, the last group may be shorter.
    fn reorder(&self, k: i64) -> i64 {
        if !self.b_frames {
            return 0;
        }
        if k == 0 {
            return 2;
        }
        let (group, place) = ((k - 1) / 3 * 3 + 1, (k - 1) % 3);
        let size = 3.min(self.gop - group);
        2 + if place == 0 { size - 1 } else { -1 }
    }
}

#[derive(Debug)]
pub struct Publisher {
    pub source: Source,
    /// Since the connection began, ms of its own time.
    time: i64,
    pictures: i64,
    place: i64,
    frames: i64,
    clocks: [i64; 2],
    /// Until then nothing of the track is sent, ms of its own time.
    pub silent: [i64; 2],
    /// No picture before the next IDR.
    pub drop_gop: bool,
    /// A stalled network keeps what was sent.
    held: Option<VecDeque<Packet>>,
}

impl Publisher {
    pub fn new(source: Source) -> Self {
        Self {
            source,
            time: 0,
            pictures: 0,
            place: 0,
            frames: 0,
            clocks: source.clocks.map(i64::from),
            silent: [0; 2],
            drop_gop: false,
            held: None,
        }
    }

    pub fn configs(&self) -> Vec<Packet> {
        [self.source.video_config(), self.source.audio_config()].into_iter().flatten().collect()
    }

    pub fn jump(&mut self, video: i64, audio: i64) {
        self.clocks[0] += video;
        self.clocks[1] += audio;
    }

    pub fn silence(&mut self, track: usize, ms: i64) {
        self.silent[track] = self.time + ms;
    }

    pub fn stall(&mut self) {
        self.held.get_or_insert_default();
    }

    pub fn catch_up(&mut self) -> Vec<Packet> {
        self.held.take().unwrap_or_default().into()
    }

    /// Another source on the same connection: a scene collection was switched.
    pub fn become_(&mut self, source: Source) -> Vec<Packet> {
        let elapsed = self.time;
        self.source = Source { clocks: self.source.clocks, ..source };
        self.pictures = elapsed * source.fps / 1000 + 1;
        self.place = 0;
        self.frames = source.audio.map_or(0, |a| elapsed * ASCS[a].1 / 1024 / 1000 + 1);
        self.configs()
    }

    /// Time of a picture as the publisher stamps it now.
    pub fn stamp(&self) -> u32 {
        (self.time + self.clocks[0]) as u32
    }

    /// What is sent in the next `ms` and arrives.
    pub fn run(&mut self, ms: i64) -> Vec<Packet> {
        self.time += ms;
        let mut out = Vec::new();
        if self.source.record.is_some() {
            while self.pictures * 1000 / self.source.fps < self.time {
                out.extend(self.picture());
            }
        }
        if let Some(audio) = self.source.audio {
            while self.frames * 1024 * 1000 / ASCS[audio].1 < self.time {
                let t = self.frames * 1024 * 1000 / ASCS[audio].1;
                self.frames += 1;
                if t >= self.silent[1] {
                    let time = (t + self.clocks[1]) as u32;
                    out.push(Packet::Audio { time, data: Bytes::from_static(b"aac") });
                }
            }
        }
        match &mut self.held {
            Some(held) => {
                held.extend(out);
                Vec::new()
            }
            None => out,
        }
    }

    fn picture(&mut self) -> Option<Packet> {
        let t = self.pictures * 1000 / self.source.fps;
        let idr = self.place == 0;
        let shift = self.source.reorder(self.place);
        self.pictures += 1;
        self.place = (self.place + 1) % self.source.gop;
        self.drop_gop &= !idr;
        if t < self.silent[0] || self.drop_gop {
            return None;
        }
        let (time, composition) = ((t + self.clocks[0]) as u32, (shift * 1000 / self.source.fps) as i32);
        Some(Packet::Video { time, composition, key: idr, data: unit(idr) })
    }
}

pub fn unit(idr: bool) -> Bytes {
    Bytes::from_static(if idr { &[0, 0, 0, 2, 0x65, 0] } else { &[0, 0, 0, 2, 0x41, 0] })
}

/// A time in which `ms` pass: the steps of the simulation.
pub const STEP: i64 = 20;
