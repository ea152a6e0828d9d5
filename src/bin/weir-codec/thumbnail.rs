//! Small pictures beside the rungs: which decoded pictures become one, and their way to the link.

use std::sync::{Arc, Mutex};

use gstreamer::prelude::*;
use gstreamer::{self as gst, FlowError, FlowSuccess};
use gstreamer_app::{AppSink, AppSinkCallbacks};
use weir::link::wire::FromCodec;
use weir::logic::thumbnail::MAX_BYTES;

use crate::link::Outbox;
use crate::pipeline::MAX_WARNINGS;
use crate::tap::{self, lock};
use crate::{log, ticks};

/// Which pictures are due: the first one, then one in so much of media, by its own times, whatever the clock says. Pure.
#[derive(Debug)]
struct Cadence {
    /// 1/90000 s.
    every: i64,
    next: Option<i64>,
}

impl Cadence {
    fn is_due(&mut self, pts: i64) -> bool {
        if self.next.is_some_and(|next| pts < next) {
            return false;
        }
        // Behind a hole it begins anew, or several would be due in a row.
        let due = self.next.filter(|next| pts.saturating_sub(*next) < self.every).unwrap_or(pts);
        self.next = Some(due.saturating_add(self.every));
        true
    }
}

/// Drops what is not due before anything is done for it: in the thread of whoever brings it, by a glance at its time.
pub fn choose(pad: &gst::Pad, every: i64) {
    let cadence = Mutex::new(Cadence { every, next: None });
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let due = info.buffer().and_then(|b| b.pts()).is_some_and(|time| lock(&cadence).is_due(ticks::from_clock(time)));
        // Not `Drop`: the bindings free the buffer themselves then, and GStreamer complains of each that it has none to free.
        if due { gst::PadProbeReturn::Ok } else { gst::PadProbeReturn::Handled }
    });
}

/// Sends every picture that comes out of the encoder.
pub fn forward(sink: &AppSink, stream: u32, out: Arc<Outbox>) {
    let mut left_out = 0;
    let new_sample = move |sink: &AppSink| {
        let sample = sink.pull_sample().map_err(|_| FlowError::Eos)?;
        let time = tap::time(&sample).ok_or(FlowError::Error)?;
        let data = sample.buffer().ok_or(FlowError::Error)?.map_readable().map_err(|_| FlowError::Error)?;
        if data.len() > MAX_BYTES {
            left_out += 1;
            if left_out <= MAX_WARNINGS {
                log(&format!("stream {stream}: thumbnail of {} bytes left out", data.len()));
            }
            return Ok(FlowSuccess::Ok);
        }
        out.send(&FromCodec::Thumbnail { stream, pts: ticks::from_clock(time) }, &data);
        Ok(FlowSuccess::Ok)
    };
    sink.set_callbacks(AppSinkCallbacks::builder().new_sample(new_sample).build());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(times: impl IntoIterator<Item = i64>) -> Vec<i64> {
        let mut cadence = Cadence { every: 360_000, next: None };
        times.into_iter().filter(|&t| cadence.is_due(t)).collect()
    }

    #[test]
    fn the_first_picture_is_due_and_then_one_in_four_seconds() {
        assert_eq!(due((0..400).map(|n| n * 3000)), [0, 360_000, 720_000, 1_080_000]);
        // 29.97 pictures a second, from below zero: the average holds.
        assert_eq!(due((0..500).map(|n| n * 3003 - 9000)), [-9000, 351_360, 711_720, 1_072_080, 1_432_440]);
    }

    #[test]
    fn a_slow_source_gives_each_picture_and_a_hole_is_not_made_up_for() {
        assert_eq!(due((0..4).map(|n| n * 450_000)), [0, 450_000, 900_000, 1_350_000]);
        let with_hole = (0..10).chain(1000..1250).map(|n| n * 3000);
        assert_eq!(due(with_hole), [0, 3_000_000, 3_360_000, 3_720_000]);
    }
}
