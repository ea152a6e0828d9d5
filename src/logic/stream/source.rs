//! The source's pictures: which configuration they belong to, which of them count, and which become samples of the source rung.

use bytes::Bytes;

use super::{Now, Output, Stream};
use crate::cmaf::video;
use crate::logic::model::{Coding, FrameRate, VideoFormat, VideoUnit};

impl Stream {
    /// An access unit of the source.
    pub(super) fn picture(&mut self, time: u32, composition: i32, key: bool, data: Bytes, now: Now) {
        let coding = self.timeline.video_format().map_or(Coding::H264, VideoFormat::coding);
        let scan = match video::scan(coding, &data) {
            Ok(scan) => scan,
            Err(e) => return self.warn(format!("access unit dropped: {e}")),
        };
        if scan.parameter_sets {
            self.renew_config(&data, now);
        }
        let open_gop = scan.begins_open_gop(key);
        if open_gop {
            self.facts.open_gop(now.mono);
        }
        if scan.idr || open_gop {
            self.behind_idr = scan.idr;
        } else if scan.leading && self.behind_idr {
            // Shown before the IDR that a segment begins with. Nothing behind it refers to it (ITU-T H.265, 3.111: RADL pictures).
            if !std::mem::replace(&mut self.leading_told, true) {
                self.warn(
                    "pictures that are shown before their IDR picture are left out: turn off RADL pictures of HEVC".into(),
                );
            }
            return;
        }
        let events = self.timeline.video(time, composition, scan.idr, data, now.mono);
        self.handle(events, now);
    }

    pub(super) fn video_config(&mut self, coding: Coding, record: &Bytes, now: Now) {
        let claimed = self.metadata.frame_rate_milli.map(|m| FrameRate { num: m, den: 1000 });
        match video::read_record(coding, record, claimed) {
            Ok(format) => self.timeline.video_config(format, now.mono),
            Err(e) => self.outputs.push_back(Output::Refuse(e.to_string())),
        }
    }

    /// Parameter sets among the pictures: others than those in force are a new configuration, as if a sequence header had brought them.
    fn renew_config(&mut self, unit: &[u8], now: Now) {
        let Some(current) = self.timeline.video_format() else { return };
        let coding = current.coding();
        match video::renewed(current, unit) {
            Ok(None) => {}
            Ok(Some(record)) => self.video_config(coding, &record, now),
            Err(e) => self.warn(format!("parameter sets among the pictures are left alone: {e}")),
        }
    }

    /// A unit of the source becomes a sample of the source rung.
    pub(super) fn push_source(&mut self, track: usize, unit: VideoUnit) {
        let coding = self.timeline.video_format().map_or(Coding::H264, VideoFormat::coding);
        self.push_sample(track, unit.pts.0, unit.idr, video::sample(coding, unit.data));
    }
}
