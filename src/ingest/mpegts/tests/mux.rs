//! A muxer of a few lines, which can also do what none should.

use mpeg2ts_reader::mpegts_crc;

use super::super::sync::PACKET;

pub const PMT: u16 = 0x1000;
pub const VIDEO: u16 = 0x100;
pub const AUDIO: u16 = 0x101;

/// SPS and PPS of x264: 1280x720, High, 30 fps.
pub const SPS: &[u8] = &[
    0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03,
    0x03, 0xc0, 0xf1, 0x83, 0x19, 0x60,
];
pub const PPS: &[u8] = &[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0];
pub const DELIMITER: &[u8] = &[9, 0xf0];

/// The picture with this number: an IDR slice, or another one. Distinct, with an emulation prevention inside.
pub fn slice(number: u8, idr: bool) -> Vec<u8> {
    vec![if idr { 0x65 } else { 0x41 }, 0x88, number, 0, 0, 3, 1, number, 0x80]
}

pub fn annexb(nals: &[&[u8]]) -> Vec<u8> {
    nals.iter().flat_map(|nal| [&[0, 0, 0, 1], *nal].concat()).collect()
}

/// A picture with everything that an encoder puts in front.
pub fn picture(number: u8, idr: bool) -> Vec<u8> {
    let slice = slice(number, idr);
    if idr { annexb(&[DELIMITER, SPS, PPS, &slice]) } else { annexb(&[DELIMITER, &slice]) }
}

/// An ADTS frame, 48 kHz unless `index` says otherwise.
pub fn adts(index: u8, channels: u8, data: &[u8], crc: bool) -> Vec<u8> {
    let head = if crc { 9 } else { 7 };
    let length = head + data.len();
    let mut out = vec![
        0xff,
        if crc { 0xf0 } else { 0xf1 },
        1 << 6 | index << 2 | channels >> 2,
        (channels & 3) << 6 | (length >> 11) as u8,
        (length >> 3) as u8,
        ((length & 7) << 5) as u8 | 0x1f,
        0xfc,
    ];
    out.resize(head, 0xee);
    out.extend(data);
    out
}

fn timestamp(prefix: u8, t: u64) -> [u8; 5] {
    [
        prefix << 4 | ((t >> 30) as u8 & 7) << 1 | 1,
        (t >> 22) as u8,
        ((t >> 15) as u8) << 1 | 1,
        (t >> 7) as u8,
        (t as u8) << 1 | 1,
    ]
}

/// A PES packet; `said`: with its length.
pub fn pes(stream: u8, times: Option<(u64, u64)>, data: &[u8], said: bool) -> Vec<u8> {
    let (flags, stamps) = match times {
        None => (0, Vec::new()),
        Some((pts, dts)) if pts == dts => (0x80, timestamp(2, pts).to_vec()),
        Some((pts, dts)) => (0xc0, [timestamp(3, pts), timestamp(1, dts)].concat()),
    };
    let length = if said { 3 + stamps.len() + data.len() } else { 0 };
    let mut out = vec![0, 0, 1, stream, (length >> 8) as u8, length as u8, 0x80, flags, stamps.len() as u8];
    out.extend(stamps);
    out.extend(data);
    out
}

pub fn section(table: u8, id: u16, version: u8, content: &[u8]) -> Vec<u8> {
    let length = 5 + content.len() + 4;
    let mut out = vec![table, 0xb0 | (length >> 8) as u8, length as u8];
    out.extend(id.to_be_bytes());
    out.extend([0xc1 | version << 1, 0, 0]);
    out.extend(content);
    let crc = mpegts_crc::sum32(&out);
    out.extend(crc.to_be_bytes());
    out
}

pub fn pat(programs: &[(u16, u16)]) -> Vec<u8> {
    let content: Vec<u8> =
        programs.iter().flat_map(|(n, pid)| [n.to_be_bytes(), (0xe000 | pid).to_be_bytes()].concat()).collect();
    section(0, 1, 0, &content)
}

/// A program map with the first stream's PID for the clock: stream types, PIDs, descriptors.
pub fn pmt(program: u16, version: u8, streams: &[(u8, u16, &[u8])]) -> Vec<u8> {
    let clock = streams.first().map_or(0x1fff, |s| s.1);
    let mut content = [(0xe000 | clock).to_be_bytes(), 0xf000u16.to_be_bytes()].concat();
    for (kind, pid, descriptors) in streams {
        content.push(*kind);
        content.extend((0xe000 | pid).to_be_bytes());
        content.extend((0xf000 | descriptors.len() as u16).to_be_bytes());
        content.extend(*descriptors);
    }
    section(2, program, version, &content)
}

/// H.264 and AAC.
pub const BOTH: &[(u8, u16, &[u8])] = &[(0x1b, VIDEO, &[]), (0x0f, AUDIO, &[])];

#[derive(Default)]
pub struct Mux {
    pub bytes: Vec<u8>,
    counters: std::collections::BTreeMap<u16, u8>,
}

impl Mux {
    /// One program of these streams.
    pub fn of(streams: &[(u8, u16, &[u8])]) -> Self {
        let mut mux = Self::default();
        mux.tables(&[(1, PMT)]);
        mux.sections(PMT, &pmt(1, 0, streams));
        mux
    }

    pub fn tables(&mut self, programs: &[(u16, u16)]) {
        self.sections(0, &pat(programs));
    }

    pub fn sections(&mut self, pid: u16, sections: &[u8]) {
        self.payload(pid, &[&[0], sections].concat(), 0xff);
    }

    pub fn pes(&mut self, pid: u16, pes: &[u8]) {
        self.payload(pid, pes, 0);
    }

    pub fn video(&mut self, times: Option<(u64, u64)>, data: &[u8]) {
        self.pes(VIDEO, &pes(0xe0, times, data, false));
    }

    pub fn audio(&mut self, pts: Option<u64>, data: &[u8]) {
        self.pes(AUDIO, &pes(0xc0, pts.map(|t| (t, t)), data, true));
    }

    /// Cut into packets; `fill` 0: stuffed by an adaptation field.
    fn payload(&mut self, pid: u16, payload: &[u8], fill: u8) {
        for (n, piece) in payload.chunks(PACKET - 4).enumerate() {
            let start = if n == 0 { 0x40 } else { 0 };
            let short = PACKET - 4 - piece.len();
            let field = short > 0 && fill == 0;
            let counter = self.counters.entry(pid).or_default();
            let mut packet = vec![0x47, start | (pid >> 8) as u8, pid as u8, if field { 0x30 } else { 0x10 } | *counter];
            *counter = (*counter + 1) & 15;
            if field {
                packet.push((short - 1) as u8);
                packet.extend((1..short).map(|n| if n == 1 { 0 } else { 0xff }));
            }
            packet.extend(piece);
            packet.resize(PACKET, 0xff);
            self.bytes.extend(packet);
        }
    }

    /// The packets of one PID, for who damages them.
    pub fn packets_of(&mut self, pid: u16) -> impl Iterator<Item = &mut [u8]> {
        let is = move |p: &&mut [u8]| u16::from_be_bytes([p[1] & 0x1f, p[2]]) == pid;
        self.bytes.chunks_mut(PACKET).filter(is)
    }
}
