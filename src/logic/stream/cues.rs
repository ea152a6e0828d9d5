//! A session and its timed metadata: what a publisher sends as script data becomes messages in the segments of all rungs ([`crate::cmaf::events`]), or of the
//! audio where there is no video.

use std::collections::VecDeque;
use std::time::Duration;

use super::tracks::Role;
use super::{Now, Stream};
use crate::cmaf::events::{self, Event};
use crate::logic::packet::Cue;

/// Cues of one second, by arrival. Amazon IVS takes five a second of 1 KB; this is twice as many.
const MAX_PER_SECOND: usize = 10;

/// Bytes of one cue.
const MAX_BYTES: usize = 4 << 10;

/// Bytes of one second: 64 kbit/s on top of each rung, which fits into the tenth that BANDWIDTH has above the maximum rate of the default ladder's
/// lowest rung (rules.md 9).
const MAX_BYTES_PER_SECOND: usize = 8 << 10;

/// Cues that wait for the first picture, or for the next one behind a pause; of what is due at no time, later ones are left out.
const MAX_EARLY: usize = 20;

/// Ids of an epoch's cues: their Periods may be listed beside those of the writer before, whose ids went up to some other number.
const IDS_PER_EPOCH: u32 = 1 << 20;

#[derive(Debug)]
pub(super) struct Cues {
    next_id: u32,
    /// Arrival and bytes of those of the last second.
    recent: VecDeque<(Duration, usize)>,
    /// Those whose time has no place yet.
    early: VecDeque<(u32, Event)>,
    /// Those that came before the tracks were decided, with their places.
    held: Vec<Event>,
    warned: bool,
}

impl Cues {
    pub fn new(epoch: u32) -> Self {
        let next_id = epoch.wrapping_mul(IDS_PER_EPOCH);
        Self { next_id, recent: VecDeque::new(), early: VecDeque::new(), held: Vec::new(), warned: false }
    }

    /// The publisher is gone; its clock means nothing to the next one.
    pub fn left(&mut self) {
        self.early.clear();
    }

    /// Nothing was decided, and the publisher begins anew.
    pub fn begin_anew(&mut self) {
        self.early.clear();
        self.held.clear();
    }

    /// Why there is no room for so many bytes more.
    fn refusal(&mut self, bytes: usize, now: Duration) -> Option<String> {
        while self.recent.pop_front_if(|(at, _)| now.saturating_sub(*at) >= Duration::from_secs(1)).is_some() {}
        let sum: usize = self.recent.iter().map(|(_, bytes)| bytes).sum();
        if bytes > MAX_BYTES {
            return Some(format!("{bytes} bytes, the limit is {MAX_BYTES}"));
        }
        if self.recent.len() >= MAX_PER_SECOND || sum + bytes > MAX_BYTES_PER_SECOND {
            return Some(format!("more than {MAX_PER_SECOND} or {MAX_BYTES_PER_SECOND} bytes in a second"));
        }
        self.recent.push_back((now, bytes));
        None
    }
}

impl Stream {
    /// Script data of the publisher.
    pub(super) fn cue(&mut self, cue: &Cue, now: Now) {
        if !self.lifecycle.is_live() {
            return;
        }
        if let Some(reason) = self.cues.refusal(cue.text.len(), now.mono) {
            if !std::mem::replace(&mut self.cues.warned, true) {
                self.warn(format!("timed metadata left out: {reason}"));
            }
            return;
        }
        let id = self.cues.next_id;
        self.cues.next_id = id.wrapping_add(1);
        let event = Event { time: self.timeline.end(), id, tag: events::id3(cue.name, &cue.text) };
        if self.cues.early.len() < MAX_EARLY {
            self.cues.early.push_back((cue.time, event));
        }
        self.place_cues();
    }

    /// Gives cues their places, as soon as there is a segment that may hold them.
    pub(super) fn place_cues(&mut self) {
        while let Some(&(raw, _)) = self.cues.early.front()
            && let Some(time) = self.timeline.place(raw)
            && let Some((_, event)) = self.cues.early.pop_front()
        {
            let event = Event { time, ..event };
            if self.decision.is_none() {
                self.cues.held.push(event);
            } else {
                self.give_cue(&event);
            }
        }
    }

    /// The tracks are decided, and nothing of them is packed yet.
    pub(super) fn give_early_cues(&mut self) {
        for event in std::mem::take(&mut self.cues.held) {
            self.give_cue(&event);
        }
    }

    fn give_cue(&mut self, event: &Event) {
        let video = self.tracks.iter().any(|t| t.role != Role::Audio);
        for track in &mut self.tracks {
            if video == (track.role != Role::Audio) {
                track.packager.event(event.clone());
            }
        }
    }
}
