use proptest::prelude::*;

use super::*;
use crate::logic::journal::{Collector, Head};
use crate::logic::model::{AudioFormat, FrameRate, Keeping, VideoFormat};
use crate::logic::time::Timescale;
use std::time::Duration;

const RATE: i64 = 44_100;

fn session() -> SessionId {
    "s1".parse().unwrap()
}

fn keys(epoch: u32) -> Keys {
    let keeping = Keeping { recorded: true, ..Default::default() };
    Keys::new(&"eu".parse().unwrap(), &"demo".parse().unwrap(), &session(), epoch, keeping)
}

fn tracks() -> Vec<Track> {
    let video = |height: u32| {
        let (fps, codec) = (FrameRate::whole(30), "avc1.64001f".to_owned());
        Format::Video(VideoFormat { width: height * 16 / 9, height, fps, codec, avcc: Default::default() })
    };
    let rate = Timescale::new(u32::try_from(RATE).unwrap()).unwrap();
    let audio = AudioFormat { rate, channels: 2, codec: "mp4a.40.2".into(), asc: Default::default(), language: None };
    let track = |name: &str, format| Track { name: name.parse().unwrap(), format, max_bitrate: 1000, average_bitrate: None };
    vec![track("src", video(720)), track("360p", video(360)), track("audio", Format::Audio(audio))]
}

/// What an epoch did, and what became of it.
#[derive(Debug, Clone)]
struct Epoch {
    /// Seconds between the end of the epoch before and its first row.
    pause: i64,
    rows: u64,
    /// Rows with a discontinuity in front.
    breaks: BTreeSet<u64>,
    /// `(row, track)` whose object never came to the store.
    lost: BTreeSet<(u64, usize)>,
    /// Journals that never came.
    lost_journals: BTreeSet<u64>,
    /// Killed before its last journal.
    killed: bool,
    /// Rows in each journal.
    every: u64,
}

/// A session as the store has it.
#[derive(Debug, Default)]
struct Bucket {
    journals: Vec<Journal>,
    there: BTreeSet<ObjectKey>,
    sizes: BTreeMap<ObjectKey, Measured>,
    /// Of each track, what is there in playing order.
    expected: Vec<Vec<ObjectKey>>,
}

/// Audio begins with the first frame at or behind the cut, behind a discontinuity exactly there.
fn audio_at(first: i64, cut: i64) -> i64 {
    let samples = |ticks: i64| ticks * RATE / 90_000;
    samples(first) + (samples(cut) - samples(first) + FRAME - 1) / FRAME * FRAME
}

fn record(epochs: &[Epoch]) -> Bucket {
    let tracks = tracks();
    let mut bucket = Bucket { expected: vec![Vec::new(); tracks.len()], ..Default::default() };
    let mut time = 0;
    for (i, epoch) in epochs.iter().enumerate() {
        let number = u32::try_from(i).unwrap() + 1;
        let keys = keys(number);
        let mut journal = Collector::default();
        let took = |journal: &mut Collector, last: bool| {
            let head = Head {
                session: &session(),
                epoch: number,
                anchor: UnixMillis(1_700_000_000_000),
                target_duration: 2,
                tracks: tracks.clone(),
                captions: Default::default(),
            };
            journal.take(head, last, Duration::ZERO).filter(|j| !epoch.lost_journals.contains(&j.n))
        };
        time += epoch.pause * 90_000;
        let mut era = time;
        for row in 0..epoch.rows {
            let (start, end) = (time, time + 180_000);
            time = end;
            let broken = epoch.breaks.contains(&row);
            if broken {
                era = start;
            }
            let ends_era = epoch.breaks.contains(&(row + 1)) || row + 1 == epoch.rows;
            journal.open(row, MediaTime(start), MediaTime::ZERO, broken);
            for (t, track) in tracks.iter().enumerate() {
                let (from, to) = match track.format {
                    Format::Video(_) => (start, end),
                    Format::Audio(_) if ends_era => (audio_at(era, start), end * RATE / 90_000),
                    Format::Audio(_) => (audio_at(era, start), audio_at(era, end)),
                };
                let init = Arc::new(Init { key: keys.init(&track.name, "00000000"), format: track.format.clone() });
                let key = keys.segment(&track.name, from);
                bucket.there.insert(init.key.clone());
                let placed = Placed { start: from, duration: to - from, size: 1000, key: key.clone(), init };
                journal.made(t, row, &placed);
                if !epoch.lost.contains(&(row, t)) {
                    bucket.there.insert(key.clone());
                    bucket.sizes.insert(key.clone(), Measured { start: from, duration: to - from, size: 1000 });
                    bucket.expected[t].push(key);
                }
            }
            if row == 0 || row % epoch.every == 0 {
                bucket.journals.extend(took(&mut journal, row != 0));
            }
        }
        journal.close(MediaTime(time));
        if !epoch.killed {
            bucket.journals.extend(took(&mut journal, true));
        }
    }
    bucket
}

fn assembled(bucket: &Bucket) -> Snapshot {
    let unnamed = unnamed(&bucket.journals, &bucket.there);
    let measured = unnamed.into_iter().map(|key| (key.clone(), bucket.sizes[&key])).collect();
    assemble(&session(), &bucket.journals, &bucket.there, &measured).unwrap()
}

fn named(snapshot: &Snapshot, track: usize) -> Vec<ObjectKey> {
    let key = |r: &Row| match &r.slots[track] {
        Slot::Media(m) => Some(m.key.clone()),
        Slot::Gap => None,
    };
    snapshot.rows.iter().filter_map(key).collect()
}

fn plain(rows: u64) -> Epoch {
    let none = BTreeSet::new();
    Epoch { pause: 0, rows, breaks: none.clone(), lost: BTreeSet::new(), lost_journals: none, killed: false, every: 3 }
}

#[test]
fn two_epochs_play_one_behind_the_other_with_one_discontinuity() {
    let s = assembled(&record(&[plain(4), Epoch { pause: 30, killed: true, ..plain(5) }]));
    assert_eq!(s.rows.iter().map(|r| r.number).collect::<Vec<_>>(), (0..9).collect::<Vec<_>>());
    assert_eq!(s.rows.iter().filter(|r| r.discontinuity).map(|r| r.number).collect::<Vec<_>>(), [4]);
    let eras: Vec<_> = s.eras.iter().map(|e| (e.number, e.start)).collect();
    assert_eq!(eras, [(0, MediaTime::ZERO), (1, MediaTime::from_secs(38))]);
    let keys = keys(1).of_recording();
    let files = files(&s, &keys, UnixMillis(0), "m");
    let of = |end: &str| &files.iter().find(|(key, _)| key.as_str().ends_with(end)).unwrap().1;
    assert_eq!(files[0].0.as_str(), "rec/eu/demo/s1/src.m3u8");
    assert!(of("src.m3u8").contains("#EXT-X-PLAYLIST-TYPE:VOD") && of("src.m3u8").ends_with("#EXT-X-ENDLIST\n"));
    let mpd = of("manifest.mpd");
    // The pause is not played, and times inside the segments stay what they are.
    assert!(mpd.contains(r#"<Period id="1" start="PT8S" duration="PT10S">"#), "{mpd}");
    assert!(
        mpd.contains(r#"presentationTimeOffset="3420000""#) && mpd.contains(r#"mediaPresentationDuration="PT18S""#),
        "{mpd}"
    );
    assert!(!mpd.contains("availabilityStartTime") && mpd.contains(r#"type="static""#), "{mpd}");
}

#[test]
fn a_row_of_which_nothing_came_is_left_out_and_one_of_which_something_came_has_a_gap() {
    let lost = [(1, 0), (2, 0), (2, 1), (2, 2)].into();
    let s = assembled(&record(&[Epoch { lost, ..plain(5) }]));
    assert_eq!(s.rows.len(), 4);
    assert_eq!(s.rows[1].slots[0], Slot::Gap);
    assert_eq!(s.rows.iter().map(|r| r.discontinuity).collect::<Vec<_>>(), [false, false, true, false]);
}

#[test]
fn what_a_writer_made_after_another_took_over_is_nobodys() {
    let mut bucket = record(&[plain(6), Epoch { pause: -4, ..plain(2) }]);
    let s = assembled(&bucket);
    assert_eq!(named(&s, 0).len(), 6);
    assert!(s.rows.windows(2).all(|w| w[0].end <= w[1].start));
    bucket.journals.retain(|j| j.epoch == 1);
    assert_eq!(named(&assembled(&bucket), 0).len(), 6, "the second epoch's init segments have the first one's names");
}

#[test]
fn a_rung_that_was_not_produced_names_the_next_lower_one() {
    let mut bucket = record(&[Epoch { breaks: [2].into(), lost: [(2, 0), (3, 0)].into(), ..plain(4) }]);
    for row in bucket.journals.iter_mut().flat_map(|j| &mut j.rows).filter(|r| r.number >= 2) {
        row.borrowed = vec![0];
    }
    let s = assembled(&bucket);
    assert_eq!(s.rows[2].slots[0], s.rows[2].slots[1]);
    assert!(s.rows[2].discontinuity);
}

fn epoch() -> impl Strategy<Value = Epoch> {
    let rows = prop::collection::btree_set(0u64..12, 0..3);
    let lost = prop::collection::btree_set((0u64..12, 0usize..3), 0..6);
    let journals = prop::collection::btree_set(1u64..5, 0..3);
    (0i64..40, 1u64..12, rows, lost, journals, any::<bool>(), 2u64..6).prop_map(
        |(pause, rows, breaks, lost, lost_journals, killed, every)| Epoch {
            pause,
            rows,
            // Nothing stands in front of an epoch's first row.
            breaks: breaks.into_iter().filter(|&b| b > 0).collect(),
            lost,
            lost_journals,
            killed,
            every,
        },
    )
}

proptest! {
    #[test]
    fn everything_that_is_there_is_named_once_and_in_order(epochs in prop::collection::vec(epoch(), 1..4), twice in any::<bool>(), seed in any::<u64>()) {
        let mut bucket = record(&epochs);
        prop_assume!(bucket.expected.iter().any(|t| !t.is_empty()));
        if twice {
            bucket.journals.extend(bucket.journals.clone());
        }
        let middle = usize::try_from(seed % (bucket.journals.len() as u64)).unwrap();
        bucket.journals.rotate_left(middle);
        let s = assembled(&bucket);
        for (track, expected) in bucket.expected.iter().enumerate() {
            prop_assert_eq!(&named(&s, track), expected);
        }
        for (n, row) in s.rows.iter().enumerate() {
            prop_assert_eq!(row.number, n as u64);
            let before = n.checked_sub(1).map(|b| &s.rows[b]);
            let follows = before.is_some_and(|b| b.end == row.start);
            // Where time jumps, a discontinuity tells it; eras count them.
            prop_assert!(n == 0 || follows || row.discontinuity);
            prop_assert_eq!(row.era, before.map_or(0, |b| b.era + u32::from(row.discontinuity)));
        }
    }
}
