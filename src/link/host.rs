//! A codec process and the streams that share it (rules.md 23): each has a [`Seat`], with a number of its own in the messages.
//!
//! Knows nothing of media. A process that dies, or says what it must not, is gone for all its seats; a stream that only ends or fails leaves the
//! others alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::process::{Event, Events, Link, Process};
use super::wire::ToCodec;

/// Events that wait for one stream's session.
const EVENTS: usize = 256;

/// A process with room for streams. It ends when nobody holds it any more: neither the pool nor a seat.
#[derive(Debug)]
pub struct Host {
    link: Link,
    seats: Arc<Mutex<Seats>>,
    room: usize,
}

#[derive(Debug, Default)]
struct Seats {
    /// Numbers are given once, so that what a process still says of a stream that left is told from a lie.
    next: u32,
    taken: BTreeMap<u32, mpsc::Sender<Event>>,
    gone: bool,
}

fn lock(seats: &Mutex<Seats>) -> MutexGuard<'_, Seats> {
    seats.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Host {
    /// A process for `room` streams.
    pub fn new(process: Process, room: usize) -> Arc<Self> {
        let (link, events) = process.split();
        let seats = Arc::<Mutex<Seats>>::default();
        let host = Arc::new(Self { link, seats: Arc::clone(&seats), room: room.max(1) });
        tokio::spawn(hand_out(events, seats, Arc::downgrade(&host)));
        host
    }

    /// It can take another stream.
    pub fn has_room(&self) -> bool {
        let seats = lock(&self.seats);
        !seats.gone && self.link.is_open() && seats.taken.len() < self.room
    }

    /// Streams in it.
    pub fn streams(&self) -> usize {
        lock(&self.seats).taken.len()
    }

    /// A place for one stream; `None` when there is none, or the process is gone.
    pub fn sit(self: &Arc<Self>) -> Option<Seat> {
        let mut seats = lock(&self.seats);
        if seats.gone || seats.taken.len() >= self.room || !self.link.is_open() {
            return None;
        }
        let stream = seats.next;
        seats.next = stream.checked_add(1)?;
        let (sender, events) = mpsc::channel(EVENTS);
        seats.taken.insert(stream, sender);
        drop(seats);
        Some(Seat { host: Arc::clone(self), stream, events })
    }
}

/// Gives each session what is said of its stream, until the process is gone.
async fn hand_out(mut events: Events, seats: Arc<Mutex<Seats>>, host: std::sync::Weak<Host>) {
    let reason = loop {
        match events.next().await {
            Event::Gone(reason) => break reason,
            Event::Message(message, payload) => {
                let Some(stream) = message.stream() else { break format!("sent what it must not: {message:?}") };
                let seat = {
                    let seats = lock(&seats);
                    if stream >= seats.next {
                        break format!("spoke of stream {stream}, which it was not given");
                    }
                    seats.taken.get(&stream).cloned()
                };
                if let Some(seat) = seat {
                    // Waits for a session that is behind, as it would if it had the process to itself. One that ended hears nothing any more.
                    let _ = seat.send(Event::Message(message, payload)).await;
                }
            }
        }
    };
    if let Some(host) = host.upgrade() {
        host.link.kill();
    }
    let taken = {
        let mut seats = lock(&seats);
        seats.gone = true;
        std::mem::take(&mut seats.taken)
    };
    for seat in taken.into_values() {
        let _ = seat.send(Event::Gone(reason.clone())).await;
    }
}

/// One stream's place in a codec process. Dropping it ends the stream there, and the process when it was the last.
#[derive(Debug)]
pub struct Seat {
    host: Arc<Host>,
    stream: u32,
    events: mpsc::Receiver<Event>,
}

impl Seat {
    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.host.link.pid()
    }

    /// Queues a message, whatever stream it names, about this one; never waits.
    ///
    /// # Errors
    /// A text for the log when the process does not keep up, or is gone.
    pub fn send(&self, message: ToCodec, payload: &[u8]) -> Result<(), String> {
        self.host.link.send(&message.of_stream(self.stream), payload)
    }

    /// What is said of this stream next. Cancel-safe.
    pub async fn event(&mut self) -> Event {
        self.events.recv().await.unwrap_or_else(|| Event::Gone("link closed".into()))
    }

    /// The process cannot be trusted any more: ends it now, for its other streams too.
    pub fn kill(self) {
        self.host.link.kill();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let others = {
            let mut seats = lock(&self.host.seats);
            seats.taken.remove(&self.stream);
            !seats.gone && !seats.taken.is_empty()
        };
        if others {
            // To a process that does not read any more nothing has to be said.
            let _ = self.host.link.send(&ToCodec::Stop { stream: self.stream }, &[]);
        }
    }
}
