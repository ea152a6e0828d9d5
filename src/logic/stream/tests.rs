//! Sessions in virtual time: a publisher, a pretended encoder and a store that can be slow or fail.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::cmaf::h264::tests::RECORD_720P30;
use crate::logic::ladder::Step;
use crate::logic::timeline::LongGop;

const START: i64 = 1_700_000_000_000;

/// The world around one [`Stream`].
struct World {
    stream: Stream,
    ms: u64,
    objects: BTreeSet<ObjectKey>,
    manifests: BTreeMap<ObjectKey, String>,
    /// Puts that are not answered yet.
    puts: Vec<Put>,
    writing: bool,
    deleted: Vec<(Duration, Vec<ObjectKey>)>,
    notes: Vec<String>,
    over: bool,
    encoder: Encoder,
    refused: Option<String>,
}

#[derive(Default)]
struct Encoder {
    rungs: usize,
    fed: Vec<(MediaTime, bool)>,
    configured: bool,
    draining: bool,
    starts: usize,
    /// Pictures that stay inside.
    delay: usize,
    dead: bool,
}

fn setup() -> Setup {
    let step = |name: &str, short_side, kbps| Step { name: name.parse().unwrap(), short_side, kbps, max_fps: 30 };
    Setup {
        region: "local".parse().unwrap(),
        stream: "demo".parse().unwrap(),
        session: "s1".parse().unwrap(),
        keeping: Keeping::default(),
        timeline: timeline::Policy::default(),
        window: MediaTime::from_secs(10),
        first_row_wait: Duration::from_secs(10),
        ladder: Ladder { rungs: vec![step("480p", 480, 1200), step("360p", 360, 700)], top_kbps: 5000, top_short_side: 1080 },
        grace: Grace { reconnect: Duration::from_secs(60), end_after: Duration::from_secs(300) },
        hold: Duration::from_secs(94),
        utc_timing: None,
    }
}

impl World {
    fn new(setup: Setup) -> Self {
        Self {
            stream: Stream::new(setup),
            ms: 0,
            objects: BTreeSet::new(),
            manifests: BTreeMap::new(),
            puts: Vec::new(),
            writing: false,
            deleted: Vec::new(),
            notes: Vec::new(),
            over: false,
            encoder: Encoder { delay: 12, ..Encoder::default() },
            refused: None,
        }
    }

    fn now(&self) -> Now {
        Now { mono: Duration::from_millis(self.ms), wall: UnixMillis(START + self.ms as i64) }
    }

    fn outputs(&mut self) {
        while let Some(output) = self.stream.poll_output() {
            match output {
                Output::Put(put) => self.puts.push(put),
                Output::Manifests(files) => {
                    assert!(!self.writing, "one write at a time");
                    self.writing = true;
                    for (key, text) in files {
                        self.check(&key, &text);
                        self.manifests.insert(key, text);
                    }
                }
                Output::Delete { after, keys } => self.deleted.push((after, keys)),
                Output::Codec(command) => self.codec(command),
                Output::Note(note) => self.notes.push(note.text),
                Output::Refuse(reason) => self.refused = Some(reason),
                Output::Over => self.over = true,
            }
        }
    }

    /// Nothing may be named that is not there, or that was given up for deletion.
    fn check(&self, key: &ObjectKey, text: &str) {
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

    fn codec(&mut self, command: Command) {
        let e = &mut self.encoder;
        match command {
            Command::Start { rungs, .. } => {
                *e = Encoder { rungs: rungs.len(), starts: e.starts + 1, delay: e.delay, ..Encoder::default() };
            }
            Command::Feed { unit, cut } => {
                let first = e.fed.is_empty() && !e.configured;
                e.fed.push((unit.pts, cut || first));
            }
            Command::Drain => e.draining = true,
            Command::Kill { .. } => *e = Encoder { starts: e.starts, delay: e.delay, dead: true, ..Encoder::default() },
        }
    }

    /// Lets the encoder give what it has.
    fn encode(&mut self) {
        let now = self.now();
        let keep = if self.encoder.draining { 0 } else { self.encoder.delay };
        while self.encoder.fed.len() > keep && !self.encoder.dead {
            let (pts, idr) = self.encoder.fed.remove(0);
            let rungs = self.encoder.rungs;
            if !self.encoder.configured {
                self.encoder.configured = true;
                for rung in 0..rungs {
                    self.stream.rung_config(rung, &Bytes::from_static(RECORD_720P30), now);
                }
            }
            for rung in 0..rungs {
                self.stream.rung_unit(rung, pts, idr, Bytes::from_static(b"encoded"), now);
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
    fn store(&mut self) {
        let now = self.now();
        for put in std::mem::take(&mut self.puts) {
            self.objects.extend(put.objects.iter().map(|(key, _)| key.clone()));
            self.stream.stored(put.id, Ok(()), now);
            self.outputs();
        }
        if std::mem::take(&mut self.writing) {
            self.stream.manifests_written(Ok(()), now);
            self.outputs();
        }
    }

    fn timers(&mut self) {
        while self.stream.poll_timeout().is_some_and(|at| at <= self.now().mono) {
            let (before, now) = (self.stream.poll_timeout(), self.now());
            self.stream.handle_timeout(now);
            self.outputs();
            if self.stream.poll_timeout() == before {
                break;
            }
        }
    }

    fn packet(&mut self, packet: Packet) {
        let now = self.now();
        self.stream.packet(packet, now);
        self.outputs();
    }

    fn configs(&mut self) {
        self.packet(Packet::VideoConfig(Bytes::from_static(RECORD_720P30)));
        self.packet(Packet::AudioConfig(Bytes::from_static(&[0x11, 0x90])));
    }

    /// `secs` of a publisher whose clock begins at 0 now: 25 fps, an IDR every `gop` ms, AAC.
    fn publish(&mut self, secs: u64, gop: u64) {
        let unit = |t: u8| Bytes::from([&[0, 0, 0, 2, t, 0][..]].concat());
        let (begin, mut audio) = (self.ms, 0u64);
        for n in 0..secs * 25 {
            let t = n * 40;
            self.ms = begin + t;
            while audio * 1024 / 48 <= t {
                self.packet(Packet::Audio { time: (audio * 1024 / 48) as u32, data: Bytes::from_static(b"aac") });
                audio += 1;
            }
            let idr = t % gop == 0;
            self.packet(Packet::Video { time: t as u32, composition: 80, key: idr, data: unit(if idr { 0x65 } else { 0x41 }) });
            self.encode();
            self.store();
            self.timers();
        }
        self.ms = begin + secs * 1000;
    }

    fn wait(&mut self, secs: u64) {
        for _ in 0..secs * 10 {
            self.ms += 100;
            self.encode();
            self.store();
            self.timers();
        }
    }

    fn playlist(&self, track: &str) -> &str {
        let key = ObjectKey::parse(&format!("live/local/demo/{track}.m3u8")).unwrap();
        self.manifests.get(&key).map_or("", String::as_str)
    }

    fn mpd(&self) -> &str {
        &self.manifests[&ObjectKey::parse("live/local/demo/manifest.mpd").unwrap()]
    }

    fn gaps(&self, track: &str) -> usize {
        self.playlist(track).matches("#EXT-X-GAP").count()
    }

    /// Segment numbers behind a DISCONTINUITY.
    fn discontinuities(&self, track: &str) -> Vec<usize> {
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

const TRACKS: [&str; 4] = ["src", "480p", "360p", "audio"];

#[test]
fn a_session_from_publish_to_endlist() {
    let mut w = World::new(Setup { grace: Grace { reconnect: Duration::from_secs(1), ..setup().grace }, ..setup() });
    w.configs();
    w.publish(9, 2000);
    assert!(w.playlist("src").contains("#EXTINF:2.000000"));
    w.packet(Packet::Unpublish);
    w.wait(2);
    assert!(w.playlist("src").ends_with("#EXT-X-ENDLIST\n"));
    assert!(w.mpd().contains("type=\"dynamic\"") && !w.over, "dash.js reads the last segments of a live MPD only");
    w.wait(3);
    assert!(w.mpd().contains("type=\"static\"") && w.over);
    for track in TRACKS {
        assert_eq!(w.gaps(track), 0, "{track}");
        assert_eq!(w.playlist(track).matches("#EXTINF").count(), 5, "{track}: {}", w.playlist(track));
        assert!(w.playlist(track).ends_with("#EXT-X-ENDLIST\n"));
    }
    assert!(w.encoder.dead, "the codec process is let go");
}

#[test]
fn an_mpd_that_has_named_the_last_segments_for_long_is_static_at_once() {
    let mut w = World::new(Setup { grace: Grace { reconnect: Duration::from_secs(10), ..setup().grace }, ..setup() });
    w.configs();
    w.publish(9, 2000);
    w.packet(Packet::Unpublish);
    w.wait(9);
    assert!(!w.playlist("src").contains("#EXT-X-ENDLIST"));
    w.wait(2);
    assert!(w.mpd().contains("type=\"static\"") && w.over);
}

#[test]
fn a_worker_that_ends_waits_for_no_player() {
    for stopped_before in [false, true] {
        let mut w = World::new(setup());
        w.configs();
        w.publish(9, 2000);
        let now = w.now();
        if stopped_before {
            w.stream.stop(now);
            w.outputs();
            w.wait(1);
            assert!(w.playlist("src").ends_with("#EXT-X-ENDLIST\n") && !w.over);
        }
        let now = w.now();
        w.stream.drain(now);
        w.outputs();
        w.wait(1);
        assert!(w.mpd().contains("type=\"static\"") && w.over);
    }
}

#[test]
fn a_dead_codec_process_costs_no_segment_that_can_still_be_made() {
    let mut w = World::new(setup());
    w.configs();
    w.publish(5, 2000);
    let now = w.now();
    w.stream.codec_lost("killed", now);
    w.outputs();
    assert_eq!(w.encoder.starts, 2);
    w.ms += 40;
    w.wait(2);
    assert_eq!((w.gaps("src"), w.gaps("480p"), w.gaps("360p")), (0, 0, 0));
    assert!(w.discontinuities("480p").is_empty(), "the parameter sets are the same");
}

#[test]
fn an_encoder_that_hangs_costs_gaps_on_its_rungs_only() {
    let mut w = World::new(setup());
    w.configs();
    w.encoder.delay = 12;
    w.publish(5, 2000);
    w.encoder.delay = usize::MAX;
    // the publisher's clock goes on where it was: 40 ms behind the last frame
    let unit = |t: u8| Bytes::from([&[0, 0, 0, 2, t, 0][..]].concat());
    for n in 125..400u64 {
        let t = n * 40;
        w.ms += 40;
        let idr = t % 2000 == 0;
        w.packet(Packet::Video { time: t as u32, composition: 80, key: idr, data: unit(if idr { 0x65 } else { 0x41 }) });
        if w.encoder.starts == 2 {
            w.encoder.delay = 12;
        }
        w.encode();
        w.store();
        w.timers();
    }
    assert_eq!(w.gaps("src"), 0);
    let gaps = w.gaps("480p");
    assert!((1..=4).contains(&gaps), "5 s and two segments at the most: {gaps}");
    assert_eq!(w.encoder.starts, 2);
}

#[test]
fn a_reconnect_is_a_discontinuity_at_the_same_number_everywhere() {
    let mut w = World::new(Setup { window: MediaTime::from_secs(60), ..setup() });
    w.configs();
    w.publish(5, 2000);
    w.packet(Packet::Unpublish);
    w.wait(4);
    let now = w.now();
    assert!(w.stream.returned(now));
    w.configs();
    w.publish(6, 2000);
    w.wait(1);
    let expected = w.discontinuities("src");
    assert_eq!(expected.len(), 1);
    for track in TRACKS {
        assert_eq!(w.discontinuities(track), expected, "{track}");
        assert_eq!(w.gaps(track), 0, "{track}: {}", w.playlist(track));
    }
    assert_eq!(w.mpd().matches("<Period ").count(), 2);
}

#[test]
fn another_format_in_mid_stream_is_a_discontinuity_and_loses_nothing() {
    let mut w = World::new(Setup { window: MediaTime::from_secs(60), ..setup() });
    w.configs();
    w.publish(5, 2000);
    // The same size at another level: the record differs by one byte.
    let mut other = RECORD_720P30.to_vec();
    other[3] = 0x20;
    let unit = |t: u8| Bytes::from([&[0, 0, 0, 2, t, 0][..]].concat());
    for n in 125..300u64 {
        if n == 150 {
            w.packet(Packet::VideoConfig(other.clone().into()));
        }
        let t = n * 40;
        w.ms = t;
        let idr = t % 2000 == 0;
        w.packet(Packet::Audio { time: t as u32, data: Bytes::from_static(b"aac") });
        w.packet(Packet::Video { time: t as u32, composition: 80, key: idr, data: unit(if idr { 0x65 } else { 0x41 }) });
        w.encode();
        w.store();
        w.timers();
    }
    w.wait(1);
    let expected = w.discontinuities("src");
    assert_eq!(expected, [3], "{}", w.playlist("src"));
    assert_eq!(w.encoder.starts, 2);
    for track in TRACKS {
        assert_eq!(w.discontinuities(track), expected, "{track}");
        assert_eq!(w.gaps(track), 0, "{track}: {}", w.playlist(track));
    }
    assert_eq!(w.playlist("src").matches("#EXT-X-MAP").count(), 2);
}

#[test]
fn a_publisher_that_left_before_the_first_segment_may_begin_anew() {
    // 0.3 s are too short to keep
    let mut short = World::new(setup());
    short.configs();
    let unit = |t: u8| Bytes::from([&[0, 0, 0, 2, t, 0][..]].concat());
    for n in 0..8u32 {
        short.packet(Packet::Video {
            time: n * 40,
            composition: 80,
            key: n == 0,
            data: unit(if n == 0 { 0x65 } else { 0x41 }),
        });
    }
    short.packet(Packet::Unpublish);
    short.wait(3);
    let now = short.now();
    assert!(short.stream.returned(now));
    short.configs();
    short.publish(7, 2000);
    short.wait(1);
    for track in TRACKS {
        assert_eq!(short.playlist(track).matches("#EXTINF").count(), 3, "{track}: {}", short.playlist(track));
        assert_eq!(short.gaps(track), 0, "{track}");
    }
}

#[test]
fn a_source_whose_clock_stands_still_is_refused() {
    let mut w = World::new(setup());
    w.configs();
    for n in 0..3000 {
        let idr = n == 0;
        let unit = Bytes::from([&[0, 0, 0, 2, if idr { 0x65 } else { 0x41 }, 0][..]].concat());
        w.packet(Packet::Video { time: 0, composition: 0, key: idr, data: unit });
    }
    assert!(w.refused.unwrap().contains("do not advance"));
}

#[test]
fn obs_at_its_defaults_gets_a_reencoded_top_rung() {
    let mut w = World::new(setup());
    w.configs();
    w.publish(9, 8320);
    let index = &w.manifests[&ObjectKey::parse("live/local/demo/index.m3u8").unwrap()];
    assert!(index.contains("top.m3u8") && !index.contains("src.m3u8"), "{index}");
    assert_eq!(w.encoder.starts, 2, "once for the likely ladder, once for the decided one");
    assert!(w.playlist("top").matches("#EXTINF").count() >= 3);
    assert_eq!(w.gaps("top"), 0);
}

#[test]
fn a_source_whose_gop_grows_is_stood_in_for_by_the_next_rung() {
    let mut w = World::new(Setup { window: MediaTime::from_secs(60), ..setup() });
    w.configs();
    let unit = |t: u8| Bytes::from([&[0, 0, 0, 2, t, 0][..]].concat());
    for n in 0..350u64 {
        let t = n * 40;
        w.ms = t;
        let idr = t % 2000 == 0 && t <= 4000;
        w.packet(Packet::Audio { time: t as u32, data: Bytes::from_static(b"aac") });
        w.packet(Packet::Video { time: t as u32, composition: 80, key: idr, data: unit(if idr { 0x65 } else { 0x41 }) });
        w.encode();
        w.store();
        w.timers();
    }
    let expected = w.discontinuities("src");
    assert_eq!(expected.len(), 1, "{}", w.playlist("src"));
    for track in TRACKS {
        assert_eq!(w.discontinuities(track), expected, "{track}");
        assert_eq!(w.gaps(track), 0, "{track}: {}", w.playlist(track));
    }
    let (own, lent) = w.playlist("src").split_once("#EXT-X-DISCONTINUITY\n").unwrap();
    assert!(own.contains("/src/") && !own.contains("/480p/"), "{own}");
    assert!(!lent.contains("/src/") && lent.contains("/480p/init-") && lent.contains("/480p/"), "{lent}");
    let mpd = &w.manifests[&ObjectKey::parse("live/local/demo/manifest.mpd").unwrap()];
    let periods: Vec<&str> = mpd.split("<Period ").skip(1).collect();
    assert_eq!(periods.iter().map(|p| p.contains("id=\"src\"")).collect::<Vec<_>>(), [true, false], "{mpd}");
}

#[test]
fn a_source_is_refused_where_the_operator_says_so() {
    let policy = timeline::Policy { long_gop: LongGop::Refuse, ..timeline::Policy::default() };
    let mut w = World::new(Setup { timeline: policy, ..setup() });
    w.configs();
    w.publish(6, 8320);
    assert!(w.refused.unwrap().contains("2 s in OBS"));
}

#[test]
fn without_encoders_the_source_goes_live_alone() {
    let policy = timeline::Policy { can_encode: false, ..timeline::Policy::default() };
    let mut w = World::new(Setup { timeline: policy, ..setup() });
    w.configs();
    w.publish(7, 2000);
    assert_eq!(w.encoder.starts, 0);
    assert_eq!(w.playlist("src").matches("#EXTINF").count(), 3);
}

#[test]
fn encoders_that_never_start_do_not_hold_the_source_back_for_ever() {
    let mut w = World::new(setup());
    w.encoder.delay = usize::MAX;
    w.configs();
    w.publish(14, 2000);
    assert!(w.playlist("src").contains("#EXTINF"));
    assert!(w.gaps("480p") > 0);
    let index = &w.manifests[&ObjectKey::parse("live/local/demo/index.m3u8").unwrap()];
    assert!(index.contains("480p.m3u8") && index.contains("avc1.6400"), "announced by what was asked for: {index}");
}

#[test]
fn what_left_the_window_is_deleted_behind_the_playlist_without_it() {
    let mut w = World::new(setup());
    w.configs();
    w.publish(40, 2000);
    let gone: usize = w.deleted.iter().map(|(_, keys)| keys.len()).sum();
    assert!(gone >= 4 * 10, "{gone}");
    assert!(w.deleted.iter().all(|(after, _)| *after == Duration::from_secs(94)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the store does, in whichever order, nothing is named that is not there (asserted in `check`), and the session ends.
    #[test]
    fn a_slow_and_failing_store_never_makes_a_playlist_lie(choices in proptest::collection::vec(any::<u8>(), 600)) {
        let mut w = World::new(Setup { grace: Grace { reconnect: Duration::from_secs(1), ..setup().grace }, ..setup() });
        let mut choices = choices.into_iter().cycle();
        w.configs();
        let unit = |t: u8| Bytes::from([&[0, 0, 0, 2, t, 0][..]].concat());
        for n in 0..500u64 {
            w.ms = n * 40;
            let idr = n % 50 == 0;
            w.packet(Packet::Video { time: w.ms as u32, composition: 0, key: idr, data: unit(if idr { 0x65 } else { 0x41 }) });
            w.encode();
            let choice = choices.next().unwrap_or(0);
            let now = w.now();
            if !w.puts.is_empty() && choice & 1 == 0 {
                let put = w.puts.swap_remove(usize::from(choice >> 1) % w.puts.len());
                let failed = choice >> 1 & 7 == 0;
                // A failed put may still have stored its first object.
                let stored = if failed { put.objects.len() - 1 } else { put.objects.len() };
                w.objects.extend(put.objects[..stored].iter().map(|(key, _)| key.clone()));
                w.stream.stored(put.id, if failed { Err("no".into()) } else { Ok(()) }, now);
                w.outputs();
            }
            if w.writing && choice & 2 == 0 {
                w.writing = false;
                w.stream.manifests_written(if choice & 0x30 == 0 { Err("no".into()) } else { Ok(()) }, now);
                w.outputs();
            }
            w.timers();
        }
        w.packet(Packet::Unpublish);
        w.wait(20);
        prop_assert!(w.over, "puts {} writing {} notes {:?}", w.puts.len(), w.writing, w.notes);
        let count = w.playlist("src").matches("#EXTINF").count();
        for track in TRACKS {
            prop_assert_eq!(w.playlist(track).matches("#EXTINF").count(), count);
        }
    }
}
