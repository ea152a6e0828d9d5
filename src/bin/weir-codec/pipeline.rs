//! One stream's pipeline: built from the recipe, fed with access units, watched until its end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use gstreamer::prelude::*;
use gstreamer::{self as gst, MessageType, MessageView};
use gstreamer_app::{AppSink, AppSrc};
use weir::link::wire::{Encoder, FromCodec, Plan};
use weir::logic::model::Coding;
use weir::logic::recipe::{self, Encoders, Nvidia, Software};

use crate::beat::Beat;
use crate::link::Outbox;
use crate::tap::{self, lock};
use crate::{device, inventory, log, thumbnail, ticks};

/// Warnings of one stream that go to the log: a broken source makes one for each picture.
pub const MAX_WARNINGS: u32 = 20;

/// Our own message on the bus, and its field.
pub const FINISH: &str = "weir-finish";
const FINISH_REASON: &str = "reason";

/// Longest reason that is sent to the supervisor, characters.
const MAX_REASON: usize = 500;

/// One access unit of the source in decode order; times in 1/90000 s.
#[derive(Debug)]
pub struct Unit {
    /// Presentation time.
    pub pts: i64,
    /// Decode time.
    pub dts: i64,
    /// An IDR picture.
    pub idr: bool,
    /// A segment begins at `pts`.
    pub cut: bool,
    /// NAL units behind 4-byte lengths.
    pub data: Bytes,
}

/// A running pipeline. Its own thread answers [`FromCodec::Ended`] or [`FromCodec::Failed`] and then takes it down; dropping this does not.
#[derive(Debug)]
pub struct Stream {
    source: AppSrc,
    bus: gst::Bus,
    beat: Arc<Mutex<Beat>>,
    over: Arc<AtomicBool>,
    fed: AtomicBool,
}

impl Stream {
    /// Builds and starts the pipeline of a plan.
    ///
    /// # Errors
    /// One sentence for the supervisor's log when the plan cannot be met here.
    pub fn start(stream: u32, plan: &Plan, out: Arc<Outbox>) -> Result<Self, String> {
        let pipeline = build(plan)?;
        let source = element::<AppSrc>(&pipeline, recipe::SOURCE)?;
        source.set_caps(Some(&source_caps(plan)));
        let beat = Arc::new(Mutex::new(Beat::default()));
        tap::watch_decoded(&decoded_pad(&pipeline)?, beat.clone());
        for rung in 0..plan.rungs.len() {
            let sink = element::<AppSink>(&pipeline, &format!("{}{rung}", recipe::SINK))?;
            let index = u8::try_from(rung).map_err(|_| "more than 256 rungs".to_owned())?;
            tap::forward(&sink, stream, index, out.clone());
        }
        if let Some(wanted) = &plan.thumbnail {
            let due = element::<gst::Element>(&pipeline, recipe::DUE)?;
            thumbnail::choose(&due.static_pad("sink").ok_or("the thumbnails have no way in")?, wanted.every.0);
            thumbnail::forward(&element::<AppSink>(&pipeline, recipe::THUMBNAILS)?, stream, out.clone());
        }
        let over = Arc::new(AtomicBool::new(false));
        let watcher = Watcher { stream, pipeline: pipeline.clone(), over: over.clone(), out };
        let bus = pipeline.bus().ok_or("the pipeline has no bus")?;
        play(&pipeline, &bus)?;
        let spawned = std::thread::Builder::new().name(format!("bus {stream}")).spawn({
            let bus = bus.clone();
            move || watcher.watch(&bus)
        });
        spawned.map_err(|e| format!("no thread to watch the pipeline: {e}"))?;
        Ok(Self { source, bus, beat, over, fed: AtomicBool::new(false) })
    }

    /// Hands one access unit to the decoder. Waits while its queue is full. Does nothing once the pipeline has failed; a unit whose times are
    /// out of range makes it fail.
    pub fn push(&self, unit: Unit) {
        if self.over.load(Ordering::Acquire) {
            return;
        }
        let (Some(pts), Some(dts)) = (ticks::to_clock(unit.pts), ticks::to_clock(unit.dts)) else {
            self.over.store(true, Ordering::Release);
            return self.finish(Some(format!("PTS {} or DTS {} is out of range", unit.pts, unit.dts)));
        };
        if unit.cut {
            lock(&self.beat).cut(unit.pts);
        }
        let mut buffer = gst::Buffer::from_slice(unit.data);
        {
            // A buffer that was just made has one owner.
            let buffer = buffer.make_mut();
            buffer.set_pts(pts);
            buffer.set_dts(dts);
            if !unit.idr {
                buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
        }
        self.fed.store(true, Ordering::Release);
        // An error here means that the pipeline has stopped; its watcher tells the supervisor why.
        let _ = self.source.push_buffer(buffer);
    }

    /// Whether it has neither ended nor failed.
    pub fn is_running(&self) -> bool {
        !self.over.load(Ordering::Acquire)
    }

    /// No more input: the encoders are drained, then the supervisor gets [`FromCodec::Ended`].
    pub fn end(self) {
        if self.over.load(Ordering::Acquire) {
            return;
        }
        if self.fed.load(Ordering::Acquire) {
            let _ = self.source.end_of_stream();
        } else {
            // h264parse calls an end without a beginning an error, so it is not asked.
            self.finish(None);
        }
    }

    /// Nothing more is wanted of it: it is taken down without being drained.
    pub fn stop(self) {
        if !self.over.swap(true, Ordering::AcqRel) {
            self.finish(None);
        }
    }

    /// Asks the watcher to take the pipeline down without draining it; with a reason, as failed.
    fn finish(&self, reason: Option<String>) {
        let request = gst::Structure::builder(FINISH).field_if_some(FINISH_REASON, reason).build();
        // A bus that takes no message belongs to a pipeline that is down already.
        let _ = self.bus.post(gst::message::Application::new(request));
    }
}

/// The thread that owns a pipeline's end.
struct Watcher {
    stream: u32,
    pipeline: gst::Pipeline,
    over: Arc<AtomicBool>,
    out: Arc<Outbox>,
}

impl Watcher {
    fn watch(self, bus: &gst::Bus) {
        let mut warnings = 0;
        let wanted = [MessageType::Eos, MessageType::Application, MessageType::Error, MessageType::Warning];
        let verdict = loop {
            let Some(message) = bus.timed_pop_filtered(gst::ClockTime::NONE, &wanted) else { continue };
            match message.view() {
                MessageView::Eos(_) => break FromCodec::Ended { stream: self.stream },
                MessageView::Application(request) => {
                    break match request.structure().and_then(|s| s.get::<String>(FINISH_REASON).ok()) {
                        Some(reason) => FromCodec::Failed { stream: self.stream, reason },
                        None => FromCodec::Ended { stream: self.stream },
                    };
                }
                MessageView::Error(_) => break FromCodec::Failed { stream: self.stream, reason: describe(&message) },
                _ => {
                    warnings += 1;
                    if warnings <= MAX_WARNINGS {
                        log(&format!("stream {}: {}", self.stream, describe(&message)));
                    }
                }
            }
        };
        if warnings > MAX_WARNINGS {
            log(&format!("stream {}: {} more warnings", self.stream, warnings - MAX_WARNINGS));
        }
        self.over.store(true, Ordering::Release);
        if let FromCodec::Failed { reason, .. } = &verdict {
            log(&format!("stream {}: {reason}", self.stream));
        }
        self.out.send(&verdict, &[]);
        // Also wakes the reader of the link if it waits for room in the source.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn build(plan: &Plan) -> Result<gst::Pipeline, String> {
    let said = |e: recipe::RecipeError| e.to_string();
    let recipe = |encoders| recipe::pipeline(&plan.source, &plan.rungs, plan.thumbnail.as_ref(), encoders).map_err(said);
    match &plan.encoder {
        Encoder::Software { preset, threads } => {
            let preset = preset.parse().map_err(said)?;
            let software =
                Software { preset, threads: *threads, decoder_threads: plan.decoder_threads, low_delay: plan.low_delay };
            launch(&recipe(Encoders::Software(&software))?)
        }
        &Encoder::Nvidia { class, allow_cpu_decode } => {
            let nvidia = Nvidia {
                class,
                allow_cpu_decode,
                decoders: inventory::device_decoders(),
                decoder_threads: plan.decoder_threads,
                low_delay: plan.low_delay,
            };
            let pipeline = launch(&recipe(Encoders::Nvidia(&nvidia))?)?;
            device::lend_context(&pipeline)?;
            Ok(pipeline)
        }
    }
}

/// Starts a pipeline, or says why it does not start.
pub fn play(pipeline: &gst::Pipeline, bus: &gst::Bus) -> Result<(), String> {
    if pipeline.set_state(gst::State::Playing).is_ok() {
        return Ok(());
    }
    let reason = bus.pop_filtered(&[MessageType::Error]).map_or("no reason given".into(), |m| describe(&m));
    // Nothing runs yet, so this cannot hang.
    let _ = pipeline.set_state(gst::State::Null);
    Err(format!("the pipeline does not start: {reason}"))
}

/// The pipeline of a recipe's text.
pub fn launch(text: &str) -> Result<gst::Pipeline, String> {
    let element = gst::parse::launch_full(text, None, gst::ParseFlags::FATAL_ERRORS)
        .map_err(|e| format!("the pipeline cannot be built here: {e}"))?;
    element.downcast().map_err(|_| "the text is no pipeline".to_owned())
}

/// An element by its name.
pub fn element<T: IsA<gst::Element>>(pipeline: &gst::Pipeline, name: &str) -> Result<T, String> {
    pipeline.by_name(name).and_then(|e| e.downcast().ok()).ok_or_else(|| format!("the pipeline has no {name}"))
}

/// The pad by which every decoded picture leaves the decoder (or the deinterlacer behind it).
fn decoded_pad(pipeline: &gst::Pipeline) -> Result<gst::Pad, String> {
    let gate = element::<gst::Element>(pipeline, &recipe::GATE.to_string())?;
    gate.static_pad("sink").and_then(|pad| pad.peer()).ok_or_else(|| "nothing is linked to the decoder".to_owned())
}

fn source_caps(plan: &Plan) -> gst::Caps {
    let mut record = plan.source.avcc.to_vec();
    let (kind, format, alignment) = match plan.source.coding() {
        Coding::H264 => ("video/x-h264", "avc", "au"),
        Coding::Hevc => ("video/x-h265", "hvc1", "au"),
        Coding::Av1 => ("video/x-av1", "obu-stream", "tu"),
    };
    // The link's units have 4-byte lengths whatever the publisher's had (ISO/IEC 14496-15, 5.3.3.1: lengthSizeMinusOne). Other than 4 of HEVC are refused.
    if let Some(byte) = record.get_mut(4).filter(|_| plan.source.coding() == Coding::H264) {
        *byte |= 3;
    }
    let rate = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    gst::Caps::builder(kind)
        .field("stream-format", format)
        .field("alignment", alignment)
        .field("codec_data", gst::Buffer::from_mut_slice(record))
        .field("framerate", gst::Fraction::new(rate(plan.source.fps.num), rate(plan.source.fps.den.max(1))))
        .build()
}

/// Element, message and the first line of the details.
pub fn describe(message: &gst::Message) -> String {
    let origin = message.src().map_or_else(String::new, |s| s.name().to_string());
    let (error, debug) = match message.view() {
        MessageView::Error(e) => (e.error(), e.debug()),
        MessageView::Warning(w) => (w.error(), w.debug()),
        _ => return origin,
    };
    let detail = debug.as_ref().and_then(|d| d.lines().nth(1)).unwrap_or("");
    format!("{origin}: {error} {detail}").trim().chars().take(MAX_REASON).collect()
}
