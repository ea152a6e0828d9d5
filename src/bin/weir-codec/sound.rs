//! The audio of one stream: decoded and measured, and where the plan wants it levelled and encoded again.
//!
//! A pipeline of its own, so that neither pictures nor audio wait for the other, and neither fails with the other.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use gstreamer::prelude::*;
use gstreamer::{
    self as gst, EventView, FlowError, FlowSuccess, MessageType, MessageView, PadProbeData, PadProbeReturn, PadProbeType,
};
use gstreamer_app::{AppSink, AppSinkCallbacks, AppSrc};
use weir::link::wire::{self, FromCodec};
use weir::logic::loudness::{Gain, Loudness};
use weir::logic::recipe;
use weir::logic::sound::{AudioEncode, AudioPlan};

use crate::leveller::{self, Leveller};
use crate::link::Outbox;
use crate::meter::Meter;
use crate::pipeline::{self, FINISH, MAX_WARNINGS, describe, element};
use crate::sample_clock::SampleClock;
use crate::tap::lock;
use crate::{downmix, log, ticks};

/// Samples that the encoder puts in front: libavcodec's `aac` begins with one frame of its own (`initial_padding`). Measured: a beep comes back at its
/// time to 0.1 ms with this subtracted.
const PRIMING: i64 = 1024;

/// How often loudness is reported, milliseconds of sound.
const REPORT: u64 = 1000;

/// How often the gain is decided anew: EBU Tech 3341 wants a short-term meter to show a value at least ten times a second.
const GAIN_STEP: u32 = 100;

/// Sample peaks with a loudness target: -1 dB of full scale, which leaves room for what a decoder makes between the samples. Without one only what would be
/// cut anyway is limited.
const CEILING_WITH_TARGET: f32 = 0.891_25;
const CEILING: f32 = 1.0;

/// Draining takes milliseconds, and on a machine with too much to do longer; a pipeline out of which nothing came for so long gives nothing any more. Whoever waits
/// for it are the pictures of the same stream.
const DRAIN: Duration = Duration::from_secs(1);

/// Set when the pipeline is gone.
type Gone = Arc<(Mutex<bool>, Condvar)>;

/// A running pipeline.
#[derive(Debug)]
pub struct Sound {
    source: AppSrc,
    bus: gst::Bus,
    over: Arc<AtomicBool>,
    ending: Arc<AtomicBool>,
    gone: Gone,
    fed: AtomicBool,
    /// Buffers that were decoded or encoded.
    made: Arc<AtomicU64>,
}

impl Sound {
    /// Builds and starts the pipeline of a plan.
    ///
    /// # Errors
    /// One sentence for the supervisor's log when the plan cannot be met here.
    pub fn start(stream: u32, plan: &AudioPlan, out: Arc<Outbox>) -> Result<Self, String> {
        let text = recipe::audio(plan).map_err(|e| e.to_string())?;
        let pipeline = pipeline::launch(&text)?;
        let source = element::<AppSrc>(&pipeline, recipe::SOUND)?;
        source.set_caps(Some(&source_caps(plan)));
        let clock = Arc::new(Mutex::new(SampleClock::default()));
        let gain = Arc::new(AtomicI32::new(0));
        let target = plan.encode.and_then(|e| e.target);
        let made = Arc::<AtomicU64>::default();
        let ear = Ear {
            stream,
            out: out.clone(),
            clock: clock.clone(),
            gain: target.map(|_| gain.clone()),
            stretch_ppm: plan.encode.map_or(0, |e| e.stretch_ppm),
            mix: plan.encode.map(|_| element::<gst::Element>(&pipeline, recipe::MIX)).transpose()?,
            rate: 0,
            channels: 0,
            meter: None,
            made: made.clone(),
        };
        ear.listen(&sink_pad(&pipeline, recipe::HEARD)?);
        if let Some(encode) = plan.encode {
            level(&sink_pad(&pipeline, recipe::LEVEL)?, encode, gain);
            forward(&element::<AppSink>(&pipeline, recipe::FRAMES)?, stream, clock, out.clone(), made.clone());
        }
        let sound = Self {
            source,
            bus: pipeline.bus().ok_or("the pipeline has no bus")?,
            over: Arc::default(),
            ending: Arc::default(),
            gone: Arc::default(),
            fed: AtomicBool::new(false),
            made,
        };
        let watcher = Watcher {
            stream,
            pipeline: pipeline.clone(),
            over: sound.over.clone(),
            ending: sound.ending.clone(),
            gone: sound.gone.clone(),
            out,
        };
        pipeline::play(&pipeline, &sound.bus)?;
        let bus = sound.bus.clone();
        let spawned = std::thread::Builder::new().name(format!("sound bus {stream}")).spawn(move || watcher.watch(&bus));
        spawned.map_err(|e| format!("no thread to watch the pipeline: {e}"))?;
        Ok(sound)
    }

    /// Hands one frame to the decoder; `pts` in 1/90000 s. Does nothing once the pipeline has failed.
    pub fn push(&self, pts: i64, data: Bytes) {
        if self.over.load(Ordering::Acquire) {
            return;
        }
        let Some(time) = ticks::to_clock(pts) else { return };
        let mut buffer = gst::Buffer::from_slice(data);
        // A buffer that was just made has one owner.
        buffer.make_mut().set_pts(time);
        self.fed.store(true, Ordering::Release);
        // An error here means that the pipeline has stopped; its watcher tells the supervisor why.
        let _ = self.source.push_buffer(buffer);
    }

    /// No more input. Waits until all that is inside was sent, or nothing came for [`DRAIN`].
    pub fn end(self) {
        if self.over.load(Ordering::Acquire) {
            return;
        }
        self.ending.store(true, Ordering::Release);
        if self.fed.load(Ordering::Acquire) {
            let _ = self.source.end_of_stream();
        } else {
            self.finish();
        }
        let (gone, changed) = &*self.gone;
        let mut gone = lock(gone);
        loop {
            let before = self.made.load(Ordering::Acquire);
            let Ok((now, waited)) = changed.wait_timeout_while(gone, DRAIN, |gone| !*gone) else { return };
            if !waited.timed_out() {
                return;
            }
            // What is inside is bounded (recipe::audio), so this ends.
            if self.made.load(Ordering::Acquire) == before {
                return self.finish();
            }
            gone = now;
        }
    }

    /// Asks the watcher to take the pipeline down.
    fn finish(&self) {
        let request = gst::message::Application::new(gst::Structure::new_empty(FINISH));
        // A bus that takes no message belongs to a pipeline that is down already.
        let _ = self.bus.post(request);
    }
}

/// The thread that owns a pipeline's end.
struct Watcher {
    stream: u32,
    pipeline: gst::Pipeline,
    over: Arc<AtomicBool>,
    ending: Arc<AtomicBool>,
    gone: Gone,
    out: Arc<Outbox>,
}

impl Watcher {
    fn watch(self, bus: &gst::Bus) {
        let wanted = [MessageType::Eos, MessageType::Application, MessageType::Error, MessageType::Warning];
        let mut warnings = 0;
        let failed = loop {
            let Some(message) = bus.timed_pop_filtered(gst::ClockTime::NONE, &wanted) else { continue };
            match message.view() {
                MessageView::Eos(_) | MessageView::Application(_) => break None,
                MessageView::Error(_) => break Some(describe(&message)),
                _ => {
                    warnings += 1;
                    if warnings <= MAX_WARNINGS {
                        log(&format!("stream {}: {}", self.stream, describe(&message)));
                    }
                }
            }
        };
        self.over.store(true, Ordering::Release);
        // A decoder that was given nothing it could read calls the end an error.
        if let Some(reason) = failed.filter(|_| !self.ending.load(Ordering::Acquire)) {
            log(&format!("stream {}: audio: {reason}", self.stream));
            self.out.send(&FromCodec::AudioFailed { stream: self.stream, reason }, &[]);
        }
        // Also wakes the reader of the link if it waits for room in the source.
        let _ = self.pipeline.set_state(gst::State::Null);
        let (gone, changed) = &*self.gone;
        *lock(gone) = true;
        changed.notify_all();
    }
}

/// What listens behind the decoder: notes times, takes the holes out of them, measures.
struct Ear {
    stream: u32,
    out: Arc<Outbox>,
    clock: Arc<Mutex<SampleClock>>,
    /// Thousandths of a decibel, where loudness is corrected.
    gain: Option<Arc<AtomicI32>>,
    /// To be told how more than two channels are mixed.
    mix: Option<gst::Element>,
    /// See [`AudioEncode::stretch_ppm`].
    stretch_ppm: i32,
    /// As decoded, or as it is taken to be.
    rate: u32,
    channels: u32,
    meter: Option<Meter>,
    /// See [`Sound::made`].
    made: Arc<AtomicU64>,
}

impl Ear {
    fn listen(self, pad: &gst::Pad) {
        let ear = Mutex::new(self);
        pad.add_probe(PadProbeType::BUFFER | PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            let mut ear = lock(&ear);
            if let Some(PadProbeData::Event(event)) = &mut info.data {
                let other = match event.view() {
                    EventView::Caps(caps) => ear.format(caps.caps()),
                    _ => None,
                };
                if let Some(caps) = other {
                    *event = gst::event::Caps::new(&caps);
                }
            } else if let Some(buffer) = info.buffer_mut() {
                ear.hear(buffer);
            }
            PadProbeReturn::Ok
        });
    }

    /// Gives other caps, if what is heard is taken to be of another rate.
    fn format(&mut self, caps: &gst::CapsRef) -> Option<gst::Caps> {
        let structure = caps.structure(0)?;
        let number = |field: &str| structure.get::<i32>(field).ok().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        let (decoded, channels) = (number("rate"), number("channels"));
        let rate = stretched(decoded, self.stretch_ppm);
        let other = (rate != decoded).then(|| {
            let mut caps = caps.to_owned();
            caps.make_mut().set("rate", i32::try_from(rate).unwrap_or(i32::MAX));
            caps
        });
        if (rate, channels) == (self.rate, self.channels) {
            return other;
        }
        (self.rate, self.channels) = (rate, channels);
        let mask = structure.get::<gst::Bitmask>("channel-mask").map_or(0, |m| m.0);
        self.meter = Meter::new(self.channels, decoded, mask);
        if let (Some(mix), Some(rows)) = (&self.mix, downmix::matrix(self.channels, mask).filter(|_| self.channels > 2)) {
            let rows = rows.map(gst::Array::new);
            mix.set_property("mix-matrix", gst::Array::new(rows));
        }
        other
    }

    fn hear(&mut self, buffer: &mut gst::Buffer) {
        self.made.fetch_add(1, Ordering::Release);
        let frame = self.channels.max(1) as usize * size_of::<f32>();
        let samples = u32::try_from(buffer.size() / frame).unwrap_or(0);
        let pts = buffer.pts().map(ticks::from_clock);
        let nanos = lock(&self.clock).push(pts, samples, self.rate);
        if let (Some(meter), Ok(map)) = (&mut self.meter, buffer.map_readable()) {
            meter.push(&floats(&map));
        }
        let duration = u64::from(samples) * 1_000_000_000 / u64::from(self.rate.max(1));
        let buffer = buffer.make_mut();
        buffer.set_pts(gst::ClockTime::from_nseconds(nanos));
        buffer.set_duration(gst::ClockTime::from_nseconds(duration));
        buffer.unset_flags(gst::BufferFlags::DISCONT | gst::BufferFlags::RESYNC);
        self.report();
    }

    fn report(&mut self) {
        let Some(meter) = self.meter.as_mut() else { return };
        if meter.is_due(REPORT) {
            let gain = self.gain.as_ref().map(|g| g.load(Ordering::Relaxed));
            let loudness = Loudness { integrated: meter.integrated(), short_term: meter.short_term(), gain };
            self.out.send(&FromCodec::Loudness { stream: self.stream, loudness }, &[]);
        }
    }
}

/// The rate that samples of `rate` are taken to have. To a whole one: at 48 kHz up to 10 ppm beside the measured pace.
fn stretched(rate: u32, ppm: i32) -> u32 {
    let exact = i64::from(rate) * (1_000_000 + i64::from(ppm));
    u32::try_from((exact + 500_000) / 1_000_000).unwrap_or(rate)
}

/// Gain and limiter on all samples that are encoded.
fn level(pad: &gst::Pad, encode: AudioEncode, shown: Arc<AtomicI32>) {
    let mut leveller = Leveller::new(if encode.target.is_some() { CEILING_WITH_TARGET } else { CEILING });
    // What is corrected is what is heard: measured behind the mix, unlike what is reported of the source.
    let mut correction = encode.target.map(Gain::new).zip(Meter::new(2, recipe::AUDIO_RATE, 0b11));
    let work = move |buffer: &mut gst::Buffer| {
        let Ok(mut map) = buffer.make_mut().map_writable() else { return };
        let mut samples = floats(&map);
        if let Some((gain, meter)) = &mut correction {
            meter.push(&samples);
            if meter.is_due(GAIN_STEP.into()) {
                let thousandths = gain.step(meter.short_term(), GAIN_STEP);
                leveller.set_gain(thousandths);
                shown.store(thousandths, Ordering::Relaxed);
            }
        }
        leveller.process(&mut samples);
        for (bytes, sample) in map.chunks_exact_mut(size_of::<f32>()).zip(samples) {
            bytes.copy_from_slice(&sample.to_le_bytes());
        }
    };
    let state = Mutex::new((work, gst::ClockTime::ZERO));
    pad.add_probe(PadProbeType::BUFFER | PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
        if let Some(buffer) = info.buffer_mut() {
            let (work, end) = &mut *lock(&state);
            work(buffer);
            *end = buffer.pts().zip(buffer.duration()).map_or(*end, |(pts, duration)| pts + duration);
        } else if info.event().is_some_and(|e| matches!(e.view(), EventView::Eos(_))) {
            let end = lock(&state).1;
            // Pushes out what the limiter holds back. It passes this probe as any other.
            let _ = pad.chain(silence(end));
        }
        PadProbeReturn::Ok
    });
}

/// As much silence as the limiter holds back, at `pts`.
fn silence(pts: gst::ClockTime) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_mut_slice(vec![0u8; leveller::DELAY * 2 * size_of::<f32>()]);
    let made = buffer.make_mut();
    made.set_pts(pts);
    made.set_duration(gst::ClockTime::from_nseconds(leveller::DELAY as u64 * 1_000_000_000 / u64::from(recipe::AUDIO_RATE)));
    buffer
}

/// Sends every frame that the encoder makes, with the time of its first sample.
fn forward(sink: &AppSink, stream: u32, clock: Arc<Mutex<SampleClock>>, out: Arc<Outbox>, made: Arc<AtomicU64>) {
    // rules.md 11: what encoder and limiter put in front. (A decoder adds nothing: it gives for each frame what players count it to give.)
    let mut first = -PRIMING - i64::try_from(leveller::DELAY).unwrap_or(0);
    let new_sample = move |sink: &AppSink| {
        let sample = sink.pull_sample().map_err(|_| FlowError::Eos)?;
        let buffer = sample.buffer().ok_or(FlowError::Error)?;
        let data = buffer.map_readable().map_err(|_| FlowError::Error)?;
        let time = lock(&clock).time_of(first);
        first += 1024;
        made.fetch_add(1, Ordering::Release);
        if let Some(pts) = time.filter(|_| wire::is_aac_frame(&data)) {
            out.send(&FromCodec::Audio { stream, pts }, &data);
        }
        Ok(FlowSuccess::Ok)
    };
    sink.set_callbacks(AppSinkCallbacks::builder().new_sample(new_sample).build());
}

/// Little-endian 32-bit floats; a part of one at the end is left out.
fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn sink_pad(pipeline: &gst::Pipeline, name: &str) -> Result<gst::Pad, String> {
    element::<gst::Element>(pipeline, name)?.static_pad("sink").ok_or_else(|| format!("{name} has no sink"))
}

fn source_caps(plan: &AudioPlan) -> gst::Caps {
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    gst::Caps::builder("audio/mpeg")
        .field("mpegversion", 4)
        .field("stream-format", "raw")
        .field("framed", true)
        .field("codec_data", gst::Buffer::from_slice(plan.source.asc.clone()))
        .field("rate", number(plan.source.rate.hz()))
        .field("channels", number(plan.source.channels.into()))
        .build()
}
