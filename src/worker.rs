//! The shell around all streams: who may publish, one session per stream, drain.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::blame::Blame;
use crate::capacity::{Capacity, Running, Seen, Ticket};
use crate::claim::Claimant;
use crate::config::{Config, Ladders, OnDrain};
use crate::gpu::Watcher;
use crate::host::Host;
use crate::ingest::auth::{self, Asked, Granted};
use crate::ingest::rtmp::Stats;
use crate::ingest::srt;
use crate::ingest::tls::Tls;
use crate::ingest::{Line, Packet, Refusal, Request, Verdict};
use crate::logic::capacity::{Levels, Pressure, Step};
use crate::logic::encoder_choice::{Choice, Encoder};
use crate::logic::ladder::Ladder;
use crate::logic::lifecycle::Grace;
use crate::logic::model::{Keeping, SessionId, StreamId};
use crate::logic::pathway::Pathways;
use crate::logic::placement;
use crate::logic::recipe::Decoders;
use crate::logic::slate::Clip;
use crate::logic::stream::{Setup, Status};
use crate::logic::time::{MediaTime, UnixMillis};
use crate::logic::timeline::Policy;
use crate::reaper::{self, Reaper};
use crate::report::Told;
use crate::session::{self, Claim, Context, Control, Drain, Opening, Publisher};
use crate::store::Store;

/// Packets between a connection and its session. The connection bounds their bytes as well (`limits.queued_bytes`); this many are 8 s of
/// 60 fps video with audio.
const PACKETS: usize = 1024;

/// Requests to a session that wait; the page and a few publishers at a time.
const CONTROLS: usize = 32;

/// As often as the watcher reads by default.
const DEVICES_EVERY: Duration = Duration::from_secs(1);

/// How old what is reported of running streams may be: under 2 s, with the second that NVML's own readings are apart.
const COSTS_EVERY: Duration = Duration::from_secs(1);

/// A session that does not answer within this is busy with a slow disk; the page shows the others.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// All streams of this process.
#[derive(Debug)]
pub struct Worker {
    /// As merged.
    pub config: Config,
    /// What sessions share.
    pub context: Context,
    /// When the worker started, RFC 3339.
    pub started_at: String,
    /// The encoder and why.
    pub encoder: EncoderReport,
    /// The GPUs, where there are any.
    pub gpu: Option<Watcher>,
    /// What it can take.
    pub capacity: Arc<Capacity>,
    /// Counters of the RTMP listener.
    pub rtmp: Arc<Stats>,
    /// TLS of the RTMPS listener, where there is one.
    pub tls: Option<Arc<Tls>>,
    /// Likewise of the SRT listener, where there is one.
    pub srt: Option<Arc<srt::Stats>>,
    /// Why two workers on this store are not kept apart, if they are not.
    pub unfenced: Option<String>,
    /// How those fare whom it tells of itself.
    pub told: Told,
    /// Who may publish.
    pub keys: Arc<auth::Keys>,
    pathways: Pathways,
    slate: Option<Arc<Clip>>,
    ladder: Option<Ladder>,
    ladders: Ladders,
    sessions: Mutex<BTreeMap<StreamId, mpsc::Sender<Control>>>,
    admission: tokio::sync::Mutex<()>,
    tasks: Mutex<JoinSet<()>>,
    draining: AtomicBool,
    leaving: watch::Sender<Option<Leaving>>,
}

/// The worker is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaving {
    /// By then: what is not written is cut off.
    pub until: UnixMillis,
    /// How long that is from when it was told.
    pub within: Duration,
    /// `signal` or `control`.
    pub reason: &'static str,
}

/// Which encoder was chosen.
#[derive(Debug, Clone)]
pub struct EncoderReport {
    /// `nvidia`, `software`, `none`.
    pub name: &'static str,
    /// Why, a word from a closed set ([`Choice::code`]).
    pub code: &'static str,
    /// Why, for people.
    pub reason: String,
    /// UUIDs of the devices to encode on; empty unless it is `nvidia`.
    pub devices: Vec<String>,
    /// GStreamer's version, where there is one.
    pub gstreamer: Option<String>,
    /// What can be decoded by the CPU beside H.264.
    pub cpu_decoders: Decoders,
    /// Likewise by a GPU.
    pub device_decoders: Decoders,
}

impl EncoderReport {
    /// As it was chosen.
    pub fn new(choice: Choice, gstreamer: Option<String>) -> Self {
        let Choice { encoder, code, reason, devices } = choice;
        let none = Decoders::default();
        let name = encoder.as_str();
        Self { name, code, reason, devices, gstreamer, cpu_decoders: none, device_decoders: none }
    }

    /// Nothing had to be chosen.
    pub fn ladder_is_none() -> Self {
        let choice =
            Choice { encoder: Encoder::None, code: "ladder_none", reason: "the ladder is none".into(), devices: Vec::new() };
        Self::new(choice, None)
    }
}

/// What a worker is made of.
#[derive(Debug)]
pub struct Parts {
    /// As merged.
    pub config: Config,
    /// Shared by sessions.
    pub context: Context,
    /// Who may publish.
    pub keys: Arc<auth::Keys>,
    /// CDNs and regions.
    pub pathways: Pathways,
    /// What viewers see while a publisher is away.
    pub slate: Option<Arc<Clip>>,
    /// What to encode; `None` passes sources through only.
    pub ladder: Option<Ladder>,
    /// What a key may ask for instead.
    pub ladders: Ladders,
    /// The encoder.
    pub encoder: EncoderReport,
    /// The GPUs, where there are any.
    pub gpu: Option<Watcher>,
    /// What it can take.
    pub capacity: Arc<Capacity>,
    /// Counters.
    pub rtmp: Arc<Stats>,
    /// TLS of the RTMPS listener, where there is one.
    pub tls: Option<Arc<Tls>>,
    /// Likewise of the SRT listener, where there is one.
    pub srt: Option<Arc<srt::Stats>>,
    /// Why two workers on this store are not kept apart, if they are not.
    pub unfenced: Option<String>,
}

impl Worker {
    /// No streams yet.
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            started_at: parts.context.clock.now().wall.to_string(),
            ladder: parts.ladder,
            ladders: parts.ladders,
            keys: parts.keys,
            pathways: parts.pathways,
            slate: parts.slate,
            encoder: parts.encoder,
            gpu: parts.gpu,
            capacity: parts.capacity,
            rtmp: parts.rtmp,
            tls: parts.tls,
            srt: parts.srt,
            unfenced: parts.unfenced,
            told: Told::default(),
            config: parts.config,
            context: parts.context,
            sessions: Mutex::default(),
            admission: tokio::sync::Mutex::default(),
            tasks: Mutex::default(),
            draining: AtomicBool::new(false),
            leaving: watch::Sender::new(None),
        })
    }

    /// Answers publishers until the listeners are gone.
    pub async fn serve(self: Arc<Self>, mut requests: mpsc::Receiver<Request>) {
        while let Some(request) = requests.recv().await {
            let worker = Arc::clone(&self);
            tokio::spawn(async move { worker.answer(request).await });
        }
    }

    async fn answer(&self, request: Request) {
        let Request { protocol, peer, app, key, token, signed, verdict } = request;
        let outcome = match self.keys.judge(&Asked { protocol, peer, app, key, signed }).await {
            Ok(granted) => self.admit(granted, Claim { peer, token }).await,
            Err(denied) => Err((denied.blame(), denied.refusal())),
        };
        let answer = match outcome {
            Ok((packets, line)) => Verdict::Accept(packets, line),
            Err((blame, refusal)) => {
                tracing::warn!(%peer, blame = blame.as_str(), reason = %refusal.reason, "publisher refused");
                Verdict::Refuse(refusal)
            }
        };
        // A publisher that left meanwhile is no longer interested; its session sees a closed channel.
        let _ = verdict.send(answer);
    }

    async fn admit(&self, granted: Granted, claim: Claim) -> Result<(mpsc::Sender<Packet>, Arc<Line>), (Blame, Refusal)> {
        let rejected = |reason: &str| (Blame::Worker, Refusal { code: Refusal::REJECTED, reason: reason.into() });
        let stream = granted.stream.clone();
        let ladder = self.ladder_of(&granted)?;
        let _one_at_a_time = self.admission.lock().await;
        if self.draining.load(Ordering::Relaxed) {
            return Err(rejected("worker is shutting down"));
        }
        let (sender, packets) = mpsc::channel(PACKETS);
        let line = Arc::<Line>::default();
        let mut publisher = Publisher { claim: claim.clone(), packets, line: Arc::clone(&line), max_kbps: granted.max_kbps };
        if let Some(control) = self.control(&stream) {
            let may = ask(&control, |answer| Control::MayReplace(claim, answer)).await.unwrap_or(true);
            if !may {
                let reason = "stream key is live already".into();
                return Err((Blame::Publisher, Refusal { code: Refusal::BAD_NAME, reason }));
            }
            let (answer, outcome) = oneshot::channel();
            match control.send(Control::Publish(publisher, answer)).await {
                Ok(()) => match outcome.await {
                    Ok(Ok(())) => return Ok((sender, line)),
                    // The session is over: a new one begins.
                    Ok(Err(back)) => publisher = back,
                    Err(_) => return Err(rejected("the session just ended: try again")),
                },
                Err(mpsc::error::SendError(Control::Publish(back, _))) => publisher = back,
                Err(_) => return Err(rejected("the session just ended: try again")),
            }
        } else {
            self.places().map_err(rejected)?;
        }
        let now = self.context.clock.now().mono;
        let room = self.capacity.admit(&stream, ladder.as_ref(), granted.priority, now);
        let (ticket, steps) = room.map_err(|full| rejected(&format!("worker is full: {full}")))?;
        tell_steps(&steps);
        self.begin(stream, ladder, publisher, ticket);
        Ok((sender, line))
    }

    /// What is encoded of this stream: the key's ladder, or else the worker's. A session that goes on keeps its rungs.
    fn ladder_of(&self, granted: &Granted) -> Result<Option<Ladder>, (Blame, Refusal)> {
        let Some(name) = &granted.ladder else { return Ok(self.ladder.clone()) };
        self.ladders.get(name).cloned().ok_or_else(|| {
            let reason = format!("the ladder {name:?} of this stream key is not there: the server's operator has to add it");
            (Blame::Operator, Refusal { code: Refusal::REJECTED, reason })
        })
    }

    fn control(&self, stream: &StreamId) -> Option<mpsc::Sender<Control>> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, control| !control.is_closed());
        sessions.get(stream).cloned()
    }

    /// How many sessions may begin, whatever they cost: at least one.
    ///
    /// # Errors
    /// Why none may.
    fn places(&self) -> Result<u32, &'static str> {
        if self.context.spool.as_ref().is_some_and(|s| s.is_nearly_full()) {
            return Err("the store is behind and the spool is nearly full");
        }
        let live = u32::try_from(self.live()).unwrap_or(u32::MAX);
        Some(self.config.max_streams.saturating_sub(live)).filter(|&n| n > 0).ok_or("worker is full")
    }

    /// What can still be taken.
    pub fn levels(&self) -> Levels {
        self.capacity.levels(self.places().unwrap_or(0))
    }

    fn live(&self) -> usize {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, control| !control.is_closed());
        sessions.len()
    }

    fn begin(&self, stream: StreamId, ladder: Option<Ladder>, publisher: Publisher, ticket: Ticket) {
        let opening = self.opening(stream.clone(), ladder, Some(ticket));
        let (control, requests) = mpsc::channel(CONTROLS);
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(stream, control);
        self.spawn(session::run(opening, self.context.clone(), publisher, requests));
    }

    /// Corrects what streams were thought to cost by what they do, and the machine by whether they fall behind, for as long as the worker lives.
    pub async fn count_costs(self: Arc<Self>) {
        let mut host = Host::new();
        let mut every = tokio::time::interval(COSTS_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let running: Vec<_> = self.statuses().await.into_iter().filter_map(running).collect();
            let devices = self.gpu.as_ref().map(|gpu| gpu.seen().reading.devices).unwrap_or_default();
            let pressure = Pressure::new(host.cpu_busy(), host.cpu_stalled(), &devices);
            let pids: BTreeSet<u32> = running.iter().filter(|r| r.demand.is_some()).filter_map(|r| r.codec_pid).collect();
            let seen = Seen { pressure, codecs: host.used_by(&pids) };
            let found = self.capacity.look(&running, seen, self.context.clock.now().mono);
            tell_steps(&found.steps);
            if let Some(dimension) = found.lowered {
                let words = dimension.words();
                tracing::warn!(dimension = dimension.as_str(), "streams fall behind: {words} can do less than was thought");
            }
        }
    }

    /// Keeps new streams off devices that are lost, until the worker drains.
    pub async fn follow_devices(self: Arc<Self>) {
        let (Some(watcher), Some(codecs)) = (&self.gpu, &self.context.codecs) else { return };
        let mut every = tokio::time::interval(DEVICES_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.is_draining() {
            every.tick().await;
            let seen = watcher.seen();
            codecs.devices_are(&placement::devices(&self.encoder.devices, &seen.survey.probe, &seen.reading));
            self.capacity.devices_are(|uuid| seen.reading.is_lost(uuid));
        }
    }

    /// Ends abandoned sessions of the region until the worker drains.
    pub async fn reap(self: Arc<Self>) {
        let end_after = Duration::from_secs(self.config.end_after.into());
        let mut reaper = Reaper::default();
        // Where sessions end sooner, somebody looks sooner.
        let mut every = tokio::time::interval(reaper::EVERY.min(end_after.max(Duration::from_secs(1))));
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            if self.is_draining() {
                return;
            }
            let now = self.context.clock.now().wall;
            let (streams, before) = match reaper.abandoned(&self.context.store, &self.config.region, end_after, now).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!(%error, "abandoned sessions cannot be looked for");
                    continue;
                }
            };
            // A session of this worker writes its state itself, or cannot because the store is away.
            for stream in streams.into_iter().filter(|s| self.control(s).is_none()) {
                let (control, requests) = mpsc::channel(CONTROLS);
                let opening = self.opening(stream.clone(), self.ladder.clone(), None);
                self.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(stream, control);
                self.spawn(session::end_abandoned(opening, self.context.clone(), before, requests));
            }
        }
    }

    fn spawn(&self, session: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "session task failed");
            }
        }
        tasks.spawn(session);
    }

    fn opening(&self, stream: StreamId, ladder: Option<Ladder>, ticket: Option<Ticket>) -> Opening {
        let c = &self.config;
        let can_encode = ladder.is_some() && self.context.codecs.is_some();
        let ladder = ladder.unwrap_or(Ladder { rungs: Vec::new(), top_kbps: 5000, top_short_side: 1080 });
        let seconds = |s: u32| Duration::from_secs(s.into());
        let who = Claimant {
            region: c.region.clone(),
            stream: stream.clone(),
            worker: c.worker.clone(),
            session: new_session_id(self.context.clock.now().wall),
            elsewhere: self.pathways.other_regions(&c.region),
            pathways: self.pathways.own_playlists(&c.region).map(|p| p.id.clone()).collect(),
        };
        // rules.md 17: window + 2 x target + 60 s.
        let hold = seconds(c.window) + 2 * seconds(c.segment_target) + seconds(c.hold);
        let timeline = Policy {
            target: MediaTime::from_secs(c.segment_target.into()),
            long_gop: c.long_gop,
            passthrough_short_side: c.passthrough_short_side,
            passthrough_bitrate: u64::from(c.passthrough_kbps) * 1000,
            passthrough_codecs: c.passthrough_codecs.clone(),
            can_encode,
        };
        let region = c.region.clone();
        let (window, first_row_wait) = (MediaTime::from_secs(c.window.into()), seconds(c.first_row_wait));
        let keeping = Keeping { replicate: c.replicate, recorded: c.record };
        let grace = Grace { reconnect: seconds(c.reconnect_grace), end_after: seconds(c.end_after) };
        let utc_timing = match c.utc_timing_url.as_str() {
            // Relative to the MPD, so that it holds behind any name that the worker has. A CDN has no such address.
            "" => self.pathways.list.is_empty().then(|| "/time".into()),
            url => Some(url.to_owned()),
        };
        let pathways = self.pathways.clone();
        let slate = self.slate.clone();
        let loudness_target = c.loudness.target();
        let thumbnails = c.thumbnail.settings();
        let encoders = self.context.encoder.limits(self.encoder.cpu_decoders, self.encoder.device_decoders);
        let output_deadline = Duration::from_secs(c.codec.output_deadline.into());
        let setup = move |session, writer, past| Setup {
            region,
            stream,
            session,
            writer,
            past,
            keeping,
            timeline,
            window,
            first_row_wait,
            ladder,
            encoders,
            output_deadline,
            grace,
            hold,
            utc_timing,
            pathways,
            slate,
            loudness_target,
            thumbnails,
        };
        Opening {
            who,
            ticket,
            setup: Box::new(setup),
            clear_after: (!c.record).then_some(hold),
            clear_thumbnails_after: (!thumbnails.every.is_zero()).then_some(thumbnails.keep),
        }
    }

    /// All sessions' states, by stream id.
    pub async fn statuses(&self) -> Vec<Status> {
        let controls: Vec<_> = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let mut out = Vec::with_capacity(controls.len());
        for control in controls {
            out.extend(ask(&control, Control::Status).await);
        }
        out
    }

    /// Ends a stream at once. `false` when there is none.
    pub async fn stop(&self, stream: &StreamId) -> bool {
        match self.control(stream) {
            Some(control) => control.send(Control::Stop).await.is_ok(),
            None => false,
        }
    }

    /// No new publishers are taken.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether sessions are left open for another worker when this one ends.
    fn hands_over(&self) -> bool {
        match self.config.on_drain {
            OnDrain::Auto => matches!(*self.context.store, Store::S3(_)),
            OnDrain::HandOver => true,
            OnDrain::End => false,
        }
    }

    /// Takes no new publishers from now on.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The worker is to end within this time. Only the first order counts: who gave it counts on it.
    pub fn leave(&self, within: Duration, reason: &'static str) {
        self.begin_drain();
        let now = self.context.clock.now().wall;
        let until = now.plus(MediaTime::from_millis(i64::try_from(within.as_millis()).unwrap_or(i64::MAX / 90)));
        self.leaving.send_if_modified(|leaving| {
            let first = leaving.is_none();
            leaving.get_or_insert(Leaving { until, within, reason });
            first
        });
    }

    /// Waits for that.
    pub async fn told_to_leave(&self) -> Leaving {
        let mut told = self.leaving.subscribe();
        loop {
            if let Some(leaving) = *told.borrow_and_update() {
                return leaving;
            }
            // The sender is ours.
            let _ = told.changed().await;
        }
    }

    /// Whether it is to end, and when.
    pub fn leaving(&self) -> Option<Leaving> {
        *self.leaving.borrow()
    }

    /// Ends all streams and waits until everything is written. `false` when the deadline passed first.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.begin_drain();
        let controls: Vec<_> = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let drain = Drain {
            hand_over: self.hands_over(),
            move_to: Some(self.config.move_to.as_str()).filter(|to| !to.is_empty()).map(Arc::from),
            // The other half is for writing the end.
            patience: deadline / 2,
        };
        for control in controls {
            let _ = control.send(Control::Drain(drain.clone())).await;
        }
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::time::timeout(deadline, async { while tasks.join_next().await.is_some() {} }).await.is_ok()
    }
}

fn running(status: Status) -> Option<Running> {
    let live = status.state == "live" && status.segments > 0;
    let Status { id, demand, behind, speed, codec_pid, .. } = status;
    Some(Running { stream: id.parse().ok()?, demand, live, behind, speed, codec_pid })
}

/// One line for each stream that goes without something from now on, or has it back.
fn tell_steps(steps: &[Step]) {
    for Step { stream, from, to, dimension } in steps {
        let (from, to) = (from.words(), to.words());
        match dimension {
            Some(d) => tracing::warn!(%stream, dimension = d.as_str(), "shed: the stream was {from}, and goes on {to}"),
            None => tracing::info!(%stream, "the stream was {from}, and goes on {to}"),
        }
    }
}

async fn ask<T>(control: &mpsc::Sender<Control>, question: impl FnOnce(oneshot::Sender<T>) -> Control) -> Option<T> {
    let (answer, outcome) = oneshot::channel();
    let asked = async {
        control.send(question(answer)).await.ok()?;
        outcome.await.ok()
    };
    tokio::time::timeout(ANSWER_DEADLINE, asked).await.ok().flatten()
}

/// Date and four random digits: sorts by age, and two workers do not collide.
fn new_session_id(now: crate::logic::time::UnixMillis) -> SessionId {
    let date: String = now.to_string().chars().filter(|c| c.is_ascii_digit() || *c == 'T').take(15).collect();
    let random = getrandom::u32().unwrap_or_default() & 0xffff;
    format!("{date}-{random:04x}").parse().expect("digits, T, dash")
}
