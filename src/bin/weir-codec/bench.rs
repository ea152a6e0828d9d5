//! Measures the encoder: jobs of [`weir::link::bench`] from standard input. The pictures lie in the GPU's memory already and are encoded in turn, so
//! that nothing but the encoders is measured, and those are the ones of the streams' own template.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gstreamer::prelude::*;
use gstreamer::{self as gst, FlowError, FlowSuccess, MessageType};
use gstreamer_app::{AppSink, AppSinkCallbacks, AppSrc};
use weir::link::bench::{Answer, Job};
use weir::logic::ladder::Rung;
use weir::logic::model::FrameRate;
use weir::logic::recipe;

use crate::device;
use crate::pipeline::{describe, element, launch, play};

/// Encoders at once: as many as streams in a process.
const MAX_SESSIONS: u16 = 64;

/// Until all pictures are made, and until each encoder has given one: a session opens in well under a second on a healthy device.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// How often the counters and the pipelines' messages are looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Frames per second in the pictures' times; they come as fast as they are taken.
const FPS: u32 = 30;

/// Bits for each luma sample, in hundredths: 6.2 Mbit/s of 1080p30.
const BITS_PER_SAMPLE: u64 = 10;

/// Answers job by job until the end of the input.
///
/// # Errors
/// One sentence, for input that is no job or output that nobody reads.
pub fn serve() -> Result<(), String> {
    for line in std::io::stdin().lines() {
        let line = line.map_err(|e| format!("standard input: {e}"))?;
        let job: Job = serde_json::from_str(&line).map_err(|e| format!("{line:?} is no job: {e}"))?;
        let answer = measure(&job).unwrap_or_else(Answer::Failed);
        let text = serde_json::to_string(&answer).map_err(|e| e.to_string())?;
        let mut out = std::io::stdout();
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|e| format!("standard output: {e}"))?;
    }
    Ok(())
}

fn measure(job: &Job) -> Result<Answer, String> {
    if !(1..=MAX_SESSIONS).contains(&job.sessions) {
        return Err(format!("{} sessions are not between 1 and {MAX_SESSIONS}", job.sessions));
    }
    let pictures = Arc::new(pictures(job)?);
    let sessions = (0..job.sessions).map(|_| Session::start(job, &pictures)).collect::<Result<Vec<_>, _>>()?;
    let deadline = Instant::now() + START_DEADLINE;
    while sessions.iter().any(|s| s.encoded() == 0) {
        look(&sessions)?;
        if Instant::now() > deadline {
            return Err(format!("an encoder gave nothing within {} s", START_DEADLINE.as_secs()));
        }
    }
    let total = || sessions.iter().map(Session::encoded).sum::<u64>();
    let (begin, before) = (Instant::now(), total());
    let end = begin + Duration::from_millis(job.millis.into());
    while Instant::now() < end {
        look(&sessions)?;
    }
    let (took, pictures) = (begin.elapsed(), total() - before);
    Ok(Answer::Done { pictures, micros: u64::try_from(took.as_micros()).unwrap_or(u64::MAX) })
}

/// Waits a little, and looks whether an encoder has failed.
fn look(sessions: &[Session]) -> Result<(), String> {
    std::thread::sleep(LOOK);
    sessions.iter().find_map(|s| s.bus.pop_filtered(&[MessageType::Error])).map_or(Ok(()), |m| Err(describe(&m)))
}

/// Pictures in the GPU's memory, and what they are.
struct Pictures {
    caps: gst::Caps,
    buffers: Vec<gst::Buffer>,
}

fn pictures(job: &Job) -> Result<Pictures, String> {
    let pipeline = launch(&recipe::bench_pictures(job.width, job.height).map_err(|e| e.to_string())?)?;
    device::lend_context(&pipeline)?;
    let bus = pipeline.bus().ok_or("the pipeline has no bus")?;
    let sink = element::<AppSink>(&pipeline, &format!("{}0", recipe::SINK))?;
    play(&pipeline, &bus)?;
    let (mut caps, mut buffers) = (None, Vec::new());
    let wait = gst::ClockTime::try_from(START_DEADLINE).ok();
    while let Some(sample) = sink.try_pull_sample(wait) {
        caps = sample.caps_owned();
        buffers.extend(sample.buffer_owned());
    }
    let failed = bus.pop_filtered(&[MessageType::Error]).map(|m| describe(&m));
    // Whatever came of it, the pictures stay and nothing else of it is needed.
    let _ = pipeline.set_state(gst::State::Null);
    match (failed, caps) {
        (None, Some(caps)) if buffers.len() as u64 == recipe::BENCH_PICTURES => Ok(Pictures { caps, buffers }),
        (failed, _) => Err(failed.unwrap_or_else(|| format!("only {} pictures could be made", buffers.len()))),
    }
}

/// One encoder and the thread that feeds it.
struct Session {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    encoded: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    feeder: Option<JoinHandle<()>>,
}

impl Session {
    fn start(job: &Job, pictures: &Arc<Pictures>) -> Result<Self, String> {
        let kbps = u64::from(job.width) * u64::from(job.height) * u64::from(FPS) * BITS_PER_SAMPLE / 100 / 1000;
        let kbps = u32::try_from(kbps.max(1)).map_err(|e| e.to_string())?;
        let rung = Rung {
            name: "bench".parse().map_err(|e: weir::logic::model::BadName| e.to_string())?,
            width: job.width,
            height: job.height,
            fps: FrameRate::whole(FPS),
            halved: false,
            kbps,
            max_kbps: kbps.saturating_mul(3) / 2,
        };
        let pipeline = launch(&recipe::bench(job.preset, &rung).map_err(|e| e.to_string())?)?;
        device::lend_context(&pipeline)?;
        let bus = pipeline.bus().ok_or("the pipeline has no bus")?;
        let source = element::<AppSrc>(&pipeline, recipe::PICTURES)?;
        source.set_caps(Some(&pictures.caps));
        let sink = element::<AppSink>(&pipeline, &format!("{}0", recipe::SINK))?;
        let encoded = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&encoded);
        let count = move |sink: &AppSink| {
            sink.pull_sample().map_err(|_| FlowError::Eos)?;
            counter.fetch_add(1, Ordering::Relaxed);
            Ok(FlowSuccess::Ok)
        };
        sink.set_callbacks(AppSinkCallbacks::builder().new_sample(count).build());
        play(&pipeline, &bus)?;
        let stop = Arc::new(AtomicBool::new(false));
        let feeder = std::thread::Builder::new().name("feeder".into()).spawn({
            let (pictures, stop) = (Arc::clone(pictures), Arc::clone(&stop));
            move || feed(&source, &pictures, &stop)
        });
        let mut session = Self { pipeline, bus, encoded, stop, feeder: None };
        session.feeder = Some(feeder.map_err(|e| format!("no thread to feed an encoder: {e}"))?);
        Ok(session)
    }

    fn encoded(&self) -> u64 {
        self.encoded.load(Ordering::Relaxed)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the feeder too, if it waits for room.
        let _ = self.pipeline.set_state(gst::State::Null);
        if let Some(feeder) = self.feeder.take() {
            // It does not panic, and there is nobody to tell.
            let _ = feeder.join();
        }
    }
}

fn feed(source: &AppSrc, pictures: &Pictures, stop: &AtomicBool) {
    let frame = |n: u64| gst::ClockTime::from_nseconds(n * 1_000_000_000 / u64::from(FPS));
    for (n, picture) in (0..).zip(pictures.buffers.iter().cycle()) {
        // The description is copied, the picture is not.
        let mut buffer = picture.copy();
        {
            let buffer = buffer.make_mut();
            buffer.set_pts(frame(n));
            buffer.set_duration(frame(n + 1) - frame(n));
        }
        if stop.load(Ordering::Relaxed) || source.push_buffer(buffer).is_err() {
            return;
        }
    }
}
