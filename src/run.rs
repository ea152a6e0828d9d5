//! The verbs. Opens what the library needs, in the order in which failures have their exit codes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use weir::backfill::backfill;
use weir::capacity::Capacity;
use weir::clock::Clock;
use weir::codecs::{self, Codecs};
use weir::config::{self, Config, Ladders, OnPause, Open, SpoolFull};
use weir::gpu;
use weir::ingest::tls::Tls;
use weir::ingest::{Request, auth, rtmp, srt};
use weir::janitor::Janitor;
use weir::link::process::{Options, Spawner};
use weir::link::wire::Encoder;
use weir::logic::ladder::Ladder;
use weir::logic::model::{KeyId, Replicate};
use weir::logic::placement;
use weir::logic::slate::Clip;
use weir::push;
use weir::replication::Replication;
use weir::report::agones::Agones;
use weir::report::capacity::{facts, report};
use weir::report::heartbeat::{self, Heartbeat};
use weir::report::http::{self, VERSION};
use weir::secret::Secret;
use weir::session::Context;
use weir::slate;
use weir::spool::Spool;
use weir::store::{Location, Store};
use weir::worker::{EncoderReport, Parts, Worker};

use crate::cli::{KeyArguments, KeyVerb, Settings};
use crate::{Fatal, bucket_verbs, exit, machine, probe};

/// Publishers whose verdict is pending.
const REQUESTS: usize = 64;

fn load(settings: &Settings) -> Result<Config, Fatal> {
    let config = load_any(settings)?;
    config.check_publishers().map_err(|e| Fatal::new(exit::CONFIGURATION, e))?;
    Ok(config)
}

/// The configuration of a verb that takes no publishers.
pub fn load_any(settings: &Settings) -> Result<Config, Fatal> {
    let wrong = |e| Fatal::new(exit::CONFIGURATION, anyhow!("{e}"));
    let flags = settings.flags().map_err(wrong)?;
    let environment = config::environment(std::env::vars());
    let mut config =
        config::load(settings.config.as_deref(), &environment, &flags).map_err(|e| Fatal::new(exit::CONFIGURATION, e))?;
    if config.worker.is_empty() {
        config.worker = rustix::system::uname().nodename().to_string_lossy().into_owned();
    }
    Ok(config)
}

/// `weir check`.
pub fn check(settings: &Settings) -> Result<(), Fatal> {
    let config = load(settings)?;
    config.load_ladder().map_err(|e| Fatal::new(exit::CONFIGURATION, e))?;
    config.load_named_ladders().map_err(|e| Fatal::new(exit::CONFIGURATION, e))?;
    config.store.parse::<Location>().map_err(|e| Fatal::new(exit::CONFIGURATION, e))?;
    load_keys(&config)?;
    if let Some(tls) = open_tls(&config)? {
        let pair = tls.pair();
        pair.check(weir::clock::wall()).map_err(|e| Fatal::new(exit::CONFIGURATION, e))?;
        println!("rtmps: certificate {pair}");
    }
    reporting(&config)?;
    println!("configuration is right");
    Ok(())
}

/// `weir key`.
pub fn key(arguments: KeyArguments) -> Result<(), Fatal> {
    match arguments {
        KeyArguments { verb: Some(KeyVerb::Sign { stream, expires, id, keys }), .. } => {
            sign(&stream, &expires, &id, keys.as_deref())
        }
        KeyArguments { verb: Some(KeyVerb::Hmac { id }), .. } => {
            let id = id.parse().map_err(|e| Fatal::new(exit::CONFIGURATION, anyhow::Error::new(e)))?;
            print!("{}", auth::hmac_entry(&id).map_err(|e| Fatal::new(1, anyhow!("no random numbers: {e}")))?);
            Ok(())
        }
        KeyArguments { stream, key, .. } => entry(&stream.unwrap_or_default(), key),
    }
}

/// Where `weir key sign` finds the signing key if no file is named: 64 hexadecimal digits. Never an argument, which everybody on the machine can read.
const SIGNING_KEY: &str = "WEIR_SIGNING_KEY";

/// `weir key sign`: the publishing name on standard output, everything else on the other.
fn sign(stream: &str, expires: &str, id: &str, keys: Option<&Path>) -> Result<(), Fatal> {
    let wrong = |e: anyhow::Error| Fatal::new(exit::CONFIGURATION, e);
    let stream = stream.parse().map_err(|e| wrong(anyhow::Error::new(e)))?;
    let id: KeyId = id.parse().map_err(|e| wrong(anyhow::Error::new(e)))?;
    let seconds = lifetime(expires)
        .ok_or_else(|| wrong(anyhow!("--expires {expires}: write 90m, 2h, 7d or seconds, up to ten years")))?;
    let signing = match keys {
        Some(file) => auth::SigningKeys::read(file).map_err(|e| wrong(e.into()))?,
        None => {
            let key =
                std::env::var(SIGNING_KEY).map_err(|_| wrong(anyhow!("give --keys FILE, or the key in {SIGNING_KEY}")))?;
            let single = auth::SigningKeys::single(id.clone(), &Secret::new(key));
            single.ok_or_else(|| wrong(anyhow!("{SIGNING_KEY} must be 64 hexadecimal digits")))?
        }
    };
    let now = u64::try_from(weir::clock::wall().0 / 1000).unwrap_or_default();
    let ticket = signing.sign(&id, &stream, now.saturating_add(seconds));
    let ticket = ticket.ok_or_else(|| wrong(anyhow!("there is no signing key {id} in the file")))?;
    println!("{}", ticket.name.expose());
    if let Some(passphrase) = &ticket.passphrase {
        println!("passphrase={}", passphrase.expose());
    }
    Ok(())
}

/// `2h` in seconds; from one second to ten years.
fn lifetime(text: &str) -> Option<u64> {
    let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit).filter(|seconds| (1..=3650 * 86_400).contains(seconds))
}

/// An entry of the keys file.
fn entry(stream: &str, key: Option<String>) -> Result<(), Fatal> {
    let wrong = |e: anyhow::Error| Fatal::new(exit::CONFIGURATION, e);
    let stream = stream.parse().map_err(|e| wrong(anyhow::Error::new(e)))?;
    let key = match key {
        Some(key) => key,
        None => {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).context("standard input").map_err(wrong)?;
            line.trim_end().to_owned()
        }
    };
    println!("{}", auth::entry(&stream, &Secret::new(key)));
    Ok(())
}

pub fn codec_program(config: Option<&Config>) -> PathBuf {
    match config.map(|c| &c.codec.program).filter(|p| !p.as_os_str().is_empty()) {
        Some(program) => program.clone(),
        None => std::env::current_exe().unwrap_or_default().with_file_name("weir-codec"),
    }
}

/// `weir --version`.
pub fn version() -> String {
    match probe::inventory(&codec_program(None), None, false) {
        Ok(i) => format!("weir {VERSION}, GStreamer {}", i.gstreamer),
        Err(_) => format!("weir {VERSION}, without GStreamer"),
    }
}

/// `weir push`.
pub fn push(to: &str, size: &str, fps: u32, gop: f64, kbps: u32, seconds: Option<u64>) -> Result<(), Fatal> {
    let wrong = |e: anyhow::Error| Fatal::new(exit::CONFIGURATION, e);
    let target = push::Target::parse(to).map_err(|e| wrong(e.into()))?;
    let (width, height) = size
        .split_once('x')
        .and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)))
        .ok_or_else(|| wrong(anyhow!("--size {size}: write WIDTHxHEIGHT")))?;
    let options = push::Options { width, height, fps, gop, kbps, seconds, ..push::Options::new(target, codec_program(None)) };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(|e| Fatal::new(1, e))?;
    runtime.block_on(async {
        tokio::select! {
            pushed = push::run(options) => pushed.map_err(|e| Fatal::new(1, e)),
            stopped = async { Signals::watch()?.next().await; std::io::Result::Ok(()) } => stopped.map_err(|e| Fatal::new(1, e)),
        }
    })
}

fn load_keys(config: &Config) -> Result<auth::Keys, Fatal> {
    let sources = auth::Sources {
        open: config.open != Open::No,
        file: &config.keys,
        signing: &config.signed.keys,
        webhook: &config.webhook,
        bans: &config.bans,
        worker: (&config.worker, config.region.as_str()),
    };
    auth::Keys::load(&sources).map_err(|e| Fatal::new(exit::CONFIGURATION, e))
}

/// `weir run`.
pub fn run(settings: &Settings) -> Result<(), Fatal> {
    let config = load(settings)?;
    raise_descriptor_limit();
    let ladder = config.load_ladder().map_err(|e| Fatal::new(exit::CONFIGURATION, e))?;
    let ladders = config.load_named_ladders().map_err(|e| Fatal::new(exit::CONFIGURATION, e))?;
    let location: Location = config.store.parse().map_err(|e| Fatal::new(exit::CONFIGURATION, anyhow::Error::new(e)))?;
    let keys = Arc::new(load_keys(&config)?);
    let registry = registry_path(&config);
    let program = codec_program(Some(&config));
    let gpu = gpu::Options::new(&config.gpu).map_err(|e| Fatal::new(1, e))?;
    let (encoder, survey) = match &ladder {
        None => (EncoderReport::ladder_is_none(), None),
        Some(_) => probe::encoder(config.encoder, &gpu, &program, registry.as_ref())?,
    };
    tracing::info!(version = VERSION, worker = %config.worker, region = %config.region, encoder = encoder.name, "weir: {}", encoder.reason);
    let capacity = machine::capacity(&config, ladder.as_ref(), &encoder, survey.as_ref())?;
    // Where nothing was found there is nothing to watch.
    let watched = survey.filter(|s| !s.probe.devices.is_empty() || !s.reading.devices.is_empty());
    let watcher = watched.map(|s| gpu::Watcher::start(gpu, s)).transpose().map_err(|e| Fatal::new(1, e))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| Fatal::new(1, e))?;
    let streams = config.codec.streams_per_codec;
    let options = Options {
        program,
        registry,
        memory_limit: (u64::from(config.codec.memory_mib) << 20) * u64::from(streams),
        start_deadline: Duration::from_secs(config.codec.start_deadline.into()),
        gpu: encoder.name == "nvidia",
        device_paths: config.nvidia.paths.clone(),
    };
    let found = Found { ladder, ladders, encoder, gpu: watcher, capacity };
    runtime.block_on(serve(config, location, keys, found, options))
}

fn registry_path(config: &Config) -> Option<PathBuf> {
    // A read-only disk is no reason not to run: GStreamer then uses its own place, or none.
    std::fs::create_dir_all(&config.state_dir)
        .and_then(|()| std::fs::canonicalize(&config.state_dir))
        .inspect_err(|e| tracing::warn!("state folder {}: {e}", config.state_dir.display()))
        .ok()
        .map(|dir| fresh_registry(&dir))
}

fn seen_devices(uuids: &[String], watcher: &gpu::Watcher) -> Vec<placement::Device> {
    let seen = watcher.seen();
    placement::devices(uuids, &seen.survey.probe, &seen.reading)
}

/// A registry of an earlier start says which elements there were then: it does not notice that a driver has come, gone or changed since.
fn fresh_registry(dir: &Path) -> PathBuf {
    const PREFIX: &str = "gstreamer-registry-";
    let own = std::process::id();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix(PREFIX).and_then(|n| n.strip_suffix(".bin")?.parse::<u32>().ok()) else { continue };
        // Another worker's, if that one runs; in containers every worker has the same process id.
        if pid == own || !Path::new(&format!("/proc/{pid}")).exists() {
            // What stays is overwritten, or nobody's.
            let _ = std::fs::remove_file(entry.path());
        }
    }
    dir.join(format!("{PREFIX}{own}.bin"))
}

/// A stream holds about six descriptors; the usual soft limit of 1024 is for programs that use select(2).
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(e) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("descriptor limit stays: {e}");
    }
}

/// The certificate of the RTMPS listener, if there is one.
fn open_tls(config: &Config) -> Result<Option<Arc<Tls>>, Fatal> {
    let wrong = |e: anyhow::Error| Fatal::new(exit::CONFIGURATION, e);
    let Some((_, files)) = config.rtmps().map_err(|e| wrong(e.into()))? else { return Ok(None) };
    let tls = Tls::open(files).context("rtmps").map_err(wrong)?;
    Ok(Some(Arc::new(tls)))
}

/// What viewers see in a pause, if not nothing.
fn open_slate(config: &Config) -> Result<Option<Arc<Clip>>, Fatal> {
    let clip = match (config.on_pause, config.slate.file.as_os_str().is_empty()) {
        (OnPause::Hold, _) => return Ok(None),
        (OnPause::Slate, true) => slate::black(),
        (OnPause::Slate, false) => slate::open(&config.slate.file),
    };
    clip.map(|clip| Some(Arc::new(clip))).map_err(|e| Fatal::new(exit::CONFIGURATION, e))
}

/// Whom the worker tells of itself: a scheduler and Agones' sidecar, where there are such.
fn reporting(config: &Config) -> Result<(Option<Heartbeat>, Option<Agones>), Fatal> {
    let wrong = |e: anyhow::Error| Fatal::new(exit::CONFIGURATION, e);
    let heartbeat = Heartbeat::new(&config.report, std::env::var(heartbeat::SECRET).ok()).map_err(|e| wrong(e.into()))?;
    let port = config.report.agones.port(std::env::var("AGONES_SDK_HTTP_PORT").ok().as_deref());
    let port = port.map_err(|e| wrong(anyhow!("report.agones: {e}")))?;
    let agones = port.map(Agones::new).transpose().map_err(|e| wrong(e.into()))?;
    Ok((heartbeat, agones))
}

/// The worker's own spool, with what dead workers left beside it.
fn open_spool(config: &Config) -> Result<Option<Arc<Spool>>, Fatal> {
    let s = &config.spool;
    if s.dir.as_os_str().is_empty() {
        return Ok(None);
    }
    let unusable = |e| Fatal::new(exit::STORE, anyhow::Error::new(e));
    let spool = Spool::open(&s.dir, &config.worker, u64::from(s.limit_mib) << 20, s.sync).map_err(unusable)?;
    let adopted = spool.adopt_orphans().map_err(unusable)?;
    if adopted > 0 {
        tracing::info!(objects = adopted, "adopted from the spools of dead workers");
    }
    Ok(Some(Arc::new(spool)))
}

/// Where copies in another region are wanted, what stands against them is said at start, and they are followed.
async fn watch_replication(config: &Config, location: &Location, clock: Clock) -> Option<Replication> {
    if !matches!(location, Location::S3 { .. }) || config.replicate == Replicate::None {
        return None;
    }
    let (bucket, wanted) = bucket_verbs::bucket(config, location, vec!["*".into()]).await.ok()?;
    let findings = wanted.compare_replication(&bucket.replication().await);
    let replication = Replication::new(clock, findings);
    for finding in replication.configuration() {
        tracing::warn!("bucket: {}: {} ({})", finding.line, finding.found, finding.fix);
    }
    Some(replication)
}

async fn bind(what: &str, address: SocketAddr) -> Result<TcpListener, Fatal> {
    TcpListener::bind(address).await.map_err(|e| Fatal::new(exit::PORT, anyhow!("{what} listener {address}: {e}")))
}

/// What was found out before anything was opened.
struct Found {
    ladder: Option<Ladder>,
    ladders: Ladders,
    encoder: EncoderReport,
    gpu: Option<gpu::Watcher>,
    capacity: Arc<Capacity>,
}

/// The SRT listener. Where it is only the default and does not work on this machine, the worker runs without.
async fn listen_srt(
    config: &mut Config,
    keys: &Arc<auth::Keys>,
    requests: &mpsc::Sender<Request>,
    shutdown: &CancellationToken,
) -> Result<Option<(Arc<srt::Server>, srt::Started)>, Fatal> {
    let Some(address) = config.srt_address().map_err(|e| Fatal::new(exit::CONFIGURATION, e))? else { return Ok(None) };
    let parts = srt::Parts {
        address,
        settings: config.srt_listener.clone(),
        limits: config.limits.clone(),
        judge: Arc::clone(keys) as Arc<dyn srt::Judge>,
        requests: requests.clone(),
        shutdown: shutdown.clone(),
    };
    match srt::Server::start(parts).await {
        Ok((server, started)) => {
            config.srt = server.address().to_string();
            Ok(Some((server, started)))
        }
        Err(error) if config.srt_was_set => Err(Fatal::new(exit::PORT, error)),
        Err(error) => {
            tracing::warn!(%error, "srt: there is no SRT listener; --srt= says that none is wanted");
            config.srt.clear();
            Ok(None)
        }
    }
}

async fn serve(
    mut config: Config,
    location: Location,
    keys: Arc<auth::Keys>,
    found: Found,
    options: Options,
) -> Result<(), Fatal> {
    let Found { ladder, ladders, encoder, gpu, capacity } = found;
    let clock = Clock::start();
    let tls = open_tls(&config)?;
    let (heartbeat, agones) = reporting(&config)?;
    let agones = agones.map(Arc::new);
    let rtmp_listener = bind("RTMP", config.rtmp).await?;
    let rtmps_listener = match config.rtmps().map_err(|e| Fatal::new(exit::CONFIGURATION, e))? {
        Some((address, _)) => {
            let listener = bind("RTMPS", address).await?;
            config.rtmps = listener.local_addr().map_err(|e| Fatal::new(exit::PORT, e))?.to_string();
            Some(listener)
        }
        None => None,
    };
    let http_listener = bind("HTTP", config.http).await?;
    let admin_listener = bind("admin", config.admin).await?;
    for (address, listener) in
        [(&mut config.rtmp, &rtmp_listener), (&mut config.http, &http_listener), (&mut config.admin, &admin_listener)]
    {
        // Port 0 asked the system for one.
        *address = listener.local_addr().map_err(|e| Fatal::new(exit::PORT, e))?;
    }
    let store = Arc::new(Store::open(&location, config.s3_endpoint().as_ref()).await.map_err(|e| Fatal::new(exit::STORE, e))?);
    let unfenced = match store.probe_conditions().await {
        Ok(()) => None,
        Err(e @ weir::store::Error::Unusable { .. }) if config.unfenced_store => Some(e.to_string()),
        Err(e) => return Err(Fatal::new(exit::STORE, e)),
    };
    if let Some(reason) = &unfenced {
        tracing::warn!("{reason}; going on, because unfenced_store is set");
    }
    let replication = watch_replication(&config, &location, clock).await;
    let spool = open_spool(&config)?;
    let codecs = match encoder.name {
        "none" => None,
        _ => {
            let settings = codecs::Settings {
                warm: config.codec.warm(options.gpu),
                streams_per_codec: config.codec.streams_per_codec as usize,
                class: config.nvidia.class,
                devices: match &gpu {
                    Some(watcher) => seen_devices(&encoder.devices, watcher),
                    None => Vec::new(),
                },
            };
            let pool = Codecs::new(Spawner::new(options).map_err(|e| Fatal::new(1, e))?, settings);
            pool.fill();
            Some(pool)
        }
    };
    let slate = open_slate(&config)?;
    let shutdown = CancellationToken::new();
    let (requests, inbox) = mpsc::channel(REQUESTS);
    let srt_requests = requests.clone();
    let server =
        rtmp::Server::new(config.limits.clone(), requests, shutdown.clone()).map_err(|e| Fatal::new(exit::CONFIGURATION, e))?;
    let codec = match encoder.name {
        "nvidia" => Encoder::Nvidia {
            class: config.nvidia.class.fixed().unwrap_or_default(),
            allow_cpu_decode: config.nvidia.allow_cpu_decode,
        },
        _ => Encoder::Software { preset: config.software.preset.clone(), threads: config.software.threads },
    };
    let decoding = codec.limits(encoder.cpu_decoders, encoder.device_decoders).decoding;
    let announced = rtmp::Codecs::of(
        |coding| codecs.is_some() && decoding.has(coding),
        |coding| config.passthrough_codecs.contains(&coding),
    );
    let server = Arc::new(server.announcing(announced));
    let srt = listen_srt(&mut config, &keys, &srt_requests, &shutdown).await?;
    let context = Context {
        clock,
        spool: spool.clone(),
        refuse_when_full: config.spool.full == SpoolFull::Refuse,
        replication: replication.clone(),
        janitor: Janitor::start(Arc::clone(&store)),
        store,
        codecs,
        encoder: codec,
        decoder_threads: config.software.decoder_threads,
    };
    // Before anybody can see that the worker is ready: from here on a signal means an orderly end.
    let mut signals = Signals::watch().map_err(|e| Fatal::new(1, e))?;
    let hangup = signal(SignalKind::hangup()).map_err(|e| Fatal::new(1, e))?;
    tokio::spawn(Arc::clone(&keys).follow(hangup));
    tracing::info!(rtmp = %config.rtmp, rtmps = %config.rtmps, srt = %config.srt, http = %config.http, admin = %config.admin, store = %location, "listening");
    let pathways = config.pathways().map_err(|e| Fatal::new(exit::CONFIGURATION, e))?;
    let worker = Worker::new(Parts {
        config,
        context,
        keys,
        pathways,
        slate,
        ladder,
        ladders,
        encoder,
        gpu,
        capacity,
        rtmp: server.stats(),
        tls,
        srt: srt.as_ref().map(|(s, _)| s.stats()),
        unfenced,
    });
    let mut front = rtmp::Front { tls: None, proxies: worker.config.proxy_protocol_from.clone().into() };
    let mut serving = vec![tokio::spawn(Arc::clone(&server).serve(rtmp_listener, front.clone()))];
    if let (Some(listener), Some(tls)) = (rtmps_listener, &worker.tls) {
        front.tls = Some(Arc::clone(tls));
        serving.push(tokio::spawn(Arc::clone(&server).serve(listener, front)));
        tracing::info!("rtmps: certificate {}", tls.pair());
        let tls = Arc::clone(tls);
        tokio::spawn(async move {
            if let Err(error) = tls.follow().await {
                tracing::error!(%error, "rtmps: a new certificate will not be noticed");
            }
        });
    }
    if let Some((server, started)) = srt {
        serving.push(tokio::spawn(server.serve(started)));
    }
    tokio::spawn(Arc::clone(&worker).serve(inbox));
    tokio::spawn(Arc::clone(&worker).reap());
    tokio::spawn(Arc::clone(&worker).follow_devices());
    tokio::spawn(Arc::clone(&worker).count_costs());
    if let Some(heartbeat) = heartbeat {
        let worker = Arc::clone(&worker);
        tokio::spawn(async move { heartbeat.beat(|| report(&worker).text(), &worker.told.heartbeats).await });
    }
    if let Some(agones) = agones.clone() {
        let worker = Arc::clone(&worker);
        tokio::spawn(async move { agones.follow(|| facts(&worker), clock, &worker.told.agones).await });
    }
    if let Some(replication) = replication {
        tokio::spawn(replication.follow(Arc::clone(&worker.context.store)));
    }
    if let Some(spool) = spool {
        tokio::spawn(backfill(spool, Arc::clone(&worker.context.store), worker.context.clock));
    }
    let public = http::public(Arc::clone(&worker));
    let admin = http::admin(Arc::clone(&worker));
    tokio::spawn(async move { axum::serve(http_listener, public).await });
    tokio::spawn(async move { axum::serve(admin_listener, admin).await });
    let leaving = tokio::select! {
        () = signals.next() => {
            worker.leave(Duration::from_secs(worker.config.drain.into()), "signal");
            worker.told_to_leave().await
        }
        leaving = worker.told_to_leave() => leaving,
    };
    tracing::info!(seconds = leaving.within.as_secs(), reason = leaving.reason, "stopping: streams are written to their end");
    shutdown.cancel();
    // Who orders it by the control address is told to stop by a signal as well, sooner or later: Kubernetes does when its hook returns. That one asks nothing new.
    let patient = leaving.reason != "signal";
    let hurried = async {
        if patient {
            signals.next().await;
        }
        signals.next().await;
    };
    let (drained, why) = tokio::select! {
        drained = worker.drain(leaving.within) => (drained, "before the drain deadline"),
        () = hurried => (false, "because the worker was told to stop at once"),
    };
    if drained {
        // Sessions are over sooner than their publishers have read why.
        let last_words = Duration::from_millis(worker.config.limits.goodbye_ms);
        let _ = tokio::time::timeout(last_words, futures_util::future::join_all(serving.iter_mut())).await;
    }
    serving.iter().for_each(tokio::task::JoinHandle::abort);
    if let Some(agones) = agones {
        agones.shut_down().await;
    }
    if drained {
        tracing::info!("stopped");
        Ok(())
    } else {
        let kept = match &worker.context.spool {
            Some(spool) => format!("{} bytes stay in the spool for the next run", spool.bytes()),
            None => "what was not in the store is lost: there is no spool".to_owned(),
        };
        Err(Fatal::new(exit::DRAIN, anyhow!("streams were not written to their end {why}; {kept}")))
    }
}

/// SIGTERM and SIGINT, which end the process at once until somebody watches them.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn watch() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
