//! Which streams go without what, when the machine does not carry all of them whole, and when they get it back. Pure.
//!
//! Two things call for it: more is promised than there is (a device was lost, a stream came for which room is made), and streams fall behind. Steps down are
//! as many as it takes, at once; steps back are few and late, because each is a discontinuity for all viewers of a stream.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Amounts, Dimension, Lease, Ledger, Pressure, Priority, Saving, Threshold, Way};
use crate::logic::model::StreamId;

/// A step has taken effect after so long: up to the source's next key frame (rules.md 3: 4.5 s), and what a new encoder takes to catch up.
pub const SETTLES: Duration = Duration::from_secs(8);

/// Parameter sets of a stream change so often at the most (rules.md 5).
const INIT_EVERY: Duration = Duration::from_secs(60);

/// Nobody has been behind, and nothing was changed, for so long before something is given back.
const CALM: Duration = Duration::from_secs(30);

/// Giving back turned out to be too much when streams fall behind within this.
const REGRETTED: Duration = Duration::from_secs(60);

/// Then the next try waits twice as long, up to a quarter of an hour.
const LONGEST: Duration = Duration::from_secs(960);

/// Of what is free, so much is given back at a time, one in: what it costs shows in a reading of the machine before the next.
const GIVEN_BACK: u64 = 4;

/// What a stream can do without.
#[derive(Debug, Clone)]
struct Line {
    /// Never empty; the first is everything.
    steps: Vec<Way>,
    level: usize,
    priority: Priority,
    /// Those who came later go without first.
    came: u64,
    /// When its parameter sets changed last.
    init: Option<Duration>,
}

impl Line {
    fn saving(&self) -> Saving {
        self.steps.get(self.level).map_or(Saving::NONE, |way| way.saving)
    }

    fn cost(&self, level: usize) -> Amounts {
        self.steps.get(level).map_or_else(Amounts::default, |way| way.cost)
    }

    fn may_become(&self, level: usize, now: Duration) -> bool {
        let to = self.steps.get(level).map_or(Saving::NONE, |way| way.saving);
        let recent = self.init.is_some_and(|at| now.saturating_sub(at) < INIT_EVERY);
        !(recent && self.saving().is_another_init(to))
    }
}

/// Who goes without something.
#[derive(Debug, Clone, Copy)]
struct Who {
    /// Streams of at most this priority.
    most: Priority,
    /// So many encoded rungs they keep. For one more publisher nobody's viewers are left with what only a good line carries.
    rungs: usize,
}

impl Who {
    /// Where the machine does not carry what runs, everybody.
    const ALL: Self = Self { most: Priority::High, rungs: 0 };
}

/// A stream goes to another step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub stream: StreamId,
    /// From what.
    pub from: Saving,
    /// To what.
    pub to: Saving,
    /// What there is not enough of; `None` for a step back.
    pub dimension: Option<Dimension>,
}

/// What is promised and who goes without what, once somebody has been let in.
#[derive(Debug, Clone)]
pub struct Room {
    /// Instead of the present one.
    pub shedder: Shedder,
    /// Likewise.
    pub ledger: Ledger,
    /// What has to be done for it.
    pub steps: Vec<Step>,
}

/// The machine.
#[derive(Debug, Clone)]
pub struct Shedder {
    lines: BTreeMap<StreamId, Line>,
    came: u64,
    /// Of a step of any stream.
    changed: Option<Duration>,
    given_back: Option<Duration>,
    calm_since: Option<Duration>,
    patience: Duration,
}

impl Default for Shedder {
    fn default() -> Self {
        Self { lines: BTreeMap::new(), came: 0, changed: None, given_back: None, calm_since: None, patience: CALM }
    }
}

impl Shedder {
    /// A stream, and what it costs at each of its steps ([`super::steps`]), as it is known now. It keeps its step where it has that still.
    pub fn describe(&mut self, stream: &StreamId, steps: Vec<Way>, priority: Priority) {
        if steps.is_empty() {
            return;
        }
        match self.lines.get_mut(stream) {
            Some(line) => {
                let saving = line.saving();
                line.level = steps.iter().rposition(|way| way.saving <= saving).unwrap_or(0);
                (line.steps, line.priority) = (steps, priority);
            }
            None => {
                self.came += 1;
                let line = Line { steps, level: 0, priority, came: self.came, init: None };
                self.lines.insert(stream.clone(), line);
            }
        }
    }

    /// It is over.
    pub fn forget(&mut self, stream: &StreamId) {
        self.lines.remove(stream);
    }

    /// What it goes without now.
    pub fn saving(&self, stream: &StreamId) -> Saving {
        self.lines.get(stream).map_or(Saving::NONE, Line::saving)
    }

    /// What it costs as it is now.
    pub fn cost(&self, stream: &StreamId) -> Option<Amounts> {
        self.lines.get(stream).map(|line| line.cost(line.level))
    }

    /// The last step has not taken effect yet: that streams are behind says nothing of it.
    pub fn is_settling(&self, now: Duration) -> bool {
        self.changed.is_some_and(|at| now.saturating_sub(at) < SETTLES)
    }

    /// Streams go without more, until what is promised is below the ceiling, or nobody can.
    fn relieve(&mut self, ledger: &mut Ledger, threshold: Threshold, who: Who, now: Duration) -> Vec<Step> {
        let mut from: BTreeMap<StreamId, (Saving, Dimension)> = BTreeMap::new();
        while let Some(dimension) = over(ledger, threshold) {
            let Some((stream, level)) = self.next_down(dimension, who, now) else { break };
            let Some(line) = self.lines.get_mut(&stream) else { break };
            from.entry(stream.clone()).or_insert((line.saving(), dimension));
            line.level = level;
            ledger.settle(&stream, line.cost(level));
        }
        self.taken(from.into_iter().map(|(stream, (from, dimension))| (stream, from, Some(dimension))).collect(), now)
    }

    /// Whose step down is next, for want of this: the least important, of them who has most, of them who came last. To the first level that saves any of it.
    fn next_down(&self, dimension: Dimension, who: Who, now: Duration) -> Option<(StreamId, usize)> {
        let candidates = self.lines.iter().filter(|(_, line)| line.priority <= who.most).filter_map(|(stream, line)| {
            let has = line.cost(line.level).of(dimension);
            let saves = |level: &usize| {
                let way = &line.steps[*level];
                way.cost.of(dimension) < has && way.rungs >= who.rungs && line.may_become(*level, now)
            };
            let level = (line.level + 1..line.steps.len()).find(saves)?;
            Some(((line.priority, line.saving(), u64::MAX - line.came), stream, level))
        });
        candidates.min_by_key(|(key, ..)| *key).map(|(_, stream, level)| (stream.clone(), level))
    }

    /// Room for a stream that finds none, at most of this priority: what it would all be with that stream in it. `None` where even then it does not fit, and while streams fall behind.
    pub fn with_room_for(
        &self,
        ledger: &Ledger,
        stream: &StreamId,
        lease: Lease,
        steps: Vec<Way>,
        now: Duration,
    ) -> Option<Room> {
        if ledger.belief().behind().is_some() {
            return None;
        }
        let mut room = Room { shedder: self.clone(), ledger: ledger.clone(), steps: Vec::new() };
        room.shedder.describe(stream, steps, lease.priority);
        room.ledger.promise(stream, Lease { cost: room.shedder.cost(stream)?, ..lease });
        let threshold = lease.priority.into();
        room.steps = room.shedder.relieve(&mut room.ledger, threshold, Who { most: lease.priority, rungs: 1 }, now);
        over(&room.ledger, threshold).is_none().then_some(room)
    }

    fn taken(&mut self, changes: Vec<(StreamId, Saving, Option<Dimension>)>, now: Duration) -> Vec<Step> {
        let mut steps = Vec::new();
        for (stream, from, dimension) in changes {
            let Some(line) = self.lines.get_mut(&stream) else { continue };
            let to = line.saving();
            if from.is_another_init(to) {
                line.init = Some(now);
            }
            steps.push(Step { stream, from, to, dimension });
        }
        if !steps.is_empty() {
            self.changed = Some(now);
            self.calm_since = None;
        }
        steps
    }

    /// A look at all streams, each second, behind that of the ledger's [`super::Belief`]. Nothing is promised beyond what is believed, streams that fall behind get relief, and what was taken is
    /// given back where the machine is seen to have it.
    pub fn look(&mut self, ledger: &mut Ledger, pressure: Pressure, now: Duration) -> Vec<Step> {
        let behind = ledger.belief().behind();
        let threshold = if behind.is_some() { Threshold::Commit } else { Threshold::Reserve };
        if self.is_settling(now) {
            return Vec::new();
        }
        // Who has the machine alone was let in whatever it is thought to cost: only its speed tells.
        let counts = behind.is_some() || ledger.leases().len() > 1;
        let mut steps = if counts { self.relieve(ledger, threshold, Who::ALL, now) } else { Vec::new() };
        if let (Some(dimension), true) = (behind, steps.is_empty()) {
            // By the numbers there is enough: then they are wrong, or nobody has any.
            steps = self.one_down(ledger, dimension, now);
        }
        if behind.is_some() {
            if self.given_back.take().is_some_and(|at| now.saturating_sub(at) < REGRETTED) {
                self.patience = (self.patience * 2).min(LONGEST);
            }
            self.calm_since = None;
            return steps;
        }
        if !steps.is_empty() {
            return steps;
        }
        let since = *self.calm_since.get_or_insert(now);
        if now.saturating_sub(since) < self.patience {
            return Vec::new();
        }
        self.give_back(ledger, pressure, now)
    }

    /// One step of one stream, whatever the numbers say.
    fn one_down(&mut self, ledger: &mut Ledger, dimension: Dimension, now: Duration) -> Vec<Step> {
        let Some((stream, level)) = self.next_down(dimension, Who::ALL, now) else { return Vec::new() };
        let Some(line) = self.lines.get_mut(&stream) else { return Vec::new() };
        let from = line.saving();
        line.level = level;
        ledger.settle(&stream, line.cost(level));
        self.taken(vec![(stream, from, Some(dimension))], now)
    }

    /// Those who go without most are first to get something back, of them the most important, of them who came first.
    fn give_back(&mut self, ledger: &mut Ledger, pressure: Pressure, now: Duration) -> Vec<Step> {
        let mut order: Vec<_> = self.lines.iter().filter(|(_, line)| line.level > 0).collect();
        order.sort_by_key(|(_, line)| (std::cmp::Reverse((line.priority, line.saving())), line.came));
        let order: Vec<StreamId> = order.into_iter().map(|(stream, _)| stream.clone()).collect();
        let mut changes = Vec::new();
        let mut given = Amounts::default();
        for stream in order {
            let Some(line) = self.lines.get_mut(&stream).filter(|line| line.may_become(line.level - 1, now)) else { continue };
            let more = line.cost(line.level - 1).minus(&line.cost(line.level));
            let all = given.plus(&more);
            let room = Dimension::ALL.into_iter().all(|d| {
                let (used, ceiling) = (ledger.used().of(d), ledger.ceiling(d, Threshold::Advertise));
                let free = ceiling.map(|c| c.saturating_sub(used));
                let little = given == Amounts::default() || free.is_none_or(|f| all.of(d) <= f / GIVEN_BACK);
                more.of(d) == 0 || (little && free.is_none_or(|f| more.of(d) <= f) && carries(ledger, pressure, d, all.of(d)))
            });
            if !room {
                continue;
            }
            changes.push((stream.clone(), line.saving(), None));
            line.level -= 1;
            ledger.settle(&stream, line.cost(line.level));
            given = all;
        }
        let steps = self.taken(changes, now);
        if !steps.is_empty() {
            self.given_back = Some(now);
        } else if self.lines.values().all(|line| line.level == 0) {
            self.patience = CALM;
        }
        steps
    }
}

/// The first dimension of which more is promised than may be.
fn over(ledger: &Ledger, threshold: Threshold) -> Option<Dimension> {
    let used = ledger.used();
    Dimension::ALL.into_iter().find(|&d| ledger.ceiling(d, threshold).is_some_and(|ceiling| used.of(d) > ceiling))
}

/// By what the machine is seen to do, `more` still fits: something else may use it too, which no promise tells.
fn carries(ledger: &Ledger, pressure: Pressure, dimension: Dimension, more: u64) -> bool {
    let seen = match dimension {
        Dimension::Cpu => pressure.cpu,
        Dimension::Encode => pressure.encode,
        Dimension::Decode => pressure.decode,
        _ => None,
    };
    let (Some(seen), Some(total)) = (seen, ledger.budget().total(dimension).filter(|&t| t > 0)) else { return true };
    let share =
        |of: u64, all: u64, whole: u64| u64::try_from(u128::from(of) * u128::from(whole) / u128::from(all)).unwrap_or(u64::MAX);
    let priced = share(more, total, 1000);
    // Nobody but the streams works the engines of a device: what they take of them says what more of the same takes, whatever it is priced at.
    let used = ledger.used().of(dimension);
    let measured = if dimension == Dimension::Cpu || used == 0 { 0 } else { share(more, used, seen.into()) };
    priced.max(measured).saturating_add(u64::from(seen)) <= u64::from(ledger.budget().limit(dimension))
}

#[cfg(test)]
#[path = "shedding_tests.rs"]
mod tests;
