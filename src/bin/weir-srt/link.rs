//! The link with the supervisor: one thread reads it (this one), all write.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use weir::ingest::srt::wire::{self, FromSrt, Listener, PASSPHRASE, ToSrt, VERSION};
use weir::link::sandbox;
use weir::link::wire::WireError;

use crate::callers::Callers;
use crate::questions::{Answer, Questions};
use crate::{libsrt, listener, log};

/// One read from the link: answers and credits are small.
const READ_BYTES: usize = 16 << 10;

/// A supervisor that does not read for so long hangs, and starts another process when it goes on.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// Why the link cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Not a message of this version, or not a frame at all.
    #[error("unreadable message from the supervisor (this is link version {VERSION}): {0}")]
    Wire(#[from] WireError),
    /// Another version.
    #[error("the supervisor speaks link version {0}, this program {VERSION}")]
    Version(u16),
    /// The first message was another one, or it came twice.
    #[error("the supervisor did not begin with its version")]
    NoHello,
    /// A passphrase that SRT does not take.
    #[error("passphrase of {0} bytes")]
    Passphrase(usize),
    /// libsrt refused.
    #[error("libsrt does not listen: {0}")]
    Listen(#[from] libsrt::Error),
    /// The socket failed.
    #[error("link: {0}")]
    Io(#[from] std::io::Error),
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The way out; shared by all threads.
#[derive(Debug)]
pub struct Outbox(Mutex<(UnixStream, BytesMut)>);

impl Outbox {
    /// Sends one message. Waits for the supervisor to read; when the link is gone the process ends, for nobody is left to work for.
    pub fn send(&self, message: &FromSrt, payload: &[u8]) {
        let (socket, frame) = &mut *lock(&self.0);
        frame.clear();
        let sent = match wire::encode(message, payload, frame) {
            Ok(()) => socket.write_all(frame),
            // All that is sent is bounded: a bug of ours.
            Err(e) => return log(&format!("not sent: {e}")),
        };
        if let Err(e) = sent {
            log(&format!("the supervisor is gone: {e}"));
            std::process::exit(0);
        }
    }
}

/// What all threads share.
#[derive(Debug)]
pub struct Shared {
    /// The way out.
    pub outbox: Outbox,
    /// Questions that wait for their answer.
    pub questions: Questions,
    /// Admitted callers.
    pub callers: Mutex<Callers>,
}

/// Listens, and serves until the supervisor closes its end.
///
/// # Errors
/// [`LinkError`].
pub fn serve(socket: UnixStream, udp: OwnedFd) -> Result<(), LinkError> {
    let mut inbox = Inbox { socket: socket.try_clone()?, buffer: BytesMut::with_capacity(READ_BYTES) };
    socket.set_write_timeout(Some(WRITE_DEADLINE))?;
    let outbox = Outbox(Mutex::new((socket, BytesMut::new())));
    let to_be = match inbox.next()? {
        Some((ToSrt::Hello { version: VERSION, listener }, _)) => listener,
        Some((ToSrt::Hello { version, .. }, _)) => return Err(LinkError::Version(version)),
        Some(_) => return Err(LinkError::NoHello),
        None => return Ok(()),
    };
    let (shared, listening) = match begin(to_be, udp) {
        Ok((poll, listening)) => {
            let shared = Shared {
                outbox,
                questions: Questions::default(),
                callers: Mutex::new(Callers::new(poll, Duration::from_millis(to_be.peer_idle_ms.into()))),
            };
            (Arc::new(shared), listening)
        }
        Err(e) => {
            outbox.send(&FromSrt::Unable { reason: e.to_string() }, &[]);
            return Err(e.into());
        }
    };
    // Before the first stranger is heard. libsrt's threads run already, and the filters hold for them too.
    sandbox::enter(sandbox::Keeps { opening: false, memory: Some(to_be.memory) }, log);
    shared.outbox.send(&FromSrt::Hello { version: VERSION, libsrt: libsrt::version() }, &[]);
    if let Err(e) = listener::open(listening, &shared) {
        log(&e.to_string());
        return Err(e.into());
    }
    let serving = Arc::clone(&shared);
    std::thread::Builder::new().name("srt-callers".into()).spawn(move || listener::serve(listening, &serving))?;
    while let Some((message, payload)) = inbox.next()? {
        obey(&shared, message, &payload)?;
    }
    Ok(())
}

fn begin(to_be: Listener, udp: OwnedFd) -> Result<(libsrt::Poll, libsrt::Socket), libsrt::Error> {
    libsrt::start()?;
    let listening = listener::make(to_be, udp)?;
    let poll = libsrt::Poll::new()?;
    poll.add(listening)?;
    Ok((poll, listening))
}

fn obey(shared: &Shared, message: ToSrt, payload: &[u8]) -> Result<(), LinkError> {
    match message {
        ToSrt::Hello { .. } => return Err(LinkError::NoHello),
        ToSrt::Admit { caller, latency_ms } => {
            if !payload.is_empty() && !PASSPHRASE.contains(&payload.len()) {
                return Err(LinkError::Passphrase(payload.len()));
            }
            shared.questions.answer(caller, Answer::Admit { latency_ms, passphrase: payload.to_vec() });
        }
        ToSrt::Reject { caller, code } => shared.questions.answer(caller, Answer::Reject(code)),
        ToSrt::Credit { caller, bytes } => lock(&shared.callers).credit(caller, bytes),
        ToSrt::Close { caller } => lock(&shared.callers).close(caller),
    }
    Ok(())
}

/// The way in.
struct Inbox {
    socket: UnixStream,
    buffer: BytesMut,
}

impl Inbox {
    /// The next message; `None` at the end of the link.
    fn next(&mut self) -> Result<Option<(ToSrt, Bytes)>, LinkError> {
        loop {
            if let Some(message) = wire::decode(&mut self.buffer)? {
                return Ok(Some(message));
            }
            let mut read = [0; READ_BYTES];
            match self.socket.read(&mut read)? {
                0 => return Ok(None),
                n => self.buffer.extend_from_slice(&read[..n]),
            }
        }
    }
}
