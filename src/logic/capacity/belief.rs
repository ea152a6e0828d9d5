//! What the machine turns out to carry: streams that fall behind tell that it is less than was thought.

use std::time::Duration;

use super::{Amounts, Budget, DIMENSIONS, Dimension};
use crate::logic::gpu::{Busy, Load};

/// A stream has to be slower than real time for so long before anything is concluded: starts, key frames and a busy moment take a second or two.
pub const SLOW_FOR: Duration = Duration::from_secs(5);

/// A dimension that was lowered rises again by a hundredth in so long without a slow stream: from the floor to the full budget takes a quarter of an hour, so one that was
/// over-committed is not at once again.
const RISE_EVERY: Duration = Duration::from_secs(10);
const RISE: u16 = 10;

/// Lower than a quarter no belief falls: where nothing runs, nothing can tell that it works again.
const FLOOR: u16 = 250;

/// So much below what is promised at that time it is lowered, thousandths: a new stream of the usual size does not fit until one has left.
const BELOW: u16 = 20;

/// How busy the machine is, thousandths; `None` where nobody can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pressure {
    /// Of the cores' time.
    pub cpu: Option<u16>,
    /// Of the time, in which somebody waited for a core. Tells of a hog in another container, and of a quota, which the cores' time does not.
    pub stalled: Option<u16>,
    /// Of the encoders' time.
    pub encode: Option<u16>,
    /// Of the decoders' time.
    pub decode: Option<u16>,
}

/// Less busy than this nothing keeps a stream from being faster: it is slow for reasons of its own, as one whose single encoder thread is not enough.
const PRESSED: u16 = 700;

impl Pressure {
    /// By what the host says, and each device.
    pub fn new(cpu: Option<u16>, stalled: Option<u16>, devices: &[Load]) -> Self {
        let busiest = |of: fn(&Load) -> Option<Busy>| {
            let percents = devices.iter().filter(|d| !d.lost).filter_map(|d| Some(of(d)?.percent));
            percents.max().and_then(|p| u16::try_from(p.saturating_mul(10)).ok())
        };
        Self { cpu, stalled, encode: busiest(|d| d.encoder), decode: busiest(|d| d.decoder) }
    }

    fn readings(&self) -> [(Option<u16>, Dimension); 3] {
        [(self.encode, Dimension::Encode), (self.decode, Dimension::Decode), (self.cpu.max(self.stalled), Dimension::Cpu)]
    }

    /// What keeps streams from being faster: the busiest of the dimensions that can run out. The processor where nobody can tell, and `None` where everybody can and
    /// nothing is busy.
    pub fn bottleneck(&self, can_run_out: impl Fn(Dimension) -> bool) -> Option<Dimension> {
        let busiest = self.readings().into_iter().filter(|(_, d)| can_run_out(*d)).filter_map(|(n, d)| Some((n?, d)));
        match busiest.max_by_key(|(n, _)| *n) {
            Some((busy, dimension)) => (busy >= PRESSED).then_some(dimension),
            None => Some(Dimension::Cpu),
        }
    }
}

/// The share of each dimension's total that is believed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Belief {
    permille: [u16; DIMENSIONS],
    slow_since: Option<Duration>,
    /// When a dimension was last changed.
    changed: Duration,
    /// The highest readings since then, thousandths.
    busiest: [u16; DIMENSIONS],
    /// The least that was promised since then.
    least: Option<Amounts>,
    /// What streams are slow for right now.
    behind: Option<Dimension>,
}

impl Default for Belief {
    fn default() -> Self {
        Self {
            permille: [1000; DIMENSIONS],
            slow_since: None,
            changed: Duration::ZERO,
            busiest: [0; DIMENSIONS],
            least: None,
            behind: None,
        }
    }
}

impl Belief {
    /// Thousandths of the total.
    pub const fn permille(&self, dimension: Dimension) -> u16 {
        self.permille[dimension.index()]
    }

    /// What is reported was measured: something is not what was thought.
    pub fn is_measured(&self) -> bool {
        self.permille.iter().any(|&p| p != 1000)
    }

    /// What running streams fall behind for, now: nobody else is taken until they do not.
    pub const fn behind(&self) -> Option<Dimension> {
        self.behind
    }

    /// A look at all streams, about once a second. `slow`: one of them is slower than real time and it is not its publisher's doing, at so many thousandths of it. `used` is what is promised.
    /// Returns the dimension that was lowered.
    pub fn look(
        &mut self,
        slow: Option<u16>,
        now: Duration,
        seen: &Pressure,
        used: &Amounts,
        budget: &Budget,
    ) -> Option<Dimension> {
        let bottleneck = seen.bottleneck(|d| budget.total(d).is_some());
        let Some((speed, bottleneck)) = slow.zip(bottleneck) else {
            (self.slow_since, self.behind) = (None, None);
            self.rise(now, seen, used, budget);
            return None;
        };
        let since = *self.slow_since.get_or_insert(now);
        (self.changed, self.busiest, self.least) = (now, [0; DIMENSIONS], None);
        if now.saturating_sub(since) < SLOW_FOR {
            return None;
        }
        self.behind = Some(bottleneck);
        // What is left of it then is what is promised, as far as it is done: a little less than that is what it carries.
        let total = budget.total(bottleneck).filter(|&t| t > 0)?;
        let limit = budget.limit(bottleneck);
        let done = u128::from(used.of(bottleneck)) * u128::from(speed.min(1000));
        let taken = done * 1000 / (u128::from(total) * u128::from(limit.max(1)));
        let carried = u16::try_from(taken).unwrap_or(u16::MAX).saturating_sub(BELOW);
        let old = self.permille[bottleneck.index()];
        let new = carried.min(old.saturating_sub(BELOW)).max(FLOOR);
        self.slow_since = Some(now);
        self.permille[bottleneck.index()] = new.min(old);
        (new < old).then_some(bottleneck)
    }

    /// Slowly where nobody can tell, and as far as the machine was seen to carry what is promised with room to spare: whatever else used it is gone.
    fn rise(&mut self, now: Duration, seen: &Pressure, used: &Amounts, budget: &Budget) {
        for (reading, d) in seen.readings() {
            let busiest = &mut self.busiest[d.index()];
            *busiest = (*busiest).max(reading.unwrap_or(1000));
        }
        let least = self.least.map_or(*used, |least| least.least(used));
        self.least = Some(least);
        if now.saturating_sub(self.changed) < RISE_EVERY {
            return;
        }
        let busiest = std::mem::replace(&mut self.busiest, [0; DIMENSIONS]);
        (self.changed, self.least) = (now, None);
        for d in Dimension::ALL {
            let permille = &mut self.permille[d.index()];
            *permille = permille.saturating_add(RISE).min(1000);
            let (Some(total), busy @ 1..) = (budget.total(d).filter(|&t| t > 0), busiest[d.index()]) else { continue };
            let carries = u128::from(least.of(d)) * 1_000_000 / (u128::from(total) * u128::from(busy));
            *permille = (*permille).max(u16::try_from(carries).unwrap_or(u16::MAX).min(1000));
        }
    }
}
