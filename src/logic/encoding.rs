//! One stream's codec process as a state machine: when to start, feed, drain, kill and start again (rules.md 24 and 25). Pure.
//!
//! Keeps the access units that a new process would need. Knows nothing of processes or sockets: it returns [`Command`]s.

use std::collections::VecDeque;
use std::time::Duration;

use super::backoff::Backoff;
use super::ladder::Rung;
use super::model::{VideoFormat, VideoUnit};
use super::time::MediaTime;

/// What the shell has to do with the codec process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Begin with a process that has nothing of this stream in it.
    Start {
        /// The source.
        source: VideoFormat,
        /// What to encode.
        rungs: Vec<Rung>,
    },
    /// One access unit.
    Feed {
        /// The unit.
        unit: VideoUnit,
        /// Every encoder must give an IDR at its `pts`.
        cut: bool,
    },
    /// No more input; it answers when everything is out.
    Drain,
    /// End it now, whatever it does.
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
const HANG: Duration = Duration::from_secs(5);

/// "Input flows": this much media went in since the rung's last output. Lookahead and B-frames hold back about one second.
const HANG_MEDIA: MediaTime = MediaTime::from_secs(3);

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

#[derive(Debug, Clone, Copy)]
struct Progress {
    /// First feed since the last output.
    since: Option<Duration>,
    /// Latest media time that came out; before the first output, the first that went in.
    out: Option<MediaTime>,
}

/// The machine.
#[derive(Debug)]
pub struct Encoding {
    source: VideoFormat,
    rungs: Vec<Rung>,
    state: State,
    backoff: Backoff,
    deaths: u64,
    retained: VecDeque<(VideoUnit, bool)>,
    bytes: usize,
    progress: Vec<Progress>,
    /// First and last presentation time that the process was given.
    given: Option<(MediaTime, MediaTime)>,
    commands: VecDeque<Command>,
}

impl Encoding {
    /// Nothing runs yet.
    pub fn new(source: VideoFormat, rungs: Vec<Rung>) -> Self {
        Self {
            source,
            rungs,
            state: State::Off,
            backoff: Backoff::default(),
            deaths: 0,
            retained: VecDeque::new(),
            bytes: 0,
            progress: Vec::new(),
            given: None,
            commands: VecDeque::new(),
        }
    }

    /// What is encoded.
    pub fn rungs(&self) -> &[Rung] {
        &self.rungs
    }

    /// Processes that died or were killed for hanging.
    pub fn deaths(&self) -> u64 {
        self.deaths
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
    }

    /// Another source format or set of rungs; takes effect with the next start. (Units of the old format were forgotten when it was drained.)
    pub fn replan(&mut self, source: VideoFormat, rungs: Vec<Rung>) {
        self.source = source;
        self.rungs = rungs;
    }

    /// Starts a process and feeds it what is kept. Any other one is ended first.
    pub fn start(&mut self, now: Duration) {
        if self.is_running() {
            self.commands.push_back(Command::Kill { reason: "started anew with another plan".into() });
        }
        if self.rungs.is_empty() {
            self.state = State::Off;
            return;
        }
        self.state = State::Running;
        self.given = None;
        self.progress = vec![Progress { since: None, out: None }; self.rungs.len()];
        self.commands.push_back(Command::Start { source: self.source.clone(), rungs: self.rungs.clone() });
        let again: Vec<(VideoUnit, bool)> = self.retained.iter().cloned().collect();
        for (unit, cut) in again {
            self.feed(unit, cut, now);
        }
    }

    /// A new access unit of the source. `keep_from`: start of the oldest segment that a new process would have to make.
    pub fn push(&mut self, unit: &VideoUnit, cut: bool, keep_from: MediaTime, now: Duration) {
        self.bytes += unit.data.len();
        self.retained.push_back((unit.clone(), cut));
        self.prune(keep_from);
        if self.state == State::Running {
            self.feed(unit.clone(), cut, now);
        }
    }

    fn feed(&mut self, unit: VideoUnit, cut: bool, now: Duration) {
        let (first, last) = self.given.unwrap_or((unit.pts, unit.pts));
        self.given = Some((first.min(unit.pts), last.max(unit.pts)));
        for p in &mut self.progress {
            p.since.get_or_insert(now);
            p.out.get_or_insert(unit.pts);
        }
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

    /// A rung gave a picture. `false` for one that the process was not given: it is not to be used.
    #[must_use]
    pub fn output(&mut self, rung: usize, pts: MediaTime) -> bool {
        if self.given.is_none_or(|(first, last)| !(first..=last).contains(&pts)) {
            return false;
        }
        if let Some(p) = self.progress.get_mut(rung) {
            p.since = None;
            p.out = p.out.max(Some(pts));
        }
        true
    }

    /// The process died, or its pipeline failed. `true` when it was needed: units that it did not give are coming again.
    pub fn died(&mut self, now: Duration) -> bool {
        match self.state {
            State::Running => {
                self.deaths += 1;
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

    /// The process gave everything it had.
    pub fn drained(&mut self) {
        if matches!(self.state, State::Draining { .. }) {
            self.state = State::Off;
            self.commands.push_back(Command::Kill { reason: "drained".into() });
        }
    }

    /// When [`Encoding::handle_timeout`] should be called.
    pub fn poll_timeout(&self) -> Option<Duration> {
        match self.state {
            State::Off => None,
            State::Waiting { until } | State::Draining { until } => Some(until),
            State::Running => self.progress.iter().filter_map(|p| p.since).min().map(|t| t + HANG),
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

    fn give_up(&mut self, reason: String) -> String {
        self.commands.push_back(Command::Kill { reason: reason.clone() });
        reason
    }

    fn watch(&mut self, now: Duration) -> Option<String> {
        let fed = self.given.map_or(MediaTime::ZERO, |(_, last)| last);
        let mut hung = None;
        for (p, rung) in self.progress.iter_mut().zip(&self.rungs) {
            let Some(since) = p.since.filter(|&s| now >= s + HANG) else { continue };
            if p.out.is_some_and(|out| fed - out >= HANG_MEDIA) {
                hung = Some(rung.name.clone());
            } else {
                // Little went in: the source is slow, not the encoder. Look again later.
                p.since = Some(since.max(now.saturating_sub(HANG / 2)));
            }
        }
        let reason = self.give_up(format!("no output of {} for 5 s while input flows", hung?));
        self.died(now).then_some(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmaf::h264::{read_record, tests::RECORD_720P30};
    use crate::logic::model::FrameRate;
    use bytes::Bytes;

    fn encoding() -> Encoding {
        let source = read_record(&Bytes::from_static(RECORD_720P30), None).unwrap();
        let rung = Rung {
            name: "360p".parse().unwrap(),
            width: 640,
            height: 360,
            fps: FrameRate::whole(30),
            halved: false,
            kbps: 700,
            max_kbps: 1050,
        };
        Encoding::new(source, vec![rung])
    }

    fn unit(ms: i64, idr: bool) -> VideoUnit {
        let t = MediaTime::from_millis(ms);
        VideoUnit { pts: t, dts: t, idr, data: Bytes::from_static(b"data") }
    }

    fn commands(e: &mut Encoding) -> Vec<Command> {
        std::iter::from_fn(|| e.poll_command()).collect()
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_new_process_is_fed_from_the_idr_of_the_oldest_missing_segment_with_its_cuts() {
        let mut e = encoding();
        e.start(at(0));
        for ms in (0..6500).step_by(100) {
            e.push(&unit(ms, ms % 2000 == 0), ms % 2000 == 0, MediaTime::from_millis(4000), at(ms as u64));
            assert!(e.output(0, MediaTime::from_millis(ms)));
        }
        commands(&mut e);
        assert!(e.died(at(6500)));
        let again = commands(&mut e);
        assert!(matches!(again[0], Command::Start { .. }));
        assert!(matches!(&again[1], Command::Feed { unit, cut: true } if unit.pts.millis() == 4000 && unit.idr));
        assert_eq!(again.len(), 1 + 25);
    }

    #[test]
    fn a_picture_that_was_not_given_is_refused() {
        let mut e = encoding();
        assert!(!e.output(0, MediaTime::ZERO));
        e.start(at(0));
        for ms in [1000, 1120, 1040, 1080] {
            e.push(&unit(ms, ms == 1000), false, MediaTime::ZERO, at(0));
        }
        let out = [999, 1000, 1120, 1121].map(|ms| e.output(0, MediaTime::from_millis(ms)));
        assert_eq!(out, [false, true, true, false]);
    }

    #[test]
    fn repeated_deaths_wait() {
        let mut e = encoding();
        e.start(at(0));
        e.died(at(10));
        commands(&mut e);
        e.died(at(20));
        assert!(commands(&mut e).is_empty());
        assert_eq!(e.poll_timeout(), Some(at(1020)));
        e.handle_timeout(at(1020));
        assert!(matches!(commands(&mut e)[0], Command::Start { .. }));
        assert_eq!(e.deaths(), 2);
    }

    #[test]
    fn five_seconds_without_output_while_input_flows_is_a_death() {
        let mut e = encoding();
        e.start(at(0));
        for ms in (0..5000).step_by(100) {
            e.push(&unit(ms, ms == 0), false, MediaTime::ZERO, at(ms as u64));
        }
        commands(&mut e);
        assert_eq!(e.handle_timeout(at(4900)), None);
        assert!(e.handle_timeout(at(5000)).unwrap().contains("360p"));
        assert!(matches!(&commands(&mut e)[0], Command::Kill { reason } if reason.contains("360p")));
    }

    #[test]
    fn a_source_that_stalls_is_no_hang() {
        let mut e = encoding();
        e.start(at(0));
        e.push(&unit(0, true), false, MediaTime::ZERO, at(0));
        assert_eq!(e.handle_timeout(at(6000)), None);
        assert_eq!(e.handle_timeout(at(60_000)), None);
        assert!(e.poll_timeout().unwrap() > at(60_000));
    }

    #[test]
    fn memory_is_bounded_when_no_idr_comes() {
        let mut e = encoding();
        e.push(&unit(0, true), true, MediaTime::ZERO, at(0));
        for ms in (100..60_000).step_by(100) {
            e.push(&unit(ms, false), false, MediaTime::ZERO, at(0));
        }
        assert!(e.retained().count() <= 101);
    }

    #[test]
    fn draining_ends_by_answer_or_by_deadline() {
        let mut e = encoding();
        assert!(!e.drain(at(0)), "nothing runs");
        e.start(at(0));
        assert!(e.drain(at(10)));
        e.drained();
        assert!(!e.is_running());
        e.start(at(20));
        e.drain(at(30));
        assert!(e.handle_timeout(at(5030)).is_some());
        assert!(!e.is_running());
    }
}
