//! Which decoded pictures must become key frames, and which the half-rate rungs leave out. Pure.

use std::collections::BTreeSet;

/// Cuts that may wait for their picture: at two seconds a cut, far more than decoder and queues can hold. Keeps a supervisor that marks every unit
/// from filling the memory.
const MAX_CUTS: usize = 256;

/// What to do with one decoded picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Every encoder has to make it an IDR picture.
    pub force: bool,
    /// Half-rate rungs leave it out.
    pub skip: bool,
    /// Every rung leaves it out: its time is not after that of the picture before, as happens with damaged streams, and neither encoders nor
    /// segments have a place for it.
    pub late: bool,
}

/// The cuts that the decoder has not reached yet, and the parity of the half-rate rungs since the last one.
#[derive(Debug, Default)]
pub struct Beat {
    cuts: BTreeSet<i64>,
    last: Option<i64>,
    skip_next: bool,
}

impl Beat {
    /// A segment begins at `pts` (1/90000 s). To be told before the access unit goes into the decoder.
    pub fn cut(&mut self, pts: i64) {
        self.cuts.insert(pts);
        while self.cuts.len() > MAX_CUTS {
            self.cuts.pop_first();
        }
    }

    /// The decoder has made the picture at `pts`.
    pub fn picture(&mut self, pts: i64) -> Verdict {
        if self.last.is_some_and(|last| pts <= last) {
            return Verdict { force: false, skip: true, late: true };
        }
        let cut = self.cuts.remove(&pts);
        // A cut whose picture did not come out of the decoder is over: its rungs have no key frame there.
        while self.cuts.first().is_some_and(|&c| c < pts) {
            self.cuts.pop_first();
        }
        let first = self.last.replace(pts).is_none();
        let verdict = Verdict {
            // The first picture is an IDR anyway, and a request for it would make GstVideoEncoder of GStreamer 1.22 refuse all later ones: it
            // books the request at the encoder's smallest PTS (x264enc: 1000 hours) and then finds every other one too early.
            force: cut && !first,
            skip: !cut && !first && self.skip_next,
            late: false,
        };
        self.skip_next = !verdict.skip;
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(beat: &mut Beat, pts: impl IntoIterator<Item = i64>) -> Vec<(bool, bool)> {
        pts.into_iter().map(|t| beat.picture(t)).map(|v| (v.force, v.skip)).collect()
    }

    #[test]
    fn a_key_frame_is_never_forced_on_the_first_picture() {
        let mut beat = Beat::default();
        beat.cut(0);
        beat.cut(3);
        assert_eq!(run(&mut beat, 0..4), [(false, false), (false, true), (false, false), (true, false)]);
    }

    #[test]
    fn parity_restarts_at_each_cut() {
        let mut beat = Beat::default();
        beat.cut(3);
        let skipped: Vec<_> = run(&mut beat, 0..8).into_iter().map(|(_, skip)| skip).collect();
        assert_eq!(skipped, [false, true, false, false, true, false, true, false]);
    }

    #[test]
    fn a_cut_without_its_picture_is_forgotten() {
        let mut beat = Beat::default();
        beat.cut(5);
        assert_eq!(run(&mut beat, [0, 4, 6]), [(false, false), (false, true), (false, false)]);
        assert!(beat.cuts.is_empty());
    }

    #[test]
    fn a_picture_whose_time_goes_back_is_left_out_and_does_not_count() {
        let mut beat = Beat::default();
        beat.cut(2);
        let late: Vec<_> = [3, 2, 3, 4].map(|t| beat.picture(t)).into_iter().map(|v| (v.late, v.skip)).collect();
        assert_eq!(late, [(false, false), (true, true), (true, true), (false, true)]);
    }

    #[test]
    fn waiting_cuts_are_bounded() {
        let mut beat = Beat::default();
        (0..10_000).for_each(|t| beat.cut(t));
        assert_eq!(beat.cuts.len(), MAX_CUTS);
    }
}
