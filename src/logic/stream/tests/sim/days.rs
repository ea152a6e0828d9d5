//! Hours and days of clocks that do not agree: the publisher's two, the worker's monotonic one, and its wall clock, which somebody steps. Nothing else goes
//! wrong here but the network, which stalls.

use super::*;

const HOUR: i64 = 3_600_000;
const DAYS: i64 = 72 * HOUR;

/// A GOP is a row: the longest that is passed through by default, which makes the fewest of them.
const GOP: i64 = 4000;
const PICTURE: i64 = 1000;

/// 8 kHz.
const FRAME_MS: i64 = 128;

/// Manifests are written so long: what changes meanwhile is in the next ones. The window holds three times as much.
const WRITING: i64 = 40_000;

/// Where both clocks begin: an hour before they wrap.
const BEGIN: i64 = (1 << 32) - HOUR;

/// All that happens, in ms of the monotonic clock.
#[derive(Default)]
struct Course {
    /// How fast the clocks of video and audio run, in millionths more than the worker's.
    ppm: [i64; 2],
    /// Packets that come within `.1` behind `.0` come all at once at the end of that.
    stalls: Vec<(i64, i64)>,
    /// The wall clock is stepped by `.1` at `.0`.
    steps: Vec<(i64, i64)>,
    /// So long behind a step no date is looked at.
    settling: i64,
    /// One audio frame in so many is sent, and silence takes the others' places: it is the frames that take the time of such a test.
    thinned: i64,
}

/// What came of it.
#[derive(Debug, Default)]
struct Found {
    rows: i64,
    /// The dates' worst error, ms.
    worst: i64,
    /// Dates set anew, and discontinuities.
    set: usize,
    discontinuities: usize,
    periods: u32,
    /// Number, date (ms) and length (us) of the row that was seen last.
    last: Option<(u64, i64, i64)>,
}

struct Days {
    course: Course,
    stream: Stream,
    store: Store,
    kept: BTreeMap<u64, Put>,
    mono: i64,
    looked: i64,
    /// When the manifests that are being written are.
    written: Option<i64>,
    found: Found,
}

impl Course {
    fn step_at(&self, mono: i64) -> i64 {
        self.steps.iter().filter(|(at, _)| *at <= mono).map(|(_, by)| by).sum()
    }

    /// When something that has this time on the clock of `track` comes, if nothing is in the way.
    fn sent(&self, track: usize, own: i64) -> i64 {
        own * 1_000_000 / (1_000_000 + self.ppm[track])
    }

    fn arrives(&self, sent: i64) -> i64 {
        let stall = self.stalls.iter().find(|(at, length)| (*at..at + length).contains(&sent));
        stall.map_or(sent, |(at, length)| at + length)
    }

    fn settles(&self, mono: i64) -> bool {
        self.steps.iter().any(|(at, _)| (*at..at + self.settling).contains(&mono))
    }
}

impl Days {
    fn now(&self) -> Now {
        let wall = START + self.mono + self.course.step_at(self.mono);
        Now { mono: Duration::from_millis(self.mono.unsigned_abs()), wall: UnixMillis(wall) }
    }

    fn outputs(&mut self) {
        while let Some(output) = self.stream.poll_output() {
            let now = self.now();
            match output {
                Output::Keep(put) => {
                    let id = put.id;
                    self.kept.insert(id, put);
                    self.stream.kept(id, Ok(()), now);
                }
                Output::Upload(id) => {
                    let put = self.kept.remove(&id).expect("kept");
                    self.store.objects.extend(put.objects.into_iter().map(|(k, b)| (k.as_str().to_owned(), b)));
                    self.stream.stored(id, Outcome::Stored, "", now);
                }
                Output::Manifests(files) => {
                    self.read(&files);
                    self.written = Some(self.mono + WRITING);
                }
                Output::Delete { keys, .. } => keys.iter().for_each(|k| drop(self.store.objects.remove(k.as_str()))),
                Output::Note(note) => self.found.set += usize::from(note.text.contains("set anew")),
                other => panic!("{other:?}"),
            }
        }
    }

    fn read(&mut self, files: &[(ObjectKey, String)]) {
        if let Some((_, text)) = files.iter().find(|(key, _)| key.as_str().ends_with("/src.m3u8")) {
            let listed = reader::read(text);
            for (number, e) in &listed.entries {
                if self.found.last.is_some_and(|(last, ..)| *number <= last) {
                    continue;
                }
                self.row(*number, e);
            }
        }
        if let Some((_, text)) = files.iter().find(|(key, _)| key.as_str().ends_with(".mpd")) {
            let id = text.rsplit("<Period id=\"").next().and_then(|rest| rest.split('"').next()?.parse().ok());
            self.found.periods = self.found.periods.max(id.unwrap_or(0) + 1);
        }
        // Now and then a viewer comes who checks everything: dates against lengths and boxes, and the MPD against the playlists.
        if self.mono - self.looked > 600_000 && files.iter().any(|(key, _)| key.as_str().ends_with(".mpd")) {
            self.looked = self.mono;
            let mut viewer = Reader::default();
            viewer.ordered(files).unwrap();
            for (key, text) in files {
                viewer.seen(key, text, &self.store).unwrap_or_else(|why| panic!("at {}: {why} in {text}", self.mono));
            }
        }
    }

    fn row(&mut self, number: u64, e: &reader::Entry) {
        let found = &mut self.found;
        // Every GOP is a row, so its number tells when its IDR was sent.
        let sent = self.course.sent(0, number as i64 * GOP);
        let right = START + sent + self.course.step_at(sent);
        assert!(!e.gap, "{number}");
        found.rows += 1;
        found.discontinuities += usize::from(e.fresh);
        if let Some((_, date, length)) = found.last {
            assert!(e.date >= date + 500, "a date goes back at {number}");
            let slewed = (e.date - date) * 1000 - length;
            assert!(e.fresh || slewed.abs() <= length / 100 + 1000, "{number}: {slewed} us");
        }
        found.last = Some((number, e.date, e.length));
        if !self.course.settles(sent) {
            let off = (right - e.date).abs();
            assert!(off <= 500, "{number}: {} ms off", right - e.date);
            found.worst = found.worst.max(off);
        }
    }

    /// Lets all deadlines up to `until` pass.
    fn wait(&mut self, until: i64) {
        if self.written.is_some_and(|at| at <= until) {
            self.written = None;
            let now = self.now();
            self.stream.manifests_written(Ok(()), now);
            self.outputs();
        }
        while let Some(at) = self.stream.poll_timeout().map(|at| at.as_millis() as i64).filter(|at| *at <= until) {
            self.mono = self.mono.max(at);
            let now = self.now();
            self.stream.handle_timeout(now);
            self.outputs();
        }
        self.mono = until;
    }

    fn send(&mut self, arrives: i64, packet: Packet) {
        self.wait(arrives.max(self.mono));
        let now = self.now();
        self.stream.packet(packet, now);
        self.outputs();
    }
}

fn run_for(length: i64, course: Course) -> Found {
    let stream = Stream::new(Setup { slate: None, window: MediaTime::from_millis(3 * WRITING), ..session(false) });
    let (store, kept, found) = (Store::default(), BTreeMap::new(), Found::default());
    let mut days = Days { course, stream, store, kept, mono: 0, looked: 0, written: None, found };
    let source = Source { record: Some(0), level: false, fps: 1, gop: 4, b_frames: false, audio: Some(2), clocks: [0, 0] };
    for packet in Publisher::new(source).configs() {
        days.send(0, packet);
    }
    let stamp = |own: i64| (BEGIN + own) as u32;
    let (mut picture, mut frame) = (0, 0);
    loop {
        let (v, a) = (days.course.sent(0, picture * PICTURE), days.course.sent(1, frame * FRAME_MS));
        if v.min(a) > length {
            return days.found;
        }
        let arrives = days.course.arrives(v.min(a));
        if v <= a {
            let idr = picture * PICTURE % GOP == 0;
            let time = stamp(picture * PICTURE);
            days.send(arrives, Packet::Video { time, composition: 0, key: idr, data: unit(idr) });
            picture += 1;
        } else {
            days.send(arrives, Packet::Audio { time: stamp(frame * FRAME_MS), data: Bytes::from_static(b"aac") });
            frame += days.course.thinned.max(1);
        }
    }
}

/// Stalls of 1 to 30 s, a few minutes apart.
fn stalls() -> Vec<(i64, i64)> {
    (1..DAYS / 300_000).map(|n| (n * 300_000 + n * 7919 % 60_000, 1000 + n * 104_729 % 29_000)).collect()
}

#[test]
fn half_a_percent_is_followed_by_dates_alone_and_a_period_for_every_half_second() {
    for (ppm, worst) in [(5000, 100), (-5000, 400)] {
        let found = run_for(6 * HOUR, Course { ppm: [ppm; 2], thinned: 50, ..Course::default() });
        // 108 s
        assert!((205..=217).contains(&found.periods) && found.worst <= worst, "{ppm}: {found:?}");
        assert_eq!((found.set, found.discontinuities), (0, 0), "{ppm}: {found:?}");
    }
}

#[test]
fn a_crystal_50_ppm_off_costs_26_periods_in_three_days() {
    let found = run_for(DAYS, Course { ppm: [-50; 2], stalls: stalls(), thinned: 50, ..Course::default() });
    // 13 s
    assert!((25..=27).contains(&found.periods) && found.worst <= 100, "{found:?}");
    assert_eq!((found.set, found.discontinuities), (0, 0), "{found:?}");
}

#[test]
fn where_each_track_has_a_clock_of_its_own_dates_follow_the_pictures() {
    let found = run_for(3 * HOUR, Course { ppm: [100, -300], stalls: stalls(), ..Course::default() });
    // 1.1 s
    assert!((2..=3).contains(&found.periods) && found.worst <= 100, "{found:?}");
    assert_eq!((found.set, found.discontinuities), (0, 0), "{found:?}");
}

#[test]
fn a_wall_clock_that_is_stepped_costs_what_the_steps_are() {
    let steps = [400, -400, 3000, -1300, -3000, 3_600_000, -10_000];
    let steps = steps.into_iter().zip(1..).map(|(by, hour)| (hour * HOUR, by)).collect();
    let found = run_for(8 * HOUR, Course { steps, settling: 420_000, thinned: 50, ..Course::default() });
    // Of small steps none; forward one each; back 1, 1 and 3: a row but for half a second, and a minute's slew, are 4.1 s.
    assert_eq!((found.set, found.discontinuities), (7, 7), "{found:?}");
    assert!(found.periods <= 7 + 12 && found.worst <= 60, "{found:?}");
}
