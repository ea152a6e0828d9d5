//! The window against a reference that keeps everything and recomputes it from the definitions, without a queue, an index or a running sum.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::logic::model::{FrameRate, Keys};

const TRACKS: usize = 3;
const WINDOW: i64 = 10;

#[derive(Debug, Clone, Copy)]
enum Event {
    /// A cut so many seconds behind the last one, with a discontinuity or not.
    Cut(i64, bool),
    /// Row (counted back from the newest) and track: made, stored, lost.
    Made(u64, usize),
    Stored(u64, usize),
    Lost(u64, usize),
    /// The row stands in the store's queue, or does not any more.
    Excuse(u64),
    Pass(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let slot = || (0u64..5, 0usize..TRACKS);
    let event = prop_oneof![
        3 => (1i64..4, prop::bool::weighted(0.2)).prop_map(|(s, d)| Event::Cut(s, d)),
        2 => slot().prop_map(|(r, t)| Event::Made(r, t)),
        6 => slot().prop_map(|(r, t)| Event::Stored(r, t)),
        1 => slot().prop_map(|(r, t)| Event::Lost(r, t)),
        1 => (0u64..5).prop_map(Event::Excuse),
        3 => (0u64..2500).prop_map(Event::Pass),
    ];
    prop::collection::vec(event, 1..150)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Is {
    Nothing,
    Made,
    Stored,
    Gap,
}

#[derive(Debug, Clone)]
struct Reference {
    start: i64,
    end: Option<i64>,
    discontinuity: bool,
    /// When it may have gaps.
    due: u64,
    slots: [Is; TRACKS],
    named: bool,
}

fn track(name: &str) -> Track {
    let format =
        VideoFormat { width: 16, height: 16, fps: FrameRate::whole(30), codec: "avc1.64001f".into(), avcc: Default::default() };
    Track { name: name.parse().unwrap(), format: Format::Video(format), max_bitrate: 1, average_bitrate: None }
}

fn placed(track: &Track, start: i64) -> Placed {
    let keys = Keys::new(&"r".parse().unwrap(), &"s".parse().unwrap(), &"1".parse().unwrap(), 1, Default::default());
    let init = Arc::new(Init { key: keys.init(&track.name, "00000000"), format: track.format.clone() });
    Placed { start: start * 90_000, duration: 90_000, size: 1, key: keys.segment(&track.name, start * 90_000), init }
}

/// What is named by now: rows in order, as long as each is filled, or due without an excuse.
fn name(rows: &mut [Reference], excused: &BTreeSet<u64>, now: u64) {
    for (n, row) in rows.iter_mut().enumerate().filter(|(_, r)| !r.named) {
        let Some(end) = row.end else { return };
        let filled = row.slots.iter().all(|s| matches!(s, Is::Stored | Is::Gap));
        if !filled {
            if now < row.due {
                return;
            }
            if row.slots.contains(&Is::Made) && excused.contains(&(n as u64)) {
                row.due = now + 1000 * (end - row.start).unsigned_abs();
                return;
            }
        }
        row.named = true;
        for slot in row.slots.iter_mut().filter(|s| **s != Is::Stored) {
            *slot = Is::Gap;
        }
    }
}

/// The shortest tail of the named rows that is at least the window.
fn listed(rows: &[Reference]) -> Vec<usize> {
    let named: Vec<usize> = (0..rows.len()).filter(|&n| rows[n].named).collect();
    let length = |n: &usize| rows[*n].end.unwrap() - rows[*n].start;
    let tail = (1..=named.len()).find(|k| named.iter().rev().take(*k).map(length).sum::<i64>() >= WINDOW);
    named[named.len() - tail.unwrap_or(named.len())..].to_vec()
}

proptest! {
    #[test]
    fn the_window_lists_what_the_definition_says(events in events()) {
        let tracks: Vec<Track> = ["a", "b", "c"].map(track).to_vec();
        let policy = Policy { target_duration: 2, window: MediaTime::from_secs(WINDOW), first_row_wait: Duration::from_secs(4) };
        let mut w = Window::new("s".parse().unwrap(), policy, UnixMillis(0), tracks.clone());
        let mut rows: Vec<Reference> = Vec::new();
        let (mut now, mut excused) = (0u64, BTreeSet::new());
        for event in events {
            let back = |b: u64| (rows.len() as u64).checked_sub(b + 1);
            match event {
                Event::Cut(after, discontinuity) => {
                    let start = rows.last().map_or(0, |r| r.start + after);
                    prop_assert!(w.open(rows.len() as u64, MediaTime::from_secs(start), discontinuity, Duration::from_millis(now)));
                    let first = !rows.iter().any(|r| r.named);
                    if let Some(open) = rows.last_mut() {
                        open.end = Some(start);
                        let own = 1000 * (start - open.start).unsigned_abs();
                        open.due = now + if first { own.max(4000) } else { own };
                    }
                    rows.push(Reference { start, end: None, discontinuity, due: 0, slots: [Is::Nothing; TRACKS], named: false });
                }
                Event::Made(b, t) => if let Some(n) = back(b) {
                    let slot = &mut rows[n as usize].slots[t];
                    prop_assert_eq!(w.made(t, n), *slot == Is::Nothing, "made");
                    if *slot == Is::Nothing {
                        *slot = Is::Made;
                    }
                },
                Event::Stored(b, t) => if let Some(n) = back(b) {
                    let start = rows[n as usize].start;
                    let slot = &mut rows[n as usize].slots[t];
                    let empty = matches!(slot, Is::Nothing | Is::Made);
                    prop_assert_eq!(w.place(t, n, placed(&tracks[t], start)), empty, "stored");
                    if empty {
                        *slot = Is::Stored;
                    }
                },
                Event::Lost(b, t) => if let Some(n) = back(b) {
                    w.lose(t, n);
                    let slot = &mut rows[n as usize].slots[t];
                    if matches!(slot, Is::Nothing | Is::Made) {
                        *slot = Is::Gap;
                    }
                },
                Event::Excuse(b) => if let Some(n) = back(b)
                    && !excused.insert(n) {
                    excused.remove(&n);
                },
                Event::Pass(ms) => now += ms,
            }
            // What waits longer than the window is skipped; that is another test's matter.
            let waiting: i64 = rows.iter().filter(|r| !r.named).filter_map(|r| Some(r.end? - r.start)).sum();
            if waiting >= WINDOW {
                return Ok(());
            }
            name(&mut rows, &excused, now);
            w.advance(Store::Up, &|n| excused.contains(&n), Duration::from_millis(now));
            let listed = listed(&rows);
            let Some(s) = w.snapshot() else {
                prop_assert!(listed.is_empty());
                continue;
            };
            prop_assert_eq!(s.rows.iter().map(|r| r.number as usize).collect::<Vec<_>>(), listed.clone());
            let gone = listed[0];
            let before = rows[..gone].iter().enumerate().filter(|(n, r)| *n > 0 && r.discontinuity).count();
            prop_assert_eq!(s.discontinuity_sequence as usize, before);
            for row in &s.rows {
                let reference = &rows[row.number as usize];
                prop_assert_eq!(row.discontinuity, reference.discontinuity && row.number > 0);
                for (slot, is) in row.slots.iter().zip(reference.slots) {
                    prop_assert_eq!(matches!(slot, Slot::Media(_)), is == Is::Stored);
                }
            }
        }
    }
}
