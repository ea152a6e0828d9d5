//! The shell of one stream: carries packets, encoded pictures, finished uploads and clock readings into [`Stream`] and does what it says. No decision
//! about media is taken here.

use std::collections::VecDeque;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot};

use crate::clock::Clock;
use crate::codecs::Codecs;
use crate::ingest::Packet;
use crate::janitor::Janitor;
use crate::link::process::{Event, Process};
use crate::link::wire::{Encoder, FromCodec, Plan, ToCodec};
use crate::logic::encoding::Command;
use crate::logic::model::{ObjectKey, StreamId};
use crate::logic::stream::{Output, Put, Setup, Status, Stream};
use crate::logic::time::MediaTime;
use crate::store::Store;

/// What the worker asks of a session.
#[derive(Debug)]
pub enum Control {
    /// A publisher for this stream. Answered with its packets when the session is over already.
    Publish(Publisher, oneshot::Sender<Result<(), Publisher>>),
    /// May this peer take the stream over (rules.md 29)?
    MayReplace(Claim, oneshot::Sender<bool>),
    /// End at once.
    Stop,
    /// End at once, because the worker ends.
    Drain,
    /// For the status page.
    Status(oneshot::Sender<Status>),
}

/// An accepted publisher.
#[derive(Debug)]
pub struct Publisher {
    /// Where it comes from and with which token.
    pub claim: Claim,
    /// Its packets.
    pub packets: mpsc::Receiver<Packet>,
}

/// Who wants to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Address.
    pub peer: SocketAddr,
    /// `token=` behind the stream key.
    pub token: Option<crate::secret::Secret>,
}

/// What a session needs of the worker.
#[derive(Debug, Clone)]
pub struct Context {
    /// Both clocks.
    pub clock: Clock,
    /// Where objects go.
    pub store: Arc<Store>,
    /// Where deletions wait.
    pub janitor: Janitor,
    /// Codec processes, where there are any.
    pub codecs: Option<Codecs>,
    /// With what they encode.
    pub encoder: Encoder,
    /// Threads of each decoder.
    pub decoder_threads: u8,
}

/// A publisher that was silent for this long may be replaced by anybody with the key (rules.md 29).
const SILENT: Duration = Duration::from_secs(2);

/// Uploads under way at once; more wait in order. Five tracks at two segments each.
const UPLOADS: usize = 10;

/// Uploads that wait. At a segment every two seconds on five tracks they are 25 s behind; by then their rows were named without them.
const WAITING: usize = 64;

type Stored = (u64, Result<(), String>);

struct Shell {
    id: StreamId,
    context: Context,
    stream: Stream,
    publisher: Option<Publisher>,
    last_packet: Duration,
    codec: Option<Process>,
    /// Messages for a codec process that is being started.
    starting: bool,
    queued: VecDeque<(ToCodec, Bytes)>,
    puts: VecDeque<Put>,
    refused: bool,
}

/// Runs one session to its end.
pub async fn run(setup: Setup, context: Context, publisher: Publisher, mut control: mpsc::Receiver<Control>) {
    let id = setup.stream.clone();
    tracing::info!(stream = %id, session = %setup.session, peer = %publisher.claim.peer, "publishing");
    let last_packet = context.clock.now().mono;
    let mut shell = Shell {
        id,
        stream: Stream::new(setup),
        publisher: Some(publisher),
        last_packet,
        codec: None,
        starting: false,
        queued: VecDeque::new(),
        puts: VecDeque::new(),
        refused: false,
        context,
    };
    let mut uploads = FuturesUnordered::new();
    let mut manifests = FuturesUnordered::new();
    let mut starts = FuturesUnordered::new();
    loop {
        while let Some(output) = shell.stream.poll_output() {
            match output {
                Output::Codec(Command::Start { source, rungs }) => {
                    shell.codec = None;
                    shell.queued.clear();
                    shell.starting = true;
                    starts.clear();
                    let plan = Plan {
                        source,
                        rungs,
                        encoder: shell.context.encoder.clone(),
                        decoder_threads: shell.context.decoder_threads,
                    };
                    shell.queued.push_back((ToCodec::Start { stream: 0, plan: Box::new(plan) }, Bytes::new()));
                    starts.push(start(shell.context.codecs.clone()));
                }
                Output::Codec(command) => shell.command(command),
                Output::Put(put) => shell.puts.push_back(put),
                Output::Manifests(files) => manifests.push(write_manifests(Arc::clone(&shell.context.store), files)),
                Output::Delete { after, keys } => shell.context.janitor.delete(after, keys),
                Output::Note(note) if note.warning => tracing::warn!(stream = %shell.id, "{}", note.text),
                Output::Note(note) => tracing::info!(stream = %shell.id, "{}", note.text),
                Output::Refuse(reason) => shell.refuse(&reason),
                Output::Over => {
                    tracing::info!(stream = %shell.id, "session over");
                    return;
                }
            }
        }
        while uploads.len() < UPLOADS {
            let Some(put) = shell.puts.pop_front() else { break };
            uploads.push(upload(Arc::clone(&shell.context.store), put));
        }
        if shell.puts.len() > WAITING
            && let Some(put) = shell.puts.pop_front()
        {
            let now = shell.now();
            shell.stream.stored(put.id, Err("the store does not keep up".into()), now);
            continue;
        }
        let deadline = shell.stream.poll_timeout();
        tokio::select! {
            packet = next_packet(&mut shell.publisher) => shell.packet(packet),
            Some(started) = starts.next() => shell.started(started),
            event = next_event(&mut shell.codec) => shell.codec_event(event),
            Some((id, outcome)) = uploads.next() => { let n = shell.now(); shell.stream.stored(id, outcome, n) }
            Some(outcome) = manifests.next() => { let n = shell.now(); shell.stream.manifests_written(outcome, n) }
            request = control.recv() => match request {
                Some(request) => shell.control(request),
                // The worker is gone: so is everything else.
                None => return,
            },
            () = shell.context.clock.sleep_until(deadline) => { let n = shell.now(); shell.stream.handle_timeout(n) }
        }
    }
}

async fn next_packet(publisher: &mut Option<Publisher>) -> Option<Packet> {
    match publisher {
        Some(p) => p.packets.recv().await,
        None => pending().await,
    }
}

async fn next_event(codec: &mut Option<Process>) -> Event {
    match codec {
        Some(c) => c.event().await,
        None => pending().await,
    }
}

async fn start(codecs: Option<Codecs>) -> Result<Process, String> {
    match codecs {
        Some(codecs) => codecs.take().await.map_err(|e| e.to_string()),
        None => Err("there are no codec processes here".into()),
    }
}

async fn upload(store: Arc<Store>, put: Put) -> Stored {
    for (key, body) in put.objects {
        if let Err(e) = store.put(&key, body).await {
            return (put.id, Err(e.to_string()));
        }
    }
    (put.id, Ok(()))
}

async fn write_manifests(store: Arc<Store>, files: Vec<(ObjectKey, String)>) -> Result<(), String> {
    for (key, text) in files {
        store.put(&key, Bytes::from(text)).await.map_err(|e| e.to_string())?;
    }
    Ok(())
}

impl Shell {
    fn now(&self) -> crate::logic::stream::Now {
        self.context.clock.now()
    }

    fn packet(&mut self, packet: Option<Packet>) {
        let now = self.now();
        match packet {
            Some(Packet::Unpublish) => {
                tracing::info!(stream = %self.id, "publisher said goodbye");
                self.publisher = None;
                self.stream.packet(Packet::Unpublish, now);
            }
            Some(packet) => {
                self.last_packet = now.mono;
                self.stream.packet(packet, now);
            }
            None => {
                tracing::warn!(stream = %self.id, "publisher's connection was cut");
                self.publisher = None;
                self.stream.left(false, now);
            }
        }
    }

    fn refuse(&mut self, reason: &str) {
        tracing::warn!(stream = %self.id, "source refused: {reason}");
        self.refused = true;
        // Dropping the receiver ends the connection.
        self.publisher = None;
        let now = self.now();
        self.stream.left(true, now);
        self.stream.stop(now);
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Start { .. } => {}
            Command::Feed { unit, cut } => {
                let message = ToCodec::Video { stream: 0, pts: unit.pts.0, dts: unit.dts.0, idr: unit.idr, cut };
                self.send(message, unit.data);
            }
            Command::Drain => self.send(ToCodec::End { stream: 0 }, Bytes::new()),
            Command::Kill { reason } => {
                tracing::debug!(stream = %self.id, "codec process ended: {reason}");
                self.codec = None;
                self.starting = false;
                self.queued.clear();
            }
        }
    }

    fn send(&mut self, message: ToCodec, payload: Bytes) {
        if self.starting {
            self.queued.push_back((message, payload));
            return;
        }
        let Some(codec) = &self.codec else { return };
        if let Err(e) = codec.send(&message, &payload) {
            self.lost(&e);
        }
    }

    fn lost(&mut self, reason: &str) {
        self.codec = None;
        self.starting = false;
        self.queued.clear();
        let now = self.now();
        self.stream.codec_lost(reason, now);
    }

    fn started(&mut self, started: Result<Process, String>) {
        if !self.starting {
            return;
        }
        self.starting = false;
        match started {
            Ok(process) => {
                tracing::info!(stream = %self.id, pid = process.pid(), "codec process");
                self.codec = Some(process);
                for (message, payload) in std::mem::take(&mut self.queued) {
                    self.send(message, payload);
                }
            }
            Err(e) => self.lost(&e),
        }
    }

    fn codec_event(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Message(FromCodec::Unit { stream: 0, rung, pts, idr }, data) => {
                self.stream.rung_unit(rung.into(), MediaTime(pts), idr, data, now);
            }
            Event::Message(FromCodec::Config { stream: 0, rung }, avcc) => self.stream.rung_config(rung.into(), &avcc, now),
            Event::Message(FromCodec::Ended { stream: 0 }, _) => self.stream.codec_drained(now),
            Event::Message(FromCodec::Failed { stream: 0, reason }, _) => self.lost(&reason),
            Event::Message(other, _) => self.lost(&format!("sent what it must not: {other:?}")),
            Event::Gone(reason) => self.lost(&reason),
        }
    }

    fn control(&mut self, request: Control) {
        let now = self.now();
        match request {
            Control::Publish(publisher, answer) => {
                if self.stream.is_live() {
                    // rules.md 29: the newer one wins; whether it may was asked before.
                    tracing::info!(stream = %self.id, "replaced by a newer publisher");
                    self.publisher = None;
                    self.stream.left(false, now);
                }
                let outcome = if self.refused || !self.stream.returned(now) {
                    Err(publisher)
                } else {
                    tracing::info!(stream = %self.id, peer = %publisher.claim.peer, "publishing again");
                    self.publisher = Some(publisher);
                    self.last_packet = now.mono;
                    Ok(())
                };
                let _ = answer.send(outcome);
            }
            Control::MayReplace(claim, answer) => {
                let may = self.publisher.as_ref().is_none_or(|old| {
                    let same_token = claim.token.is_some() && claim.token == old.claim.token;
                    let silent = now.mono.saturating_sub(self.last_packet) >= SILENT;
                    old.claim.peer.ip() == claim.peer.ip() || same_token || silent
                });
                let _ = answer.send(may);
            }
            Control::Stop => {
                self.publisher = None;
                self.stream.stop(now);
            }
            Control::Drain => {
                self.publisher = None;
                self.stream.drain(now);
            }
            Control::Status(answer) => {
                let publisher = self.publisher.as_ref().map(|p| p.claim.peer.to_string());
                let status = self.stream.status(publisher, self.codec.as_ref().map(Process::pid), now);
                let _ = answer.send(status);
            }
        }
    }
}
