//! Streams in real time: how many of them a device keeps up with, and what they take besides.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use weir::link::wire::{FromCodec, Plan, ToCodec};
use weir::logic::bench::{Part, Row, context_mib, cpu_budget, stream_mib};
use weir::logic::placement;

use super::clip::Clip;
use super::codec::{Codec, DEADLINE, Setting};
use super::gauge::Over;
use super::{Bench, FPS, cores, mib};

/// Below this share of the pictures that were due a stream is not in real time.
const REAL_TIME: f64 = 0.98;

/// Pictures that may come just before the first look at the counters, or just after the last.
const EDGES: f64 = 2.0;

/// After the first pictures, until queues are as full as they stay and NVML's averages hold nothing of the start.
const SETTLE: Duration = Duration::from_secs(1);

/// How often it is looked whether all rungs have begun.
const LOOK: Duration = Duration::from_millis(10);

/// Ticks of the link in a second.
const TICKS: i64 = 90_000;

/// Where the control daemon of NVIDIA's Multi-Process Service listens when nothing else is said.
const MPS_PIPES: &str = "/tmp/nvidia-mps";
const MPS_VARIABLE: &str = "CUDA_MPS_PIPE_DIRECTORY";

/// What a rung of one stream has given.
#[derive(Debug, Default)]
struct Given {
    pictures: AtomicU64,
    /// Of the pictures since it was last set to 0, microseconds.
    longest_delay: AtomicU64,
}

/// What all threads of a measurement share.
struct Shared {
    /// For each stream, for each rung.
    given: Vec<Vec<Given>>,
    failures: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl Shared {
    fn fail(&self, reason: String) {
        if !self.stop.load(Ordering::Relaxed) {
            self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(reason);
        }
    }

    fn failure(&self) -> Option<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).first().cloned()
    }

    fn each<T>(&self, of: impl Fn(&Given) -> T) -> Vec<Vec<T>> {
        self.given.iter().map(|rungs| rungs.iter().map(&of).collect()).collect()
    }
}

/// What was measured of some streams.
pub struct Ran {
    /// Of each rung the slowest stream's share of real time.
    pub worst: Vec<f64>,
    /// Streams all of whose rungs were in real time.
    pub in_time: usize,
    /// From when a picture was due to when it came back encoded, the longest, seconds.
    pub delay: f64,
    /// Processor cores for each stream, of the codec processes alone.
    pub cores: f64,
    /// NVML.
    pub over: Over,
}

/// So many streams for so long, with so many in each process.
pub fn run(
    bench: &Bench,
    setting: &Setting,
    clip: &Arc<Clip>,
    streams: u16,
    per_process: u16,
    time: Duration,
) -> Result<Ran, String> {
    let plan = plan(bench, clip);
    let rungs = plan.rungs.len();
    let given = (0..streams).map(|_| (0..rungs).map(|_| Given::default()).collect()).collect();
    let shared = Arc::new(Shared { given, failures: Mutex::default(), stop: AtomicBool::new(false) });
    let mut codecs = Vec::new();
    let numbers: Vec<u32> = (0..streams.into()).collect();
    for _ in numbers.chunks(per_process.max(1).into()) {
        codecs.push(Codec::start(setting.command())?);
    }
    for codec in &mut codecs {
        codec.greet()?;
    }
    for (codec, numbers) in codecs.iter_mut().zip(numbers.chunks(per_process.max(1).into())) {
        for &stream in numbers {
            codec.send(&ToCodec::Start { stream, plan: Box::new(plan.clone()) }, &[])?;
        }
    }
    let pids: Vec<u32> = codecs.iter().map(Codec::pid).collect();
    let begin = Instant::now();
    let mut threads = Vec::new();
    let mut links = Vec::new();
    for (codec, numbers) in codecs.into_iter().zip(numbers.chunks(per_process.max(1).into())) {
        let feeder = Feeder {
            link: codec.link()?,
            clip: Arc::clone(clip),
            numbers: numbers.to_vec(),
            begin,
            shared: Arc::clone(&shared),
        };
        links.push(codec.link()?);
        threads.push(std::thread::spawn(move || feeder.feed()));
        let shared = Arc::clone(&shared);
        threads.push(std::thread::spawn(move || listen(codec, begin, &shared)));
    }
    let measured = measure(bench, &shared, &pids, time);
    shared.stop.store(true, Ordering::Relaxed);
    for link in links {
        // Both threads of a process end with its link; it is closed already where the process is gone.
        let _ = link.shutdown(std::net::Shutdown::Both);
    }
    threads.into_iter().map(JoinHandle::join).for_each(drop);
    measured
}

pub fn plan(bench: &Bench, clip: &Clip) -> Plan {
    Plan {
        source: clip.format.clone(),
        rungs: bench.rungs.clone(),
        // One in four seconds: less than what is measured here varies by.
        thumbnail: None,
        encoder: bench.setting.encoder.clone(),
        decoder_threads: 2,
        low_delay: false,
    }
}

fn measure(bench: &Bench, shared: &Shared, pids: &[u32], time: Duration) -> Result<Ran, String> {
    let waiting = Instant::now();
    let pictures = |g: &Given| g.pictures.load(Ordering::Relaxed);
    while shared.each(pictures).iter().flatten().any(|&n| n == 0) {
        if let Some(reason) = shared.failure() {
            return Err(reason);
        }
        if waiting.elapsed() > DEADLINE {
            return Err(format!("a rung gave nothing within {} s", DEADLINE.as_secs()));
        }
        std::thread::sleep(LOOK);
    }
    std::thread::sleep(SETTLE);
    let _ = shared.each(|g| g.longest_delay.store(0, Ordering::Relaxed));
    let (before, busy, begin) = (shared.each(pictures), cpu_seconds(pids), Instant::now());
    let over = bench.gauge.over(time);
    let (after, busy, took) = (shared.each(pictures), cpu_seconds(pids) - busy, begin.elapsed().as_secs_f64());
    if let Some(reason) = shared.failure() {
        return Err(reason);
    }
    let due = took * f64::from(FPS);
    let shares: Vec<Vec<f64>> =
        after.iter().zip(&before).map(|(a, b)| a.iter().zip(b).map(|(a, b)| (a - b) as f64 / due).collect()).collect();
    let worst = (0..bench.rungs.len()).map(|r| shares.iter().map(|s| s[r]).fold(f64::INFINITY, f64::min)).collect();
    let delays = shared.each(|g| g.longest_delay.load(Ordering::Relaxed));
    Ok(Ran {
        worst,
        in_time: shares.iter().filter(|s| s.iter().all(|&share| share + EDGES / due >= REAL_TIME)).count(),
        delay: delays.into_iter().flatten().max().unwrap_or(0) as f64 / 1e6,
        cores: busy / took / shares.len().max(1) as f64,
        over,
    })
}

/// User and system time of processes, seconds (proc(5): fields 14 and 15 of `stat`, behind a name that may hold anything).
fn cpu_seconds(pids: &[u32]) -> f64 {
    let of = |pid: &u32| -> Option<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    };
    pids.iter().filter_map(of).sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// Gives the streams of one process their pictures when they are due.
struct Feeder {
    link: std::os::unix::net::UnixStream,
    clip: Arc<Clip>,
    numbers: Vec<u32>,
    begin: Instant,
    shared: Arc<Shared>,
}

impl Feeder {
    fn feed(mut self) {
        use std::io::Write as _;
        let mut frame = bytes::BytesMut::new();
        for (n, (data, idr)) in (0_i64..).zip(self.clip.units.iter().cycle()) {
            let due = self.begin + due(n);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            for &stream in &self.numbers {
                let pts = n * TICKS / i64::from(FPS);
                let message = ToCodec::Video { stream, pts, dts: pts, idr: *idr, cut: *idr };
                frame.clear();
                let sent = weir::link::wire::encode(&message, data, &mut frame).map_err(|e| e.to_string());
                if let Err(e) = sent.and_then(|()| self.link.write_all(&frame).map_err(|e| e.to_string())) {
                    return self.shared.fail(format!("a codec process does not take pictures: {e}"));
                }
            }
            if self.shared.stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

/// When picture `n` is due, from the begin on.
fn due(n: i64) -> Duration {
    Duration::from_micros(u64::try_from(n).unwrap_or(0) * 1_000_000 / u64::from(FPS))
}

/// Counts what comes back.
fn listen(mut codec: Codec, begin: Instant, shared: &Shared) {
    loop {
        match codec.receive() {
            Ok((FromCodec::Unit { stream, rung, pts, .. }, _)) => {
                let given = shared.given.get(stream as usize).and_then(|s| s.get(usize::from(rung)));
                let Some(given) = given else { return shared.fail(format!("a picture of stream {stream}, rung {rung}")) };
                given.pictures.fetch_add(1, Ordering::Relaxed);
                let due = Duration::from_micros(u64::try_from(pts * 100 / 9).unwrap_or(0));
                let delay = begin.elapsed().saturating_sub(due);
                given.longest_delay.fetch_max(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
            Ok((FromCodec::Failed { reason, .. }, _)) => return shared.fail(reason),
            Ok(_) => {}
            Err(reason) => return shared.fail(reason),
        }
    }
}

/// The folder of the control daemon's pipes, if one runs.
fn mps() -> Option<PathBuf> {
    let folder = std::env::var_os(MPS_VARIABLE).map_or_else(|| MPS_PIPES.into(), PathBuf::from);
    folder.join("control").exists().then_some(folder)
}

/// The same streams each in a process of its own, and several in one; through MPS and past it.
pub fn sharing(bench: &mut Bench) {
    let clip = bench.clip();
    let mut kinds: Vec<u16> = if bench.quick { vec![1, bench.streams] } else { vec![1, 5, bench.streams] };
    kinds.dedup();
    let daemon = mps();
    for with_mps in [false, true] {
        for &per_process in &kinds {
            let what = format!(
                "{} streams, {per_process} in a process, {} MPS",
                bench.streams,
                if with_mps { "with" } else { "without" }
            );
            let Some(setting) = setting(bench, with_mps, daemon.as_ref()) else {
                bench.add(Row::missing(
                    Part::Streams,
                    what,
                    "streams",
                    "no MPS control daemon here: nvidia-cuda-mps-control -d",
                ));
                continue;
            };
            let ran = clip.clone().and_then(|clip| run(bench, &setting, &clip, bench.streams, per_process, bench.each));
            sharing_rows(bench, &what, per_process, ran);
        }
    }
}

fn setting(bench: &Bench, with_mps: bool, daemon: Option<&PathBuf>) -> Option<Setting> {
    let mut setting = bench.setting.clone();
    match (with_mps, daemon) {
        (true, None) => return None,
        (false, None) => {}
        (true, Some(folder)) => setting.options.device_paths.push(folder.clone()),
        // Where there is no daemon, a process goes to the device itself.
        (false, Some(_)) => setting.environment.push((MPS_VARIABLE.into(), OsString::from("/nonexistent"))),
    }
    Some(setting)
}

fn sharing_rows(bench: &mut Bench, what: &str, per_process: u16, ran: Result<Ran, String>) {
    let streams = f64::from(bench.streams);
    let fit = bench.machine.streams(bench.preset, &bench.rungs).map(|fit| fit.floor().min(streams));
    let processes = f64::from(bench.streams.div_ceil(per_process.max(1)));
    let row = |name: &str, unit, value: Result<f64, String>| Row::of(Part::Streams, format!("{what}: {name}"), unit, value);
    let of = |value: fn(&Ran) -> Option<f64>| {
        ran.as_ref().map_err(Clone::clone).and_then(|r| value(r).ok_or_else(|| "NVML does not say".into()))
    };
    let slowest = ran.as_ref().ok().map(|r| r.worst.iter().copied().fold(f64::INFINITY, f64::min));
    let rows = [
        row("in real time", "streams", of(|r| Some(r.in_time as f64)))
            .expect(fit)
            .note(slowest.map(|s| format!("the slowest rung made {s:.2} of its pictures")).unwrap_or_default()),
        row("device memory", "MiB", of(|r| r.over.memory.map(mib)))
            .expect(Some(processes * context_mib() + streams * stream_mib())),
        row("cores for each stream", "cores", of(|r| Some(r.cores)))
            .expect(cpu_budget(cores(), bench.streams))
            .note("expected: what is there"),
        row("longest delay", "s", of(|r| Some(r.delay))),
    ];
    rows.into_iter().for_each(|r| bench.add(r));
}

/// The ladder as it is in production: each stream in a process of its own, by the class that was asked for.
pub fn full_load(bench: &mut Bench) {
    let part = Part::Ladder;
    let time = if bench.quick { bench.each } else { bench.each * 6 };
    let ran = bench.clip().and_then(|clip| run(bench, &bench.setting, &clip, bench.streams, 1, time));
    let streams = f64::from(bench.streams);
    let machine = bench.machine;
    let fit = machine.streams(bench.preset, &bench.rungs);
    let mut rows = Vec::new();
    for (index, rung) in bench.rungs.iter().enumerate() {
        let what = format!("{} streams, {}x{}: share of real time, slowest", bench.streams, rung.width, rung.height);
        let worst = ran.as_ref().map_err(Clone::clone).map(|r| r.worst[index]);
        rows.push(Row::of(part, what, "of 1", worst).expect(fit.map(|f| (f / streams).min(1.0))));
    }
    let of = |value: fn(&Ran) -> Option<f64>| {
        ran.as_ref().map_err(Clone::clone).and_then(|r| value(r).ok_or_else(|| "NVML does not say".into()))
    };
    let load = placement::load(&bench.rungs) as f64 * streams;
    let full = machine.encoded_fps(bench.preset, 1920, 1080, u32::MAX).map(|fps| fps * 8160.0);
    let decoded = machine.decoded_fps(bench.source.width, bench.source.height);
    let decoding = decoded.map(|d| (streams * f64::from(FPS) / d * 100.0).min(100.0));
    let sessions = streams * bench.rungs.len() as f64;
    rows.extend([
        Row::of(part, "streams in real time", "streams", of(|r| Some(r.in_time as f64)))
            .expect(fit.map(|f| f.floor().min(streams))),
        Row::of(part, "NVENC busy", "%", of(|r| r.over.encoder)).expect(full.map(|f| (load / f * 100.0).min(100.0))),
        Row::of(part, "NVDEC busy", "%", of(|r| r.over.decoder)).expect(decoding),
        Row::of(part, "encode sessions", "sessions", of(|r| r.over.sessions.map(f64::from))).expect(Some(sessions)),
        Row::of(part, "device memory", "MiB", of(|r| r.over.memory.map(mib)))
            .expect(Some(streams * (context_mib() + stream_mib()))),
        Row::of(part, "cores for each stream", "cores", of(|r| Some(r.cores)))
            .expect(cpu_budget(cores(), bench.streams))
            .note("expected: what is there"),
        Row::of(part, "longest delay of a picture", "s", of(|r| Some(r.delay))),
    ]);
    rows.into_iter().for_each(|r| bench.add(r));
}
