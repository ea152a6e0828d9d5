//! The shell of one stream: carries packets, encoded pictures, finished uploads and clock readings into [`Stream`] and does what it says. No decision
//! about media is taken here.

mod keeping;

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::capacity::Ticket;
use crate::claim::{ClaimError, Claimant, Claimed, claim, claim_abandoned};
use crate::clock::Clock;
use crate::codecs::{Codecs, Place};
use crate::ingest::{Line, Packet, Refusal};
use crate::janitor::Janitor;
use crate::link::process::Event;
use crate::link::wire::{Encoder, FromCodec, Plan, ToCodec, is_aac_frame};
use crate::logic::capacity::Saving;
use crate::logic::encoding::Command;
use crate::logic::model::{Class, Keys, SessionId, StreamId};
use crate::logic::pace::Reading;
use crate::logic::placement::{self, Choice};
use crate::logic::recipe;
use crate::logic::stream::{EncoderClass, Output, Past, Setup, Status, Stream, WriterName};
use crate::logic::thumbnail;
use crate::logic::time::{MediaTime, UnixMillis};
use crate::manifests::Manifests;
use crate::recording;
use crate::replication::Replication;
use crate::spool::Spool;
use crate::store::Store;
use keeping::{Held, put_thumbnail, upload, write_manifests};

/// What the worker asks of a session.
#[derive(Debug)]
pub enum Control {
    /// A publisher for this stream. Answered with its packets when the session is over already.
    Publish(Publisher, oneshot::Sender<Result<(), Publisher>>),
    /// May this peer take the stream over (rules.md 29)?
    MayReplace(Claim, oneshot::Sender<bool>),
    /// End at once.
    Stop,
    /// End soon, because the worker ends.
    Drain(Drain),
    /// For the status page.
    Status(oneshot::Sender<Status>),
}

/// How a session ends with its worker.
#[derive(Debug, Clone)]
pub struct Drain {
    /// Another worker may go on with it: its playlists stay open.
    pub hand_over: bool,
    /// Where publishers are asked to go; without it, to come again where they are.
    pub move_to: Option<Arc<str>>,
    /// How long one that can be asked may stay: until its next key frame, and a new connection. All others are disconnected at once.
    pub patience: Duration,
}

/// An accepted publisher.
#[derive(Debug)]
pub struct Publisher {
    /// Where it comes from and with which token.
    pub claim: Claim,
    /// Its packets.
    pub packets: mpsc::Receiver<Packet>,
    /// What else its connection and the session tell each other.
    pub line: Arc<Line>,
    /// The highest bitrate that its key allows, kbit/s.
    pub max_kbps: Option<u32>,
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
    /// Where objects wait for the store, if on disk.
    pub spool: Option<Arc<Spool>>,
    /// A stream that finds no room there is ended.
    pub refuse_when_full: bool,
    /// Who follows copies in another region, where some are wanted.
    pub replication: Option<Replication>,
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

/// What a session is made of, once its stream is taken.
pub struct Opening {
    /// The stream, and who takes it.
    pub who: Claimant,
    /// What it was promised of the machine, held to the session's end; `None` for one that is only to be ended.
    pub ticket: Option<Ticket>,
    /// The machine's setup.
    pub setup: Box<dyn FnOnce(SessionId, WriterName, Past) -> Setup + Send>,
    /// Delete what earlier sessions left, so long after this one began.
    pub clear_after: Option<Duration>,
    /// Likewise their thumbnails, which no recording keeps.
    pub clear_thumbnails_after: Option<Duration>,
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opening").field("who", &self.who).finish_non_exhaustive()
    }
}

struct Shell {
    id: StreamId,
    ticket: Option<Ticket>,
    recording: recording::Name,
    context: Context,
    stream: Stream,
    publisher: Option<Publisher>,
    last_packet: Duration,
    codec: Option<Place>,
    /// Messages for a codec process that is being started.
    starting: bool,
    queued: VecDeque<(ToCodec, Bytes)>,
    /// With how much work NVENC encodes the session, once it does, and why.
    class: Option<Choice>,
    /// Its encoders are to do the least work that is worth it.
    brief: bool,
    manifests: Arc<Mutex<Manifests>>,
    /// Objects that are not durable.
    held: BTreeMap<u64, Held>,
    /// Bytes of them that are in memory.
    held_bytes: u64,
    /// The spool had no room for the last object.
    spool_full: bool,
    refused: bool,
    /// The publisher was asked to go elsewhere, and has until then; whether the session is handed over.
    leaving: Option<(Duration, bool)>,
}

/// Takes the stream and runs its session to the end.
pub async fn run(opening: Opening, context: Context, publisher: Publisher, control: mpsc::Receiver<Control>) {
    let id = opening.who.stream.clone();
    let claimed = match claim(&context.store, &opening.who, context.clock.now().wall).await {
        Ok(claimed) => claimed,
        Err(error) => {
            // Dropping the publisher's packets ends its connection; OBS comes back.
            tracing::warn!(stream = %id, peer = %publisher.claim.peer, "publisher disconnected: {error}");
            return;
        }
    };
    let (session, epoch) = (&claimed.session, claimed.writer.epoch);
    tracing::info!(stream = %id, %session, epoch, peer = %publisher.claim.peer, "publishing");
    if let Some(after) = opening.clear_after {
        let (region, stream) = (&opening.who.region, &opening.who.stream);
        let prefixes = Keys::stream_segments(region, stream);
        tokio::spawn(clear_earlier(context.clone(), prefixes, session.clone(), after));
    }
    let max_kbps = publisher.max_kbps;
    if let Some(after) = opening.clear_thumbnails_after {
        let prefix = Keys::thumbnails(&opening.who.region, &opening.who.stream);
        // Named before this session has made one.
        tokio::spawn(clear_thumbnails(context.clone(), prefix, context.clock.now().wall, after));
    }
    let mut shell = Shell::new(opening.setup, claimed, context, Some(publisher), opening.ticket);
    let now = shell.now();
    shell.stream.allow(max_kbps);
    shell.stream.began(now);
    drive(shell, control).await;
}

/// Ends a session that nobody goes on with (rules.md 18): any worker may.
pub async fn end_abandoned(opening: Opening, context: Context, before: UnixMillis, control: mpsc::Receiver<Control>) {
    let claimed = match claim_abandoned(&context.store, &opening.who, before, context.clock.now().wall).await {
        Ok(claimed) => claimed,
        Err(ClaimError::Alive) => return,
        Err(error) => {
            tracing::warn!(stream = %opening.who.stream, "abandoned session stays: {error}");
            return;
        }
    };
    tracing::info!(stream = %opening.who.stream, session = %claimed.session, epoch = claimed.writer.epoch, "ending an abandoned session");
    let mut shell = Shell::new(opening.setup, claimed, context, None, opening.ticket);
    let now = shell.now();
    shell.stream.stop(now);
    drive(shell, control).await;
}

/// Objects of a stream's earlier sessions go once nobody can be watching them any more.
async fn clear_earlier(context: Context, prefixes: Vec<String>, session: SessionId, hold: Duration) {
    for prefix in prefixes.iter().filter(|p| !is_kept(p)) {
        let own = format!("{prefix}{session}/");
        match context.store.list(prefix).await {
            Ok(keys) => {
                let earlier: Vec<_> = keys.into_iter().filter(|k| !k.as_str().starts_with(&own)).collect();
                if !earlier.is_empty() {
                    context.janitor.delete(hold, earlier);
                }
            }
            Err(error) => tracing::warn!(%error, "earlier objects stay"),
        }
    }
}

/// Thumbnails of workers that died, or ended before their time was up.
async fn clear_thumbnails(context: Context, prefix: String, before: UnixMillis, hold: Duration) {
    match context.store.list(&prefix).await {
        Ok(keys) => {
            let earlier: Vec<_> = keys.into_iter().filter(|k| thumbnail::date_of(k).is_some_and(|at| at < before)).collect();
            if !earlier.is_empty() {
                context.janitor.delete(hold, earlier);
            }
        }
        Err(error) => tracing::warn!(%error, "earlier thumbnails stay"),
    }
}

/// Recordings stay (rules.md 17).
fn is_kept(prefix: &str) -> bool {
    Class::ALL.iter().any(|class| class.kept && prefix.starts_with(&format!("seg/{}/", class.as_str())))
}

async fn drive(mut shell: Shell, mut control: mpsc::Receiver<Control>) {
    let mut keeps = FuturesUnordered::new();
    let mut uploads = FuturesUnordered::new();
    let mut manifests = FuturesUnordered::new();
    let mut recordings = FuturesUnordered::new();
    let mut thumbnails = FuturesUnordered::new();
    let mut starts = FuturesUnordered::new();
    loop {
        while let Some(output) = shell.stream.poll_output() {
            match output {
                Output::Codec(Command::Start { source, rungs, thumbnail, low_delay, brief }) => {
                    shell.codec = None;
                    shell.queued.clear();
                    shell.starting = true;
                    starts.clear();
                    let load = placement::load(&rungs);
                    shell.brief = brief;
                    let kept = if brief { Some(recipe::Class::Dense) } else { shell.class.map(|c| c.class) };
                    if let Some(source) = source {
                        let plan = Plan {
                            source,
                            rungs,
                            thumbnail,
                            encoder: shell.context.encoder.clone(),
                            decoder_threads: shell.context.decoder_threads,
                            low_delay,
                        };
                        shell.queued.push_back((ToCodec::Start { stream: 0, plan: Box::new(plan) }, Bytes::new()));
                    }
                    starts.push(start(shell.context.codecs.clone(), load, kept));
                }
                Output::Codec(command) => shell.command(command),
                Output::Keep(put) => keeps.extend(shell.keep(put)),
                Output::Upload(id) => {
                    if let Some(held) = shell.held.get(&id) {
                        let (store, spool) = (Arc::clone(&shell.context.store), shell.context.spool.clone());
                        uploads.push(upload(store, spool, id, held.objects.clone()));
                    }
                }
                Output::Forget(ids) => ids.iter().for_each(|id| shell.forget(*id)),
                Output::Manifests(files) => manifests.push(write_manifests(Arc::clone(&shell.manifests), files)),
                Output::Record => recordings.push(shell.record()),
                Output::Thumbnail(picture) => thumbnails.push(put_thumbnail(Arc::clone(&shell.context.store), picture)),
                Output::Delete { after, keys } => shell.context.janitor.delete(after, keys),
                Output::Note(note) if note.warning => tracing::warn!(stream = %shell.id, "{}", note.text),
                Output::Note(note) => tracing::info!(stream = %shell.id, "{}", note.text),
                Output::Refuse(reason) => shell.refuse(&reason),
                Output::Over => {
                    // Of a fenced writer without a recording: nobody will ever ask for them.
                    let left: Vec<u64> = shell.held.keys().copied().collect();
                    left.into_iter().for_each(|id| shell.forget(id));
                    if let Some(replication) = &shell.context.replication {
                        replication.ended(&shell.id);
                    }
                    tracing::info!(stream = %shell.id, "session over");
                    return;
                }
            }
        }
        let deadline = shell.stream.poll_timeout();
        tokio::select! {
            packet = next_packet(&mut shell.publisher) => shell.packet(packet),
            Some(started) = starts.next() => shell.started(started),
            event = next_event(&mut shell.codec) => shell.codec_event(event),
            Some(spooled) = keeps.next() => shell.spooled(spooled),
            Some(uploaded) = uploads.next() => shell.uploaded(uploaded),
            Some(written) = manifests.next() => shell.written(written),
            Some(stored) = thumbnails.next() => shell.thumbnail_stored(stored),
            Some(recorded) = recordings.next() => shell.recorded(recorded),
            request = control.recv() => match request {
                Some(request) => shell.control(request),
                // The worker is gone: so is everything else.
                None => return,
            },
            saving = saving_changed(&mut shell.ticket) => shell.stream.save(saving),
            () = shell.context.clock.sleep_until(deadline) => shell.timeout(),
            () = shell.context.clock.sleep_until(shell.leaving.map(|(until, _)| until)) => shell.drain(),
        }
    }
}

async fn next_packet(publisher: &mut Option<Publisher>) -> Option<Packet> {
    match publisher {
        Some(p) => p.packets.recv().await,
        None => pending().await,
    }
}

async fn saving_changed(ticket: &mut Option<Ticket>) -> Saving {
    match ticket {
        Some(ticket) => ticket.saving_changed().await,
        None => pending().await,
    }
}

async fn next_event(codec: &mut Option<Place>) -> Event {
    match codec {
        Some(c) => c.event().await,
        None => pending().await,
    }
}

async fn start(codecs: Option<Codecs>, load: u64, kept: Option<recipe::Class>) -> Result<Place, String> {
    match codecs {
        Some(codecs) => codecs.take(load, kept).await.map_err(|e| e.to_string()),
        None => Err("there are no codec processes here".into()),
    }
}

impl Shell {
    fn new(
        setup: impl FnOnce(SessionId, WriterName, Past) -> Setup,
        claimed: Claimed,
        context: Context,
        publisher: Option<Publisher>,
        ticket: Option<Ticket>,
    ) -> Self {
        let setup = setup(claimed.session, claimed.writer, claimed.past);
        Self {
            id: setup.stream.clone(),
            ticket,
            recording: recording::Name {
                region: setup.region.clone(),
                stream: setup.stream.clone(),
                session: setup.session.clone(),
            },
            stream: Stream::new(setup),
            publisher,
            last_packet: context.clock.now().mono,
            codec: None,
            starting: false,
            queued: VecDeque::new(),
            class: None,
            brief: false,
            manifests: Arc::new(Mutex::new(claimed.manifests)),
            held: BTreeMap::new(),
            held_bytes: 0,
            spool_full: false,
            refused: false,
            leaving: None,
            context,
        }
    }

    fn now(&self) -> crate::logic::stream::Now {
        self.context.clock.now()
    }

    /// How the publisher's connection stands, for whoever judges it.
    fn read_line(&mut self) {
        if let Some(p) = &self.publisher {
            let (received, blocked, srt) = (p.line.received(), p.line.blocked(), p.line.srt());
            let reading = Reading { received, waiting: p.packets.len(), blocked, srt };
            self.stream.reading(reading);
        }
    }

    /// Does what may decide the session's rungs, with what the machine has for them; what they take is told at once, so that the next stream's decision knows it.
    fn deciding(&mut self, step: impl FnOnce(&mut Stream)) {
        let ticket = self.ticket.as_ref().filter(|_| !self.stream.is_decided());
        if let Some(ticket) = ticket {
            self.stream.may_take(ticket.spare());
        }
        step(&mut self.stream);
        if let Some((ticket, demand)) = ticket.zip(self.stream.demand()) {
            ticket.settle(&demand);
        }
    }

    fn packet(&mut self, packet: Option<Packet>) {
        let now = self.now();
        self.read_line();
        match packet {
            Some(Packet::Unpublish) => {
                tracing::info!(stream = %self.id, "publisher said goodbye");
                self.publisher = None;
                self.stream.packet(Packet::Unpublish, now);
            }
            Some(packet) => {
                self.last_packet = now.mono;
                self.deciding(|stream| stream.packet(packet, now));
            }
            None => {
                tracing::warn!(stream = %self.id, "publisher's connection was cut");
                self.publisher = None;
                self.stream.left(false, now);
            }
        }
        if self.publisher.is_none() {
            self.drain();
        }
    }

    /// Ends with the worker, if that is to be.
    fn drain(&mut self) {
        let Some((_, hand_over)) = self.leaving.take() else { return };
        let now = self.now();
        self.dismiss("worker is shutting down");
        if hand_over {
            self.stream.hand_over(now);
        } else {
            self.stream.drain(now);
        }
    }

    fn timeout(&mut self) {
        let now = self.now();
        self.read_line();
        self.deciding(|stream| stream.handle_timeout(now));
    }

    fn refuse(&mut self, reason: &str) {
        tracing::warn!(stream = %self.id, "source refused: {reason}");
        self.refused = true;
        self.dismiss(reason);
        let now = self.now();
        self.stream.left(true, now);
        self.stream.stop(now);
    }

    /// Ends the publisher's connection; the streamer is told why.
    fn dismiss(&mut self, reason: &str) {
        if let Some(publisher) = self.publisher.take() {
            publisher.line.dismiss(Refusal { code: Refusal::REJECTED, reason: reason.to_owned() });
            // Dropping the receiver ends the connection.
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Start { .. } => {}
            Command::Feed { unit, cut } => {
                let message = ToCodec::Video { stream: 0, pts: unit.pts.0, dts: unit.dts.0, idr: unit.idr, cut };
                self.send(message, unit.data);
            }
            Command::StartAudio(plan) => self.send(ToCodec::StartAudio { stream: 0, plan: Box::new(plan) }, Bytes::new()),
            Command::FeedAudio(unit) => self.send(ToCodec::Audio { stream: 0, pts: unit.pts.0 }, unit.data),
            Command::Drain => self.send(ToCodec::End { stream: 0 }, Bytes::new()),
            Command::Leave { reason } => {
                tracing::debug!(stream = %self.id, "codec process left: {reason}");
                self.leave();
            }
            Command::Kill { reason } => {
                tracing::debug!(stream = %self.id, "codec process ended: {reason}");
                self.kill();
            }
        }
    }

    fn send(&mut self, message: ToCodec, payload: Bytes) {
        if self.starting {
            self.queued.push_back((message, payload));
            return;
        }
        let Some(codec) = &self.codec else { return };
        if let Err(e) = codec.send(message, &payload) {
            self.kill();
            self.lost(&e);
        }
    }

    fn leave(&mut self) {
        self.codec = None;
        self.starting = false;
        self.queued.clear();
    }

    fn fail(&mut self) {
        if let Some(codec) = self.codec.take() {
            codec.failed();
        }
        self.leave();
    }

    fn kill(&mut self) {
        if let Some(codec) = self.codec.take() {
            codec.kill();
        }
        self.leave();
    }

    fn lost(&mut self, reason: &str) {
        self.fail();
        let now = self.now();
        self.stream.codec_lost(reason, now);
    }

    fn unable(&mut self, reason: &str) {
        self.fail();
        let now = self.now();
        self.stream.codec_unable(reason, now);
    }

    fn started(&mut self, started: Result<Place, String>) {
        if !self.starting {
            return;
        }
        self.starting = false;
        match started {
            Ok(process) => {
                tracing::info!(stream = %self.id, pid = process.pid(), "codec process");
                let choice = process.choice();
                self.codec = Some(process);
                for (mut message, payload) in std::mem::take(&mut self.queued) {
                    if let ToCodec::Start { plan, .. } = &mut message {
                        self.classify(plan, choice);
                    }
                    self.send(message, payload);
                }
            }
            Err(e) => self.unable(&e),
        }
    }

    /// Puts the class that was chosen with the device into the plan.
    fn classify(&mut self, plan: &mut Plan, choice: Choice) {
        plan.encoder.set_class(choice.class);
        if self.brief {
            plan.encoder.hurry();
        }
        if let Encoder::Nvidia { class, .. } = plan.encoder {
            if self.class.map(|c| c.class) != Some(class) {
                tracing::info!(stream = %self.id, class = class.as_str(), "encoder class: {}", choice.why);
            }
            self.class = Some(choice);
        }
    }

    fn codec_event(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Message(FromCodec::Unit { rung, pts, idr, .. }, data) => {
                self.stream.rung_unit(rung.into(), MediaTime(pts), idr, data, now);
            }
            Event::Message(FromCodec::Thumbnail { pts, .. }, jpeg) => self.stream.thumbnail(MediaTime(pts), jpeg, now),
            Event::Message(FromCodec::Config { rung, .. }, avcc) => self.stream.rung_config(rung.into(), &avcc, now),
            Event::Message(FromCodec::Audio { pts, .. }, data) if is_aac_frame(&data) => {
                self.stream.audio_made(MediaTime(pts), data, now);
            }
            Event::Message(FromCodec::Loudness { loudness, .. }, _) => self.stream.loudness(loudness),
            Event::Message(FromCodec::AudioEnded { .. }, _) => self.stream.audio_given(now),
            Event::Message(FromCodec::AudioFailed { reason, .. }, _) => self.stream.audio_failed(&reason, now),
            Event::Message(FromCodec::Ended { .. }, _) => self.stream.codec_drained(now),
            Event::Message(FromCodec::Failed { reason, .. }, _) => self.unable(&reason),
            Event::Message(other, _) => {
                self.kill();
                self.lost(&format!("sent what it must not: {other:?}"));
            }
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
                    self.dismiss("a newer publisher has taken the stream over");
                    self.stream.left(false, now);
                }
                let outcome = if self.refused || !self.stream.returned(now) {
                    Err(publisher)
                } else {
                    tracing::info!(stream = %self.id, peer = %publisher.claim.peer, "publishing again");
                    self.stream.allow(publisher.max_kbps);
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
                self.dismiss("the stream was ended by the server's operator");
                self.stream.stop(now);
            }
            Control::Drain(Drain { hand_over, move_to, patience }) => {
                // A publisher that was silent for so long will not read a request either.
                let listens = now.mono.saturating_sub(self.last_packet) < SILENT;
                let asked = self.publisher.as_ref().is_some_and(|p| listens && p.line.ask_to_move(move_to.as_ref()));
                self.leaving = Some((now.mono, hand_over));
                if asked {
                    tracing::info!(stream = %self.id, "publisher asked to go elsewhere");
                    self.leaving = Some((now.mono.saturating_add(patience), hand_over));
                } else {
                    self.drain();
                }
            }
            Control::Status(answer) => {
                let publisher = self.publisher.as_ref().map(|p| p.claim.peer.to_string());
                let status = self.stream.status(publisher, self.codec.as_ref().map(|codec| codec.pid()), now);
                let _ = answer.send(Status { encoder_class: self.class.map(EncoderClass::of), ..status });
            }
        }
    }
}
