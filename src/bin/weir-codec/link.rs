//! The link with the supervisor: reads messages, feeds the streams, writes what the encoders make.
//!
//! One thread reads. It waits when a stream's decoder is behind (its appsrc is full), and then the supervisor's writes wait too: that is the
//! back-pressure. The supervisor must therefore read and write at the same time, and with several streams in one process (`streams_per_codec`
//! above 1) a slow one holds up its neighbours.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use weir::link::wire::{self, FromCodec, ToCodec, WireError};
use weir::logic::sound::AudioPlan;

use crate::inventory;
use crate::log;
use crate::pipeline::{Stream, Unit};
use crate::sound::Sound;
use crate::tap::lock;

/// Streams in one process: far above any `streams_per_codec` that a device can encode, and a bound for a supervisor gone wrong.
const MAX_STREAMS: usize = 64;

/// One read from the socket: the default size of a Unix socket's buffer is 208 KiB.
const READ_BYTES: usize = 64 << 10;

/// Why the link cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Not a message of this version, or not a frame at all.
    #[error("unreadable message from the supervisor (this is link version {version}): {0}", version = wire::VERSION)]
    Wire(#[from] WireError),
    /// Another version.
    #[error("the supervisor speaks link version {0}, this program {version}", version = wire::VERSION)]
    Version(u16),
    /// The first message was another one.
    #[error("the supervisor did not begin with its version")]
    NoHello,
    /// A message about a stream that was never started.
    #[error("message about stream {0}, which was not started")]
    NoStream(u32),
    /// What cannot be a frame of AAC.
    #[error("frame of audio of {0} bytes")]
    AudioFrame(usize),
    /// A second start of a running stream.
    #[error("stream {0} is running already")]
    Running(u32),
    /// The socket failed.
    #[error("link: {0}")]
    Io(#[from] std::io::Error),
}

/// The way out; shared by all threads of all streams.
#[derive(Debug)]
pub struct Outbox {
    socket: Mutex<(UnixStream, BytesMut)>,
}

impl Outbox {
    /// Sends one message. Waits for the supervisor to read; when the link is gone the process ends, for nobody is left to work for.
    pub fn send(&self, message: &FromCodec, payload: &[u8]) {
        let (socket, frame) = &mut *lock(&self.socket);
        frame.clear();
        let sent = match wire::encode(message, payload, frame) {
            Ok(()) => socket.write_all(frame),
            // An encoder's access unit of over 8 MiB: leave it out, the supervisor sees the hole.
            Err(e) => return log(&format!("not sent: {e}")),
        };
        if let Err(e) = sent {
            log(&format!("the supervisor is gone: {e}"));
            std::process::exit(0);
        }
    }
}

/// Serves until the supervisor closes its end.
///
/// # Errors
/// [`LinkError`] when the supervisor sends what cannot be understood.
pub fn serve(mut socket: UnixStream) -> Result<(), LinkError> {
    let out = Arc::new(Outbox { socket: Mutex::new((socket.try_clone()?, BytesMut::new())) });
    out.send(&FromCodec::Hello { version: wire::VERSION, gstreamer: inventory::version() }, &[]);
    let mut server = Server { out, streams: BTreeMap::new(), sounds: BTreeMap::new(), greeted: false };
    let mut input = BytesMut::new();
    let mut chunk = vec![0; READ_BYTES];
    loop {
        while let Some((message, payload)) = wire::decode::<ToCodec>(&mut input)? {
            server.handle(message, payload)?;
        }
        match socket.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(n) => input.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
}

/// In the place of everything else: this process cannot encode, for this reason.
pub fn refuse(mut socket: &UnixStream, reason: String) {
    log(&reason);
    let mut frame = BytesMut::new();
    if wire::encode(&FromCodec::Unable { reason }, &[], &mut frame).is_ok() {
        // Nobody is left to tell when this fails.
        let _ = socket.write_all(&frame);
    }
}

struct Server {
    out: Arc<Outbox>,
    /// `None`: ended or failed, so that what the supervisor sent before it knew is let go.
    streams: BTreeMap<u32, Option<Stream>>,
    /// Likewise their audio.
    sounds: BTreeMap<u32, Option<Sound>>,
    greeted: bool,
}

impl Server {
    fn handle(&mut self, message: ToCodec, payload: Bytes) -> Result<(), LinkError> {
        match message {
            ToCodec::Hello { version } if version != wire::VERSION => return Err(LinkError::Version(version)),
            ToCodec::Hello { .. } => self.greeted = true,
            _ if !self.greeted => return Err(LinkError::NoHello),
            ToCodec::Start { stream, plan } => {
                let running = |s: &Option<Stream>| s.as_ref().is_some_and(Stream::is_running);
                if self.streams.get(&stream).is_some_and(running) {
                    return Err(LinkError::Running(stream));
                }
                let started = if self.streams.values().filter(|s| running(s)).count() >= MAX_STREAMS {
                    Err(format!("{MAX_STREAMS} streams are running"))
                } else {
                    Stream::start(stream, &plan, self.out.clone())
                };
                let started = started.map_err(|reason| self.fail(stream, reason)).ok();
                self.streams.insert(stream, started);
            }
            ToCodec::Video { stream, pts, dts, idr, cut } => {
                let slot = self.streams.get(&stream).ok_or(LinkError::NoStream(stream))?;
                if let Some(stream) = slot {
                    stream.push(Unit { pts, dts, idr, cut, data: payload });
                }
            }
            ToCodec::StartAudio { stream, plan } => self.start_audio(stream, &plan),
            ToCodec::Audio { .. } if !wire::is_aac_frame(&payload) => return Err(LinkError::AudioFrame(payload.len())),
            ToCodec::Audio { stream, pts } => {
                let slot = self.sounds.get(&stream).ok_or(LinkError::NoStream(stream))?;
                if let Some(sound) = slot {
                    sound.push(pts, payload);
                }
            }
            ToCodec::End { stream } => self.end(stream)?,
            ToCodec::Stop { stream } => {
                if let Some(sound) = self.sounds.get_mut(&stream).and_then(Option::take) {
                    sound.end();
                }
                match self.streams.get_mut(&stream).and_then(Option::take) {
                    Some(stream) => stream.stop(),
                    None => self.out.send(&FromCodec::Ended { stream }, &[]),
                }
            }
            ToCodec::Probe => self.out.send(&FromCodec::Inventory(inventory::take()), &[]),
        }
        Ok(())
    }

    /// Audio of another source takes the place of what runs, which gives out all that it has first.
    fn start_audio(&mut self, stream: u32, plan: &AudioPlan) {
        if let Some(old) = self.sounds.get_mut(&stream) {
            if let Some(old) = old.take() {
                old.end();
            }
            self.out.send(&FromCodec::AudioEnded { stream }, &[]);
        }
        let started = if self.sounds.values().flatten().count() >= MAX_STREAMS {
            Err(format!("{MAX_STREAMS} streams have audio"))
        } else {
            Sound::start(stream, plan, self.out.clone())
        };
        let started = started.map_err(|reason| {
            log(&format!("stream {stream}: audio: {reason}"));
            self.out.send(&FromCodec::AudioFailed { stream, reason }, &[]);
        });
        self.sounds.insert(stream, started.ok());
    }

    /// Audio first: it is out within milliseconds, and the answer is that of the pictures.
    fn end(&mut self, stream: u32) -> Result<(), LinkError> {
        let sound = self.sounds.get_mut(&stream);
        let only_sound = sound.is_some() && !self.streams.contains_key(&stream);
        if let Some(sound) = sound.and_then(Option::take) {
            sound.end();
        }
        if only_sound {
            self.out.send(&FromCodec::Ended { stream }, &[]);
            return Ok(());
        }
        let slot = self.streams.get_mut(&stream).ok_or(LinkError::NoStream(stream))?;
        if let Some(stream) = slot.take() {
            stream.end();
        }
        Ok(())
    }

    fn fail(&self, stream: u32, reason: String) {
        log(&format!("stream {stream}: {reason}"));
        self.out.send(&FromCodec::Failed { stream, reason }, &[]);
    }
}
