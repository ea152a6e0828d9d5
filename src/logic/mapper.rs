//! A publisher's timestamps to the output timeline. Pure.
//!
//! RTMP counts milliseconds modulo 2^32, MPEG-TS 1/90000 s modulo 2^33, from any start, and senders jump: both tracks together, one alone, or one some packets before the other. What
//! comes out never wraps, begins where it is told to and goes on where it was, whatever the publisher's clock does. The publisher's timestamps
//! decide as long as they can be true; where they cannot, the order in which packets came does: what comes together belongs together.

use std::time::Duration;

use super::packet;
use super::skew::Skew;
use super::time::MediaTime;

/// Which of the publisher's two tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Track {
    /// Decode times of pictures.
    Video,
    /// Presentation times of AAC frames.
    Audio,
}

/// A track's step forward may be this much larger than what the other one has reached: interleaving, and pictures that a slow source does not have.
/// More, while the other track was flowing, is a jump or a pause of the sender, with nothing to show for it.
const MAX_AHEAD: MediaTime = MediaTime::from_secs(1);

/// The same where only one track flows and as much time went by: the idle time-out (10 s by default) ends a connection that is silent for longer.
const MAX_ALONE: MediaTime = MediaTime::from_secs(10);

/// A step back of up to this much is disorder among neighbours: at 10 pictures a second, two of them changed places. More is a jump.
const MAX_BACK: MediaTime = MediaTime::from_millis(250);

/// Video may be this far behind the audio that came before it: x264's lookahead (60 pictures) and its threads, at 15 pictures a second.
const MAX_VIDEO_LAG: MediaTime = MediaTime::from_secs(5);

/// Audio may be this far behind the video that came before it: nobody waits longer for it (`audio`).
pub const MAX_AUDIO_LAG: MediaTime = MediaTime::from_secs(2);

/// A track that sent nothing for so long before the other's last packet does not flow: rules.md 29 calls a publisher silent by then.
const FLOWS: Duration = Duration::from_secs(2);

/// A single wrong timestamp makes two jumps, there and back. For so long the clock of before may turn out to be the right one.
const RETURN: MediaTime = MediaTime::from_secs(2);

/// A usual step between packets is at most this; longer ones say nothing of the next.
const MAX_STEP: MediaTime = MediaTime::from_millis(100);

/// One track's clock.
#[derive(Debug, Clone, Default)]
struct Clock {
    unit: packet::Clock,
    /// Unwrapped time of the last packet, in units.
    last_raw: Option<i64>,
    arrived: Duration,
    /// Output minus unwrapped input; `None` until it is pinned.
    offset: Option<MediaTime>,
    /// Latest output.
    latest: MediaTime,
    /// The usual step forward.
    step: MediaTime,
    /// The offset before the last jump, and until when it may be the right one.
    before: Option<(MediaTime, MediaTime)>,
}

impl Clock {
    /// The value closest to the last one among all that are equal modulo 2^32.
    fn unwrapped(&self, raw: u32) -> i64 {
        match self.last_raw {
            None => i64::from(raw),
            Some(last) => last.saturating_add(i64::from(raw.wrapping_sub(last as u32) as i32)),
        }
    }

    /// The same as a length.
    fn time(&self, raw: u32) -> MediaTime {
        self.unit.time(self.unwrapped(raw))
    }

    /// Where `raw` lies on this clock.
    fn place(&self, raw: u32) -> Option<MediaTime> {
        self.offset.map(|offset| self.time(raw) + offset)
    }

    /// Makes `raw`, the last packet, lie at `time`.
    fn pin(&mut self, raw: u32, time: MediaTime) {
        self.offset = Some(time - self.time(raw));
    }
}

/// Maps one publish (one connection) onto the output timeline.
#[derive(Debug, Clone)]
pub struct Mapper {
    /// Where the first mapped time goes.
    origin: MediaTime,
    started: bool,
    video: Clock,
    audio: Clock,
    skew: Skew,
    /// What was between early times and the timeline.
    settled: MediaTime,
    /// What was corrected between the tracks of one clock: audio minus video.
    lean: MediaTime,
    jumps: u64,
}

impl Mapper {
    /// What is started with becomes `origin`.
    pub fn new(origin: MediaTime) -> Self {
        let (video, audio) = (Clock::default(), Clock::default());
        Self {
            origin,
            started: false,
            video,
            audio,
            skew: Skew::default(),
            settled: MediaTime::ZERO,
            lean: MediaTime::ZERO,
            jumps: 0,
        }
    }

    /// What the publisher's times are counted in. Said before the first of them; milliseconds if it is not.
    pub fn count_in(&mut self, unit: packet::Clock) {
        (self.video.unit, self.audio.unit) = (unit, unit);
    }

    /// A length in the publisher's units.
    pub fn length(&self, units: i32) -> MediaTime {
        self.video.unit.time(units.into())
    }

    /// Another origin, while nothing is pinned to the old one.
    pub fn begin_at(&mut self, origin: MediaTime) {
        if !self.started {
            self.origin = origin;
        }
    }

    /// Jumps that were mended so far.
    pub fn jumps(&self) -> u64 {
        self.jumps
    }

    /// An audio frame that came at `now`, before anything is pinned: on a timeline of its own, from 0, see [`Mapper::settle`].
    pub fn early_audio(&mut self, raw: u32, now: Duration) -> MediaTime {
        if self.audio.offset.is_none() {
            self.audio.pin(raw, MediaTime::ZERO);
            self.audio.latest = MediaTime::ZERO;
        }
        self.step(Track::Audio, raw, now)
    }

    /// Pins the first picture that is shown, `raw` units + `composition`, to the origin. Called before it is mapped.
    pub fn start_video(&mut self, raw: u32, composition: MediaTime) {
        let at = self.origin - composition;
        self.video.last_raw = Some(i64::from(raw));
        self.video.pin(raw, at);
        self.video.latest = at;
        self.started = true;
        if let (Some(early), Some(last)) = (self.audio.offset.take(), self.audio.last_raw) {
            self.pin_audio(last as u32);
            self.settled = self.audio.offset.unwrap_or_default() - early;
        }
    }

    /// Of a stream without video: pins the early frame that lies at `first` to the origin.
    pub fn start_audio(&mut self, first: MediaTime) {
        self.settled = self.origin - first;
        self.audio.offset = self.audio.offset.map(|o| o + self.settled);
        self.audio.latest = self.audio.latest + self.settled;
        self.started = true;
    }

    /// Where an early frame lies behind the start.
    pub fn settle(&self, early: MediaTime) -> MediaTime {
        early + self.settled
    }

    /// Where `raw` units lie by the pictures' clock, or by the audio's where there are none; moves nothing. `None` before the start.
    pub fn place(&self, raw: u32) -> Option<MediaTime> {
        self.video.place(raw).or_else(|| self.audio.place(raw)).filter(|_| self.started)
    }

    /// `true` behind [`Mapper::start_video`] or [`Mapper::start_audio`].
    pub fn is_started(&self) -> bool {
        self.started
    }

    /// `raw` units, come at `now`, on the output timeline; `None` before the start. A track's times ascend but for disorder of less than
    /// 250 ms.
    pub fn map(&mut self, track: Track, raw: u32, now: Duration) -> Option<MediaTime> {
        if !self.started {
            return None;
        }
        if self.clock(track).offset.is_none() {
            match track {
                Track::Audio => self.pin_audio(raw),
                // Of a stream without video: whoever maps it does not use it.
                Track::Video => self.video.pin(raw, self.reached()),
            }
        }
        if track == Track::Audio {
            let slewed = self.skew.slew();
            self.lean = self.lean + slewed;
            self.audio.offset = self.audio.offset.map(|o| o + slewed);
        }
        let out = self.step(track, raw, now);
        self.watch(track, out);
        Some(out)
    }

    fn step(&mut self, track: Track, raw: u32, now: Duration) -> MediaTime {
        let out = match self.clock(track).place(raw) {
            Some(out) if !self.is_jump(track, out, now) => self.returned(track, raw, out),
            _ => self.mend(track, raw, now),
        };
        let clock = self.clock(track);
        let step = out - clock.latest;
        if (MediaTime(1)..=MAX_STEP).contains(&step) {
            clock.step = step;
        }
        clock.last_raw = Some(clock.unwrapped(raw));
        clock.latest = clock.latest.max(out);
        clock.arrived = now;
        out
    }

    /// A picture would be shown before one that stands before its IDR: the video clock stepped back by so little that it was no jump.
    pub fn push_back(&mut self, by: MediaTime) {
        self.jumps += 1;
        self.video.offset = self.video.offset.map(|o| o + by);
        self.video.latest = self.video.latest + by;
        self.skew = Skew::default();
    }

    fn clock(&mut self, track: Track) -> &mut Clock {
        match track {
            Track::Video => &mut self.video,
            Track::Audio => &mut self.audio,
        }
    }

    fn both(&self, track: Track) -> (&Clock, &Clock) {
        match track {
            Track::Video => (&self.video, &self.audio),
            Track::Audio => (&self.audio, &self.video),
        }
    }

    /// How far the timeline is.
    fn reached(&self) -> MediaTime {
        let pinned = [&self.video, &self.audio].into_iter().filter(|c| c.offset.is_some());
        pinned.map(|c| c.latest).max().unwrap_or(self.origin)
    }

    /// The first audio frame that is mapped. It is on the video's clock if it can be; else on one of its own, and stands where the video is now.
    fn pin_audio(&mut self, raw: u32) {
        let reached = self.reached();
        let fits = |at: &MediaTime| *at - reached >= MediaTime::ZERO - MAX_AUDIO_LAG && *at - reached <= MAX_VIDEO_LAG;
        let at = self.video.place(raw).filter(fits).unwrap_or(reached);
        self.audio.pin(raw, at);
        self.audio.latest = at;
    }

    /// Can the publisher mean it?
    fn is_jump(&self, track: Track, out: MediaTime, now: Duration) -> bool {
        let (own, other) = self.both(track);
        let (step, ahead) = (out - own.latest, out - self.reached());
        if step < MediaTime::ZERO - MAX_BACK {
            return true;
        }
        let lag = if track == Track::Video { MAX_VIDEO_LAG } else { MAX_AUDIO_LAG };
        let flows = other.offset.is_some() && other.arrived + FLOWS >= own.arrived;
        if flows && ahead < MediaTime::ZERO - lag {
            return true;
        }
        let passed = now.saturating_sub(own.arrived);
        let passed = MediaTime::from_millis(i64::try_from(passed.as_millis()).unwrap_or(i64::MAX));
        let most = if flows { MAX_AHEAD } else { (MAX_AHEAD + passed).min(MAX_ALONE) };
        step > most && ahead > most
    }

    /// The time is credible; but shortly behind a jump the clock of before may fit better.
    fn returned(&mut self, track: Track, raw: u32, out: MediaTime) -> MediaTime {
        let clock = self.clock(track);
        let expected = clock.latest + clock.step;
        let Some((offset, _)) = clock.before.filter(|(_, until)| clock.latest < *until) else {
            clock.before = None;
            return out;
        };
        let earlier = clock.time(raw) + offset;
        let off = |t: MediaTime| (t - expected).0.abs();
        if earlier > clock.latest && off(earlier) < off(out) {
            clock.before = None;
            clock.offset = Some(offset);
            return earlier;
        }
        out
    }

    /// Goes on where the track was: on the other track's clock if that has jumped by as much, on the clock of before if this was a single wrong
    /// time, else at the next step.
    fn mend(&mut self, track: Track, raw: u32, now: Duration) -> MediaTime {
        self.jumps += 1;
        let (own, other) = self.both(track);
        let before = own.before.map(|(offset, _)| own.time(raw) + offset);
        let fits =
            |at: &MediaTime| !self.is_jump(track, *at, now) && *at - own.latest <= MAX_AHEAD && *at > own.latest - MAX_BACK;
        let lean = if track == Track::Audio { self.lean } else { MediaTime::ZERO - self.lean };
        let shared = other.place(raw).map(|at| at + lean).filter(fits);
        let out = shared.or(before.filter(fits)).unwrap_or_else(|| {
            let next = own.latest + own.step;
            let flows = other.arrived + FLOWS >= own.arrived && other.offset.is_some();
            let lag = if track == Track::Video { MAX_VIDEO_LAG } else { MAX_AUDIO_LAG };
            // Behind a hole of its own, it belongs where the other track is.
            if flows && other.latest - next > lag { other.latest } else { next }
        });
        let clock = self.clock(track);
        let until = clock.latest + RETURN;
        clock.before = clock.offset.map(|offset| (offset, until));
        clock.pin(raw, out);
        self.skew = Skew::default();
        out
    }

    /// Timestamps can be credible one by one and drift apart all the same.
    fn watch(&mut self, track: Track, out: MediaTime) {
        let (own, other) = self.both(track);
        if other.offset.is_none() || other.arrived + FLOWS < own.arrived {
            return;
        }
        let ahead = out - other.latest;
        self.skew.push(track, ahead, out);
    }
}

#[cfg(test)]
#[path = "mapper_tests.rs"]
mod tests;
