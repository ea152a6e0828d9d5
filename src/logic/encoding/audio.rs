//! The source's audio on its way into a codec process: what is kept for a new one, and whether what is fed comes out again.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Given, Progress, RETAIN, widened};
use crate::logic::backoff::Backoff;
use crate::logic::model::AudioUnit;
use crate::logic::sound::AudioPlan;
use crate::logic::time::MediaTime;

/// Kept in front of the oldest segment that is missing: the first frames that a decoder gives, with SBR four of them, are not whole.
const LEAD: MediaTime = MediaTime::from_millis(200);

/// Frames kept at the most: [`RETAIN`] at 96 kHz.
const MAX_KEPT: usize = 940;

/// Frames that are made lie within what was given, but for what encoders put in front and behind: two frames.
const MAX_BESIDE: MediaTime = MediaTime::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No pipeline for it in the process.
    Idle,
    Running,
    /// It failed; a new pipeline is tried then.
    Waiting {
        until: Duration,
    },
}

/// See above.
#[derive(Debug)]
pub(super) struct Feed {
    plan: Option<AudioPlan>,
    state: State,
    backoff: Backoff,
    kept: VecDeque<AudioUnit>,
    progress: Progress,
    /// Of the process, over all sources that it had.
    given: Given,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            plan: None,
            state: State::Idle,
            backoff: Backoff::default(),
            kept: VecDeque::new(),
            progress: Progress::default(),
            given: None,
        }
    }
}

impl Feed {
    pub fn plan(&self) -> Option<&AudioPlan> {
        self.plan.as_ref()
    }

    /// `true` when it is another one: what was kept is of the old one, and of no use.
    pub fn set_plan(&mut self, plan: Option<AudioPlan>) -> bool {
        let changed = self.plan != plan;
        if changed {
            self.plan = plan;
            self.kept.clear();
        }
        changed
    }

    pub fn forget(&mut self) {
        self.kept.clear();
    }

    /// A pipeline begins; what is kept is for it.
    pub fn started(&mut self) {
        self.state = State::Running;
        self.progress = Progress::default();
    }

    /// The process is gone.
    pub fn stopped(&mut self) {
        self.state = State::Idle;
        self.given = None;
    }

    pub fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// The pipeline failed, not the process.
    pub fn failed(&mut self, now: Duration) {
        if self.state == State::Running {
            // The process may fail as fast as it is asked, so never at once.
            let wait = self.backoff.died(now).max(Duration::from_secs(1));
            self.state = State::Waiting { until: now + wait };
        }
    }

    pub fn keep(&mut self, unit: &AudioUnit, keep_from: MediaTime) {
        self.kept.push_back(unit.clone());
        let oldest = (keep_from - LEAD).max(unit.pts - RETAIN);
        while self.kept.len() > MAX_KEPT || self.kept.front().is_some_and(|u| u.pts < oldest) {
            self.kept.pop_front();
        }
    }

    pub fn kept(&self) -> impl Iterator<Item = &AudioUnit> {
        self.kept.iter()
    }

    pub fn fed(&mut self, unit: &AudioUnit, now: Duration) {
        self.given = widened(self.given, unit.pts);
        self.progress.fed(unit.pts, now);
    }

    pub fn output(&mut self, pts: MediaTime) -> bool {
        let lawful = self.given.is_some_and(|(first, last)| (first - MAX_BESIDE..=last + MAX_BESIDE).contains(&pts));
        if lawful {
            self.progress.output(pts);
        }
        lawful
    }

    fn gives_frames(&self) -> bool {
        self.is_running() && self.plan.as_ref().is_some_and(|p| p.encode.is_some())
    }

    /// When to look again; frames that do not come out are waited for until `deadline`.
    pub fn poll_timeout(&self, deadline: Duration) -> Option<Duration> {
        match self.state {
            State::Waiting { until } => Some(until),
            _ => self.progress.since.filter(|_| self.gives_frames()).map(|since| since + deadline),
        }
    }

    /// A pipeline that failed may be tried again.
    pub fn is_due(&self, now: Duration) -> bool {
        matches!(self.state, State::Waiting { until } if now >= until)
    }

    /// Frames go in and none comes out. What is only measured may be silent.
    pub fn is_hung(&mut self, deadline: Duration, now: Duration) -> bool {
        let fed = self.given.map_or(MediaTime::ZERO, |(_, last)| last);
        self.gives_frames() && self.progress.is_hung(fed, deadline, now)
    }
}
