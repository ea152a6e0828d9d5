//! What the machine turns out to carry: streams that fall behind tell that it is less than was thought.

use std::time::Duration;

use super::{Amounts, DIMENSIONS, Dimension};

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
    /// Of the encoders' time.
    pub encode: Option<u16>,
    /// Of the decoders' time.
    pub decode: Option<u16>,
}

impl Pressure {
    /// What keeps streams from being faster: the busiest of the dimensions that can run out.
    pub fn bottleneck(&self, can_run_out: impl Fn(Dimension) -> bool) -> Dimension {
        let known = [(self.encode, Dimension::Encode), (self.decode, Dimension::Decode), (self.cpu, Dimension::Cpu)];
        let busiest = known.into_iter().filter(|(_, d)| can_run_out(*d)).filter_map(|(n, d)| Some((n?, d)));
        busiest.max_by_key(|(n, _)| *n).map_or(Dimension::Cpu, |(_, d)| d)
    }
}

/// The share of each dimension's total that is believed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Belief {
    permille: [u16; DIMENSIONS],
    slow_since: Option<Duration>,
    /// When a dimension was last changed.
    changed: Duration,
}

impl Default for Belief {
    fn default() -> Self {
        Self { permille: [1000; DIMENSIONS], slow_since: None, changed: Duration::ZERO }
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
            self.slow_since = None;
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
