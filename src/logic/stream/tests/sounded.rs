//! Audio that goes through the codec process, or cannot.

use super::*;
use crate::cmaf::aac;
use crate::logic::loudness::Loudness;

/// What stands for the audio half of a codec process: gives back each frame on its own grid, a little later.
#[derive(Default)]
pub(super) struct Voice {
    plans: usize,
    encodes: bool,
    fed: Vec<MediaTime>,
    /// Frames are made no more.
    mute: bool,
}

/// What stays inside: 0.15 s.
const INSIDE: usize = 7;

impl World {
    pub(super) fn voice(&mut self, command: Command) {
        match command {
            Command::StartAudio(plan) => {
                if self.voice.plans > 0 {
                    self.speak(0);
                    let now = self.now();
                    self.stream.audio_given(now);
                }
                self.voice.plans += 1;
                self.voice.encodes = plan.encode.is_some();
            }
            Command::FeedAudio(unit) => self.voice.fed.push(unit.pts),
            // Another process has nothing of this one.
            _ => self.voice = Voice { mute: self.voice.mute, ..Voice::default() },
        }
    }

    /// Gives all frames but the last `keep`.
    pub(super) fn speak(&mut self, keep: usize) {
        let now = self.now();
        while self.voice.fed.len() > keep && !self.voice.mute {
            let pts = self.voice.fed.remove(0);
            if self.voice.encodes {
                // 3 ms off the source's frames
                self.stream.audio_made(pts + MediaTime(270), Bytes::from_static(b"made"), now);
            }
            self.outputs();
        }
    }

    pub(super) fn inside(&self) -> usize {
        if self.encoder.draining { 0 } else { INSIDE }
    }

    /// How often `what` stands in the segments of audio.
    fn audio_frames(&self, what: &[u8]) -> usize {
        let segments = self.bodies.iter().filter(|(key, _)| key.as_str().contains("/audio/"));
        segments.map(|(_, body)| body.windows(what.len()).filter(|w| w == &what).count()).sum()
    }

    fn sources(&mut self, asc: &'static [u8]) {
        self.packet(Packet::VideoConfig(Coding::H264, Bytes::from_static(RECORD_720P30)));
        self.packet(Packet::AudioConfig(Bytes::from_static(asc)));
    }

    fn silent_frames(&self) -> usize {
        self.audio_frames(&aac::silence(2).unwrap())
    }

    fn warnings(&self) -> Vec<String> {
        self.stream.status(None, None, self.now()).warnings
    }
}

const SURROUND: &[u8] = &[0x11, 0xb0];
const HE: &[u8] = &[0x2b, 0x11, 0x88, 0x00];

fn wide() -> Setup {
    Setup { window: MediaTime::from_secs(60), ..setup() }
}

/// Frames of sound and of silence where so many seconds, one part behind the other, are copied. The silence is where the last picture ends later than
/// the sound.
fn copied(parts: &[u64]) -> (usize, usize) {
    let mut w = World::new(wide());
    w.configs();
    let mut from = 0;
    for secs in parts {
        w.publish_from(from, *secs, 2000);
        from += secs;
    }
    w.packet(Packet::Unpublish);
    w.wait(3);
    (w.audio_frames(b"aac"), w.silent_frames())
}

#[test]
fn surround_sound_comes_back_whole_as_stereo() {
    let mut w = World::new(wide());
    w.sources(SURROUND);
    w.publish(9, 2000);
    w.packet(Packet::Unpublish);
    w.wait(3);
    assert_eq!(w.gaps("audio"), 0, "{}", w.playlist("audio"));
    assert_eq!((w.audio_frames(b"made"), w.silent_frames()), copied(&[9]), "as if it had been copied");
    let status = w.stream.status(None, None, w.now());
    let audio = status.rungs.last().unwrap();
    assert_eq!((audio.codec.as_str(), audio.name.as_str()), ("mp4a.40.2", "audio"));
}

#[test]
fn what_is_reencoded_is_named_with_its_reason() {
    for (asc, warning) in [(SURROUND, "AAC-LC 5.1 is not"), (HE, "HE-AAC is not")] {
        let mut w = World::new(setup());
        w.sources(asc);
        w.publish(5, 2000);
        assert!(w.warnings().iter().any(|t| t.starts_with("audio is re-encoded") && t.contains(warning)), "{:?}", w.warnings());
        let input = w.stream.status(None, None, w.now()).input.audio.unwrap();
        assert!(input.reencoded && input.codec != "mp4a.40.2" || input.channels == 6);
    }
}

#[test]
fn without_encoders_it_is_left_out_by_name_and_silence_stands_in() {
    let policy = timeline::Policy { can_encode: false, ..timeline::Policy::default() };
    let mut w = World::new(Setup { timeline: policy, ..setup() });
    w.sources(SURROUND);
    w.publish(7, 2000);
    w.wait(1);
    assert!(w.notes.iter().any(|n| n.starts_with("audio left out: AAC-LC 5.1")), "{:?}", w.notes);
    assert!(w.warnings().iter().any(|n| n.starts_with("audio left out: AAC-LC 5.1")), "{:?}", w.warnings());
    assert!(w.silent_frames() > 200 && w.gaps("audio") == 0);
    assert_eq!(w.audio_frames(b"aac"), 0);
}

#[test]
fn a_process_that_dies_costs_no_audio_when_another_takes_over_at_once() {
    let mut w = World::new(wide());
    w.sources(SURROUND);
    w.publish(5, 2000);
    let now = w.now();
    w.stream.codec_lost("killed", now);
    w.outputs();
    w.publish_from(5, 4, 2000);
    w.packet(Packet::Unpublish);
    w.wait(3);
    assert_eq!((w.gaps("audio"), w.discontinuities("audio")), (0, Vec::new()));
    assert_eq!((w.audio_frames(b"made"), w.silent_frames()), copied(&[5, 4]));
}

#[test]
fn until_a_new_process_speaks_there_is_silence_and_never_a_gap() {
    let mut w = World::new(wide());
    w.sources(SURROUND);
    w.publish(5, 2000);
    w.voice.mute = true;
    w.publish_from(5, 4, 2000);
    w.voice.mute = false;
    w.publish_from(9, 4, 2000);
    w.packet(Packet::Unpublish);
    w.wait(3);
    assert_eq!(w.gaps("audio"), 0, "{}", w.playlist("audio"));
    let silent = w.silent_frames();
    // 4 s less the patience
    assert!((120..190).contains(&silent), "{silent}");
    let (sound, tail) = copied(&[5, 4, 4]);
    assert!((w.audio_frames(b"made") + silent).abs_diff(sound + tail) <= 1, "one grid of frames and another");
}

#[test]
fn audio_alone_goes_through_a_process_of_its_own() {
    let mut w = World::new(setup());
    w.packet(Packet::AudioConfig(Bytes::from_static(HE)));
    for n in 0..500u32 {
        w.ms = u64::from(n) * 2048 / 48;
        w.packet(Packet::Audio { time: n * 2048 / 48, data: Bytes::from_static(b"he-aac") });
        w.encode();
        w.store();
        w.timers();
    }
    assert_eq!(w.encoder.starts, 1);
    assert!(w.playlist("audio").matches("#EXTINF").count() >= 5, "{}", w.playlist("audio"));
    assert_eq!(w.gaps("audio"), 0);
    assert!(w.audio_frames(b"made") > 300);
    // The pretended encoder makes one frame of each; every second one is missing, and one frame is no hole.
    assert_eq!(w.stream.status(None, None, w.now()).input.audio.unwrap().codec, "mp4a.40.5");
    w.packet(Packet::Unpublish);
    w.wait(70);
    assert!(w.over);
}

/// A stream that changes from one kind of audio to another in mid-session, at a cut or over a reconnect.
fn changed(from: &'static [u8], to: &'static [u8], reconnect: bool) -> World {
    let mut w = World::new(wide());
    w.sources(from);
    w.publish(5, 2000);
    if reconnect {
        w.packet(Packet::Unpublish);
        w.wait(3);
        let now = w.now();
        assert!(w.stream.returned(now));
        w.sources(to);
        w.publish(6, 2000);
    } else {
        w.packet(Packet::AudioConfig(Bytes::from_static(to)));
        w.publish_from(5, 6, 2000);
    }
    w.packet(Packet::Unpublish);
    w.wait(3);
    w
}

#[test]
fn every_change_of_audio_is_one_discontinuity_on_all_tracks() {
    const STEREO: &[u8] = &[0x11, 0x90];
    const CD: &[u8] = &[0x12, 0x10];
    for reconnect in [false, true] {
        for (from, to) in [(STEREO, SURROUND), (SURROUND, STEREO), (SURROUND, HE), (CD, HE), (HE, CD)] {
            let w = changed(from, to, reconnect);
            let at = w.discontinuities("src");
            assert_eq!(at.len(), 1, "{from:02x?} {to:02x?} {reconnect}");
            for track in TRACKS {
                assert_eq!(w.discontinuities(track), at, "{track} {from:02x?} {to:02x?} {reconnect}");
                assert_eq!(w.gaps(track), 0, "{track}: {}", w.playlist(track));
            }
            assert!(w.audio_frames(b"made") > 150, "{from:02x?} {to:02x?} {reconnect} {}", w.audio_frames(b"made"));
            let silent = w.silent_frames();
            // The new source's frames wait a second for the cut, and what is inside comes out no earlier.
            assert!(silent <= if reconnect { 6 } else { 48 + INSIDE + 4 }, "{from:02x?} {to:02x?} {reconnect}: {silent}");
        }
    }
}

#[test]
fn the_language_is_told_to_players_and_another_one_is_another_configuration() {
    let language = |text: &str| Packet::AudioLanguage(text.parse().ok());
    for (asc, reencoded) in [(&[0x11, 0x90][..], false), (SURROUND, true)] {
        let mut w = World::new(wide());
        w.packet(language("ger"));
        w.sources(asc);
        w.publish(5, 2000);
        assert!(w.index().contains("GROUP-ID=\"audio\",LANGUAGE=\"de\",NAME=\"audio\""), "{}", w.index());
        assert!(w.mpd().contains("lang=\"de\""), "{}", w.mpd());
        let audio = w.stream.status(None, None, w.now()).input.audio.unwrap();
        assert_eq!((audio.language, audio.reencoded), ("de".parse().ok(), reencoded));
        // Said again, it is nothing new.
        w.packet(language("deu"));
        w.publish_from(5, 6, 2000);
        assert_eq!(w.discontinuities("audio"), Vec::<usize>::new());
        w.packet(language("eng"));
        w.publish_from(11, 6, 2000);
        let at = w.discontinuities("audio");
        assert_eq!(at.len(), 1);
        assert!(TRACKS.iter().all(|track| w.discontinuities(track) == at));
        assert!(w.mpd().contains("lang=\"de\"") && w.mpd().contains("lang=\"en\""), "a period of each: {}", w.mpd());
        // The next publisher says nothing, and silence was never German.
        w.packet(Packet::Unpublish);
        w.wait(3);
        let now = w.now();
        assert!(w.stream.returned(now));
        w.sources(asc);
        w.publish(6, 2000);
        assert_eq!(w.stream.status(None, None, w.now()).input.audio.unwrap().language, None);
        assert!(w.mpd().contains("lang=\"und\""), "{}", w.mpd());
    }
}

#[test]
fn a_loudness_target_reencodes_what_would_be_copied() {
    let mut w = World::new(Setup { loudness_target: Some(-2300), ..wide() });
    w.configs();
    w.publish(5, 2000);
    w.stream.loudness(Loudness { integrated: Some(-2650), short_term: Some(i32::MIN), gain: Some(3456) });
    w.wait(1);
    assert!(w.audio_frames(b"made") > 100 && w.audio_frames(b"aac") == 0);
    assert!(w.warnings().iter().all(|t| !t.contains("audio")), "{:?}", w.warnings());
    let audio = w.stream.status(None, None, w.now()).input.audio.unwrap();
    let loudness = audio.loudness.unwrap();
    assert!(audio.reencoded);
    assert_eq!((loudness.integrated_lufs, loudness.short_term_lufs, loudness.gain_db), (Some(-26.5), None, Some(3.45)));
}

#[test]
fn audio_that_cannot_be_encoded_costs_no_picture() {
    let mut w = World::new(wide());
    w.sources(SURROUND);
    w.publish(3, 2000);
    w.voice.mute = true;
    for at in 3..9 {
        let (now, asked) = (w.now(), w.voice.plans);
        w.stream.audio_failed("no such decoder", now);
        w.publish_from(at, 1, 2000);
        assert!(w.voice.plans <= asked + 1, "it is asked again, but not at once");
    }
    assert_eq!((w.encoder.starts, w.gaps("480p"), w.gaps("audio")), (1, 0, 0));
    assert!(w.voice.plans > 2);
    assert!(w.warnings().iter().any(|t| t.contains("no such decoder")), "{:?}", w.warnings());
}

#[test]
fn a_frame_from_the_future_is_no_frame() {
    let mut w = World::new(wide());
    w.sources(SURROUND);
    w.publish(3, 2000);
    let now = w.now();
    w.stream.audio_made(MediaTime(i64::MAX), Bytes::from_static(b"evil"), now);
    w.publish_from(3, 4, 2000);
    w.wait(1);
    assert_eq!((w.gaps("audio"), w.audio_frames(b"evil"), w.silent_frames()), (0, 0, 0));
}

/// So many seconds of a publisher whose samples are `ppm` faster than its clock, from `from` seconds on.
fn publish_drifting(w: &mut World, from: u64, secs: u64, rate: i64, ppm: i64) {
    let mut audio = 0;
    let begin = w.ms;
    for n in 0..secs * 25 {
        let t = from * 1000 + n * 40;
        w.ms = begin + n * 40;
        loop {
            let time = from * 1000 + u64::try_from(audio * 1024 * 1_000_000_000 / (rate * (1_000_000 + ppm))).unwrap();
            if time > t {
                break;
            }
            w.packet(Packet::Audio { time: time as u32, data: Bytes::from_static(b"aac") });
            audio += 1;
        }
        let idr = t.is_multiple_of(2000);
        w.packet(Packet::Video { time: t as u32, composition: 80, key: idr, data: picture(idr) });
        w.encode();
        w.store();
        w.timers();
    }
    w.ms = begin + secs * 1000;
}

const STEREO_48: &[u8] = &[0x11, 0x90];
/// FFmpeg's.
const STEREO_48_NO_SBR: &[u8] = &[0x11, 0x90, 0x56, 0xe5, 0];
const MONO_44: &[u8] = &[0x12, 0x08];

fn is_reencoded(w: &World) -> bool {
    w.stream.status(None, None, w.now()).input.audio.unwrap().reencoded
}

#[test]
fn audio_that_is_always_off_is_reencoded_without_a_discontinuity_where_the_format_stays() {
    for (asc, ppm) in [(STEREO_48, 5000), (STEREO_48_NO_SBR, -5000)] {
        let mut w = World::new(Setup { window: MediaTime::from_secs(200), ..setup() });
        w.sources(asc);
        publish_drifting(&mut w, 0, 25, 48_000, ppm);
        assert!(!is_reencoded(&w) && w.audio_frames(b"made") == 0);
        publish_drifting(&mut w, 25, 59, 48_000, ppm);
        assert!(is_reencoded(&w), "{:?}", w.notes);
        let side = if ppm > 0 { "fast" } else { "slow" };
        let told = format!("audio runs 0.50 % {side} against its timestamps: it is resampled");
        assert!(w.warnings().iter().any(|t| t.starts_with(&told)), "{:?}", w.warnings());
        let stretch = w.stream.sound.drift.unwrap();
        assert!((stretch - ppm as i32).abs() <= 50, "{stretch}");
        w.packet(Packet::Unpublish);
        w.wait(3);
        assert_eq!((w.gaps("audio"), w.discontinuities("audio")), (0, Vec::new()), "{}", w.playlist("audio"));
        let (made, copied) = (w.audio_frames(b"made"), w.audio_frames(b"aac"));
        // 84 s in all
        assert!(made > 20 * 46 && made + copied > 83 * 46, "{made} {copied}");
    }
}

#[test]
fn where_the_format_changes_it_does_so_behind_a_discontinuity() {
    let mut w = World::new(Setup { window: MediaTime::from_secs(200), ..setup() });
    w.sources(MONO_44);
    publish_drifting(&mut w, 0, 50, 44_100, 5000);
    w.packet(Packet::Unpublish);
    w.wait(3);
    assert_eq!((w.gaps("audio"), w.discontinuities("audio").len()), (0, 1), "{}", w.playlist("audio"));
    let (made, copied) = (w.audio_frames(b"made"), w.audio_frames(b"aac"));
    assert!(made > 12 * 43 && made + copied > 49 * 43, "{made} {copied}");
}

#[test]
fn another_publisher_has_another_clock() {
    let mut w = World::new(Setup { window: MediaTime::from_secs(200), ..setup() });
    w.sources(STEREO_48);
    publish_drifting(&mut w, 0, 40, 48_000, 5000);
    assert!(is_reencoded(&w));
    let now = w.now();
    w.stream.left(false, now);
    w.outputs();
    w.wait(1);
    let now = w.now();
    assert!(w.stream.returned(now));
    w.sources(STEREO_48);
    let before = w.audio_frames(b"aac");
    w.publish(10, 2000);
    assert!(!is_reencoded(&w) && !w.warnings().iter().any(|t| t.contains("against its timestamps")), "{:?}", w.warnings());
    w.packet(Packet::Unpublish);
    w.wait(3);
    assert!(w.audio_frames(b"aac") - before > 9 * 46, "copied again");
    assert_eq!((w.gaps("audio"), w.discontinuities("audio").len()), (0, 1), "{}", w.playlist("audio"));
}

#[test]
fn where_nothing_encodes_it_stays_copied_and_the_streamer_is_told() {
    let policy = timeline::Policy { can_encode: false, ..timeline::Policy::default() };
    let mut w = World::new(Setup { timeline: policy, ..setup() });
    w.sources(STEREO_48);
    publish_drifting(&mut w, 0, 40, 48_000, -5000);
    assert!(!is_reencoded(&w));
    let told = "audio runs 0.50 % slow against its timestamps: a frame is left out or silent";
    assert!(w.warnings().iter().any(|t| t.starts_with(told)), "{:?}", w.warnings());
    assert_eq!(w.notes.iter().filter(|n| n.contains("0.50 % slow")).count(), 1, "once: {:?}", w.notes);
}
