//! The listener: asks about callers in libsrt's callback, and reads all of them on one thread.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir::ingest::srt::BUSY;
use weir::ingest::srt::wire::{FromSrt, Listener};

use crate::libsrt::{self, Flag, Judge, Socket};
use crate::link::{Shared, lock};
use crate::log;
use crate::questions::Answer;

/// The first version with the handshake that carries a stream id (HSv5).
const LEAST_VERSION: i32 = 0x01_03_00;

/// Callers whose handshake is done and that are not accepted yet; the thread takes them within milliseconds.
const BACKLOG: i32 = 64;

/// Longest wait for something to happen: the second's work is late by so much at the most.
const WAIT_MS: i64 = 250;

const SECOND: Duration = Duration::from_secs(1);

/// A socket that can listen.
pub fn make(to_be: Listener, udp: OwnedFd) -> Result<Socket, libsrt::Error> {
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    let socket = libsrt::socket()?;
    for (flag, value) in [
        (Flag::ReceiveSync, 0),
        (Flag::ReceiveLatency, number(to_be.latency_ms)),
        (Flag::PeerIdle, number(to_be.peer_idle_ms)),
        (Flag::MinimumVersion, LEAST_VERSION),
        (Flag::EnforcedEncryption, 1),
    ] {
        libsrt::set(socket, flag, value)?;
    }
    if to_be.key_length > 0 {
        libsrt::set(socket, Flag::KeyLength, to_be.key_length.into())?;
    }
    libsrt::bind(socket, udp)?;
    Ok(socket)
}

/// Lets callers come.
pub fn open(listening: Socket, shared: &Arc<Shared>) -> Result<(), libsrt::Error> {
    libsrt::listen(listening, Arc::clone(shared), BACKLOG)
}

impl Judge for Shared {
    fn judge(&self, socket: Socket, peer: SocketAddr, stream_id: &[u8]) -> Result<(), u16> {
        let caller = self.questions.number(peer.ip(), Instant::now())?;
        self.outbox.send(&FromSrt::Question { caller, peer }, stream_id);
        let (latency_ms, passphrase) = match self.questions.wait(caller) {
            Some(Answer::Admit { latency_ms, passphrase }) => (latency_ms, passphrase),
            Some(Answer::Reject(code)) => return Err(code),
            None => {
                // The answer under way may be that it is let in.
                self.outbox.send(&FromSrt::Failed { caller }, &[]);
                return Err(BUSY);
            }
        };
        // Before libsrt looks at the caller's key, which it does behind this callback.
        let prepared = if passphrase.is_empty() { Ok(()) } else { libsrt::set_passphrase(socket, &passphrase) };
        let latency = latency_ms.and_then(|ms| i32::try_from(ms).ok());
        let prepared = prepared.and_then(|()| latency.map_or(Ok(()), |ms| libsrt::set(socket, Flag::ReceiveLatency, ms)));
        if let Err(e) = prepared {
            log(&format!("{peer}: {e}"));
            self.outbox.send(&FromSrt::Failed { caller }, &[]);
            return Err(BUSY);
        }
        lock(&self.callers).admit(socket, caller, Instant::now());
        Ok(())
    }
}

/// Reads everybody, for ever.
pub fn serve(listening: Socket, shared: &Shared) {
    let poll = lock(&shared.callers).poll();
    let mut ready = Vec::new();
    let mut ticked = Instant::now();
    loop {
        poll.wait(WAIT_MS, &mut ready);
        let now = Instant::now();
        for &socket in &ready {
            let mut callers = lock(&shared.callers);
            if socket == listening {
                while let Some(socket) = libsrt::accept(listening) {
                    callers.connect(socket, &shared.outbox, now);
                }
            } else {
                callers.receive(socket, &shared.outbox, now);
            }
        }
        if now.saturating_duration_since(ticked) >= SECOND {
            ticked = now;
            lock(&shared.callers).tick(&shared.outbox, now);
            shared.outbox.send(&FromSrt::Alive { unasked: shared.questions.unasked() }, &[]);
        }
    }
}
