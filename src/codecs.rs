//! Codec processes in store: a few stand ready past GStreamer's start, and on a GPU past its trial, so that a new stream does not wait (rules.md 25).
//! Streams are placed on devices here, and share processes where that is set (rules.md 23).

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::link::host::{Host, Seat};
use crate::link::process::{Error, Spawner};
use crate::logic::placement::{self, Choice, ClassSetting, Device};
use crate::logic::recipe::Class;

/// A device on which a process failed is taken last for so long. The watcher tells of a lost one within its interval and deadline (4 s by default), which
/// is later than a stream's second try; a process that failed for reasons of its own moves streams for no longer.
const DOUBT: Duration = Duration::from_secs(10);

/// How many processes there are, and where.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Processes that stand ready on each device.
    pub warm: usize,
    /// Streams that may share a process.
    pub streams_per_codec: usize,
    /// The GPUs. None: the processes use whatever this machine has.
    pub devices: Vec<Device>,
    /// How much work NVENC puts into pictures.
    pub class: ClassSetting,
}

/// The pool. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Codecs {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    spawner: Spawner,
    warm: usize,
    room: usize,
    class: ClassSetting,
    slots: Mutex<Vec<Slot>>,
    /// Refills one at a time: processes that start together load the same plugins from the same disk, and open the same device.
    filling: tokio::sync::Mutex<()>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// One device.
#[derive(Debug)]
struct Slot {
    device: Device,
    /// When a process on it last failed.
    failed: Option<Instant>,
    /// In the unit of [`placement::cost`].
    placed: u64,
    ready: VecDeque<(Instant, Arc<Host>)>,
    /// Processes with streams, which may have room for another.
    shared: Vec<Weak<Host>>,
}

/// The pool as metrics see it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Store {
    /// Processes that stand ready.
    pub ready: usize,
    /// For how long the oldest of them does.
    pub oldest: Duration,
    /// Streams that found a process ready.
    pub hits: u64,
    /// Streams that waited for one to start.
    pub misses: u64,
    /// The GPUs.
    pub devices: Vec<Placed>,
}

/// What streams take of one GPU's encoders, in the unit of [`placement::cost`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Its UUID.
    pub device: String,
    /// All streams on it together.
    pub taken: u64,
    /// What they may take, where that is known.
    pub budget: Option<u64>,
}

impl Codecs {
    /// A pool that keeps processes ready, once [`Codecs::fill`] was called.
    pub fn new(spawner: Spawner, settings: Settings) -> Self {
        let mut devices = settings.devices;
        if devices.is_empty() {
            devices.push(Device { name: String::new(), engines: 1, budget: None, usable: true, doubted: false });
        }
        let slot = |device| Slot { device, failed: None, placed: 0, ready: VecDeque::new(), shared: Vec::new() };
        Self {
            shared: Arc::new(Shared {
                spawner,
                warm: settings.warm,
                room: settings.streams_per_codec,
                class: settings.class,
                slots: Mutex::new(devices.into_iter().map(slot).collect()),
                filling: tokio::sync::Mutex::new(()),
                hits: AtomicU64::new(0),
                misses: AtomicU64::new(0),
            }),
        }
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.shared.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which devices work now, by their names; one that is not mentioned stays as it was. Streams that are on a lost one find out by themselves.
    pub fn devices_are(&self, devices: &[Device]) {
        for slot in &mut *self.slots() {
            if let Some(now) = devices.iter().find(|d| d.name == slot.device.name) {
                slot.device.usable = now.usable;
                // Without a reading nothing is known, and what a device can do does not change.
                slot.device.budget = now.budget.or(slot.device.budget);
                if !now.usable {
                    slot.ready.clear();
                }
            }
        }
    }

    /// Brings the pool up to its size in the background.
    pub fn fill(&self) {
        let pool = self.clone();
        tokio::spawn(async move {
            let _one_at_a_time = pool.shared.filling.lock().await;
            while let Some((index, device)) = pool.lacking() {
                match pool.shared.spawner.spawn(device).await {
                    Ok(process) => {
                        let host = Host::new(process, pool.shared.room);
                        if let Some(slot) = pool.slots().get_mut(index) {
                            slot.ready.push_back((Instant::now(), host));
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "no warm codec process");
                        return;
                    }
                }
            }
        });
    }

    /// The next device that has too few processes ready.
    fn lacking(&self) -> Option<(usize, Option<Arc<str>>)> {
        let mut slots = self.slots();
        slots.iter_mut().for_each(|slot| slot.ready.retain(|(_, host)| host.has_room()));
        let lacks = |slot: &&Slot| slot.device.usable && slot.ready.len() < self.shared.warm;
        let index = slots.iter().position(|slot| lacks(&slot))?;
        Some((index, slots[index].name()))
    }

    /// A place for a stream that asks `load` macroblocks per second of its encoders: in a process that has room, in a ready one, or in a new one. `kept`:
    /// the class that its session had so far.
    ///
    /// # Errors
    /// [`Error`] when no process can be started. It is not tried again here: who waits for it does that.
    pub async fn take(&self, load: u64, kept: Option<Class>) -> Result<Place, Error> {
        let (index, device, seat, choice, cost) = {
            let mut slots = self.slots();
            let devices: Vec<Device> = slots.iter().map(Slot::judged).collect();
            let placed: Vec<u64> = slots.iter().map(|s| s.placed).collect();
            let index = placement::choose(&devices, &placed).ok_or(Error::NoDevice)?;
            let slot = &mut slots[index];
            let choice = placement::choose_class(self.shared.class, kept, load, &slot.device, slot.placed);
            let cost = placement::cost(choice.class, load);
            slot.placed = slot.placed.saturating_add(cost);
            (index, slot.name(), slot.sit(), choice, cost)
        };
        // From here on: whatever fails gives the work back.
        let lease = Lease { pool: self.clone(), index, cost };
        self.fill();
        if let Some(seat) = seat {
            self.shared.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(Place { seat, lease, choice });
        }
        self.shared.misses.fetch_add(1, Ordering::Relaxed);
        let process = self.shared.spawner.spawn(device).await.inspect_err(|_| self.failed(index))?;
        let host = Host::new(process, self.shared.room);
        let seat = host.sit().ok_or(Error::Left)?;
        if let Some(slot) = self.slots().get_mut(index) {
            slot.shared.push(Arc::downgrade(&host));
        }
        Ok(Place { seat, lease, choice })
    }

    /// A process on this device failed, or none could be started.
    fn failed(&self, index: usize) {
        if let Some(slot) = self.slots().get_mut(index) {
            slot.failed = Some(Instant::now());
        }
    }

    /// For metrics.
    pub fn store(&self) -> Store {
        let slots = self.slots();
        let ready = || slots.iter().flat_map(|s| &s.ready);
        Store {
            ready: ready().count(),
            oldest: ready().map(|(since, _)| since.elapsed()).max().unwrap_or_default(),
            hits: self.shared.hits.load(Ordering::Relaxed),
            misses: self.shared.misses.load(Ordering::Relaxed),
            devices: slots.iter().filter(|s| !s.device.name.is_empty()).map(Slot::taken).collect(),
        }
    }
}

impl Slot {
    fn judged(&self) -> Device {
        Device { doubted: self.failed.is_some_and(|at| at.elapsed() < DOUBT), ..self.device.clone() }
    }

    fn taken(&self) -> Placed {
        Placed { device: self.device.name.clone(), taken: self.placed, budget: self.device.budget }
    }

    /// By what a process is told of its device.
    fn name(&self) -> Option<Arc<str>> {
        Some(self.device.name.as_str()).filter(|name| !name.is_empty()).map(Into::into)
    }

    /// A seat in the fullest process that has room, else in one that stands ready.
    fn sit(&mut self) -> Option<Seat> {
        self.shared.retain(|host| host.strong_count() > 0);
        let mut hosts: Vec<Arc<Host>> = self.shared.iter().filter_map(Weak::upgrade).filter(|h| h.has_room()).collect();
        hosts.sort_by_key(|host| std::cmp::Reverse(host.streams()));
        if let Some(seat) = hosts.iter().find_map(Host::sit) {
            return Some(seat);
        }
        while let Some((_, host)) = self.ready.pop_front() {
            if let Some(seat) = host.sit() {
                self.shared.push(Arc::downgrade(&host));
                return Some(seat);
            }
        }
        None
    }
}

/// The work of one stream on one device, until it is dropped.
#[derive(Debug)]
struct Lease {
    pool: Codecs,
    index: usize,
    cost: u64,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(slot) = self.pool.slots().get_mut(self.index) {
            slot.placed = slot.placed.saturating_sub(self.cost);
        }
    }
}

/// A stream's place in a codec process on a device.
#[derive(Debug)]
pub struct Place {
    seat: Seat,
    lease: Lease,
    choice: Choice,
}

impl Place {
    /// The class that was planned with, of NVENC.
    pub fn choice(&self) -> Choice {
        self.choice
    }

    /// The process cannot be trusted any more: ends it now, for its other streams too.
    pub fn kill(self) {
        self.lease.pool.failed(self.lease.index);
        self.seat.kill();
    }

    /// The process is gone, or failed the stream: the next try is made on another device, where there is one.
    pub fn failed(self) {
        self.lease.pool.failed(self.lease.index);
    }
}

impl Deref for Place {
    type Target = Seat;
    fn deref(&self) -> &Seat {
        &self.seat
    }
}

impl DerefMut for Place {
    fn deref_mut(&mut self) -> &mut Seat {
        &mut self.seat
    }
}
