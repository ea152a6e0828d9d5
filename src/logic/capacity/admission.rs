//! All that a worker knows of its capacity in one: who is let in, what streams that run go without, and what the machine turns out to carry. Pure; its shell has the
//! clock and the readings.

use std::time::Duration;

use super::{
    Amounts, Belief, Calibration, Demand, Dimension, Encoder, Full, Lease, Ledger, Levels, Machine, Phase, Pressure, Prices,
    Priority, Profile, Saving, Shedder, Spare, Step, Work, leased, steps,
};
use crate::logic::capacity::Leased;
use crate::logic::ladder::Ladder;
use crate::logic::model::StreamId;

/// When streams go without a part of what they have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shed {
    /// Never: who falls behind falls behind.
    Off,
    /// When the machine does not carry what was promised.
    Overload,
    /// Likewise, and before a publisher is refused.
    #[default]
    Admit,
}

/// How promises are made.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What is made of sources.
    pub work: Work,
    /// What that costs, before anything was measured here.
    pub prices: Prices,
    /// What a source counts as until it is known.
    pub assumed: Profile,
    /// Without it every publisher is taken, and the ledger only tells.
    pub enforced: bool,
    /// See [`Shed`].
    pub shed: Shed,
}

/// A running stream, as the last look found it.
#[derive(Debug, Clone)]
pub struct Running {
    /// Which.
    pub stream: StreamId,
    /// What is to be done for it when nothing is left out, where that is known.
    pub demand: Option<Demand>,
    /// It publishes.
    pub live: bool,
    /// It falls behind, and not by its publisher's doing.
    pub behind: bool,
    /// Media that its slowest encoder gave a second, thousandths of a second; `None` where that is not known.
    pub speed: Option<u16>,
    /// The process that encodes it.
    pub codec_pid: Option<u32>,
}

/// What the machine did since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// How busy it is.
    pub pressure: Pressure,
    /// Processor time of the processes that encode; `None` where it is not known of all.
    pub codecs: Option<Duration>,
}

/// What a look at all streams came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// What turned out to be less than it was thought.
    pub lowered: Option<Dimension>,
    /// Who goes without what from now on.
    pub steps: Vec<Step>,
}

/// The machine.
#[derive(Debug, Clone)]
pub struct Admission {
    machine: Machine,
    rules: Rules,
    ledger: Ledger,
    calibration: Calibration,
    shedder: Shedder,
    looked: Duration,
    pressure: Pressure,
    refused: u64,
}

impl Admission {
    /// Nothing is promised yet.
    pub fn new(machine: Machine, rules: Rules) -> Self {
        Self {
            ledger: Ledger::new(machine.budget(|_| false)),
            machine,
            rules,
            calibration: Calibration::default(),
            shedder: Shedder::default(),
            looked: Duration::ZERO,
            pressure: Pressure::default(),
            refused: 0,
        }
    }

    /// As measured by now.
    pub fn prices(&self) -> Prices {
        self.rules.prices.corrected(self.calibration.permille())
    }

    /// How promises are made.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What is promised.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Promises a stream with this ladder what a source costs of which nothing is known: passed through (rules.md 27). For it others may have to go without something, or itself.
    ///
    /// # Errors
    /// What has run out.
    pub fn admit(
        &mut self,
        stream: &StreamId,
        ladder: Option<&Ladder>,
        priority: Priority,
        now: Duration,
    ) -> Result<Vec<Step>, Full> {
        let demand = self.rules.work.with_ladder(ladder).of(&self.rules.assumed);
        let steps = steps(&demand, &self.prices());
        let cost = steps.first().map_or_else(Amounts::default, |way| way.cost);
        let lease = Lease { cost, phase: Phase::Pending, priority };
        // A stream's next session begins whole.
        self.shedder.forget(stream);
        match self.ledger.reserve(stream, lease) {
            Ok(()) => {}
            Err(full) if self.rules.enforced => {
                let may = self.rules.shed == Shed::Admit;
                let room = may.then(|| self.shedder.with_room_for(&self.ledger, stream, lease, steps, now)).flatten();
                let Some(room) = room else {
                    self.refused += 1;
                    return Err(full);
                };
                (self.shedder, self.ledger) = (room.shedder, room.ledger);
                return Ok(room.steps);
            }
            Err(_) => self.ledger.promise(stream, lease),
        }
        self.shedder.describe(stream, steps, priority);
        Ok(Vec::new())
    }

    /// What is done for the stream is known, or has changed.
    pub fn settle(&mut self, stream: &StreamId, demand: &Demand) {
        let Some(priority) = self.ledger.leases().get(stream).map(|lease| lease.priority) else { return };
        self.shedder.describe(stream, steps(demand, &self.prices()), priority);
        if let Some(cost) = self.shedder.cost(stream) {
            self.ledger.settle(stream, cost);
        }
    }

    /// It is over.
    pub fn release(&mut self, stream: &StreamId) {
        self.ledger.release(stream);
        self.shedder.forget(stream);
    }

    /// Without what the stream is to be made.
    pub fn saving(&self, stream: &StreamId) -> Saving {
        self.shedder.saving(stream)
    }

    /// What the stream may take beside all others; all that it wants where nobody is refused.
    pub fn spare(&self, stream: &StreamId) -> Spare {
        if self.rules.enforced { Spare::new(&self.ledger, stream, &self.prices()) } else { Spare::UNLIMITED }
    }

    /// Which devices are lost now.
    pub fn devices_are(&mut self, is_lost: impl Fn(&str) -> bool) {
        if !self.machine.devices.is_empty() {
            self.ledger.set_budget(self.machine.budget(is_lost));
        }
    }

    /// What running streams really take, and whether they fall behind. To be called about once a second.
    pub fn look(&mut self, running: &[Running], seen: Seen, now: Duration) -> Found {
        self.pressure = seen.pressure;
        let slow = running.iter().any(|r| r.behind);
        let span = now.saturating_sub(std::mem::replace(&mut self.looked, now));
        if let (Encoder::Software, Some(used)) = (self.rules.prices.encoder, seen.codecs) {
            let encoding = running.iter().filter(|r| r.codec_pid.is_some());
            let done = encoding.filter_map(|r| Some(self.shedder.saving(&r.stream).of(r.demand.as_ref()?)));
            let milli = done.map(|d| d.software_milli(&self.rules.prices)).fold(0, u64::saturating_add);
            let of = |milli: u64, span: Duration| milli.saturating_mul(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
            self.calibration.look(of(milli, span), of(1000, used), slow, now);
        }
        for r in running {
            if let Some(demand) = &r.demand {
                self.settle(&r.stream, demand);
            }
            if r.live {
                self.ledger.is_live(&r.stream);
            }
        }
        let mut found = Found::default();
        // What was done about it is not to be seen yet.
        if !self.shedder.is_settling(now) {
            let (used, budget) = (self.ledger.used(), *self.ledger.budget());
            let speed = running.iter().filter(|r| r.behind).map(|r| r.speed.unwrap_or(1000)).min();
            found.lowered = self.ledger.belief_mut().look(speed, now, &seen.pressure, &used, &budget);
        }
        if self.rules.shed != Shed::Off {
            found.steps = self.shedder.look(&mut self.ledger, seen.pressure, now);
        }
        found
    }

    /// For reports. `places`: so many sessions may begin, whatever they cost.
    pub fn levels(&self, places: u32) -> Levels {
        let mut levels = Levels::new(&self.ledger, &self.rules.work, &self.prices(), places);
        if self.calibration.is_measured() {
            levels.units.basis = "measured";
        }
        levels
    }

    /// How many more reference streams would be taken, if others and they themselves went without what they can ([`Shed::Admit`]); where nobody does, as many as fit whole. It tries them
    /// out: some milliseconds.
    pub fn accepts_shed(&self, places: u32) -> u32 {
        /// Nobody needs an exact number above this.
        const MOST: u32 = 64;
        let whole = self.levels(places).accepts.get(Profile::REFERENCE.name).copied().unwrap_or(0);
        if self.rules.shed != Shed::Admit || !self.rules.enforced || whole >= MOST.min(places) {
            return whole;
        }
        let mut trial = self.clone();
        let next = |n: &u32| {
            let stream: Option<StreamId> = format!("one-more-{n}").parse().ok();
            stream.is_some_and(|s| trial.admit(&s, self.rules.work.ladder.as_ref(), Priority::Normal, self.looked).is_ok())
        };
        let taken = (0..MOST.min(places)).take_while(next).count();
        u32::try_from(taken).unwrap_or(MOST).max(whole)
    }

    /// The streams, with what each costs.
    pub fn leased(&self) -> Vec<Leased> {
        leased(&self.ledger, &self.rules.work, &self.prices())
    }

    /// When running streams were looked at last; zero before the first time.
    pub fn looked(&self) -> Duration {
        self.looked
    }

    /// How busy the machine was at the last look.
    pub fn pressure(&self) -> Pressure {
        self.pressure
    }

    /// What the machine was seen to carry.
    pub fn belief(&self) -> &Belief {
        self.ledger.belief()
    }

    /// What software encoding takes here of what was assumed, thousandths.
    pub fn calibration(&self) -> u16 {
        self.calibration.permille()
    }

    /// Publishers for whom there was no room.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}
