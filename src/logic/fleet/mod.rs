//! A fleet in virtual time: what becomes of streams when crowds come, and when nodes and regions go. Pure: a plan and a seed in, numbers out.
//!
//! Workers are [`capacity::Ledger`](super::capacity::Ledger)s with the costs of [`capacity::Demand`](super::capacity::Demand): what is refused here is refused by the
//! code that refuses publishers. Streamers are OBS at its defaults. A scheduler sees the workers by reports that are up to two seconds old.
//! What is assumed of the world around stands in [`Plan`], each with its reason.

mod outcome;
mod plot;
mod publisher;
mod random;
mod run;
mod shed;
mod worker;

pub use outcome::{Outcome, Percentiles, Sample};
pub use plot::svg;
pub use run::run;
pub use worker::{Costs, room_of_a_node};

use super::bench;
use super::capacity::{Budget, DIMENSIONS, Demand, Device, Encoder, Machine, Prices, Profile, Work};
use super::gpu::Version;
use super::ladder::{Ladder, Source};
use super::model::FrameRate;
use super::recipe::{Class, NVIDIA_SMALLEST, Preset};

/// Milliseconds.
pub const SECOND: u64 = 1000;
/// Likewise.
pub const MINUTE: u64 = 60 * SECOND;
/// Likewise.
pub const HOUR: u64 = 60 * MINUTE;

/// The time in which viewers of a lost stream must see it again: the platform's recovery time objective.
pub const RTO: u64 = 5 * MINUTE;

/// A kind of stream.
#[derive(Debug, Clone)]
pub struct Kind {
    /// What its streamer sends.
    pub profile: Profile,
    /// Its pictures can be passed through; another's top rung is encoded.
    pub is_passable: bool,
    /// So many of a thousand streams are of this kind.
    pub permille: u32,
}

/// When streamers come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrivals {
    /// So many, evenly within a time, who stay to the end.
    Ramp {
        /// Streams of all regions together.
        streams: u32,
        /// ms.
        within: u64,
    },
    /// So many at the day's peak, in all regions at the same hour, a quarter of it at its low; they stay an exponential time.
    Daily {
        /// Streams of all regions together, at the peak.
        peak: u32,
        /// Mean length of a stream, ms.
        stay: u64,
    },
}

/// What happens to the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// So many streamers come to one region within a minute, and stay an hour.
    Crowd {
        /// Which.
        region: usize,
        /// How many.
        streams: u32,
    },
    /// The fullest node of a region dies.
    NodeLoss {
        /// Which.
        region: usize,
    },
    /// All nodes of a region die, and it gets no new ones.
    RegionLoss {
        /// Which.
        region: usize,
    },
}

/// Everything that decides a run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Regions.
    pub regions: usize,
    /// Nodes of each region at the start, one worker each.
    pub workers: u32,
    /// Nodes of each region that stand ready besides, and which its autoscaler keeps free.
    pub warm: u32,
    /// Nodes that a region may have at the most: what the cloud has, or a quota.
    pub most: u32,
    /// From a node's order to its worker's first report, ms. 3 min for Karpenter with a GPU driver and images.
    pub node_start: u64,
    /// What a node has.
    pub budget: Budget,
    /// What streams are made into.
    pub work: Work,
    /// At these costs.
    pub costs: Costs,
    /// What streams really take of what they are thought to, thousandths by dimension: above 1000 machines fall behind before they are full.
    pub truth: [u32; DIMENSIONS],
    /// Workers leave rungs out before they refuse.
    pub sheds: bool,
    /// Who comes back is admitted at what his stream cost (rules.md 27), and not at what is assumed of one that nobody knows.
    pub remembers: bool,
    /// Kinds of streams.
    pub kinds: Vec<Kind>,
    /// When they come.
    pub arrivals: Arrivals,
    /// What happens, by its time in ms.
    pub events: Vec<(u64, Event)>,
    /// The end, ms.
    pub length: u64,
    /// The same seed gives the same run.
    pub seed: u64,
}

/// Of a node with one A10G (g5.2xlarge): 8 vCPU, 32 GiB, 1 NVENC and 2 NVDEC at 1500 MHz, 23028 MiB, 10 Gbit/s, a spool of 20 GiB.
pub fn a10g() -> Machine {
    let machine = bench::Machine { compute: Version { major: 8, minor: 6 }, encoders: 1, decoders: 2, clock_mhz: Some(1500) };
    Machine {
        cpu_milli: Some(8000),
        memory_mib: Some(30_000),
        network_kbps: Some(10_000_000),
        spool_mib: Some(20_480),
        devices: vec![Device { uuid: "GPU-0".into(), machine, memory_mib: Some(23_028) }],
        limits: Budget::unlimited(),
    }
}

impl Kind {
    /// Every stream is 1080p30.
    pub fn reference(is_passable: bool) -> Vec<Self> {
        vec![Self { profile: Profile::REFERENCE, is_passable, permille: 1000 }]
    }

    /// What a worker does for it.
    pub fn demand(&self, work: &Work) -> Demand {
        let Profile { height, fps, kbps, .. } = self.profile;
        let width = u32::try_from(u64::from(height) * 16 / 9).unwrap_or(u32::MAX);
        let source = Source { width, height, fps: FrameRate::whole(fps), bitrate: Some(u64::from(kbps) * 1000) };
        work.demand(&source, self.is_passable)
    }
}

impl Plan {
    /// `streams` of 1080p30 over three regions whose nodes (an A10G each, P1) have exactly the room for them, and one region that dies when all have been there for five minutes.
    /// Streams are passed through with the ladder below, or all of them re-encoded.
    pub fn region_loss(ladder: &Ladder, streams: u32, is_passable: bool, warm: u32, seed: u64) -> Self {
        let (budget, regions) = (a10g().budget(|_| false), 3);
        let work = Work {
            ladder: Some(ladder.clone()),
            smallest: NVIDIA_SMALLEST,
            passthrough_short_side: 1080,
            passthrough_kbps: 8000,
        };
        let prices = Prices::assumed(Encoder::Nvidia(Class::Dense), Preset::Veryfast);
        let costs = Costs::new(prices);
        let kinds = Kind::reference(is_passable);
        let cost = kinds.iter().map(|k| costs.of(&k.demand(&work))).next().unwrap_or_default();
        let a_region = streams.div_ceil(3);
        Self {
            regions,
            workers: a_region.div_ceil(room_of_a_node(budget, &cost).max(1)),
            warm,
            most: u32::MAX,
            node_start: 3 * MINUTE,
            budget,
            work,
            costs,
            truth: [1000; DIMENSIONS],
            sheds: true,
            remembers: true,
            kinds,
            arrivals: Arrivals::Ramp { streams, within: 10 * MINUTE },
            events: vec![(15 * MINUTE, Event::RegionLoss { region: 0 })],
            length: 75 * MINUTE,
            seed,
        }
    }

    /// A day of mixed streams with a crowd, node losses, and the loss of a region near the peak.
    pub fn day(ladder: &Ladder, streams: u32, warm: u32, seed: u64) -> Self {
        let of = |name: &str, is_passable, permille| {
            let profile = Profile::ALL.into_iter().find(|p| p.name == name).unwrap_or(Profile::REFERENCE);
            Kind { profile, is_passable, permille }
        };
        let kinds =
            vec![of("1080p30", true, 450), of("1080p60", true, 200), of("720p30", true, 250), of("1080p30", false, 100)];
        let crowd = streams / 10;
        let events = vec![
            (5 * HOUR, Event::NodeLoss { region: 0 }),
            (11 * HOUR, Event::Crowd { region: 1, streams: crowd }),
            (14 * HOUR, Event::NodeLoss { region: 1 }),
            (19 * HOUR, Event::Crowd { region: 2, streams: crowd }),
            (20 * HOUR, Event::NodeLoss { region: 2 }),
            (21 * HOUR, Event::RegionLoss { region: 0 }),
        ];
        let arrivals = Arrivals::Daily { peak: streams, stay: 2 * HOUR };
        Self { kinds, arrivals, events, length: 24 * HOUR, ..Self::region_loss(ladder, streams, true, warm, seed) }
    }
}

#[cfg(test)]
mod tests;
