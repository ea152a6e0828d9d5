//! Which object goes to the store next, and when a failed one goes again. Pure.
//!
//! One layer retries: this one. Knows objects as numbers with a row and a size; bytes, keys and the store itself are the shell's. A store that
//! fails several times in a row is taken to be away: then one try at a time asks for it, and nobody's segment counts as lost. When it
//! answers again, what the live window still wants goes first, in order (rules.md 19), and what only the recording wants goes behind, a few at a
//! time.

use std::collections::BTreeMap;
use std::time::Duration;

/// Uploads of one stream at once: five tracks at two segments each.
const LIVE_AT_ONCE: usize = 10;

/// Of what only the recording wants: it must not hold up the live ones of the next row.
const LATE_AT_ONCE: usize = 2;

/// Failures in a row, of any object or manifest, after which the store counts as away. Of a store that fails every fifth operation, three in a row
/// are one in 125, and taking it for away costs nothing but the next success.
const AWAY_AFTER: u32 = 3;

/// The first wait of an object that failed, and of a store that is away; each further one doubles.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// The longest: an outage's end is noticed within a segment's length.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// What an object is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    /// The live window.
    Live,
    /// The recording only: its row left the window.
    Recording,
    /// A journal of the recording: small, and the recording needs it more than any segment.
    Journal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not before this time.
    Waiting(Duration),
    /// Since this time.
    UnderWay(Duration),
}

#[derive(Debug)]
struct Item {
    row: u64,
    bytes: u64,
    since: Duration,
    purpose: For,
    state: State,
    failures: u32,
    /// It failed while the store took others: it was refused itself.
    refused: bool,
}

impl Item {
    fn is_under_way(&self) -> bool {
        matches!(self.state, State::UnderWay(_))
    }
}

/// What became of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable.
    Stored,
    /// It may go well later.
    Failed,
    /// It never will.
    Lost,
}

/// The machine. One for each stream.
#[derive(Debug)]
pub struct Queue {
    items: BTreeMap<u64, Item>,
    /// Failures since the last success.
    streak: u32,
    last_success: Option<Duration>,
    away: Option<Duration>,
    /// While away: when to ask next, and how often it was asked.
    ask_at: Duration,
    asked: u32,
    /// Spreads the retries of many streams.
    seed: u64,
}

impl Queue {
    /// Nothing waits. `seed` differs from stream to stream.
    pub fn new(seed: u64) -> Self {
        Self { items: BTreeMap::new(), streak: 0, last_success: None, away: None, ask_at: Duration::ZERO, asked: 0, seed }
    }

    /// An object of `row` waits for its upload. Ids ascend in the order in which objects were made.
    pub fn add(&mut self, id: u64, row: u64, bytes: u64, now: Duration) {
        let state = State::Waiting(now);
        let item = Item { row, bytes, since: now, purpose: For::Live, state, failures: 0, refused: false };
        self.items.insert(id, item);
    }

    /// A journal waits likewise. It belongs to no row.
    pub fn add_journal(&mut self, id: u64, bytes: u64, now: Duration) {
        self.add(id, u64::MAX, bytes, now);
        if let Some(item) = self.items.get_mut(&id) {
            item.purpose = For::Journal;
        }
    }

    /// Uploads for the live window, and others.
    fn under_way(&self) -> (usize, usize) {
        let count = |live| self.items.values().filter(|i| i.is_under_way() && live == (i.purpose == For::Live)).count();
        (count(true), count(false))
    }

    /// The object whose upload begins now, if one does. Call until it gives none.
    pub fn next(&mut self, now: Duration) -> Option<u64> {
        let (live, late) = self.under_way();
        if self.away.is_some() && (live + late > 0 || now < self.ask_at) {
            return None;
        }
        let due = |i: &Item| matches!(i.state, State::Waiting(at) if at <= now || self.away.is_some());
        let first = |purpose| self.items.iter().find(|(_, i)| i.purpose == purpose && due(i)).map(|(&id, _)| id);
        let id = match first(For::Live) {
            Some(id) if live < LIVE_AT_ONCE && live + late < LIVE_AT_ONCE + LATE_AT_ONCE => id,
            Some(_) => return None,
            None if late < LATE_AT_ONCE => first(For::Journal).or_else(|| first(For::Recording))?,
            None => return None,
        };
        self.items.get_mut(&id)?.state = State::UnderWay(now);
        Some(id)
    }

    /// A try has ended. `true` when the object is off the queue.
    pub fn finished(&mut self, id: u64, outcome: Outcome, now: Duration) -> bool {
        match outcome {
            Outcome::Stored => self.succeeded(now),
            Outcome::Failed => self.failed(now),
            // The store answered, and had its reasons.
            Outcome::Lost => self.succeeded(now),
        }
        if outcome != Outcome::Failed {
            return self.items.remove(&id).is_some();
        }
        let (last_success, away) = (self.last_success, self.away.is_some());
        let (seed, Some(item)) = (self.seed, self.items.get_mut(&id)) else { return false };
        if let State::UnderWay(began) = item.state {
            item.refused |= !away && last_success.is_some_and(|at| at >= began);
        }
        item.state = State::Waiting(now + wait(item.failures, seed ^ id));
        item.failures = item.failures.saturating_add(1);
        false
    }

    /// A write of manifests went well: the store is there.
    pub fn succeeded(&mut self, now: Duration) {
        self.streak = 0;
        self.last_success = Some(now);
        if self.away.take().is_some() {
            self.asked = 0;
            for item in self.items.values_mut() {
                item.refused = false;
                if let State::Waiting(at) = &mut item.state {
                    *at = (*at).min(now);
                }
            }
        }
    }

    /// A write of manifests failed.
    pub fn failed(&mut self, now: Duration) {
        self.streak = self.streak.saturating_add(1);
        if self.streak >= AWAY_AFTER {
            self.away.get_or_insert(now);
        }
        if self.away.is_some() {
            self.ask_at = now + wait(self.asked, self.seed);
            self.asked = self.asked.saturating_add(1);
        }
    }

    /// The store is taken to be away.
    pub fn is_away(&self) -> bool {
        self.away.is_some()
    }

    /// May `row` be waited for? Something of it stands in the queue, and the store has refused none of that.
    pub fn excuses(&self, row: u64) -> bool {
        let mut own = self.items.values().filter(|i| i.row == row && i.purpose == For::Live).peekable();
        own.peek().is_some() && own.all(|i| !i.refused)
    }

    /// The row left the window: its objects go to the recording, if there is one. Gives those that nobody wants any more.
    pub fn demote(&mut self, row: u64, recorded: bool) -> Vec<u64> {
        let of_row = |i: &Item| i.row == row && i.purpose == For::Live;
        if recorded {
            self.items.values_mut().filter(|i| of_row(i)).for_each(|i| i.purpose = For::Recording);
            return Vec::new();
        }
        // One that is under way is answered; who asks then finds no item.
        let gone: Vec<u64> = self.items.iter().filter(|(_, i)| of_row(i)).map(|(&id, _)| id).collect();
        for id in &gone {
            self.items.remove(id);
        }
        gone
    }

    /// The object will not be uploaded.
    pub fn drop(&mut self, id: u64) {
        self.items.remove(&id);
    }

    /// The oldest object that only the recording wants and that is not under way: what a full spool sheds first.
    pub fn oldest_late(&self) -> Option<u64> {
        self.items.iter().find(|(_, i)| i.purpose == For::Recording && !i.is_under_way()).map(|(&id, _)| id)
    }

    /// When [`Queue::next`] may have something to give although nothing happened.
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.away.is_some() {
            let asking = self.items.values().any(Item::is_under_way);
            return (!asking && !self.items.is_empty()).then_some(self.ask_at);
        }
        let waiting = |i: &Item| match i.state {
            State::Waiting(at) if i.failures > 0 => Some(at),
            State::Waiting(_) | State::UnderWay(_) => None,
        };
        // What finds no room is not waited for: it goes when an upload has ended.
        let (live, late) = self.under_way();
        let live_room = live < LIVE_AT_ONCE && live + late < LIVE_AT_ONCE + LATE_AT_ONCE;
        let live_waits = self.items.values().any(|i| i.purpose == For::Live && !i.is_under_way());
        let late_room = late < LATE_AT_ONCE && (live_room || !live_waits);
        let room = |i: &&Item| if i.purpose == For::Live { live_room } else { late_room };
        self.items.values().filter(room).filter_map(waiting).min()
    }

    /// How long the oldest object has waited.
    pub fn lag(&self, now: Duration) -> Duration {
        self.items.values().map(|i| now.saturating_sub(i.since)).max().unwrap_or_default()
    }

    /// Bytes that are not durable.
    pub fn bytes(&self) -> u64 {
        self.items.values().map(|i| i.bytes).sum()
    }

    /// Objects that are not durable.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Everything is durable.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// The wait behind the `n`th failure: doubled each time, and 0 to a quarter less, so that the streams of a node do not come back all at once.
fn wait(n: u32, seed: u64) -> Duration {
    let full = FIRST_WAIT.saturating_mul(1 << n.min(8)).min(LONGEST_WAIT);
    // Any spread will do: splitmix64's finisher over the seed and the count.
    let mut x = seed.wrapping_add(u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let quarter = u64::try_from(full.as_millis() / 4).unwrap_or(0);
    full - Duration::from_millis((x >> 33) % (quarter + 1))
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
