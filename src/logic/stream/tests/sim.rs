//! Whole sessions in virtual time: a publisher that loses and jumps, a codec process that dies, a store that is slow or refuses, and a reader who
//! believes nothing. A schedule is a list of [`Act`]s; what is found shrinks to a short one, and becomes a test in `found`.

use super::*;
use crate::logic::publish::Outcome;
use publisher::{Publisher, STEP, Source, unit};
use reader::Reader;

mod days;
mod found;
mod publisher;
mod reader;
mod schedules;

/// What happens next.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// Everything goes on for so many ms.
    Play(u16),
    /// The publisher's clocks jump by so many ms: video, audio.
    Jump(i32, i32),
    /// The publisher sends nothing for so long; its clock goes on, or stands still.
    Pause(u16, bool),
    /// The network holds back for so long, and gives all at once.
    Stall(u16),
    /// Pictures (0) or audio (1) are missing for so long.
    Silence(usize, u16),
    /// Pictures are missing until the next IDR.
    DropGop,
    /// One packet that nobody should send.
    Garbage(u8),
    /// The publisher leaves (`true`: says goodbye), and comes back after so many ms as this.
    Reconnect(bool, u16, Source),
    /// Another source on the same connection.
    Switch(Source),
    /// The codec process dies; its successor may have other parameter sets.
    Die(bool),
    /// It gives nothing any more, until it is killed.
    Hang,
    /// It holds back so many pictures.
    Lookahead(u8),
    /// It gives one picture in so many ms at the most.
    Slow(u16),
    /// So many encoded rungs are left out, at half the rate, by another preset with other parameter sets.
    Save(u8, bool, bool),
    /// It sends a picture that it was not given.
    Lie(i64, bool),
    /// The store answers after so many ms.
    Latency(u16),
    /// Every so many-th operation fails; 0: none.
    Fail(u8),
    /// It takes nothing, or does again.
    Down(bool),
    /// The next objects are refused for good.
    Refuse(u8),
    /// The spool has no room for the next object.
    Full(u8),
}

/// The store, and who deletes in it.
#[derive(Debug, Default)]
struct Store {
    objects: BTreeMap<String, Bytes>,
    /// Given up for deletion.
    doomed: BTreeSet<String>,
    latency: u64,
    fail: u8,
    operations: u64,
    down: bool,
    refuse: u8,
    full: u8,
    /// What is answered when.
    puts: Vec<(u64, Put)>,
    writing: Option<(u64, Vec<(ObjectKey, String)>)>,
}

impl Store {
    /// Does the next operation fail?
    fn fails(&mut self) -> bool {
        self.operations += 1;
        self.down || (self.fail > 0 && self.operations.is_multiple_of(u64::from(self.fail)))
    }

    /// Timescale of an audio track, by its init segment.
    fn scale(&self, init: &str) -> i64 {
        let body = &self.objects[init];
        let at = body.windows(4).position(|w| w == b"mdhd").expect("mdhd");
        // ISO/IEC 14496-12, 8.4.2: behind version, flags and two times of 4 or 8 bytes.
        let at = at + if body[at + 4] == 1 { 24 } else { 16 };
        i64::from(u32::from_be_bytes(body[at..at + 4].try_into().unwrap()))
    }
}

/// The codec process.
#[derive(Debug, Default)]
struct Codec {
    rungs: Vec<Rung>,
    running: bool,
    /// It answers from then on.
    ready: u64,
    configured: bool,
    draining: bool,
    hangs: bool,
    /// By presentation time: a picture, and whether it must be an IDR.
    inside: BTreeMap<i64, bool>,
    /// Pictures since the one that a halved rung kept last.
    since_kept: usize,
    lookahead: usize,
    slow: u64,
    next: u64,
    /// Another level in the parameter sets.
    other: bool,
    brief: bool,
    starts: usize,
    /// Its audio, if it has any, is encoded, or only measured.
    encodes: Option<bool>,
    /// Presentation times of frames.
    sound: VecDeque<i64>,
}

/// Frames of audio that stay inside.
const INSIDE: usize = 6;

/// The world around one [`Stream`].
struct Sim {
    stream: Stream,
    ms: u64,
    /// How fast the publisher's clock runs, in millionths of the wall clock's.
    pace: i64,
    owed: i64,
    kept: BTreeMap<u64, Put>,
    store: Store,
    codec: Codec,
    reader: Reader,
    publisher: Option<Publisher>,
    over: bool,
    refused: Option<String>,
    bad: Option<String>,
    notes: Vec<String>,
    most: Memory,
}

/// What the machine held at the most.
#[derive(Debug, Default, Clone, Copy)]
struct Memory {
    retained: usize,
    probing: usize,
    early: usize,
    queue: usize,
    kept: usize,
    outputs: usize,
}

impl Sim {
    fn new(setup: Setup, source: Source) -> Self {
        let mut reader = Reader::default();
        reader.may_grow = !setup.timeline.can_encode;
        let mut sim = Self {
            stream: Stream::new(setup),
            ms: 0,
            pace: 1_000_000,
            owed: 0,
            kept: BTreeMap::new(),
            store: Store { latency: 40, ..Store::default() },
            codec: Codec { lookahead: 3, ..Codec::default() },
            reader,
            publisher: None,
            over: false,
            refused: None,
            bad: None,
            notes: Vec::new(),
            most: Memory::default(),
        };
        sim.connect(source);
        sim
    }

    fn now(&self) -> Now {
        Now { mono: Duration::from_millis(self.ms), wall: UnixMillis(START + self.ms as i64) }
    }

    fn hold(&mut self, outcome: Result<(), String>) {
        if let Err(why) = outcome {
            self.bad.get_or_insert(format!("at {} ms: {why}", self.ms));
        }
    }

    fn connect(&mut self, source: Source) {
        let publisher = Publisher::new(source);
        let configs = publisher.configs();
        self.publisher = Some(publisher);
        configs.into_iter().for_each(|p| self.packet(p));
    }

    fn packet(&mut self, packet: Packet) {
        let now = self.now();
        self.stream.packet(packet, now);
        self.outputs();
    }

    fn outputs(&mut self) {
        while let Some(output) = self.stream.poll_output() {
            match output {
                Output::Keep(put) => {
                    let (id, now) = (put.id, self.now());
                    if self.store.full > 0 {
                        self.store.full -= 1;
                        self.stream.kept(id, Err("full".into()), now);
                    } else {
                        self.kept.insert(id, put);
                        self.stream.kept(id, Ok(()), now);
                    }
                }
                Output::Upload(id) => {
                    let put = &self.kept[&id];
                    self.store.puts.push((self.ms + self.store.latency, Put { id, objects: put.objects.clone() }));
                }
                Output::Forget(ids) => self.kept.retain(|id, _| !ids.contains(id)),
                Output::Manifests(files) => {
                    let ordered = self.reader.ordered(&files);
                    self.hold(ordered);
                    let twice = if self.store.writing.is_some() { Err("two writes at a time".into()) } else { Ok(()) };
                    self.hold(twice);
                    self.store.writing = Some((self.ms + self.store.latency, files));
                }
                // The hold is as long as any playlist is cached: nothing may name it from now on.
                Output::Delete { keys, .. } => self.store.doomed.extend(keys.iter().map(|k| k.as_str().to_owned())),
                Output::Codec(command) => self.command(command),
                Output::Note(note) => self.notes.push(note.text),
                Output::Refuse(reason) => {
                    self.refused = Some(reason);
                    self.publisher = None;
                    let now = self.now();
                    self.stream.left(true, now);
                    self.stream.stop(now);
                }
                Output::Record => {
                    let now = self.now();
                    self.stream.recorded(Ok(()), now);
                }
                // Thumbnails are off there.
                Output::Thumbnail(_) => self.hold(Err("a thumbnail that nobody ordered".into())),
                Output::Over => {
                    let twice = if self.over { Err("over twice".into()) } else { Ok(()) };
                    self.hold(twice);
                    self.over = true;
                }
            }
        }
    }

    fn command(&mut self, command: Command) {
        let c = &mut self.codec;
        match command {
            Command::Start { rungs, brief, .. } => {
                // A new process takes a while.
                let kept =
                    Codec { lookahead: c.lookahead, slow: c.slow, other: c.other, starts: c.starts + 1, ..Codec::default() };
                *c = Codec { rungs, brief, running: true, ready: self.ms + 300, ..kept };
            }
            Command::Feed { unit, cut } => {
                if c.running {
                    *c.inside.entry(unit.pts.0).or_default() |= cut || (c.inside.is_empty() && !c.configured);
                }
            }
            Command::StartAudio(plan) => {
                if c.encodes.is_some() && !c.hangs {
                    self.speak(0);
                    let now = self.now();
                    self.stream.audio_given(now);
                }
                self.codec.encodes = Some(plan.encode.is_some());
            }
            Command::FeedAudio(unit) => {
                if c.running {
                    c.sound.push_back(unit.pts.0);
                }
            }
            Command::Drain => c.draining = true,
            Command::Leave { .. } | Command::Kill { .. } => {
                *c = Codec { lookahead: c.lookahead, slow: c.slow, other: c.other, starts: c.starts, ..Codec::default() };
            }
        }
    }

    /// Lets it give all frames of audio but the last `keep`, on a grid of its own.
    fn speak(&mut self, keep: usize) {
        let now = self.now();
        while self.codec.sound.len() > keep {
            let Some(pts) = self.codec.sound.pop_front() else { return };
            if self.codec.encodes == Some(true) {
                self.stream.audio_made(MediaTime(pts + 270), Bytes::from_static(b"made"), now);
            }
            self.outputs();
        }
    }

    /// Lets the codec process give what it has.
    fn encode(&mut self) {
        let now = self.now();
        if self.codec.running && !self.codec.hangs && self.ms >= self.codec.ready {
            self.speak(if self.codec.draining { 0 } else { INSIDE });
        }
        loop {
            let c = &mut self.codec;
            let keep = if c.draining { 0 } else { c.lookahead.max(3) };
            if !c.running || c.hangs || self.ms < c.ready.max(c.next) || c.inside.len() <= keep {
                break;
            }
            let Some((pts, idr)) = c.inside.pop_first() else { break };
            c.next = self.ms + c.slow;
            let configured = std::mem::replace(&mut c.configured, true);
            let mut record = RECORD_720P30.to_vec();
            record[3] = if c.other != c.brief { 0x20 } else { record[3] };
            c.since_kept = if idr { 0 } else { c.since_kept + 1 };
            let rungs: Vec<bool> = c.rungs.iter().map(|r| !r.halved || c.since_kept.is_multiple_of(2)).collect();
            let starts = c.starts;
            for (rung, shown) in rungs.into_iter().enumerate() {
                if !configured && self.codec.starts == starts {
                    self.stream.rung_config(rung, &record.clone().into(), now);
                }
                if shown && self.codec.starts == starts {
                    self.stream.rung_unit(rung, MediaTime(pts), idr, Bytes::from_static(b"encoded"), now);
                }
                self.outputs();
            }
        }
        let c = &mut self.codec;
        if c.running && c.draining && !c.hangs && c.inside.is_empty() && self.ms >= c.ready {
            c.draining = false;
            self.stream.codec_drained(now);
            self.outputs();
        }
    }

    /// Answers what is due at the store.
    fn answer(&mut self) {
        let now = self.now();
        let due = |at: &u64| *at <= now.mono.as_millis() as u64;
        let (ready, rest) = std::mem::take(&mut self.store.puts).into_iter().partition(|(at, _)| due(at));
        self.store.puts = rest;
        let ready: Vec<(u64, Put)> = ready;
        for (_, put) in ready {
            let outcome = match self.store.fails() {
                true => Outcome::Failed,
                false if self.store.refuse > 0 => {
                    self.store.refuse -= 1;
                    Outcome::Lost
                }
                false => Outcome::Stored,
            };
            // A failed put may have stored its first object, or all.
            let stored = match outcome {
                Outcome::Stored => put.objects.len(),
                Outcome::Failed if !self.store.down && self.store.operations.is_multiple_of(2) => put.objects.len(),
                Outcome::Failed if !self.store.down => put.objects.len() - 1,
                _ => 0,
            };
            self.store.objects.extend(put.objects.iter().take(stored).map(|(k, b)| (k.as_str().to_owned(), b.clone())));
            self.stream.stored(put.id, outcome, "no", now);
            if outcome != Outcome::Failed {
                self.kept.remove(&put.id);
            }
            self.outputs();
        }
        if let Some((_, files)) = self.store.writing.take_if(|(at, _)| due(at)) {
            let fails = self.store.fails();
            // A write that fails has written a part of it.
            let written = if self.store.down {
                0
            } else if fails {
                files.len() / 2
            } else {
                files.len()
            };
            for (key, text) in files.iter().take(written) {
                let seen = self.reader.seen(key, text, &self.store).map_err(|why| format!("{why} in\n{text}\n"));
                self.hold(seen);
            }
            self.stream.manifests_written(if fails { Err("no".into()) } else { Ok(()) }, now);
            self.outputs();
        }
    }

    fn timers(&mut self) {
        for _ in 0..20 {
            let now = self.now();
            if self.stream.poll_timeout().is_none_or(|at| at > now.mono) {
                return;
            }
            self.stream.handle_timeout(now);
            self.outputs();
        }
        let s = &self.stream;
        let window = s.window.as_ref().and_then(Window::poll_timeout);
        let all =
            [s.timeline.poll_timeout(), s.lifecycle.poll_timeout(), window, s.shelf.poll_timeout(), s.queue.poll_timeout()];
        self.hold(Err(format!("a deadline that does not go away, of {all:?}")));
    }

    fn measure(&mut self) {
        let s = &self.stream;
        let now = Memory {
            retained: s.encoding.as_ref().map_or(0, |e| e.retained().count()),
            probing: s.probing.len(),
            early: s.early.len(),
            queue: s.queue.len(),
            kept: self.kept.len(),
            outputs: s.outputs.len(),
        };
        let m = &mut self.most;
        m.retained = m.retained.max(now.retained);
        m.probing = m.probing.max(now.probing);
        m.early = m.early.max(now.early);
        m.queue = m.queue.max(now.queue);
        m.kept = m.kept.max(now.kept);
        m.outputs = m.outputs.max(now.outputs);
    }

    /// `ms` pass; the publisher sends, unless it is paused.
    fn pass(&mut self, ms: i64, sends: bool) {
        let mut left = ms;
        while left > 0 && !self.over && self.bad.is_none() {
            let step = left.min(if sends { STEP } else { 5 * STEP });
            left -= step;
            self.ms += step as u64;
            if let Some(p) = self.publisher.as_mut().filter(|_| sends) {
                self.owed += step * self.pace;
                let own = self.owed / 1_000_000;
                self.owed -= own * 1_000_000;
                for packet in p.run(own) {
                    self.packet(packet);
                }
            }
            self.encode();
            self.answer();
            self.timers();
            self.measure();
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Play(ms) => self.pass(ms.into(), true),
            Act::Jump(video, audio) => {
                if let Some(p) = &mut self.publisher {
                    p.jump(video.into(), audio.into());
                }
            }
            Act::Pause(ms, shown) => {
                self.pass(ms.into(), false);
                if let (Some(p), true) = (&mut self.publisher, shown) {
                    p.jump(ms.into(), ms.into());
                }
            }
            Act::Stall(ms) => {
                if let Some(p) = &mut self.publisher {
                    p.stall();
                }
                self.pass(ms.into(), true);
                let all = self.publisher.as_mut().map(Publisher::catch_up).unwrap_or_default();
                all.into_iter().for_each(|p| self.packet(p));
            }
            Act::Silence(track, ms) => {
                if let Some(p) = &mut self.publisher {
                    p.silence(track, ms.into());
                }
            }
            Act::DropGop => {
                if let Some(p) = &mut self.publisher {
                    p.drop_gop = true;
                }
            }
            Act::Garbage(kind) => self.garbage(kind),
            Act::Reconnect(clean, ms, source) => {
                if self.publisher.take().is_some() {
                    let now = self.now();
                    if clean {
                        self.stream.packet(Packet::Unpublish, now);
                    } else {
                        self.stream.left(false, now);
                    }
                    self.outputs();
                }
                self.pass(ms.into(), false);
                let now = self.now();
                if self.refused.is_none() && self.stream.returned(now) {
                    self.connect(source);
                }
            }
            Act::Switch(source) => {
                let configs = self.publisher.as_mut().map(|p| p.become_(source)).unwrap_or_default();
                configs.into_iter().for_each(|p| self.packet(p));
            }
            Act::Die(other) => {
                self.codec.other ^= other;
                if self.codec.running {
                    self.codec.running = false;
                    let now = self.now();
                    self.stream.codec_lost("died", now);
                    self.outputs();
                }
            }
            Act::Hang => self.codec.hangs = true,
            Act::Lookahead(n) => self.codec.lookahead = n.into(),
            Act::Slow(ms) => self.codec.slow = ms.into(),
            Act::Lie(pts, idr) => {
                if self.codec.running && self.codec.configured {
                    let now = self.now();
                    self.stream.rung_unit(0, MediaTime(pts), idr, Bytes::from_static(b"lie"), now);
                    self.outputs();
                }
            }
            Act::Latency(ms) => {
                self.store.latency = ms.into();
                self.reader.lenient |= ms > 800;
            }
            Act::Fail(n) => {
                self.store.fail = n;
                self.reader.lenient |= n > 0;
            }
            Act::Down(down) => {
                self.store.down = down;
                self.reader.lenient |= down;
            }
            Act::Save(rungs_off, half_rate, brief) => {
                self.stream.save(Saving { rungs_off, half_rate, brief });
                self.outputs();
            }
            Act::Refuse(n) => self.store.refuse = n,
            Act::Full(n) => self.store.full = n,
        }
    }

    fn garbage(&mut self, kind: u8) {
        let Some(p) = &self.publisher else { return };
        let time = p.stamp();
        let video = |time: u32, composition: i32, idr: bool, data: Bytes| Packet::Video { time, composition, key: idr, data };
        let packet = match kind % 12 {
            0 => video(time, 0, true, Bytes::new()),
            1 => video(time, 0, true, Bytes::from_static(&[0xff; 9])),
            2 => video(time, 8_000_000, false, unit(false)),
            3 => video(time, -8_000_000, false, unit(false)),
            4 => video(time.wrapping_add(u32::from(kind) << 20), 0, false, unit(false)),
            5 => video(time.wrapping_sub(100), 0, true, unit(true)),
            6 => Packet::Audio { time: time.wrapping_add(1 << 30), data: Bytes::from_static(b"aac") },
            7 => Packet::Audio { time, data: Bytes::from(vec![0; 10_000]) },
            8 => Packet::AudioConfig(Bytes::from_static(&[0xff, 0xff])),
            9 => Packet::Metadata(Metadata { video_bitrate: Some(u64::MAX), ..Metadata::default() }),
            10 => video(time.wrapping_sub(30), 0, false, unit(false)),
            _ => Packet::Audio { time: time.wrapping_sub(200), data: Bytes::new() },
        };
        self.packet(packet);
    }

    /// The publisher leaves for good and the store recovers: the session must end.
    fn finish(&mut self) {
        let now = self.now();
        self.stream.left(true, now);
        self.publisher = None;
        self.outputs();
        (self.store.down, self.store.fail, self.store.latency) = (false, 0, 40);
        (self.store.refuse, self.store.full) = (0, 0);
        // Grace, what is being encoded, first_row_wait, and the MPD's linger.
        self.pass(60_000, false);
        if self.bad.is_some() {
            return;
        }
        let over = if self.over { Ok(()) } else { Err(format!("not over: {:?}", self.most)) };
        self.hold(over);
        // Answers of uploads that nobody waited for.
        self.over = false;
        self.pass(1000, false);
        self.over = true;
        let finished = self.reader.finished(&self.store);
        self.hold(finished);
        let left = if self.kept.is_empty() { Ok(()) } else { Err(format!("{} objects are kept for ever", self.kept.len())) };
        self.hold(left);
    }

    fn bounded(&mut self) {
        let m = self.most;
        let fine = m.retained <= 700
            && m.probing <= MAX_PROBING
            && m.early <= 600
            && m.queue <= 120
            && m.kept <= 120
            && m.outputs <= 20;
        let fine = if fine { Ok(()) } else { Err(format!("{m:?}")) };
        self.hold(fine);
    }
}

/// Runs a schedule; the error says when and what.
fn run(setup: Setup, source: Source, acts: &[Act]) -> Result<Sim, String> {
    let mut sim = Sim::new(setup, source);
    for &act in acts {
        sim.act(act);
        if sim.bad.is_some() {
            break;
        }
    }
    sim.finish();
    sim.bounded();
    match sim.bad.take() {
        Some(bad) => Err(format!("{bad}; notes {:?}", sim.notes.iter().rev().take(5).collect::<Vec<_>>())),
        None => Ok(sim),
    }
}

/// A session whose grace is short, so that a schedule may exceed it.
fn session(encodes: bool) -> Setup {
    let timeline = timeline::Policy { can_encode: encodes, ..timeline::Policy::default() };
    Setup {
        timeline,
        first_row_wait: Duration::from_secs(4),
        grace: Grace { reconnect: Duration::from_secs(8), end_after: Duration::from_secs(12) },
        ..setup()
    }
}
