//! Admitted callers: who is connected, and how much of whose media may be sent to the supervisor.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weir::ingest::srt::wire::{self, FromSrt, MAX_DATA, WINDOW};
use weir::logic::srt::Numbers;

use crate::libsrt::{self, Flag, KEYED, Poll, Socket};
use crate::link::Outbox;

/// An admitted caller that is not connected after so long never will be: libsrt's own time for a handshake is 3 s.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A caller that ends after more silence than this share of `peer_idle_ms` was lost; before, it closed the connection.
const SILENCE_PERCENT: u32 = 80;

/// One connection.
#[derive(Debug)]
struct Caller {
    id: u32,
    /// As [`wire::cost`] counts.
    credit: u32,
    /// Nothing is read for want of credit.
    paused: bool,
    heard: Instant,
    latency_ms: u32,
    key_length: u8,
}

/// All of them.
#[derive(Debug)]
pub struct Callers {
    poll: Poll,
    peer_idle: Duration,
    /// Admitted, not connected yet.
    admitted: BTreeMap<Socket, (u32, Instant)>,
    connected: BTreeMap<Socket, Caller>,
    sockets: BTreeMap<u32, Socket>,
    /// Of one frame; kept between reads.
    media: Vec<u8>,
}

impl Callers {
    /// None yet.
    pub fn new(poll: Poll, peer_idle: Duration) -> Self {
        Self {
            poll,
            peer_idle,
            admitted: BTreeMap::new(),
            connected: BTreeMap::new(),
            sockets: BTreeMap::new(),
            media: Vec::with_capacity(MAX_DATA),
        }
    }

    /// What is waited for.
    pub fn poll(&self) -> Poll {
        self.poll
    }

    /// The supervisor let it in; libsrt has not yet.
    pub fn admit(&mut self, socket: Socket, caller: u32, now: Instant) {
        self.admitted.insert(socket, (caller, now));
    }

    /// libsrt did, too.
    pub fn connect(&mut self, socket: Socket, outbox: &Outbox, now: Instant) {
        let ready = libsrt::set(socket, Flag::ReceiveSync, 0).and_then(|()| self.poll.add(socket));
        let Some((id, _)) = self.admitted.remove(&socket) else { return libsrt::close(socket) };
        if ready.is_err() {
            libsrt::close(socket);
            return outbox.send(&FromSrt::Failed { caller: id }, &[]);
        }
        let read = |flag| libsrt::number(socket, flag).unwrap_or(0);
        let keyed = read(Flag::KeyState) == KEYED;
        let key_length = if keyed { u8::try_from(read(Flag::KeyLength)).unwrap_or(0) } else { 0 };
        let latency_ms = u32::try_from(read(Flag::ReceiveLatency)).unwrap_or(0);
        let version = u32::try_from(read(Flag::PeerVersion)).unwrap_or(0);
        let caller = Caller { id, credit: WINDOW, paused: false, heard: now, latency_ms, key_length };
        self.connected.insert(socket, caller);
        self.sockets.insert(id, socket);
        outbox.send(&FromSrt::Connected { caller: id, version, latency_ms, key_length }, &[]);
    }

    /// Some of its media is there, or its end. One frame at the most, so that the others have their turn.
    pub fn receive(&mut self, socket: Socket, outbox: &Outbox, now: Instant) {
        let Some(caller) = self.connected.get_mut(&socket) else {
            // Closed by the supervisor's word meanwhile.
            return self.poll.remove(socket);
        };
        // Room for one message more, of which nobody knows the length before.
        const MESSAGE: usize = 1500;
        self.media.clear();
        let mut ended = false;
        while self.media.len() + MESSAGE <= MAX_DATA && wire::cost(self.media.len() + MESSAGE) <= caller.credit {
            match libsrt::receive(socket, &mut self.media) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => {
                    ended = true;
                    break;
                }
            }
        }
        let since = now.saturating_duration_since(caller.heard);
        if !self.media.is_empty() {
            caller.heard = now;
            caller.credit = caller.credit.saturating_sub(wire::cost(self.media.len()));
            outbox.send(&FromSrt::Data { caller: caller.id }, &self.media);
        }
        let out_of_credit = wire::cost(MESSAGE) > caller.credit;
        // What is left in the receiver's buffer of a caller that is gone and has no credit is lost.
        if ended || (out_of_credit && !libsrt::is_alive(socket)) {
            let goodbye = since < self.peer_idle * SILENCE_PERCENT / 100;
            return self.end(socket, Some((outbox, goodbye)));
        }
        if out_of_credit && !caller.paused {
            caller.paused = true;
            self.poll.read(socket, false);
        }
    }

    fn end(&mut self, socket: Socket, told: Option<(&Outbox, bool)>) {
        self.poll.remove(socket);
        libsrt::close(socket);
        let Some(caller) = self.connected.remove(&socket) else { return };
        self.sockets.remove(&caller.id);
        if let Some((outbox, goodbye)) = told {
            outbox.send(&FromSrt::Ended { caller: caller.id, goodbye }, &[]);
        }
    }

    /// More of it may be sent.
    pub fn credit(&mut self, caller: u32, bytes: u32) {
        let Some(&socket) = self.sockets.get(&caller) else { return };
        let Some(caller) = self.connected.get_mut(&socket) else { return };
        caller.credit = caller.credit.saturating_add(bytes).min(WINDOW);
        if std::mem::take(&mut caller.paused) {
            self.poll.read(socket, true);
        }
    }

    /// The supervisor ends it.
    pub fn close(&mut self, caller: u32) {
        if let Some(&socket) = self.sockets.get(&caller) {
            self.end(socket, None);
        }
    }

    /// The work of each second: numbers, and admitted callers that did not come.
    pub fn tick(&mut self, outbox: &Outbox, now: Instant) {
        for (&socket, caller) in &self.connected {
            if let Some(numbers) = libsrt::numbers(socket) {
                let numbers = Numbers { latency_ms: caller.latency_ms, key_length: caller.key_length, ..numbers };
                outbox.send(&FromSrt::Numbers { caller: caller.id, numbers }, &[]);
            }
        }
        self.admitted.retain(|&socket, &mut (caller, since)| {
            let waits = now.saturating_duration_since(since) < HANDSHAKE && libsrt::is_alive(socket);
            if !waits {
                outbox.send(&FromSrt::Failed { caller }, &[]);
            }
            waits
        });
    }
}
