use super::*;
use crate::logic::model::{FrameRate, Keys};
use crate::logic::render::{dash, hls};

const VIDEO: usize = 0;
const AUDIO: usize = 1;

/// Two tracks, target 2 s, window 10 s (the least), 4 s for the first row.
fn window() -> Window {
    let video = VideoFormat {
        width: 1280,
        height: 720,
        fps: FrameRate::whole(30),
        codec: "avc1.64001f".into(),
        avcc: Default::default(),
    };
    let rate = Timescale::new(48_000).unwrap();
    let audio = AudioFormat { rate, channels: 2, codec: "mp4a.40.2".into(), asc: Default::default(), language: None };
    let track =
        |name: &str, format, max_bitrate| Track { name: name.parse().unwrap(), format, max_bitrate, average_bitrate: None };
    let tracks = vec![track("720p", Format::Video(video), 4_200_000), track("audio", Format::Audio(audio), 128_000)];
    let policy = Policy { target_duration: 2, window: MediaTime::ZERO, first_row_wait: Duration::from_secs(4) };
    Window::new("s1".parse().unwrap(), policy, UnixMillis(0), tracks)
}

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn at(s: i64) -> MediaTime {
    MediaTime::from_secs(s)
}

fn eras(list: &[(u32, i64)]) -> Vec<Era> {
    list.iter().map(|&(number, start)| Era { number, start: at(start), shift: MediaTime::ZERO }).collect()
}

fn keys() -> Keys {
    Keys::new(&"r".parse().unwrap(), &"st".parse().unwrap(), &"s1".parse().unwrap(), 1, Default::default())
}

fn placed(w: &Window, track: usize, start: i64, end: i64) -> Placed {
    let Track { name, format, .. } = &w.tracks()[track];
    let hz = i64::from(format.timescale().hz());
    let init = Arc::new(Init { key: keys().init(name, "00000000"), format: format.clone() });
    Placed { start: start * hz, duration: (end - start) * hz, size: 250_000, key: keys().segment(name, start * hz), init }
}

/// Opens row `n` at `start` and names the one before it with both tracks in place.
fn cut(w: &mut Window, n: u64, start: i64, discontinuity: bool) {
    let before = w.open_row();
    assert!(w.open(n, at(start), discontinuity, secs(0)));
    if let Some((row, from)) = before {
        for track in [VIDEO, AUDIO] {
            let segment = placed(w, track, from.0 / 90_000, start);
            assert!(w.place(track, row, segment));
        }
        assert!(w.advance(Store::Up, &|_| false, secs(0)));
    }
}

fn numbers(w: &Window) -> Vec<u64> {
    w.snapshot().map_or(Vec::new(), |s| s.rows.iter().map(|r| r.number).collect())
}

#[test]
fn a_rung_that_is_not_produced_names_the_next_lower_one_and_the_lowest_the_next_better_one() {
    let format = |height| VideoFormat {
        width: height * 2,
        height,
        fps: FrameRate::whole(30),
        codec: "avc1.64001f".into(),
        avcc: Default::default(),
    };
    let track = |name: &str, height| Track {
        name: name.parse().unwrap(),
        format: Format::Video(format(height)),
        max_bitrate: 1000,
        average_bitrate: None,
    };
    let policy = Policy { target_duration: 2, window: MediaTime::from_secs(10), first_row_wait: Duration::ZERO };
    let tracks = vec![track("src", 720), track("480p", 480), track("360p", 360)];
    let keys = Keys::new(&"local".parse().unwrap(), &"demo".parse().unwrap(), &"s".parse().unwrap(), 1, Default::default());
    for (produced, not) in [(2, [0, 1]), (0, [1, 2])] {
        let mut w = Window::new("s".parse().unwrap(), policy, UnixMillis(0), tracks.clone());
        assert!(w.open(0, MediaTime::ZERO, false, Duration::ZERO));
        not.iter().for_each(|track| w.borrow(*track, 0));
        let track = &tracks[produced];
        let init = Arc::new(Init { key: keys.init(&track.name, "00000000"), format: track.format.clone() });
        let placed = Placed { start: 0, duration: 180_000, size: 9, key: keys.segment(&track.name, 0), init };
        assert!(w.place(produced, 0, placed.clone()));
        w.close(MediaTime::from_secs(2), Duration::ZERO);
        assert!(w.advance(Store::Up, &|_| false, Duration::ZERO), "nobody waits for what is not produced");
        assert_eq!(w.snapshot().unwrap().rows[0].slots, vec![Slot::Media(placed); 3]);
    }
}

#[test]
fn rows_are_named_in_order_whatever_the_order_of_the_uploads() {
    let mut w = window();
    for n in 0..3 {
        assert!(w.open(n, at(2 * n as i64), false, secs(0)));
    }
    for track in [VIDEO, AUDIO] {
        let segment = placed(&w, track, 2, 4);
        assert!(w.place(track, 1, segment));
    }
    assert!(!w.advance(Store::Up, &|_| false, secs(0)), "row 1 is ready, row 0 is not");
    assert_eq!(w.oldest_unmade(), Some((0, at(0))));
    for track in [AUDIO, VIDEO] {
        assert!(w.snapshot().is_none());
        let segment = placed(&w, track, 0, 2);
        assert!(w.place(track, 0, segment));
        w.advance(Store::Up, &|_| false, secs(0));
    }
    assert_eq!(numbers(&w), [0, 1]);
    assert_eq!(w.open_row(), Some((2, at(4))));
}

#[test]
fn numbers_come_without_holes() {
    let mut w = window();
    assert!(!w.open(1, at(0), false, secs(0)));
    assert!(w.open(0, at(0), false, secs(0)));
    assert!(!w.open(0, at(2), false, secs(0)));
    assert!(!w.open(2, at(2), false, secs(0)));
    assert!(w.open(1, at(2), false, secs(0)));
}

#[test]
fn a_late_segment_becomes_a_gap_after_the_deadline_and_stays_one() {
    let mut w = window();
    assert!(w.open(0, at(0), false, secs(0)));
    assert!(w.open(1, at(2), false, secs(2)));
    let segment = placed(&w, VIDEO, 0, 2);
    assert!(w.place(VIDEO, 0, segment));
    assert_eq!(w.poll_timeout(), Some(secs(6)), "the first row waits for codecs that start");
    assert!(!w.advance(Store::Up, &|_| false, secs(5)));
    assert!(w.advance(Store::Up, &|_| false, secs(6)));

    assert!(!w.wants(AUDIO, 0));
    let late = placed(&w, AUDIO, 0, 2);
    assert!(!w.place(AUDIO, 0, late), "too late: nobody names it any more");
    let row = &w.snapshot().unwrap().rows[0];
    assert!(matches!(row.slots[..], [Slot::Media(_), Slot::Gap]));

    assert!(w.open(2, at(4), false, secs(10)));
    assert_eq!(w.poll_timeout(), Some(secs(12)), "later rows wait as long as they are");
    assert!(w.advance(Store::Up, &|_| false, secs(12)));
    assert!(matches!(w.snapshot().unwrap().rows[1].slots[..], [Slot::Gap, Slot::Gap]));
}

#[test]
fn a_row_waits_longer_where_that_is_allowed() {
    let mut w = window();
    assert!(w.open(0, at(0), false, secs(0)));
    assert!(w.open(1, at(2), false, secs(2)));
    assert!(w.advance(Store::Up, &|_| false, secs(6)));
    w.allow(secs(3));
    assert!(w.open(2, at(4), false, secs(10)));
    w.allow(Duration::ZERO);
    assert_eq!(w.poll_timeout(), Some(secs(15)), "its own 2 s and 3");
    assert!(!w.advance(Store::Up, &|_| false, secs(14)));
    assert!(w.open(3, at(6), false, secs(16)));
    assert!(w.advance(Store::Up, &|_| false, secs(16)));
    assert_eq!(w.poll_timeout(), Some(secs(18)), "the next one as long as it is");
}

#[test]
fn a_lost_segment_is_a_gap_at_once_and_can_not_be_placed() {
    let mut w = window();
    assert!(w.open(0, at(0), false, secs(0)));
    assert!(w.open(1, at(2), false, secs(2)));
    assert!(w.wants(VIDEO, 0));
    w.lose(VIDEO, 0);
    assert!(!w.wants(VIDEO, 0));
    let (lost, twice) = (placed(&w, VIDEO, 0, 2), placed(&w, AUDIO, 0, 2));
    assert!(!w.place(VIDEO, 0, lost));
    assert!(w.place(AUDIO, 0, twice.clone()));
    assert!(!w.place(AUDIO, 0, twice), "twice");
    assert!(w.advance(Store::Up, &|_| false, secs(2)));
}

#[test]
fn eviction_leaves_at_least_the_window_and_counts() {
    let mut w = window();
    for n in 0..20 {
        cut(&mut w, n, 2 * n as i64, false);
        if let Some(s) = w.snapshot() {
            let listed: i64 = s.rows.iter().map(|r| (r.end - r.start).0).sum();
            assert!(listed >= s.window.0.min(2 * n as i64 * 90_000));
            assert!(listed < s.window.0 + 2 * 90_000, "and no more than it must");
        }
    }
    assert_eq!(numbers(&w), [14, 15, 16, 17, 18]);
}

#[test]
fn a_pause_does_not_empty_the_window() {
    let mut w = window();
    for n in 0..6 {
        cut(&mut w, n, 2 * n as i64, false);
    }
    w.close(at(12), secs(0));
    for track in [VIDEO, AUDIO] {
        let segment = placed(&w, track, 10, 12);
        assert!(w.place(track, 5, segment));
    }
    assert!(w.advance(Store::Up, &|_| false, secs(0)));
    assert!(w.open(6, at(100), true, secs(0)));
    cut(&mut w, 7, 102, false);
    assert_eq!(numbers(&w), [2, 3, 4, 5, 6], "10 s to play, whatever lies between");
    assert_eq!(w.snapshot().unwrap().eras, eras(&[(0, 0), (1, 100)]));
}

#[test]
fn discontinuities_begin_eras_and_are_counted_when_they_leave() {
    let mut w = window();
    for n in 0..4 {
        cut(&mut w, n, 2 * n as i64, n == 0 || n == 2);
    }
    let s = w.snapshot().unwrap();
    assert_eq!(s.rows.iter().map(|r| r.discontinuity).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(s.rows.iter().map(|r| r.era).collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!((s.discontinuity_sequence, s.eras), (0, eras(&[(0, 0), (1, 4)])));

    for n in 4..8 {
        cut(&mut w, n, 2 * n as i64, false);
    }
    let s = w.snapshot().unwrap();
    assert!(s.rows[0].discontinuity);
    assert_eq!((s.discontinuity_sequence, s.eras), (0, eras(&[(1, 4)])), "the tag is still there");

    cut(&mut w, 8, 16, false);
    let s = w.snapshot().unwrap();
    assert_eq!((s.rows[0].number, s.discontinuity_sequence, s.eras), (3, 1, eras(&[(1, 4)])));
}

#[test]
fn dates_that_moved_by_half_a_second_begin_a_period_without_a_discontinuity() {
    for (shift, period, length, date) in [(300, "PT4.6S", "PT4S", "04.600Z"), (-300, "PT3.4S", "PT3.4S", "03.400Z")] {
        let mut w = window();
        for n in 0..4 {
            w.shift(MediaTime::from_millis(shift * n as i64));
            cut(&mut w, n, 2 * n as i64, false);
        }
        let s = w.snapshot().unwrap();
        assert_eq!(s.rows.iter().map(|r| (r.era, r.discontinuity)).collect::<Vec<_>>(), [(0, false), (0, false), (1, false)]);
        let mpd = dash::mpd(&s, &keys(), UnixMillis(0), &dash::MpdOptions::default(), "").unwrap();
        assert!(mpd.contains(&format!("<Period id=\"0\" start=\"PT0S\" duration=\"{length}\">")), "{mpd}");
        assert!(mpd.contains(&format!("<Period id=\"1\" start=\"{period}\">")), "{mpd}");
        let hls = hls::media(&s, &keys(), VIDEO, None, "");
        assert!(hls.contains(&format!("PROGRAM-DATE-TIME:1970-01-01T00:00:{date}")), "{hls}");
        assert!(!hls.contains("DISCONTINUITY"), "{hls}");
    }
}

#[test]
fn evicted_objects_are_returned_once() {
    let mut w = window();
    for n in 0..7 {
        cut(&mut w, n, 2 * n as i64, false);
    }
    let audio: TrackName = "audio".parse().unwrap();
    let gone = w.take_evicted();
    assert_eq!(gone.len(), 2);
    assert!(gone.contains(&keys().segment(&audio, 0)));
    assert!(w.take_evicted().is_empty());
}

#[test]
fn an_object_that_two_tracks_name_is_returned_once() {
    let mut w = window();
    for n in 0..7 {
        assert!(w.open(n, at(2 * n as i64), false, secs(0)));
        for track in [VIDEO, AUDIO] {
            let shared = placed(&w, VIDEO, 2 * n as i64, 2 * n as i64 + 2);
            assert!(w.place(track, n, shared));
        }
        w.advance(Store::Up, &|_| false, secs(0));
    }
    assert_eq!(w.take_evicted().len(), 1);
}

#[test]
fn a_row_longer_than_declared_raises_the_target_duration_for_good() {
    let mut w = window();
    cut(&mut w, 0, 0, false);
    cut(&mut w, 1, 2, false);
    assert_eq!(w.snapshot().unwrap().target_duration, 2);
    cut(&mut w, 2, 5, false);
    for n in 3..12 {
        cut(&mut w, n, 2 * n as i64 + 1, false);
    }
    assert_eq!(w.snapshot().unwrap().target_duration, 3);
}

#[test]
fn the_average_counts_bytes_over_the_time_that_has_media() {
    let mut w = window();
    for n in 0..4 {
        cut(&mut w, n, 2 * n as i64, false);
    }
    w.lose(VIDEO, 3);
    w.close(at(8), secs(0));
    assert!(w.advance(Store::Up, &|_| false, secs(2)));
    // 250000 bytes in 2 s
    assert_eq!(w.snapshot().unwrap().tracks[VIDEO].average_bitrate, Some(1_000_000));
}

#[test]
fn after_the_end_the_last_row_is_named_and_no_more_follow() {
    let mut w = window();
    cut(&mut w, 0, 0, false);
    cut(&mut w, 1, 2, false);
    w.end(at(3), secs(0));
    assert!(!w.finished() && !w.snapshot().unwrap().ended, "row 1 still waits");
    assert!(!w.open(2, at(4), false, secs(0)));
    assert!(w.advance(Store::Up, &|_| false, secs(1)));
    assert!(w.finished() && w.snapshot().unwrap().ended);
    assert_eq!(numbers(&w), [0, 1]);
    assert_eq!(w.poll_timeout(), None);
}

#[test]
fn an_end_at_a_cut_leaves_no_empty_row() {
    let mut w = window();
    cut(&mut w, 0, 0, false);
    cut(&mut w, 1, 2, false);
    w.end(at(2), secs(0));
    assert!(w.finished());
    assert_eq!(numbers(&w), [0]);
}
