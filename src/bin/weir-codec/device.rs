//! The GPU of this process: opened and tried before any stream, its CUDA context shared by all pipelines.
//!
//! Without a shared context every pipeline makes its own, of hundreds of MiB, and pictures that pass from one context to another are copied through
//! the host's memory without a word.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use gstreamer::prelude::*;
use gstreamer::{self as gst, BusSyncReply, MessageType, MessageView};
use gstreamer_app::AppSink;
use weir::logic::recipe;

use crate::pipeline::{describe, element, launch, play};

/// GStreamer's name for the context (`GST_CUDA_CONTEXT_TYPE`).
const CONTEXT_TYPE: &str = "gst.cuda.context";

/// The trial takes under a second on a healthy device; this long means that the driver hangs. Less than what the supervisor waits for the first
/// message, so that it hears the reason.
const TRIAL_DEADLINE: Duration = Duration::from_secs(20);

/// Lives as long as the process.
static CONTEXT: OnceLock<gst::Context> = OnceLock::new();

/// Encodes a few pictures. What it opens and compiles on the way, no stream has to wait for.
///
/// # Errors
/// One sentence: why nothing can be encoded here.
pub fn try_out() -> Result<(), String> {
    let pipeline = launch(&recipe::warm_up().map_err(|e| e.to_string())?)?;
    let bus = pipeline.bus().ok_or("the pipeline has no bus")?;
    bus.set_sync_handler(|_, message| {
        if let MessageView::HaveContext(have) = message.view() {
            let context = have.context();
            if context.context_type() == CONTEXT_TYPE {
                // Only the first one: later elements get it from their pipeline.
                let _ = CONTEXT.set(context);
            }
        }
        BusSyncReply::Pass
    });
    let tried = play(&pipeline, &bus).and_then(|()| encoded(&pipeline, &bus));
    // Whatever came of it, nothing of it is needed any more.
    let _ = pipeline.set_state(gst::State::Null);
    tried?;
    CONTEXT.get().map(drop).ok_or_else(|| "no element told of its CUDA context".to_owned())
}

/// Waits for the end and counts what was encoded.
fn encoded(pipeline: &gst::Pipeline, bus: &gst::Bus) -> Result<(), String> {
    let sink = element::<AppSink>(pipeline, &format!("{}0", recipe::SINK))?;
    let end = Instant::now() + TRIAL_DEADLINE;
    let mut pictures = 0_u64;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let wait = gst::ClockTime::from_mseconds(u64::try_from(left.as_millis()).unwrap_or(0).min(100));
        match sink.try_pull_sample(wait) {
            Some(sample) if sample.buffer().is_some_and(|b| b.size() > 0) => pictures += 1,
            Some(_) => return Err("the trial gave an empty picture".into()),
            None => {
                if let Some(error) = bus.pop_filtered(&[MessageType::Error]) {
                    return Err(format!("the trial failed: {}", describe(&error)));
                }
                if sink.is_eos() {
                    let wanted = recipe::TRIAL_PICTURES;
                    return if pictures == wanted {
                        Ok(())
                    } else {
                        Err(format!("the trial gave {pictures} pictures of {wanted}"))
                    };
                }
                if left.is_zero() {
                    return Err(format!("the trial gave {pictures} pictures within {} s", TRIAL_DEADLINE.as_secs()));
                }
            }
        }
    }
}

/// A pipeline's elements find the process's context and make none of their own.
///
/// # Errors
/// In a process that was not started for a GPU.
pub fn lend_context(pipeline: &gst::Pipeline) -> Result<(), String> {
    let context = CONTEXT.get().ok_or("this process was not started for a GPU")?;
    pipeline.set_context(context);
    Ok(())
}
