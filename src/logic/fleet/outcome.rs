//! What a run came to, as numbers and as a table.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::RTO;

/// The fleet at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// ms.
    pub at: u64,
    /// Streams that viewers see.
    pub live: u32,
    /// Streamers who want to publish and may not, or are on their way.
    pub waiting: u32,
    /// Nodes that run.
    pub nodes: u32,
    /// Publishers refused so far.
    pub refusals: u32,
    /// Rungs that are left out.
    pub shed: u32,
    /// Streams that are late.
    pub late: u32,
}

/// Of times in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// Half are no longer.
    pub median: u64,
    /// 95 of 100 are no longer.
    pub p95: u64,
    /// The longest.
    pub max: u64,
}

impl Percentiles {
    /// `None` of no times.
    pub fn of(mut times: Vec<u64>) -> Option<Self> {
        times.sort_unstable();
        let at = |percent: usize| times.get((times.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Self { median: at(50)?, p95: at(95)?, max: *times.last()? })
    }
}

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Streamers who came.
    pub came: u32,
    /// Times that one was refused for want of room.
    pub refusals: u32,
    /// Of what.
    pub refused_for: BTreeMap<&'static str, u32>,
    /// Tries at a worker, a load balancer or a region that was dead.
    pub dead_tries: u32,
    /// Streamers who were never taken, or not again, and gave up.
    pub gave_up: u32,
    /// Streams that were cut while they were seen.
    pub lost: u32,
    /// For how long those were not seen that came back, ms.
    #[serde(skip)]
    pub back: Vec<u64>,
    /// Of these times.
    pub rto: Option<Percentiles>,
    /// Of the lost streams, those whose streamers wanted to stop before [`RTO`] was over and had not come back.
    pub stopped: u32,
    /// Of the lost streams, those that were not back within [`RTO`].
    pub late_back: u32,
    /// Most rungs that were left out at a time, and rung-seconds.
    pub shed_most: u32,
    /// Likewise.
    pub shed_seconds: u64,
    /// Stream-seconds that were late.
    pub late_seconds: u64,
    /// Nodes that were ordered.
    pub ordered: u32,
    /// Most nodes at a time.
    pub nodes_most: u32,
    /// The oldest report by which a stream was placed, ms.
    pub report_age_most: u64,
    /// The course.
    #[serde(skip)]
    pub samples: Vec<Sample>,
}

impl Outcome {
    /// All lost streams were back in time.
    pub fn holds_rto(&self) -> bool {
        self.late_back == 0
    }

    pub(super) fn finish(mut self) -> Self {
        self.rto = Percentiles::of(self.back.clone());
        let in_time = self.back.iter().filter(|&&t| t <= RTO).count();
        let in_time = u32::try_from(in_time).unwrap_or(u32::MAX);
        self.late_back = self.lost.saturating_sub(in_time).saturating_sub(self.stopped);
        self
    }

    /// The head of [`Self::row`]'s columns, as Markdown.
    pub const HEAD: &str = "| | Streams | Refusals | Lost | Back after: median | 95 % | longest | Not in 5 min | Rungs left out at most | Late stream-seconds | Nodes ordered |\n|---|---|---|---|---|---|---|---|---|---|---|\n";

    /// A line of a Markdown table.
    pub fn row(&self, name: &str) -> String {
        let seconds =
            |of: fn(&Percentiles) -> u64| self.rto.as_ref().map_or("-".to_owned(), |p| format!("{} s", of(p).div_ceil(1000)));
        let mut out = String::new();
        // Writing to a text cannot fail.
        let _ = writeln!(
            out,
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            self.came,
            self.refusals,
            self.lost,
            seconds(|p| p.median),
            seconds(|p| p.p95),
            seconds(|p| p.max),
            self.late_back,
            self.shed_most,
            self.late_seconds,
            self.ordered,
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_times_that_are_there() {
        assert_eq!(Percentiles::of(Vec::new()), None);
        assert_eq!(Percentiles::of(vec![7]), Some(Percentiles { median: 7, p95: 7, max: 7 }));
        let hundred = Percentiles::of((1..=100).rev().collect());
        assert_eq!(hundred, Some(Percentiles { median: 50, p95: 95, max: 100 }));
    }

    #[test]
    fn who_never_came_back_is_not_back_in_time() {
        let outcome = Outcome { lost: 3, back: vec![RTO, RTO + 1], ..Outcome::default() }.finish();
        assert_eq!((outcome.late_back, outcome.holds_rto()), (2, false));
        let stopped = Outcome { lost: 3, stopped: 1, back: vec![RTO, RTO + 1], ..Outcome::default() }.finish();
        assert_eq!(stopped.late_back, 1, "he wanted nothing any more");
        assert!(Outcome { lost: 1, back: vec![RTO], ..Outcome::default() }.finish().holds_rto());
    }
}
