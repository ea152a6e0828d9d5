//! Captions of the source on their way into the pictures of one encoded rung (rules.md 13). Pure.
//!
//! `cc_data()` belongs to the picture that it came with (ATSC A/53 part 4, 6.2.3), and encoders keep presentation times, so it goes back by those. What
//! came with a picture that this rung does not have goes into the next one that it has, in the order of presentation. With B-frames that one is known only when all
//! pictures up to a later time are there, so captions are put in when a chunk is written, and not picture by picture.

use std::collections::VecDeque;

use super::fragment::Sample;
use super::sei::{self, MAX_TRIPLETS, Triplet};

/// Pictures whose captions wait: 10 s at 240 fps. A rung that is further behind has lost the segments that they belong to.
const MAX_WAITING: usize = 2400;

/// Triplets that one picture hands on to the next at the most: a second of all that a caption channel carries (CTA-708: 9600 bit/s). More comes from no
/// caption encoder, and would stay for ever.
const MAX_CARRIED: usize = 600;

/// `cc_valid` of a triplet's first byte.
const VALID: u8 = 0x04;

/// `cc_type` 2 and 3: DTVCC. 0 and 1 are the two fields of line 21.
const DIGITAL: u8 = 0x02;

/// What waits for one rung.
#[derive(Debug, Default)]
pub struct Captions {
    /// Presentation time in ticks of the track and what came with it; ascending, and equal ones as they came.
    waiting: VecDeque<(i64, Vec<Triplet>)>,
}

impl Captions {
    /// The source's picture at `pts` has these.
    pub fn push(&mut self, pts: i64, triplets: Vec<Triplet>) {
        let at = self.waiting.iter().rposition(|(t, _)| *t <= pts).map_or(0, |i| i + 1);
        self.waiting.insert(at, (pts, triplets));
        if self.waiting.len() > MAX_WAITING {
            self.waiting.pop_front();
        }
    }

    /// Puts into each of these samples what is due at its time. `until`: no picture follows for what came before that, so the last one takes it.
    pub fn put(&mut self, samples: &mut [Sample], until: Option<i64>) {
        if self.waiting.is_empty() {
            return;
        }
        let mut order: Vec<usize> = (0..samples.len()).collect();
        order.sort_by_key(|&i| samples.get(i).map(|s| s.pts));
        let last = order.last().copied();
        for i in order {
            let Some(sample) = samples.get_mut(i) else { return };
            let reach = until.filter(|_| last == Some(i)).unwrap_or(sample.pts.saturating_add(1));
            let (now, later) = shared(self.take(reach));
            if now.is_empty() {
                continue;
            }
            match sei::insert(&sample.data, &now) {
                Some(data) => {
                    sample.data = data;
                    self.carry(sample.pts, later);
                }
                // A sample without a slice is no picture.
                None => self.carry(sample.pts, [now, later].concat()),
            }
        }
    }

    /// The pictures before `time` are lost, or their run is over: what belongs to them goes with them.
    pub fn forget_before(&mut self, time: i64) {
        let gone = self.waiting.iter().take_while(|(t, _)| *t < time).count();
        self.waiting.drain(..gone);
    }

    /// What came with pictures before `reach`, one list for each.
    fn take(&mut self, reach: i64) -> Vec<Vec<Triplet>> {
        let due = self.waiting.iter().take_while(|(t, _)| *t < reach).count();
        self.waiting.drain(..due).map(|(_, triplets)| triplets).collect()
    }

    fn carry(&mut self, pts: i64, mut triplets: Vec<Triplet>) {
        triplets.truncate(MAX_CARRIED);
        if !triplets.is_empty() {
            self.waiting.push_front((pts, triplets));
        }
    }
}

/// One picture's triplets out of several pictures', and what has no room in it. The fields of line 21 stand in front (CTA-708); each kind keeps its order.
/// Padding goes first where there is too much.
fn shared(of: Vec<Vec<Triplet>>) -> (Vec<Triplet>, Vec<Triplet>) {
    let merged = of.len() > 1;
    let mut all = of.concat();
    if all.len() > MAX_TRIPLETS {
        all.retain(|t| t[0] & VALID != 0);
    }
    if merged {
        all.sort_by_key(|t| t[0] & DIGITAL);
    }
    let later = all.split_off(all.len().min(MAX_TRIPLETS));
    (all, later)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::model::Coding;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn picture(pts: i64) -> Sample {
        Sample { pts, sync: pts == 0, data: Bytes::from(sei::tests::unit(&[&[0x41, 7]])) }
    }

    fn pictures(times: &[i64]) -> Vec<Sample> {
        times.iter().map(|&t| picture(t)).collect()
    }

    fn field(n: u8) -> Triplet {
        [0xfc, n, n]
    }

    fn digital(n: u8) -> Triplet {
        [0xfe, n, n]
    }

    const PADDING: Triplet = [0xfa, 0, 0];

    fn carried(samples: &[Sample]) -> Vec<(i64, Vec<Triplet>)> {
        samples.iter().map(|s| (s.pts, sei::read(Coding::H264, &s.data))).collect()
    }

    #[test]
    fn each_picture_gets_its_own_in_whichever_order_they_come() {
        let mut c = Captions::default();
        for (pts, n) in [(0, 1), (9000, 4), (3000, 2), (6000, 3)] {
            c.push(pts, vec![field(n)]);
        }
        let mut samples = pictures(&[0, 9000, 3000, 6000]);
        c.put(&mut samples, None);
        let expected = [(0, 1), (9000, 4), (3000, 2), (6000, 3)].map(|(t, n)| (t, vec![field(n)]));
        assert_eq!(carried(&samples), expected);
    }

    #[test]
    fn a_dropped_picture_s_captions_go_into_the_next_kept_one_fields_first() {
        let mut c = Captions::default();
        for n in 0..6u8 {
            c.push(i64::from(n) * 1500, vec![field(n), digital(n)]);
        }
        let mut samples = pictures(&[0, 6000, 3000]);
        c.put(&mut samples, None);
        let merged = |a: u8, b: u8| vec![field(a), field(b), digital(a), digital(b)];
        assert_eq!(carried(&samples), [(0, vec![field(0), digital(0)]), (6000, merged(3, 4)), (3000, merged(1, 2))]);
        let mut next = pictures(&[9000]);
        c.put(&mut next, None);
        assert_eq!(carried(&next), [(9000, vec![field(5), digital(5)])], "of a picture behind the last kept one");
    }

    #[test]
    fn what_does_not_fit_goes_into_the_next_picture_and_padding_goes_first() {
        let mut c = Captions::default();
        c.push(0, (0..40).map(digital).collect());
        c.push(3000, vec![field(99), PADDING]);
        let mut samples = pictures(&[0, 3000]);
        c.put(&mut samples, None);
        let first: Vec<Triplet> = (0..31).map(digital).collect();
        let second: Vec<Triplet> = [field(99)].into_iter().chain((31..40).map(digital)).chain([PADDING]).collect();
        assert_eq!(carried(&samples), [(0, first), (3000, second)]);

        let full: Vec<Triplet> = (0..30).map(digital).chain([PADDING; 3]).collect();
        c.push(6000, full);
        let mut samples = pictures(&[6000, 9000]);
        c.put(&mut samples, None);
        assert_eq!(sei::read(Coding::H264, &samples[0].data).len(), 30);
        assert!(sei::read(Coding::H264, &samples[1].data).is_empty());
    }

    #[test]
    fn the_last_picture_of_a_run_takes_what_came_behind_it() {
        let mut c = Captions::default();
        c.push(3000, vec![field(1)]);
        c.push(90_000, vec![field(2)]);
        let mut samples = pictures(&[0]);
        c.put(&mut samples, Some(90_000));
        assert_eq!(carried(&samples), [(0, vec![field(1)])]);
        c.forget_before(90_001);
        let mut next = pictures(&[93_000]);
        c.put(&mut next, None);
        assert_eq!(carried(&next), [(93_000, vec![])]);
    }

    #[test]
    fn a_source_that_never_stops_overflowing_fills_no_memory() {
        let mut c = Captions::default();
        for n in 0..5000 {
            c.push(n * 3000, vec![digital(1); 124]);
            let mut samples = pictures(&[n * 3000]);
            c.put(&mut samples, None);
        }
        assert_eq!(c.waiting.len(), 1);
        assert_eq!(c.waiting[0].1.len(), MAX_CARRIED);
        for n in 0..5000 {
            c.push(n * 3000, vec![digital(1)]);
        }
        assert_eq!(c.waiting.len(), MAX_WAITING);
    }

    proptest! {
        /// Whatever a rung leaves out and in whichever pieces it is packed, all triplets come out once, each kind in its order.
        #[test]
        fn nothing_is_lost_and_no_kind_changes_its_order(
            counts in prop::collection::vec((0usize..20, any::<bool>()), 1..60),
            chunk in 1usize..20,
        ) {
            let mut c = Captions::default();
            let (mut number, mut sent) = (0u16, Vec::new());
            for (n, (count, _)) in counts.iter().enumerate() {
                let triplets: Vec<Triplet> = (0..*count).map(|i| {
                    number += 1;
                    let [a, b] = number.to_be_bytes();
                    [if i % 3 == 0 { 0xfc } else { 0xfe }, a, b]
                }).collect();
                sent.extend(triplets.clone());
                c.push(n as i64 * 1500, triplets);
            }
            let kept: Vec<i64> = counts.iter().enumerate().filter(|(_, (_, kept))| *kept).map(|(n, _)| n as i64 * 1500).collect();
            // Pictures enough behind them for all that overflows.
            let behind = (0..60).map(|n| (counts.len() as i64 + n) * 1500);
            let mut times: Vec<i64> = kept.into_iter().chain(behind).collect();
            let mut got = Vec::new();
            while !times.is_empty() {
                let rest = times.split_off(chunk.min(times.len()));
                // The first of a chunk is decoded first and its last one second, as with B-frames.
                let mut samples = pictures(&times);
                if samples.len() > 2 { samples[1..].rotate_right(1) }
                c.put(&mut samples, None);
                samples.sort_by_key(|s| s.pts);
                for s in &samples {
                    let read = sei::read(Coding::H264, &s.data);
                    prop_assert!(read.len() <= MAX_TRIPLETS);
                    got.extend(read);
                }
                times = rest;
            }
            let of = |all: &[Triplet], kind: u8| all.iter().filter(|t| t[0] == kind).copied().collect::<Vec<_>>();
            prop_assert_eq!(of(&got, 0xfc), of(&sent, 0xfc));
            prop_assert_eq!(of(&got, 0xfe), of(&sent, 0xfe));
        }
    }
}
