//! A session and its closed captions (rules.md 10 and 13): lifted from the source's pictures as they pass, given to the packagers of all encoded rungs,
//! which put them back by presentation time ([`crate::cmaf::captions`]), and announced once they were seen.
//!
//! A picture passes here once, however often a codec process is fed with it again, so a restart doubles nothing.

use crate::cmaf::sei::{self, Triplet};
use crate::logic::model::{VideoFormat, VideoUnit};
use crate::logic::services::{Detector, Services};
use crate::logic::time::MediaTime;

use super::tracks::Role;
use super::{Stream, timeline::Cut};

#[derive(Debug, Default)]
pub(super) struct Captions {
    detector: Detector,
    /// What the source was seen to have.
    seen: Services,
    /// Captions of pictures that came before the tracks were decided; as many as the pictures themselves are held.
    early: Vec<(MediaTime, Vec<Triplet>)>,
}

impl Captions {
    /// Of a session that another writer began.
    pub fn known(seen: Services) -> Self {
        Self { seen, ..Self::default() }
    }

    pub fn seen(&self) -> &Services {
        &self.seen
    }

    /// Nothing was decided, and the publisher begins anew.
    pub fn begin_anew(&mut self) {
        *self = Self::default();
    }

    /// Behind a discontinuity half a packet of before means nothing.
    pub fn cut(&mut self, cut: &Cut) {
        if cut.discontinuity {
            self.detector.restart();
        }
    }
}

impl Stream {
    /// A picture of the source, in decode order.
    pub(super) fn lift_captions(&mut self, unit: &VideoUnit) {
        let Some(coding) = self.timeline.video_format().map(VideoFormat::coding) else { return };
        let triplets = sei::read(coding, &unit.data);
        if triplets.is_empty() {
            return;
        }
        let known = self.captions.seen.len();
        self.captions.detector.push(unit.pts, unit.dts, triplets.clone(), &mut self.captions.seen);
        if self.captions.seen.len() > known {
            let names: Vec<String> = self.captions.seen.iter().map(ToString::to_string).collect();
            self.note(format!("closed captions: {}", names.join(", ")));
        }
        self.announce_captions();
        if self.decision.is_none() {
            self.captions.early.push((unit.pts, triplets));
        } else {
            self.give_captions(unit.pts, &triplets);
        }
    }

    /// The tracks are decided, and none of their pictures is packed yet.
    pub(super) fn give_early_captions(&mut self) {
        for (pts, triplets) in std::mem::take(&mut self.captions.early) {
            self.give_captions(pts, &triplets);
        }
        self.announce_captions();
    }

    /// On passthrough they are in the pictures. A rung that is not produced may be in the next run, which waits until the old one is drained.
    fn give_captions(&mut self, pts: MediaTime, triplets: &[Triplet]) {
        for track in self.tracks.iter_mut().filter(|t| matches!(t.role, Role::Rung(_) | Role::NotProduced)) {
            track.packager.caption(pts, triplets.to_vec());
        }
    }

    fn announce_captions(&mut self) {
        if self.window.as_mut().is_some_and(|w| w.caption(&self.captions.seen)) {
            self.shelf.changed();
        }
    }
}
