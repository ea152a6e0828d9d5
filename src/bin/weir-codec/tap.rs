//! The two places where pictures are looked at: behind the decoder, where cuts become key-frame requests, and behind each encoder, where access
//! units leave for the link.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use gstreamer::buffer::BufferMetaForeachAction;
use gstreamer::prelude::*;
use gstreamer::{self as gst, BufferFlags, FlowError, FlowSuccess};
use gstreamer_app::{AppSink, AppSinkCallbacks};
use gstreamer_video::{DownstreamForceKeyUnitEvent, VideoCaptionMeta};
use weir::link::wire::FromCodec;

use crate::beat::Beat;
use crate::link::Outbox;
use crate::ticks;

/// Watches the pad that all decoded pictures leave by: asks the encoders for key frames at the cuts, and flags what half-rate rungs leave out.
pub fn watch_decoded(pad: &gst::Pad, beat: Arc<Mutex<Beat>>) {
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let Some(buffer) = info.buffer_mut() else { return gst::PadProbeReturn::Ok };
        let Some(time) = buffer.pts() else { return gst::PadProbeReturn::Ok };
        let verdict = lock(&beat).picture(ticks::from_clock(time));
        if verdict.force {
            // The segment begins at 0 (see Stream::start), so running time is PTS.
            pad.push_event(DownstreamForceKeyUnitEvent::builder().running_time(time).all_headers(false).build());
        }
        let mut flags = buffer.flags();
        flags.set(BufferFlags::DROPPABLE, verdict.skip);
        flags.set(BufferFlags::DECODE_ONLY, verdict.late);
        if flags != buffer.flags() {
            // Writable means a copy of the description here, never of the picture: the decoder keeps it as reference.
            let buffer = buffer.make_mut();
            buffer.unset_flags(BufferFlags::DROPPABLE | BufferFlags::DECODE_ONLY);
            buffer.set_flags(flags & (BufferFlags::DROPPABLE | BufferFlags::DECODE_ONLY));
        }
        // x264enc would write captions into the rungs by itself; the supervisor does so, for dropped pictures too (rules.md 13).
        if buffer.meta::<VideoCaptionMeta>().is_some() {
            buffer.make_mut().foreach_meta_mut(|mut meta| {
                let caption = meta.downcast_ref::<VideoCaptionMeta>().is_some();
                ControlFlow::Continue(if caption { BufferMetaForeachAction::Remove } else { BufferMetaForeachAction::Keep })
            });
        }
        gst::PadProbeReturn::Ok
    });
}

/// A mutex is poisoned only by a panic, and one of those ends this process before anybody can look.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Sends everything that comes out of one encoder.
pub fn forward(sink: &AppSink, stream: u32, rung: u8, out: Arc<Outbox>) {
    let mut config = Vec::new();
    let new_sample = move |sink: &AppSink| {
        let sample = sink.pull_sample().map_err(|_| FlowError::Eos)?;
        let record = sample.caps().and_then(|caps| caps.structure(0)?.get::<gst::Buffer>("codec_data").ok());
        let record = record.and_then(|buffer| buffer.map_readable().ok().map(|map| map.to_vec()));
        if let Some(record) = record.filter(|record| *record != config) {
            out.send(&FromCodec::Config { stream, rung }, &record);
            config = record;
        }
        let buffer = sample.buffer().ok_or(FlowError::Error)?;
        let time = time(&sample).ok_or(FlowError::Error)?;
        let data = buffer.map_readable().map_err(|_| FlowError::Error)?;
        let idr = !buffer.flags().contains(BufferFlags::DELTA_UNIT) && has_idr(&data);
        out.send(&FromCodec::Unit { stream, rung, pts: ticks::from_clock(time), idr }, &data);
        Ok(FlowSuccess::Ok)
    };
    sink.set_callbacks(AppSinkCallbacks::builder().new_sample(new_sample).build());
}

/// When a picture is shown. Never the buffer's own PTS: x264enc moves its output by 1000 hours and says so in the segment.
pub fn time(sample: &gst::Sample) -> Option<gst::ClockTime> {
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    segment.to_running_time(sample.buffer()?.pts()?)
}

/// Whether one of the NAL units (behind 4-byte lengths) is a slice of an IDR picture (ITU-T H.264, table 7-1: type 5).
fn has_idr(mut unit: &[u8]) -> bool {
    while let Some((length, rest)) = unit.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let Some((nal, rest)) = rest.split_at_checked(length) else { return false };
        if nal.first().is_some_and(|header| header & 0x1f == 5) {
            return true;
        }
        unit = rest;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idr_is_told_by_its_slices() {
        assert!(has_idr(&[0, 0, 0, 2, 6, 1, 0, 0, 0, 1, 0x65]));
        assert!(!has_idr(&[0, 0, 0, 1, 0x41]));
        assert!(!has_idr(&[0, 0, 0, 9, 0x65]));
        assert!(!has_idr(&[0, 0, 0]));
    }
}
