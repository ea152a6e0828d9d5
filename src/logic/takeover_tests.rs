use proptest::prelude::*;

use super::*;
use crate::logic::model::{AudioFormat, FrameRate, Keys, VideoFormat};
use crate::logic::playlist::{Policy, Snapshot, Store, Track, Window};
use crate::logic::render::hls;
use crate::logic::time::UnixMillis;
use std::time::Duration;

fn keys() -> Keys {
    Keys::new(&"eu".parse().unwrap(), &"demo".parse().unwrap(), &"s1".parse().unwrap(), 2, Default::default())
}

fn formats() -> [Format; 3] {
    let video = |height: u32| {
        Format::Video(VideoFormat {
            width: height * 16 / 9,
            height,
            fps: FrameRate::whole(30),
            codec: "avc1.64001f".into(),
            avcc: Default::default(),
        })
    };
    let rate = Timescale::new(48_000).unwrap();
    let audio = AudioFormat { rate, channels: 2, codec: "mp4a.40.2".into(), asc: Default::default(), language: None };
    [video(720), video(360), Format::Audio(audio)]
}

fn tracks() -> Vec<Track> {
    let track = |name: &str, format| Track { name: name.parse().unwrap(), format, max_bitrate: 1000, average_bitrate: None };
    ["720p", "360p", "audio"].into_iter().zip(formats()).map(|(name, format)| track(name, format)).collect()
}

/// A window in which `lost` slots are gaps and `cuts` rows have a discontinuity; rows are 2 s long.
fn window(rows: u64, lost: &BTreeSet<(u64, usize)>, breaks: &BTreeSet<u64>) -> Window {
    let policy = Policy { target_duration: 2, window: MediaTime::from_secs(20), first_row_wait: Duration::ZERO };
    let mut w = Window::new("s1".parse().unwrap(), policy, UnixMillis(1_700_000_000_000), tracks());
    for n in 0..=rows {
        let start = MediaTime::from_secs(2 * n as i64);
        // dates that drift, by what may be a Period's worth
        w.shift(MediaTime::from_millis(n as i64 * 137 - 900));
        assert!(w.open(n, start, breaks.contains(&n), Duration::ZERO));
    }
    for n in 0..rows {
        for (t, track) in tracks().iter().enumerate() {
            if lost.contains(&(n, t)) {
                w.lose(t, n);
                continue;
            }
            let (from, to) = bounds(t, n, breaks);
            let init = Arc::new(Init { key: keys().init(&track.name, "00000000"), format: track.format.clone() });
            let key = keys().segment(&track.name, from);
            assert!(w.place(t, n, Placed { start: from, duration: to - from, size: 7, key, init }));
        }
        w.advance(Store::Up, &|_| false, Duration::ZERO);
    }
    w
}

/// Audio begins with the first frame at or behind the cut; behind a discontinuity exactly there.
fn bounds(track: usize, n: u64, breaks: &BTreeSet<u64>) -> (i64, i64) {
    let n = n as i64;
    if track < 2 {
        return (180_000 * n, 180_000 * (n + 1));
    }
    let run = breaks.iter().rev().find(|&&b| b as i64 <= n).map_or(0, |&b| b as i64);
    let next = breaks.iter().find(|&&b| b as i64 > n).map(|&b| b as i64);
    let at = |m: i64| 96_000 * run + (96_000 * (m - run) + FRAME - 1) / FRAME * FRAME;
    (at(n), if next == Some(n + 1) { 96_000 * (n + 1) } else { at(n + 1) })
}

fn announced(w: &Window, s: &Snapshot) -> Announced {
    Announced {
        anchor: s.anchor,
        target_duration: 2,
        window: s.window,
        end: s.rows.last().unwrap().end,
        tracks: s.tracks.clone(),
        source: None,
        eras: s.eras.clone(),
        captions: s.captions.clone(),
        inits: w.inits().iter().map(|i| (**i).clone()).collect(),
    }
}

fn texts(s: &Snapshot) -> Vec<(ObjectKey, Option<String>)> {
    let text = |i: usize| (keys().playlist(&s.tracks[i].name), Some(hls::media(s, &keys(), i, None, "m")));
    (0..s.tracks.len()).map(text).collect()
}

fn sizeless(rows: &[Row]) -> Vec<Row> {
    let mut rows = rows.to_vec();
    for slot in rows.iter_mut().flat_map(|r| &mut r.slots) {
        if let Slot::Media(m) = slot {
            m.size = 0;
        }
    }
    rows
}

#[test]
fn a_track_that_is_behind_gets_what_was_stored_and_a_gap_for_what_was_not() {
    let (none, breaks) = (BTreeSet::new(), BTreeSet::new());
    let (new, old) = (window(6, &none, &breaks), window(5, &none, &breaks));
    let (s, before) = (new.snapshot().unwrap(), old.snapshot().unwrap());
    let mut playlists = texts(&before);
    playlists[0] = texts(&s).remove(0);
    let tail = read(&announced(&new, &s), &playlists).unwrap();
    let unlisted: BTreeSet<ObjectKey> = tail.unlisted().cloned().collect();
    let wanted: Vec<ObjectKey> = [1, 2].iter().map(|&t| keys().segment(&tracks()[t].name, bounds(t, 5, &breaks).0)).collect();
    assert_eq!(unlisted, wanted.iter().cloned().collect());
    let there = wanted[1..].iter().cloned().collect();
    let c = tail.level(&there).unwrap();
    assert_eq!(c.number, 6);
    assert!(matches!(c.rows[5].slots[..], [Slot::Media(_), Slot::Gap, Slot::Media(_)]));
    assert_eq!(
        sizeless(&c.rows)[5].slots[2],
        sizeless(&s.rows)[5].slots[2],
        "the audio segment as its writer would have listed it"
    );
    assert_eq!(sizeless(&s.rows)[..5], c.rows[..5]);
}

#[test]
fn a_track_whose_playlist_was_never_written_is_levelled_too() {
    let w = window(1, &BTreeSet::new(), &BTreeSet::new());
    let s = w.snapshot().unwrap();
    let mut playlists = texts(&s);
    playlists[1].1 = None;
    playlists[2].1 = None;
    let tail = read(&announced(&w, &s), &playlists).unwrap();
    let there = tail.unlisted().cloned().collect();
    let c = tail.level(&there).unwrap();
    assert!(matches!(c.rows[0].slots[..], [Slot::Media(_), Slot::Media(_), Slot::Gap]), "where audio began nobody knows");
}

#[test]
fn nothing_listed_is_nothing_to_go_on_with() {
    let w = window(1, &BTreeSet::new(), &BTreeSet::new());
    let s = w.snapshot().unwrap();
    let playlists: Vec<_> = texts(&s).into_iter().map(|(key, _)| (key, None)).collect();
    assert_eq!(read(&announced(&w, &s), &playlists).unwrap().level(&BTreeSet::new()), None);
}

#[test]
fn what_is_no_playlist_of_ours_is_named() {
    let w = window(1, &BTreeSet::new(), &BTreeSet::new());
    let s = w.snapshot().unwrap();
    for bad in
        ["#EXTINF:x,\na", "a.m4s", "#EXTINF:2,\n../../../../../x/0.m4s", "#EXT-X-MEDIA-SEQUENCE:-1", "#EXTINF:2,\nsrc.m4s"]
    {
        let mut playlists = texts(&s);
        playlists[0].1 = Some(bad.into());
        assert!(read(&announced(&w, &s), &playlists).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read_back(
        rows in 1u64..30,
        lost in prop::collection::btree_set((0u64..30, 0usize..3), 0..12),
        breaks in prop::collection::btree_set(1u64..30, 0..4),
    ) {
        let w = window(rows, &lost, &breaks);
        let s = w.snapshot().unwrap();
        let c = read(&announced(&w, &s), &texts(&s)).unwrap().level(&BTreeSet::new()).unwrap();
        prop_assert_eq!(&c.rows, &sizeless(&s.rows));
        prop_assert_eq!((c.number, c.discontinuity_sequence, &c.eras), (rows, s.discontinuity_sequence, &s.eras));
        prop_assert_eq!((c.number, c.discontinuity_sequence + c.rows.iter().filter(|r| r.discontinuity).count() as u64), w.sequences());
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(#EXT-X-[A-Z-]{3,20}:[0-9a-z./\"=]{0,12}|#EXTINF:[0-9.]{1,8},|[a-z./0-9]{1,20}|\n){0,40}") {
        let w = window(1, &BTreeSet::new(), &BTreeSet::new());
        let s = w.snapshot().unwrap();
        let mut playlists = texts(&s);
        playlists[1].1 = Some(text);
        if let Ok(tail) = read(&announced(&w, &s), &playlists) {
            let _ = tail.level(&BTreeSet::new());
        }
    }
}
