//! What the machine turns out to carry: streams that fall behind tell that it is less than was thought.

use std::time::Duration;

use super::{Amounts, DIMENSIONS, Dimension};
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

    /// What keeps streams from being faster: the busiest of the dimensions that can run out. The processor where nobody can tell, and `None` where everybody can and
    /// nothing is busy.
    pub fn bottleneck(&self, can_run_out: impl Fn(Dimension) -> bool) -> Option<Dimension> {
        let cpu = self.cpu.max(self.stalled);
        let known = [(self.encode, Dimension::Encode), (self.decode, Dimension::Decode), (cpu, Dimension::Cpu)];
        let busiest = known.into_iter().filter(|(_, d)| can_run_out(*d)).filter_map(|(n, d)| Some((n?, d)));
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
    /// What streams are slow for right now.
    behind: Option<Dimension>,
}

impl Default for Belief {
    fn default() -> Self {
        Self { permille: [1000; DIMENSIONS], slow_since: None, changed: Duration::ZERO, behind: None }
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

    /// A look at all streams, about once a second. `slow`: one of them is slower than real time and it is not its publisher's doing. `used` of `total` is promised, of which `limit`
    /// may be. Returns the dimension that was lowered.
    pub fn look(
        &mut self,
        slow: bool,
        now: Duration,
        bottleneck: Dimension,
        used: &Amounts,
        total: Option<u64>,
        limit: u16,
    ) -> Option<Dimension> {
        if !slow {
            (self.slow_since, self.behind) = (None, None);
            if now.saturating_sub(self.changed) >= RISE_EVERY {
                self.changed = now;
                self.permille.iter_mut().for_each(|p| *p = p.saturating_add(RISE).min(1000));
            }
            return None;
        }
        let since = *self.slow_since.get_or_insert(now);
        self.changed = now;
        if now.saturating_sub(since) < SLOW_FOR {
            return None;
        }
        self.behind = Some(bottleneck);
        // What is left of it then is what is promised: a little less than that is what it carries.
        let total = total.filter(|&t| t > 0)?;
        let taken = u128::from(used.of(bottleneck)) * 1_000_000 / (u128::from(total) * u128::from(limit.max(1)));
        let carried = u16::try_from(taken).unwrap_or(u16::MAX).saturating_sub(BELOW);
        let old = self.permille[bottleneck.index()];
        let new = carried.min(old.saturating_sub(BELOW)).max(FLOOR);
        self.slow_since = Some(now);
        self.permille[bottleneck.index()] = new.min(old);
        (new < old).then_some(bottleneck)
    }
}
