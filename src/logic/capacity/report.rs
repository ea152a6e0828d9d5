//! The report to schedulers: what this worker can still take. Version first; fields are only ever added.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Amounts, Dimension, Ledger, Phase, Prices, Profile, Threshold, Work};

/// A reader forgets a worker whose last report is older, milliseconds.
pub const TTL_MS: u64 = 10_000;

/// Whether new streams may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Yes.
    Ready,
    /// No reference stream fits.
    Full,
    /// No: the worker is about to end.
    Draining,
}

/// Capacity in streams like [`Profile::REFERENCE`], in thousandths, by the dimension that runs out first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Units {
    /// What a unit is: `1080p30-ladder`.
    pub name: String,
    /// What could be promised if nothing was.
    pub total_milli: Option<u64>,
    /// Promised, those that are not live yet among them.
    pub used_milli: u64,
    /// Promised to streams that are not live yet.
    pub pending_milli: u64,
    /// What may be promised yet.
    pub free_milli: Option<u64>,
    /// What runs out first.
    pub scarce: Option<&'static str>,
    /// `configured`, or `measured` where the machine turned out to carry less.
    pub basis: &'static str,
}

/// One dimension, in its own unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Level {
    /// All that there is.
    pub total: u64,
    /// What is believed to be there.
    pub believed: u64,
    /// What may be promised.
    pub limit: u64,
    /// What is promised.
    pub used: u64,
    /// Of that, to streams that are not live yet.
    pub pending: u64,
}

/// What the ledger says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Levels {
    /// In reference streams.
    pub units: Units,
    /// By dimension, those that can run out.
    pub dimensions: BTreeMap<&'static str, Level>,
    /// How many more of each kind would be taken.
    pub accepts: BTreeMap<&'static str, u32>,
    /// How many more of any kind, whatever they cost.
    #[serde(skip)]
    pub places: u32,
}

fn units_of(free: impl Fn(Dimension) -> Option<u64>, cost: &Amounts) -> Option<(u64, Dimension)> {
    let of = |d: Dimension| Some((free(d)?.saturating_mul(1000).checked_div(cost.of(d))?, d));
    Dimension::ALL.into_iter().filter_map(of).min()
}

impl Levels {
    /// Of a ledger, for streams as `work` makes them and at these prices. `places`: so many sessions may begin, whatever they cost.
    pub fn new(ledger: &Ledger, work: &Work, prices: &Prices, places: u32) -> Self {
        let cost = work.of(&Profile::REFERENCE).cost(prices);
        let (used, pending) = (ledger.used(), ledger.pending());
        let ceiling = |d| ledger.ceiling(d, Threshold::Advertise);
        let left = |d: Dimension, taken: u64| ceiling(d).map(|c| c.saturating_sub(taken));
        let total = units_of(ceiling, &cost);
        let free = units_of(|d| left(d, used.of(d)), &cost);
        let without_pending = units_of(|d| left(d, used.of(d) - pending.of(d)), &cost);
        let milli = |of: Option<(u64, Dimension)>| of.map(|(n, _)| n);
        let gone = |more: Option<u64>, less: Option<u64>| more.unwrap_or(0).saturating_sub(less.unwrap_or(0));
        let units = Units {
            name: format!("{}-ladder", Profile::REFERENCE.name),
            total_milli: milli(total),
            used_milli: gone(milli(total), milli(free)),
            pending_milli: gone(milli(without_pending), milli(free)),
            free_milli: milli(free),
            scarce: free.map(|(_, d)| d.as_str()),
            basis: if ledger.belief().is_measured() { "measured" } else { "configured" },
        };
        let level = |d: Dimension| {
            let level = Level {
                total: ledger.budget().total(d)?,
                believed: ledger.believed(d)?,
                limit: ledger.ceiling(d, Threshold::Commit)?,
                used: used.of(d),
                pending: pending.of(d),
            };
            Some((d.as_str(), level))
        };
        let room = |p: &Profile| (p.name, ledger.room(&work.of(p).cost(prices), Threshold::Advertise).0.min(places));
        Self {
            units,
            dimensions: Dimension::ALL.into_iter().filter_map(level).collect(),
            accepts: Profile::ALL.iter().map(room).collect(),
            places,
        }
    }

    /// Whether a reference stream would be taken. `enforced`: nobody is, for whom there is no room.
    pub fn state(&self, draining: bool, enforced: bool) -> State {
        let fits = self.accepts.get(Profile::REFERENCE.name).is_none_or(|&n| n > 0);
        match (draining, self.places) {
            (true, _) => State::Draining,
            (false, 0) => State::Full,
            (false, _) if enforced && !fits => State::Full,
            (false, _) => State::Ready,
        }
    }
}

/// A stream in the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leased {
    /// Its id.
    pub id: String,
    /// `pending` or `live`.
    pub phase: &'static str,
    /// What it costs, thousandths of a reference stream: what each takes of what is scarcest for it.
    pub cost_milli: u64,
}

/// The largest share that a cost is of any dimension's ceiling, in 2^-32 of it.
fn share(ledger: &Ledger, cost: &Amounts) -> u64 {
    let of = |d: Dimension| {
        let ceiling = ledger.ceiling(d, Threshold::Advertise)?;
        let share = (u128::from(cost.of(d)) << 32).checked_div(ceiling.into())?;
        Some(u64::try_from(share).unwrap_or(u64::MAX))
    };
    Dimension::ALL.into_iter().filter_map(of).max().unwrap_or(0)
}

/// Every stream that something is promised to.
pub fn leased(ledger: &Ledger, work: &Work, prices: &Prices) -> Vec<Leased> {
    let reference = share(ledger, &work.of(&Profile::REFERENCE).cost(prices));
    let cost = |c: &Amounts| share(ledger, c).saturating_mul(1000).checked_div(reference).unwrap_or(0);
    let phase = |p: Phase| match p {
        Phase::Pending => "pending",
        Phase::Live => "live",
    };
    let leases = ledger.leases().iter();
    leases.map(|(id, l)| Leased { id: id.to_string(), phase: phase(l.phase), cost_milli: cost(&l.cost) }).collect()
}
