//! What a running stream may take beside all others, as its machine is told: a decision about it needs the numbers, not the ledger.

use super::{Amounts, DIMENSIONS, Demand, Dimension, Encoder, Ledger, Prices, Software, Threshold};
use crate::logic::model::StreamId;

/// What is there for one stream, with what it has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spare {
    /// `None` where nothing runs out.
    free: [Option<u64>; DIMENSIONS],
    /// For this streams fall behind: nothing may grow.
    behind: Option<Dimension>,
    prices: Prices,
}

impl Spare {
    /// Where nobody is refused.
    pub const UNLIMITED: Self = Self {
        free: [None; DIMENSIONS],
        behind: None,
        prices: Prices {
            encoder: Encoder::None,
            software: Software { encoded: 1, decoded: 1, scaled: 1 },
            brief: Software { encoded: 1, decoded: 1, scaled: 1 },
        },
    };

    /// Beside the other streams of a ledger.
    pub fn new(ledger: &Ledger, stream: &StreamId, prices: &Prices) -> Self {
        let others = ledger.leases().iter().filter(|(id, _)| *id != stream);
        let used = others.fold(Amounts::default(), |sum, (_, lease)| sum.plus(&lease.cost));
        let free = |d: Dimension| Some(ledger.ceiling(d, Threshold::Commit)?.saturating_sub(used.of(d)));
        Self { free: Dimension::ALL.map(free), behind: ledger.belief().behind(), prices: *prices }
    }

    /// What is in the way of doing this for the stream.
    ///
    /// # Errors
    /// The first dimension in which it does not fit.
    pub fn fits(&self, demand: &Demand) -> Result<(), Dimension> {
        let cost = demand.cost(&self.prices);
        let short = |d: &Dimension| self.free[d.index()].is_some_and(|free| cost.of(*d) > free);
        self.behind.or_else(|| Dimension::ALL.into_iter().find(short)).map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::capacity::{Budget, Lease, Phase, Pressure, Priority, Profile, Work};
    use crate::logic::ladder::Size;

    /// One that passes on 6000 kbit/s.
    fn demand() -> Demand {
        let work = Work { ladder: None, smallest: Size::ANY, passthrough_short_side: 1080, passthrough_kbps: 8000 };
        work.of(&Profile::REFERENCE)
    }

    #[test]
    fn a_stream_may_take_what_others_leave_with_what_it_has_itself() {
        let prices = Spare::UNLIMITED.prices;
        let mut ledger = Ledger::new(Budget::unlimited().with(Dimension::Network, 14_200).with(Dimension::Cpu, 1000));
        let lease = Lease { cost: demand().cost(&prices), phase: Phase::Live, priority: Priority::Normal };
        let [a, b] = ["a", "b"].map(|id| id.parse().unwrap());
        ledger.reserve(&a, lease).unwrap();
        ledger.reserve(&b, lease).unwrap();
        let fits = |ledger: &Ledger, kbps| Spare::new(ledger, &a, &prices).fits(&Demand { source_kbps: kbps, ..demand() });
        assert_eq!(fits(&ledger, 6070), Ok(()), "0.85 of 14,200 less 6000");
        assert_eq!(fits(&ledger, 6071), Err(Dimension::Network));
        for second in 0..6 {
            let used = ledger.used();
            let budget = *ledger.budget();
            ledger.belief_mut().look(Some(900), std::time::Duration::from_secs(second), &Pressure::default(), &used, &budget);
        }
        assert_eq!(fits(&ledger, 100), Err(Dimension::Cpu), "streams fall behind");
        assert_eq!(Spare::UNLIMITED.fits(&Demand { source_kbps: u32::MAX, ..demand() }), Ok(()));
    }
}
