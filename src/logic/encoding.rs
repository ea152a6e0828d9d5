//! One stream's codec process as a state machine: when to start, feed, drain, kill and start again (rules.md 24 and 25). Pure.
//!
//! Keeps the access units that a new process would need. Knows nothing of processes or sockets: it returns [`Command`]s.

mod audio;
mod spacing;

use std::collections::VecDeque;
use std::time::Duration;

use super::backoff::Backoff;
use super::ladder::Rung;
use super::model::{AudioUnit, VideoFormat, VideoUnit};
use super::sound::AudioPlan;
use super::thumbnail::Thumbnail;
use super::time::MediaTime;
use spacing::Spacing;

/// What the shell has to do with the codec process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Begin with a process that has nothing of this stream in it.
    Start {
        /// The source; `None` where no picture is encoded.
        source: Option<VideoFormat>,
        /// What to encode.
        rungs: Vec<Rung>,
        /// And beside them.
        thumbnail: Option<Thumbnail>,
        /// So few pictures a second come that none may be held back.
        low_delay: bool,
        /// With the least work that is worth it.
        brief: bool,
    },
    /// One access unit.
    Feed {
        /// The unit.
        unit: VideoUnit,
        /// Every encoder must give an IDR at its `pts`.
        cut: bool,
    },
    /// Audio begins, in place of any other that it has; it answers when that is out.
    StartAudio(AudioPlan),
    /// One frame of it.
    FeedAudio(AudioUnit),
    /// No more input; it answers when everything is out.
    Drain,
    /// Nothing more is wanted of it for this stream.
    Leave {
        /// For the log.
        reason: String,
    },
    /// It cannot be trusted any more: end it now, whatever it does, and whoever else it works for.
    Kill {
        /// For the log.
        reason: String,
    },
}

/// Media kept for a new process: rules.md 24.
const RETAIN: MediaTime = MediaTime::from_secs(10);

/// And its bytes: 10 s at 25 Mbit/s.
const RETAIN_BYTES: usize = 32 << 20;

/// No output of a rung for this long while input flows is a failure, whatever the codec process says: what a hang costs is this and two segments.
pub const OUTPUT_DEADLINE: Duration = Duration::from_secs(5);

/// "Input flows": this much media went in since the rung's last output. Lookahead and B-frames hold back about one second.
const HANG_MEDIA: MediaTime = MediaTime::from_secs(3);

/// And so many pictures: a decoder holds back at most so many to put them into order (common encoders need 2 of the 16 that H.264 allows).
const HANG_PICTURES: u32 = 8;

/// Pictures that a decoder of a slow source holds back to put them into order, and the one that shows it that a segment is complete.
const REORDERED: i64 = 3;

/// The most that a row of playlists waits for what comes late because a source has few pictures a second: as long as the longest segment (rules.md 3).
pub const MAX_SLACK: MediaTime = MediaTime::from_secs(5);

/// A process that was told to drain and does not end is killed. Draining is at most [`RETAIN`] of media; at real time that would be 10 s, but
/// whoever waits for it is a viewer.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Off,
    Running,
    Draining { until: Duration },
    Waiting { until: Duration },
}

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// First feed since the last output.
    since: Option<Duration>,
    /// Latest media time that came out; before the first output, the first that went in.
    out: Option<MediaTime>,
    /// Pictures that went in since the last output.
    fed: u32,
}

impl Progress {
    fn fed(&mut self, pts: MediaTime, now: Duration) {
        self.since.get_or_insert(now);
        self.out.get_or_insert(pts);
        self.fed = self.fed.saturating_add(1);
    }

    fn output(&mut self, pts: MediaTime) {
        self.since = None;
        self.fed = 0;
        self.out = self.out.max(Some(pts));
    }

    /// Nothing came for `deadline` while media up to `fed` went in.
    fn is_hung(&mut self, fed: MediaTime, deadline: Duration, now: Duration) -> bool {
        let Some(since) = self.since.filter(|&s| now >= s + deadline) else { return false };
        let hung = self.fed >= HANG_PICTURES && self.out.is_some_and(|out| fed - out >= HANG_MEDIA);
        if !hung {
            // Little went in: the source is slow, not the encoder. Look again later.
            self.since = Some(since.max(now.saturating_sub(deadline / 2)));
        }
        hung
    }
}

/// First and last of all presentation times that were given, in whichever order.
type Given = Option<(MediaTime, MediaTime)>;

fn widened(given: Given, pts: MediaTime) -> Given {
    let (first, last) = given.unwrap_or((pts, pts));
    Some((first.min(pts), last.max(pts)))
}

/// The machine.
#[derive(Debug)]
pub struct Encoding {
    source: Option<VideoFormat>,
    rungs: Vec<Rung>,
    thumbnail: Option<Thumbnail>,
    /// What the process that was started last makes.
    ordered: Option<Thumbnail>,
    audio: audio::Feed,
    /// Audio needs a process as soon as the one that drains is done.
    again: bool,
    state: State,
    output_deadline: Duration,
    spacing: Spacing,
    low_delay: bool,
    brief: bool,
    backoff: Backoff,
    deaths: u64,
    retained: VecDeque<(VideoUnit, bool)>,
    bytes: usize,
    progress: Vec<Progress>,
    /// First and last presentation time that the process was given.
    given: Given,
    commands: VecDeque<Command>,
}

impl Encoding {
    /// Nothing runs yet.
    pub fn new(source: VideoFormat, rungs: Vec<Rung>) -> Self {
        Self { source: Some(source), rungs, ..Self::for_audio() }
    }

    /// The same for a stream without video.
    pub fn for_audio() -> Self {
        Self {
            source: None,
            rungs: Vec::new(),
            thumbnail: None,
            ordered: None,
            audio: audio::Feed::default(),
            again: false,
            state: State::Off,
            output_deadline: OUTPUT_DEADLINE,
            spacing: Spacing::default(),
            low_delay: false,
            brief: false,
            backoff: Backoff::default(),
            deaths: 0,
            retained: VecDeque::new(),
            bytes: 0,
            progress: Vec::new(),
            given: None,
            commands: VecDeque::new(),
        }
    }

    /// With another deadline than [`OUTPUT_DEADLINE`].
    pub fn within(mut self, output_deadline: Duration) -> Self {
        self.output_deadline = output_deadline;
        self
    }

    /// Its encoders work, or will when they are started, with the least work that is worth it.
    pub fn is_brief(&self) -> bool {
        self.brief
    }

    /// What is encoded.
    pub fn rungs(&self) -> &[Rung] {
        &self.rungs
    }

    /// Processes that died or were killed for hanging.
    pub fn deaths(&self) -> u64 {
        self.deaths
    }

    /// How far the slowest rung is behind what went in.
    pub fn lag(&self) -> MediaTime {
        let out = self.progress.iter().filter_map(|p| p.out).min().filter(|_| self.state == State::Running);
        out.zip(self.given).map_or(MediaTime::ZERO, |(out, (_, last))| last - out)
    }

    /// How much later than usual its rungs are complete: nothing, but where pictures come slowly.
    pub fn slack(&self) -> MediaTime {
        let held = MediaTime(self.spacing.apart().0.saturating_mul(REORDERED)).min(MAX_SLACK);
        if self.low_delay { held } else { MediaTime::ZERO }
    }

    /// A process works on the stream now.
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running | State::Draining { .. })
    }

    /// The next thing to do.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// Forgets the units that were kept: a publisher that left before anything was decided begins anew.
    pub fn forget(&mut self) {
        self.retained.clear();
        self.bytes = 0;
        self.spacing = Spacing::default();
        self.audio.forget();
    }

    /// Another source format, set of rungs, or thumbnail; takes effect with the next start. (Units of the old format were forgotten when it was drained.)
    pub fn replan(&mut self, source: VideoFormat, rungs: Vec<Rung>, thumbnail: Option<Thumbnail>, brief: bool) {
        self.brief = brief;
        self.source = Some(source);
        self.rungs = rungs;
        self.thumbnail = thumbnail;
        self.low_delay = false;
    }

    /// Starts a process and feeds it what is kept. Any other one is ended first.
    pub fn start(&mut self, now: Duration) {
        if self.is_running() {
            self.commands.push_back(Command::Leave { reason: "started anew with another plan".into() });
        }
        self.audio.stopped();
        self.again = false;
        if self.rungs.is_empty() && self.audio.plan().is_none() {
            self.state = State::Off;
            return;
        }
        self.state = State::Running;
        self.given = None;
        self.progress = vec![Progress::default(); self.rungs.len()];
        let source = self.source.clone().filter(|_| !self.rungs.is_empty());
        self.low_delay |= self.spacing.is_slow() || source.as_ref().is_some_and(|s| spacing::is_slow(s.fps));
        self.ordered = self.thumbnail.filter(|_| !self.rungs.is_empty());
        let (rungs, thumbnail) = (self.rungs.clone(), self.ordered);
        self.commands.push_back(Command::Start { source, rungs, thumbnail, low_delay: self.low_delay, brief: self.brief });
        self.start_audio();
        // By their times, so that neither waits for all of the other.
        let mut sound: VecDeque<AudioUnit> = self.audio.kept().cloned().collect();
        let again: Vec<(VideoUnit, bool)> = self.retained.iter().filter(|_| !self.rungs.is_empty()).cloned().collect();
        for (unit, cut) in again {
            while let Some(frame) = sound.pop_front_if(|f| f.pts <= unit.dts) {
                self.feed_audio(frame, now);
            }
            self.feed(unit, cut, now);
        }
        sound.into_iter().for_each(|frame| self.feed_audio(frame, now));
    }

    /// A new access unit of the source. `keep_from`: start of the oldest segment that a new process would have to make.
    pub fn push(&mut self, unit: &VideoUnit, cut: bool, keep_from: MediaTime, now: Duration) {
        self.spacing.push(unit.dts);
        self.bytes += unit.data.len();
        self.retained.push_back((unit.clone(), cut));
        self.prune(keep_from);
        if self.state == State::Running {
            self.feed(unit.clone(), cut, now);
        }
    }

    /// What is done with audio from here on; frames that come behind this are of its source. Starts a process where none runs.
    pub fn set_audio(&mut self, plan: Option<AudioPlan>, now: Duration) {
        let changed = self.audio.set_plan(plan);
        if self.audio.plan().is_none() {
            return;
        }
        match self.state {
            State::Running if changed => self.start_audio(),
            State::Off => self.start(now),
            State::Draining { .. } => self.again = true,
            State::Running | State::Waiting { .. } => {}
        }
    }

    /// A frame of the source's audio; `keep_from` as for [`Encoding::push`].
    pub fn push_audio(&mut self, unit: &AudioUnit, keep_from: MediaTime, now: Duration) {
        if self.audio.plan().is_some() {
            self.audio.keep(unit, keep_from);
            self.feed_audio(unit.clone(), now);
        }
    }

    fn start_audio(&mut self) {
        if let Some(plan) = self.audio.plan().cloned() {
            self.audio.started();
            self.commands.push_back(Command::StartAudio(plan));
        }
    }

    fn feed_audio(&mut self, unit: AudioUnit, now: Duration) {
        if self.state == State::Running && self.audio.is_running() {
            self.audio.fed(&unit, now);
            self.commands.push_back(Command::FeedAudio(unit));
        }
    }

    /// A frame was made of the audio. `false` for one of which the process was given nothing: it is not to be used.
    #[must_use]
    pub fn audio_output(&mut self, pts: MediaTime) -> bool {
        self.audio.output(pts)
    }

    /// The process cannot go on with the audio; pictures are not concerned. It is asked again later.
    pub fn audio_failed(&mut self, now: Duration) {
        self.audio.failed(now);
    }

    fn feed(&mut self, unit: VideoUnit, cut: bool, now: Duration) {
        self.given = widened(self.given, unit.pts);
        self.progress.iter_mut().for_each(|p| p.fed(unit.pts, now));
        self.commands.push_back(Command::Feed { unit, cut });
    }

    /// The units presented at these times begin segments after all (decided later than they came).
    pub fn mark(&mut self, cuts: &[MediaTime]) {
        for (unit, cut) in &mut self.retained {
            *cut |= cuts.contains(&unit.pts);
        }
    }

    /// All units kept, oldest first.
    pub fn retained(&self) -> impl Iterator<Item = &(VideoUnit, bool)> {
        self.retained.iter()
    }

    /// Keeps from the last IDR at or before `keep_from` on, within the bounds.
    fn prune(&mut self, keep_from: MediaTime) {
        let Some(newest) = self.retained.back().map(|(u, _)| u.dts) else { return };
        loop {
            let next_idr = self.retained.iter().skip(1).position(|(u, _)| u.idr).map(|i| i + 1);
            let over = self.bytes > RETAIN_BYTES
                || self.retained.front().is_some_and(|(u, _)| newest - u.dts > RETAIN)
                || self.retained.front().is_some_and(|(u, _)| !u.idr);
            let unneeded = next_idr.and_then(|i| self.retained.get(i)).is_some_and(|(u, _)| u.pts <= keep_from);
            if !(over || unneeded) {
                return;
            }
            // Without its IDR a GOP is of no use: it goes as a whole.
            for _ in 0..next_idr.unwrap_or(self.retained.len()) {
                if let Some((unit, _)) = self.retained.pop_front() {
                    self.bytes = self.bytes.saturating_sub(unit.data.len());
                }
            }
            if self.retained.is_empty() {
                return;
            }
        }
    }

    fn was_given(&self, pts: MediaTime) -> bool {
        self.given.is_some_and(|(first, last)| (first..=last).contains(&pts))
    }

    /// What was ordered of the process as thumbnails; `None` when there are none, or for a picture that it was not given.
    pub fn thumbnail_at(&self, pts: MediaTime) -> Option<Thumbnail> {
        self.ordered.filter(|_| self.was_given(pts))
    }

    /// A rung gave a picture. `false` for one that the process was not given: it is not to be used.
    #[must_use]
    pub fn output(&mut self, rung: usize, pts: MediaTime) -> bool {
        if !self.was_given(pts) {
            return false;
        }
        if let Some(p) = self.progress.get_mut(rung) {
            p.output(pts);
        }
        true
    }

    /// The process died, or its pipeline failed. `true` when it was needed: units that it did not give are coming again.
    pub fn died(&mut self, now: Duration) -> bool {
        match self.state {
            State::Running => {
                self.deaths += 1;
                self.audio.stopped();
                let wait = self.backoff.died(now);
                self.state = State::Waiting { until: now + wait };
                if wait.is_zero() {
                    self.start(now);
                }
                true
            }
            State::Draining { .. } => {
                self.state = State::Off;
                true
            }
            State::Off | State::Waiting { .. } => false,
        }
    }

    /// The process breaks the protocol and is ended; then as after [`Encoding::died`].
    pub fn misbehaved(&mut self, reason: &str, now: Duration) -> bool {
        if self.is_running() {
            self.commands.push_back(Command::Kill { reason: reason.to_owned() });
        }
        self.died(now)
    }

    /// The process does what it is told and will not catch up: it is left; then as after [`Encoding::died`].
    pub fn set_aside(&mut self, reason: &str, now: Duration) -> bool {
        if self.is_running() {
            self.commands.push_back(Command::Leave { reason: reason.to_owned() });
        }
        self.died(now)
    }

    /// The publisher is gone: drain what runs. `true` when [`Encoding::drained`] or [`Encoding::died`] will follow.
    pub fn drain(&mut self, now: Duration) -> bool {
        self.forget();
        match self.state {
            State::Running => {
                self.commands.push_back(Command::Drain);
                self.state = State::Draining { until: now + DRAIN_DEADLINE };
                true
            }
            State::Draining { .. } => true,
            State::Off | State::Waiting { .. } => {
                self.state = State::Off;
                false
            }
        }
    }

    /// The process that drained is gone and audio goes on.
    pub fn go_on(&mut self, now: Duration) {
        if self.again && !self.is_running() {
            self.start(now);
        }
    }

    /// The process gave everything it had.
    pub fn drained(&mut self) {
        if matches!(self.state, State::Draining { .. }) {
            self.state = State::Off;
            self.commands.push_back(Command::Leave { reason: "drained".into() });
        }
    }

    /// When [`Encoding::handle_timeout`] should be called.
    pub fn poll_timeout(&self) -> Option<Duration> {
        match self.state {
            State::Off => None,
            State::Waiting { until } | State::Draining { until } => Some(until),
            State::Running => {
                let pictures = self.progress.iter().filter_map(|p| p.since).min().map(|t| t + self.output_deadline);
                pictures.into_iter().chain(self.audio.poll_timeout(self.output_deadline)).min()
            }
        }
    }

    /// Deadlines. Why the process was given up, if it was: as after [`Encoding::died`].
    pub fn handle_timeout(&mut self, now: Duration) -> Option<String> {
        match self.state {
            State::Waiting { until } if now >= until => {
                self.start(now);
                None
            }
            State::Draining { until } if now >= until => {
                self.state = State::Off;
                Some(self.give_up("did not drain within 5 s".into()))
            }
            State::Running => self.watch(now),
            _ => None,
        }
    }

    /// Pictures come so slowly by now that what the encoders hold back is many seconds: others begin in their place. `true` when they did: units
    /// that the old ones did not give are coming again.
    #[must_use]
    pub fn keep_pace(&mut self, now: Duration) -> bool {
        let too_slow = !self.low_delay && !self.rungs.is_empty() && self.spacing.is_slow();
        if too_slow && self.state == State::Running {
            self.start(now);
            return true;
        }
        false
    }

    fn give_up(&mut self, reason: String) -> String {
        self.commands.push_back(Command::Kill { reason: reason.clone() });
        reason
    }

    fn watch(&mut self, now: Duration) -> Option<String> {
        if self.audio.is_due(now) {
            self.start_audio();
            let kept: Vec<AudioUnit> = self.audio.kept().cloned().collect();
            kept.into_iter().for_each(|frame| self.feed_audio(frame, now));
        }
        let fed = self.given.map_or(MediaTime::ZERO, |(_, last)| last);
        let mut hung = None;
        for (p, rung) in self.progress.iter_mut().zip(&self.rungs) {
            if p.is_hung(fed, self.output_deadline, now) {
                hung = Some(rung.name.to_string());
            }
        }
        if self.audio.is_hung(self.output_deadline, now) {
            hung.get_or_insert("audio".into());
        }
        let reason = self.give_up(format!("no output of {} for {} s while input flows", hung?, self.output_deadline.as_secs()));
        self.died(now).then_some(reason)
    }
}

#[cfg(test)]
#[path = "encoding_tests.rs"]
mod tests;
