//! The world around a session: its encoder and its store, and what a reader finds there.

use super::*;

pub const START: i64 = 1_700_000_000_000;

/// The world around one [`Stream`].
pub struct World {
    pub stream: Stream,
    pub ms: u64,
    pub objects: BTreeSet<ObjectKey>,
    pub bodies: BTreeMap<ObjectKey, Bytes>,
    /// The recording, when it was asked for.
    pub recording: Option<Snapshot>,
    /// Its playlists cannot be written yet.
    pub unrecorded: bool,
    pub manifests: BTreeMap<ObjectKey, String>,
    /// What waits for its upload.
    pub kept: BTreeMap<u64, Put>,
    /// Uploads that are not answered yet.
    pub puts: Vec<Put>,
    /// The store does nothing any more once it has done so many writes: the worker died there.
    pub writes_left: Option<usize>,
    /// Every upload and every write fails.
    pub down: bool,
    pub writing: bool,
    pub deleted: Vec<(Duration, Vec<ObjectKey>)>,
    pub notes: Vec<String>,
    pub over: bool,
    pub encoder: Encoder,
    pub voice: sounded::Voice,
    pub refused: Option<String>,
    /// The source's pictures have closed captions: what each of them carries.
    pub captions: Option<fn(u64) -> Vec<Triplet>>,
    /// Thumbnails for the store, which are not answered yet.
    pub pictures: Vec<Picture>,
}

#[derive(Default)]
pub struct Encoder {
    pub plan: Vec<Rung>,
    pub thumbnail: Option<thumbnail::Thumbnail>,
    pub fed: Vec<(MediaTime, bool)>,
    pub configured: bool,
    pub draining: bool,
    pub starts: usize,
    /// Pictures that stay inside.
    pub delay: usize,
    /// Its rungs leave out every second picture.
    pub halved: bool,
    pub skip: bool,
    pub dead: bool,
    /// It says so as soon as it is started.
    pub unable: bool,
}

pub fn setup() -> Setup {
    let step = |name: &str, short_side, kbps| Step { name: name.parse().unwrap(), short_side, kbps, max_fps: 30 };
    Setup {
        encoders: EncoderLimits::SOFTWARE,
        output_deadline: crate::logic::encoding::OUTPUT_DEADLINE,
        region: "local".parse().unwrap(),
        stream: "demo".parse().unwrap(),
        session: "s1".parse().unwrap(),
        writer: WriterName { epoch: 1, nonce: "cafe".into(), worker: "a".into() },
        past: Past::default(),
        keeping: Keeping::default(),
        timeline: timeline::Policy::default(),
        window: MediaTime::from_secs(10),
        first_row_wait: Duration::from_secs(10),
        ladder: Ladder { rungs: vec![step("480p", 480, 1200), step("360p", 360, 700)], top_kbps: 5000, top_short_side: 1080 },
        grace: Grace { reconnect: Duration::from_secs(60), end_after: Duration::from_secs(300) },
        hold: Duration::from_secs(94),
        utc_timing: None,
        pathways: Default::default(),
        slate: None,
        loudness_target: None,
        thumbnails: thumbnail::Settings { every: Duration::ZERO, short_side: 180, quality: 75, keep: Duration::from_secs(300) },
    }
}

impl World {
    pub fn new(setup: Setup) -> Self {
        Self {
            stream: Stream::new(setup),
            ms: 0,
            objects: BTreeSet::new(),
            bodies: BTreeMap::new(),
            recording: None,
            unrecorded: false,
            manifests: BTreeMap::new(),
            kept: BTreeMap::new(),
            puts: Vec::new(),
            writes_left: None,
            down: false,
            writing: false,
            deleted: Vec::new(),
            notes: Vec::new(),
            over: false,
            encoder: Encoder { delay: 12, ..Encoder::default() },
            voice: Default::default(),
            refused: None,
            captions: None,
            pictures: Vec::new(),
        }
    }

    pub fn now(&self) -> Now {
        Now { mono: Duration::from_millis(self.ms), wall: UnixMillis(START + self.ms as i64) }
    }

    pub fn outputs(&mut self) {
        while let Some(output) = self.stream.poll_output() {
            match output {
                Output::Keep(put) => {
                    let (id, now) = (put.id, self.now());
                    self.kept.insert(id, put);
                    self.stream.kept(id, Ok(()), now);
                }
                Output::Upload(id) => {
                    let put = &self.kept[&id];
                    self.puts.push(Put { id, objects: put.objects.clone() });
                }
                Output::Forget(ids) => {
                    self.kept.retain(|id, _| !ids.contains(id));
                    self.puts.retain(|put| !ids.contains(&put.id));
                }
                Output::Manifests(files) => {
                    assert!(!self.writing, "one write at a time");
                    self.writing = true;
                    for (key, text) in files {
                        self.check(&key, &text);
                        if !self.down && self.may_write() {
                            self.manifests.insert(key, text);
                        }
                    }
                }
                Output::Thumbnail(picture) => self.pictures.push(picture),
                Output::Delete { after, keys } => self.deleted.push((after, keys)),
                Output::Codec(command) => self.codec(command),
                Output::Note(note) => self.notes.push(note.text),
                Output::Refuse(reason) => self.refused = Some(reason),
                Output::Record => self.record(),
                Output::Over => self.over = true,
            }
        }
    }

    /// As the shell does it: by the journals and the listing.
    pub fn record(&mut self) {
        let of_journal = |key: &&ObjectKey| key.as_str().contains("/j/");
        let journals: Vec<Journal> =
            self.objects.iter().filter(of_journal).map(|key| Journal::read(&self.bodies[key]).unwrap()).collect();
        let measure = |key: ObjectKey| {
            let (start, duration) = fragment::measure(&self.bodies[&key]).unwrap();
            (key.clone(), Measured { start, duration, size: self.bodies[&key].len() as u64 })
        };
        let measured = recording::unnamed(&journals, &self.objects).into_iter().map(measure).collect();
        let session = "s1".parse().unwrap();
        self.recording = recording::assemble(&session, &journals, &self.objects, &measured);
        if !self.unrecorded {
            let now = self.now();
            self.stream.recorded(Ok(()), now);
        }
    }

    /// Nothing may be named that is not there, or that was given up for deletion.
    pub fn check(&self, key: &ObjectKey, text: &str) {
        if !key.as_str().ends_with(".m3u8") {
            return;
        }
        let mut gap = false;
        for line in text.lines() {
            gap |= line == "#EXT-X-GAP";
            let address = line.strip_prefix("#EXT-X-MAP:URI=\"").map_or(line, |l| l.trim_end_matches('"'));
            let Some(named) = address.strip_prefix("../../../").and_then(ObjectKey::parse) else { continue };
            assert!(gap || self.objects.contains(&named), "{key} names {named}, which is not stored");
            assert!(gap || !self.deleted.iter().any(|(_, keys)| keys.contains(&named)), "{key} names {named}, which goes");
            gap &= line.starts_with('#');
        }
    }

    pub fn codec(&mut self, command: Command) {
        if matches!(
            command,
            Command::StartAudio(_)
                | Command::FeedAudio(_)
                | Command::Start { .. }
                | Command::Leave { .. }
                | Command::Kill { .. }
        ) {
            self.voice(command.clone());
        }
        let e = &mut self.encoder;
        match command {
            Command::Start { rungs, thumbnail, low_delay, .. } => {
                *e = Encoder {
                    plan: rungs,
                    thumbnail,
                    starts: e.starts + 1,
                    // What it holds back, unless it may hold nothing.
                    delay: if low_delay { 0 } else { e.delay },
                    halved: e.halved,
                    unable: e.unable,
                    ..Encoder::default()
                };
            }
            Command::Feed { unit, cut } => {
                let first = e.fed.is_empty() && !e.configured;
                e.fed.push((unit.pts, cut || first));
            }
            Command::StartAudio(_) | Command::FeedAudio(_) => {}
            Command::Drain => e.draining = true,
            Command::Leave { .. } | Command::Kill { .. } => {
                *e = Encoder { starts: e.starts, delay: e.delay, halved: e.halved, dead: true, ..Encoder::default() };
            }
        }
    }

    /// Lets the encoder give what it has.
    pub fn encode(&mut self) {
        self.speak(self.inside());
        let now = self.now();
        if self.encoder.unable && !self.encoder.plan.is_empty() && !self.encoder.dead {
            self.encoder.dead = true;
            self.stream.codec_unable("cannot encode: no session", now);
            self.outputs();
            return;
        }
        let keep = if self.encoder.draining { 0 } else { self.encoder.delay };
        while self.encoder.fed.len() > keep && !self.encoder.dead {
            let (pts, idr) = self.encoder.fed.remove(0);
            let rungs = self.encoder.plan.len();
            let left_out = self.encoder.halved && self.encoder.skip && !idr;
            self.encoder.skip = !left_out;
            if left_out {
                continue;
            }
            if !self.encoder.configured {
                self.encoder.configured = true;
                for rung in 0..rungs {
                    self.stream.rung_config(rung, &Bytes::from_static(RECORD_720P30), now);
                }
            }
            for rung in 0..rungs {
                self.stream.rung_unit(rung, pts, idr, picture(idr), now);
            }
            self.outputs();
        }
        if self.encoder.draining && self.encoder.fed.is_empty() && !self.encoder.dead {
            self.encoder.draining = false;
            self.stream.codec_drained(now);
            self.outputs();
        }
    }

    /// Answers what waits at the store.
    pub fn store(&mut self) {
        let now = self.now();
        for put in std::mem::take(&mut self.puts) {
            if self.down {
                self.stream.stored(put.id, Outcome::Failed, "down", now);
            } else if self.may_write() {
                self.objects.extend(put.objects.iter().map(|(key, _)| key.clone()));
                self.bodies.extend(put.objects);
                self.stream.stored(put.id, Outcome::Stored, "", now);
                self.kept.remove(&put.id);
            }
            self.outputs();
        }
        if std::mem::take(&mut self.writing) {
            self.stream.manifests_written(if self.down { Err("down".into()) } else { Ok(()) }, now);
            self.outputs();
        }
    }

    pub fn may_write(&mut self) -> bool {
        match &mut self.writes_left {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }

    /// Another worker, that knows only what this one left in the store.
    pub fn successor(self) -> Self {
        self.successor_by(setup())
    }

    pub fn successor_by(self, setup: Setup) -> Self {
        let key = |track: &str| ObjectKey::parse(&format!("live/local/demo/{track}.m3u8")).unwrap();
        let state = self.manifests.get(&ObjectKey::parse("ckpt/local/demo/state.json").unwrap());
        let state = state.map(|text| State::read(text.as_bytes()).unwrap());
        let mut past = Past::default();
        if let Some(announced) = state.as_ref().and_then(|s| s.announced.clone()) {
            let read = |t: &Track| (key(t.name.as_str()), self.manifests.get(&key(t.name.as_str())).cloned());
            let playlists: Vec<_> = announced.tracks.iter().map(read).collect();
            let tail = takeover::read(&announced, &playlists).unwrap();
            if let Some(from) = tail.level(&self.objects) {
                past = Past { announced: Some(announced), from };
            }
        }
        let writer = WriterName { epoch: self.stream.setup.writer.epoch + 1, nonce: "beef".into(), worker: "b".into() };
        let mut next = Self {
            ms: self.ms,
            objects: self.objects,
            bodies: self.bodies,
            manifests: self.manifests,
            ..Self::new(Setup { writer, past, ..setup })
        };
        let now = next.now();
        next.stream.began(now);
        next.outputs();
        next
    }

    pub fn timers(&mut self) {
        while self.stream.poll_timeout().is_some_and(|at| at <= self.now().mono) {
            let (before, now) = (self.stream.poll_timeout(), self.now());
            self.stream.handle_timeout(now);
            self.outputs();
            if self.stream.poll_timeout() == before {
                break;
            }
        }
    }

    pub fn packet(&mut self, packet: Packet) {
        let now = self.now();
        self.stream.packet(packet, now);
        self.outputs();
    }

    pub fn configs(&mut self) {
        self.packet(Packet::VideoConfig(Coding::H264, Bytes::from_static(RECORD_720P30)));
        self.packet(Packet::AudioConfig(Bytes::from_static(&[0x11, 0x90])));
    }

    /// `secs` of a publisher whose clock begins at 0 now: 25 fps, an IDR every `gop` ms, AAC.
    pub fn publish(&mut self, secs: u64, gop: u64) {
        self.publish_from(0, secs, gop);
    }

    /// The same, of a publisher whose clock stands at `from` seconds.
    pub fn publish_from(&mut self, from: u64, secs: u64, gop: u64) {
        let (begin, mut audio) = (self.ms, (from * 48_000).div_ceil(1024));
        for n in 0..secs * 25 {
            let t = from * 1000 + n * 40;
            self.ms = begin + n * 40;
            while audio * 1024 / 48 <= t {
                self.packet(Packet::Audio { time: (audio * 1024 / 48) as u32, data: Bytes::from_static(b"aac") });
                audio += 1;
            }
            let idr = t.is_multiple_of(gop);
            let data = self.captions.and_then(|of| sei::insert(&picture(idr), &of(t))).unwrap_or_else(|| picture(idr));
            self.packet(Packet::Video { time: t as u32, composition: 80, key: idr, data });
            self.encode();
            self.store();
            self.timers();
        }
        self.ms = begin + secs * 1000;
    }

    pub fn wait(&mut self, secs: u64) {
        for _ in 0..secs * 10 {
            self.ms += 100;
            self.encode();
            self.store();
            self.timers();
        }
    }

    pub fn playlist(&self, track: &str) -> &str {
        let key = ObjectKey::parse(&format!("live/local/demo/{track}.m3u8")).unwrap();
        self.manifests.get(&key).map_or("", String::as_str)
    }

    pub fn mpd(&self) -> &str {
        &self.manifests[&ObjectKey::parse("live/local/demo/manifest.mpd").unwrap()]
    }

    pub fn gaps(&self, track: &str) -> usize {
        self.playlist(track).matches("#EXT-X-GAP").count()
    }

    /// Segment numbers behind a DISCONTINUITY.
    pub fn discontinuities(&self, track: &str) -> Vec<usize> {
        let lines: Vec<&str> = self.playlist(track).lines().collect();
        let mut number = 0;
        let mut out = Vec::new();
        for line in lines {
            if line == "#EXT-X-DISCONTINUITY" {
                out.push(number);
            }
            number += usize::from(line.starts_with("#EXTINF"));
        }
        out
    }
}

/// An access unit of one slice.
pub fn picture(idr: bool) -> Bytes {
    Bytes::from_static(if idr { &[0, 0, 0, 2, 0x65, 0] } else { &[0, 0, 0, 2, 0x41, 0] })
}

pub const TRACKS: [&str; 4] = ["src", "480p", "360p", "audio"];

/// Segments by number, with what stands before them: a playlist as a player keeps it.
pub fn entries(playlist: &str) -> BTreeMap<u64, (bool, String)> {
    let first = playlist.lines().find_map(|l| l.strip_prefix("#EXT-X-MEDIA-SEQUENCE:")).map_or(0, |n| n.parse().unwrap());
    let mut out = BTreeMap::new();
    let mut discontinuity = false;
    for line in playlist.lines() {
        discontinuity |= line == "#EXT-X-DISCONTINUITY";
        if !line.starts_with('#') {
            out.insert(first + out.len() as u64, (std::mem::take(&mut discontinuity), line.to_owned()));
        }
    }
    out
}

/// EXT-X-DISCONTINUITY-SEQUENCE of each number.
pub fn sequences(playlist: &str) -> BTreeMap<u64, u64> {
    let tag = "#EXT-X-DISCONTINUITY-SEQUENCE:";
    let mut count: u64 = playlist.lines().find_map(|l| l.strip_prefix(tag)).map_or(0, |n| n.parse().unwrap());
    entries(playlist)
        .into_iter()
        .map(|(number, (discontinuity, _))| {
            count += u64::from(discontinuity);
            (number, count)
        })
        .collect()
}
