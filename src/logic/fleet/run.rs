//! The course of events.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::outcome::{Outcome, Sample};
use super::publisher::{Place, Publisher};
use super::random::Random;
use super::worker::{Worker, room_of_a_node, times};
use super::{Arrivals, Event, HOUR, Kind, MINUTE, Plan, RTO, SECOND};
use crate::logic::capacity::{Amounts, DIMENSIONS, Demand};
use crate::logic::model::StreamId;

/// Workers count and report once a second (`src/worker.rs`), a tenth of them at a time.
const TICK: u64 = SECOND / 10;
const PHASES: u64 = 10;

/// From a worker's count to the scheduler's table, ms: two seconds of age are allowed, of which one is the time between counts.
const REPORT_DELAY: u64 = 500;

/// TCP, RTMP's handshake over TLS and its commands: five round trips, and the answer.
const CONNECT: u64 = SECOND;

/// OBS notices a cut at once where the node resets, and in up to ten seconds where it is silent and a load balancer's keepalive tells.
const NOTICE: (u64, u64) = (0, 10 * SECOND);

/// Until names and load balancers lead to other regions, tries end at the dead one: three health checks of ten seconds.
const FAIL_OVER: u64 = 30 * SECOND;

/// Two GOPs of two seconds, after which a source is known.
const KNOWN_AFTER: u64 = 4 * SECOND;

/// To the first segment: a key frame that comes within two seconds, a segment of two, and the store.
const KEY_FRAME: (u64, u64) = (0, 2 * SECOND);
const SEGMENT: u64 = 2 * SECOND + 300;

/// Karpenter gathers what is pending for up to ten seconds.
const SCALE_EVERY: u64 = 10 * SECOND;

/// For the plot.
const SAMPLES: u64 = 600;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// Reports, looks, and each tenth second the autoscaler.
    Tick,
    Ready {
        region: usize,
    },
    Happens {
        event: usize,
    },
    Comes {
        publisher: usize,
    },
    /// The rest is of a publisher's turn.
    Tries {
        publisher: usize,
        turn: u32,
    },
    Known {
        publisher: usize,
        turn: u32,
    },
    Seen {
        publisher: usize,
        turn: u32,
    },
    Leaves {
        publisher: usize,
    },
}

struct Fleet<'a> {
    plan: &'a Plan,
    now: u64,
    count: u64,
    queue: BinaryHeap<Reverse<(u64, u64, What)>>,
    random: Random,
    workers: Vec<Worker>,
    publishers: Vec<Publisher>,
    ids: Vec<StreamId>,
    demands: Vec<Demand>,
    assumed: Demand,
    assumed_cost: Amounts,
    /// Streams that fit on a node, as they are on the average.
    a_node: u32,
    /// When a region died, and how many nodes are on their way to it.
    dead_since: Vec<Option<u64>>,
    starting: Vec<u32>,
    shed: u32,
    late: u32,
    out: Outcome,
}

/// Runs a plan to its end.
pub fn run(plan: &Plan) -> Outcome {
    let mut fleet = Fleet::new(plan);
    fleet.arrive();
    while let Some(Reverse((at, _, what))) = fleet.queue.pop() {
        if at > plan.length {
            break;
        }
        fleet.now = at;
        fleet.happen(what);
    }
    fleet.out.finish()
}

impl<'a> Fleet<'a> {
    fn new(plan: &'a Plan) -> Self {
        let demands: Vec<Demand> = plan.kinds.iter().map(|k| k.demand(&plan.work)).collect();
        let assumed = plan.work.of(&crate::logic::capacity::Profile::REFERENCE);
        let assumed_cost = plan.costs.of(&assumed);
        let shares = plan.kinds.iter().zip(&demands);
        let share = |(kind, demand): (&Kind, &Demand)| times(plan.costs.of(demand), &[kind.permille; DIMENSIONS]);
        let average = shares.map(share).fold(Amounts::default(), |all, one| all.plus(&one));
        let a_node = room_of_a_node(plan.budget, &average);
        let nodes = plan.workers.saturating_add(plan.warm);
        let workers = (0..plan.regions).flat_map(|region| (0..nodes).map(move |_| Worker::new(region, plan.budget))).collect();
        let mut fleet = Self {
            plan,
            now: 0,
            count: 0,
            queue: BinaryHeap::new(),
            random: Random::new(plan.seed),
            workers,
            publishers: Vec::new(),
            ids: Vec::new(),
            demands,
            assumed,
            assumed_cost,
            a_node,
            dead_since: vec![None; plan.regions],
            starting: vec![0; plan.regions],
            shed: 0,
            late: 0,
            out: Outcome::default(),
        };
        fleet.at(TICK, What::Tick);
        for (event, (at, _)) in plan.events.iter().enumerate() {
            fleet.at(*at, What::Happens { event });
        }
        fleet
    }

    fn at(&mut self, at: u64, what: What) {
        self.count += 1;
        self.queue.push(Reverse((at, self.count, what)));
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Tick => self.tick(),
            What::Ready { region } => {
                self.starting[region] = self.starting[region].saturating_sub(1);
                if self.dead_since[region].is_none() {
                    self.workers.push(Worker::new(region, self.plan.budget));
                }
            }
            What::Happens { event } => {
                if let Some((_, event)) = self.plan.events.get(event) {
                    self.befall(*event);
                }
            }
            What::Comes { publisher } => {
                self.out.came += 1;
                let p = &mut self.publishers[publisher];
                p.place = Place::Waiting;
                let (turn, until) = (p.turn, p.until);
                self.at(until, What::Leaves { publisher });
                self.at(self.now + CONNECT, What::Tries { publisher, turn });
            }
            What::Tries { publisher, turn } if self.publishers[publisher].turn == turn => self.attempt(publisher),
            What::Known { publisher, turn } if self.publishers[publisher].turn == turn => self.know(publisher),
            What::Seen { publisher, turn } if self.publishers[publisher].turn == turn => self.seen(publisher),
            What::Leaves { publisher } => self.leave(publisher),
            What::Tries { .. } | What::Known { .. } | What::Seen { .. } => {}
        }
    }

    // Streamers.

    fn add(&mut self, home: usize, comes: u64, until: u64) {
        let publisher = self.publishers.len();
        let mut draw = self.random.between(0, 999);
        let kind = self.plan.kinds.iter().position(|k| match draw.checked_sub(k.permille.into()) {
            Some(rest) => {
                draw = rest;
                false
            }
            None => true,
        });
        let Ok(id) = format!("s{publisher}").parse() else { return };
        self.ids.push(id);
        self.publishers.push(Publisher::new(home, kind.unwrap_or(0), until, &mut self.random));
        self.at(comes, What::Comes { publisher });
    }

    fn arrive(&mut self) {
        let regions = self.plan.regions.max(1);
        match self.plan.arrivals {
            Arrivals::Ramp { streams, within } => {
                for n in 0..streams as usize {
                    let comes = self.random.between(1, within);
                    self.add(n % regions, comes, u64::MAX);
                }
            }
            Arrivals::Daily { peak, stay } => {
                // Thinning (Lewis, Shedler 1979) of a Poisson process whose rate keeps the peak's number of streams by Little's law.
                let gap = stay / u64::from(peak.max(1));
                let mut comes = 0;
                while comes < self.plan.length {
                    comes += self.random.exponential(gap).max(1);
                    // A triangle from a quarter at 8 h to all at 20 h: of a day's course the slope matters here, not the shape.
                    let hours = (comes / HOUR + 24 - 20) % 24;
                    let from_peak = hours.min(24 - hours) * HOUR;
                    let share = 1000 - 750 * from_peak / (12 * HOUR);
                    let home = usize::try_from(self.random.between(0, regions as u64 - 1)).unwrap_or(0);
                    let until = comes.saturating_add(self.random.exponential(stay));
                    if self.random.between(0, 999) < share {
                        self.add(home, comes, until);
                    }
                }
            }
        }
    }

    /// The worker that a scheduler sends somebody to: in his own region, else anywhere, the one that told most room. Where none told any, whoever seems alive: there is more
    /// room than is told.
    fn choose(&mut self, home: usize) -> Option<usize> {
        let (now, dead_since) = (self.now, &self.dead_since);
        let leads_there = |region: usize| dead_since[region].is_none();
        let best = |near: bool| {
            let there = self.workers.iter().enumerate().filter(|(_, w)| leads_there(w.region) && (w.region == home) == near);
            let told = there.filter_map(|(n, w)| Some((w.seems_free(now, REPORT_DELAY)?, Reverse(n))));
            told.max().filter(|(free, _)| *free > 0).map(|(_, Reverse(n))| n)
        };
        if let Some(n) = best(true).or_else(|| best(false)) {
            return Some(n);
        }
        let seem_alive = self.workers.iter().enumerate();
        let seem_alive: Vec<usize> = seem_alive
            .filter(|(_, w)| leads_there(w.region) && w.seems_free(now, REPORT_DELAY).is_some())
            .map(|(n, _)| n)
            .collect();
        let last = u64::try_from(seem_alive.len()).unwrap_or(0).checked_sub(1)?;
        usize::try_from(self.random.between(0, last)).ok().and_then(|n| seem_alive.get(n).copied())
    }

    fn attempt(&mut self, publisher: usize) {
        let home = self.publishers[publisher].home;
        // His names still lead to the dead region.
        let leads_to_the_dead = self.dead_since[home].is_some_and(|since| self.now < since + FAIL_OVER);
        let chosen = if leads_to_the_dead { None } else { self.choose(home) };
        let Some(n) = chosen.filter(|&n| self.workers[n].is_up) else {
            if let Some(n) = chosen {
                self.workers[n].send();
            }
            self.out.dead_tries += 1;
            return self.again(publisher);
        };
        self.out.report_age_most = self.out.report_age_most.max(self.workers[n].age(self.now, REPORT_DELAY));
        let p = &mut self.publishers[publisher];
        let demand = if p.is_known && self.plan.remembers { &self.demands[p.kind] } else { &self.assumed };
        let worker = &mut self.workers[n];
        worker.send();
        match worker.admit(&self.ids[publisher], demand, &self.plan.costs, self.plan.sheds) {
            Ok(without) => {
                p.accepted(n);
                let turn = p.turn;
                self.set_shed(publisher, without);
                let key_frame = self.random.between(KEY_FRAME.0, KEY_FRAME.1);
                self.at(self.now + KNOWN_AFTER, What::Known { publisher, turn });
                self.at(self.now + key_frame + SEGMENT, What::Seen { publisher, turn });
            }
            Err(full) => {
                self.out.refusals += 1;
                *self.out.refused_for.entry(full.dimension.as_str()).or_default() += 1;
                self.again(publisher);
            }
        }
    }

    fn again(&mut self, publisher: usize) {
        let p = &mut self.publishers[publisher];
        match p.next_try(&mut self.random) {
            Some(wait) => {
                let turn = p.turn;
                self.at(self.now + wait + CONNECT, What::Tries { publisher, turn });
            }
            None => {
                p.place = Place::Gone;
                p.turn += 1;
                self.out.gave_up += 1;
            }
        }
    }

    fn know(&mut self, publisher: usize) {
        let p = &mut self.publishers[publisher];
        p.is_known = true;
        if let Place::At { worker, live } = p.place {
            let demand = &self.demands[p.kind];
            let without = self.workers[worker].know(&self.ids[publisher], demand, &self.plan.costs, self.plan.sheds);
            if live {
                self.workers[worker].is_live(&self.ids[publisher]);
            }
            self.set_shed(publisher, without);
        }
    }

    fn seen(&mut self, publisher: usize) {
        let p = &mut self.publishers[publisher];
        if let Place::At { worker, .. } = p.place {
            p.place = Place::At { worker, live: true };
            self.workers[worker].is_live(&self.ids[publisher]);
            if let Some(lost) = p.lost.take() {
                self.out.back.push(self.now - lost);
            }
        }
    }

    fn leave(&mut self, publisher: usize) {
        let p = &mut self.publishers[publisher];
        let place = std::mem::replace(&mut p.place, Place::Gone);
        p.turn += 1;
        // Who gave up before has no stream to stop.
        if place != Place::Gone && p.lost.take().is_some_and(|lost| self.now - lost <= RTO) {
            self.out.stopped += 1;
        }
        if let Place::At { worker, .. } = place {
            self.workers[worker].release(&self.ids[publisher]);
            self.set_shed(publisher, 0);
        }
    }

    fn set_shed(&mut self, publisher: usize, without: usize) {
        let p = &mut self.publishers[publisher];
        let of = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.shed = self.shed.saturating_sub(of(p.shed)).saturating_add(of(without));
        p.shed = without;
        self.out.shed_most = self.out.shed_most.max(self.shed);
    }

    // The fleet.

    fn befall(&mut self, event: Event) {
        match event {
            Event::Crowd { region, streams } => {
                for _ in 0..streams {
                    let comes = self.now + self.random.between(0, MINUTE);
                    self.add(region, comes, comes + HOUR);
                }
            }
            Event::NodeLoss { region } => {
                let up = self.workers.iter().enumerate().filter(|(_, w)| w.is_up && w.region == region);
                if let Some((_, Reverse(n))) = up.map(|(n, w)| (w.streams(), Reverse(n))).max() {
                    self.lose(n);
                }
            }
            Event::RegionLoss { region } => {
                self.dead_since[region] = Some(self.now);
                for n in 0..self.workers.len() {
                    if self.workers[n].is_up && self.workers[n].region == region {
                        self.lose(n);
                    }
                }
            }
        }
    }

    fn lose(&mut self, worker: usize) {
        self.workers[worker].fail();
        for publisher in 0..self.publishers.len() {
            let there = matches!(self.publishers[publisher].place, Place::At { worker: w, .. } if w == worker);
            if there {
                self.set_shed(publisher, 0);
                let p = &mut self.publishers[publisher];
                let was_lost = p.lost.is_some();
                p.lose(self.now);
                if !was_lost && p.lost.is_some() {
                    self.out.lost += 1;
                }
                let notice = self.random.between(NOTICE.0, NOTICE.1);
                let turn = self.publishers[publisher].turn;
                let wait = self.publishers[publisher].next_try(&mut self.random).unwrap_or(0);
                self.at(self.now + notice + wait + CONNECT, What::Tries { publisher, turn });
            }
        }
    }

    fn tick(&mut self) {
        let phase = self.now / TICK % PHASES;
        let mut late = 0;
        for n in (0..self.workers.len()).filter(|&n| n as u64 % PHASES == phase) {
            let worker = &mut self.workers[n];
            if worker.is_up {
                late += worker.look(self.now, &self.plan.truth).late;
                worker.report(self.now, &self.assumed_cost);
            }
        }
        self.late = self.late.saturating_add(u32::try_from(late).unwrap_or(u32::MAX));
        if phase == 0 {
            self.out.late_seconds += u64::from(self.late);
            self.out.shed_seconds += u64::from(self.shed);
            let every = (self.plan.length / SAMPLES / SECOND).max(1) * SECOND;
            if self.now.is_multiple_of(every) {
                self.sample();
            }
            self.late = 0;
        }
        if self.now.is_multiple_of(SCALE_EVERY) {
            self.scale();
        }
        self.at(self.now + TICK, What::Tick);
    }

    fn sample(&mut self) {
        let of = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let count = |is: fn(&Place) -> bool| of(self.publishers.iter().filter(|p| is(&p.place)).count());
        let nodes = of(self.workers.iter().filter(|w| w.is_up).count());
        self.out.nodes_most = self.out.nodes_most.max(nodes);
        self.out.samples.push(Sample {
            at: self.now,
            live: count(|p| matches!(p, Place::At { live: true, .. })),
            waiting: count(|p| matches!(p, Place::Waiting | Place::At { live: false, .. })),
            nodes,
            refusals: self.out.refusals,
            shed: self.shed,
            late: self.late,
        });
    }

    /// Orders nodes: for the streams that are there and those that wait for a region, and the warm ones besides. Who waits for a dead region is shared by the others.
    fn scale(&mut self) {
        let living: Vec<usize> = (0..self.plan.regions).filter(|&r| self.dead_since[r].is_none()).collect();
        let a_node = self.a_node;
        let mut wanted = vec![0u32; self.plan.regions];
        for (n, p) in self.publishers.iter().enumerate().filter(|(_, p)| p.place == Place::Waiting) {
            let region =
                if self.dead_since[p.home].is_none() { Some(p.home) } else { living.get(n % living.len().max(1)).copied() };
            if let Some(region) = region {
                wanted[region] += 1;
            }
        }
        for region in living {
            let there = self.workers.iter().filter(|w| w.is_up && w.region == region);
            let (nodes, streams) = there.fold((0u32, 0usize), |(n, s), w| (n + 1, s + w.streams()));
            let streams = u32::try_from(streams).unwrap_or(u32::MAX).saturating_add(wanted[region]);
            let needed = streams.div_ceil(a_node.max(1)).saturating_add(self.plan.warm).min(self.plan.most);
            let missing = needed.saturating_sub(nodes.saturating_add(self.starting[region]));
            for _ in 0..missing {
                self.at(self.now + self.plan.node_start, What::Ready { region });
            }
            self.starting[region] += missing;
            self.out.ordered += missing;
        }
    }
}
