//! Where a story of a fault is played: a worker under a driver of its own, small streams on it, each with a viewer who reads everything; and what the
//! viewer must have seen.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use serde_json::Value;

use crate::double::{Double, Fault};
use crate::harness::clip::Clip;
use crate::harness::publisher::Publisher;
use crate::harness::track::Track;
use crate::harness::until;
use crate::harness::watch::{Seen, Watch};
use crate::harness::worker::Worker;
use crate::ladder;

/// One rung of 160x90 below a source of 256x144: many of these fit on two cores.
pub const LADDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gpu/tiny.toml");

/// 256x144 with an IDR every 2 s.
pub const CLIP: Clip =
    Clip { width: 256, height: 144, fps: 20, seconds: 12, gop: 40, kbps: 150, video: true, audio: true, more: "" };

/// The encoded rung.
pub const RUNG: &str = "90p";

/// Tells a story, and says that it went well: past libtest's capture, so that a run shows which stories there are.
pub fn story(name: &str, tell: impl FnOnce()) {
    tell();
    // Where nobody reads, nobody wants to know.
    let _ = writeln!(std::io::stdout(), "fault {name} ok");
}

/// A worker, its driver, and who is on it.
pub struct Stage {
    pub double: Double,
    pub worker: Arc<Worker>,
    pub clip: Clip,
    live: Vec<(String, Watch, Publisher)>,
}

impl Stage {
    /// A worker that encodes with NVENC or not at all, without processes in store unless the flags say so: what starts, starts in the story.
    pub fn open(double: Double, clip: Clip, flags: &[&str]) -> Self {
        let own = ["--ladder", LADDER, "--set", "codec.warm=0", "--set", "gpu.interval_ms=100"];
        let worker = ladder::worker(&double, &[&own[..], flags].concat());
        Self { double, worker: Arc::new(worker), clip, live: Vec::new() }
    }

    /// Likewise by a worker of the caller's.
    pub fn of(double: Double, worker: Worker, clip: Clip) -> Self {
        Self { double, worker: Arc::new(worker), clip, live: Vec::new() }
    }

    /// A stream whose viewer waits for it already.
    pub fn publish(&mut self, name: &str) {
        let watch = Watch::start(&self.worker, name);
        self.live.push((name.to_owned(), watch, Publisher::start(&self.clip.file(), &self.worker, name)));
    }

    /// Two streams, one after the other, each with so many segments of its encoded rung.
    pub fn two(&mut self, segments: u64) {
        self.publish("anna");
        self.worker.codec_pid("anna");
        self.publish("bert");
        self.encoded("anna", segments);
        self.encoded("bert", segments);
    }

    /// Waits until the stream has so many segments of its encoded rung.
    pub fn encoded(&self, name: &str, segments: u64) {
        until("encoded segments", || (self.rung(name)?["segments"].as_u64()? >= segments).then_some(()));
    }

    /// Waits until the stream's own rung has so many.
    pub fn made(&self, name: &str, segments: u64) {
        until("segments", || (self.worker.stream(name)?["segments"].as_u64()? >= segments).then_some(()));
    }

    fn rung(&self, name: &str) -> Option<Value> {
        let stream = self.worker.stream(name)?;
        stream["rungs"].as_array()?.iter().find(|r| r["name"] == RUNG).cloned()
    }

    /// From here on only the process of this stream meets faults.
    pub fn only(&mut self, name: &str) -> u32 {
        let pid = self.worker.codec_pid(name);
        self.double.set(Fault::Victim { pid });
        pid
    }

    /// What the status says of a live stream.
    pub fn status(&self, name: &str) -> Value {
        self.worker.stream(name).unwrap_or_else(|| panic!("{name} is over"))
    }

    /// Waits until so many codec processes of the stream were lost; then the status and the metric say so, and its health tells the operator.
    pub fn lost(&self, name: &str, processes: u64) {
        until("the loss of a codec process", || {
            (self.worker.stream(name)?["codec_restarts"].as_u64()? >= processes).then_some(())
        });
        self.finding(name, "encoder_lost");
        let counted = self.counted("weir_codec_restarts_total", &format!("stream=\"{name}\""));
        assert!(counted >= Some(processes), "{counted:?}");
    }

    /// The samples of a metric whose labels begin with these, together.
    fn counted(&self, metric: &str, labels: &str) -> Option<u64> {
        let (metrics, name) = (self.worker.get("metrics").text(), format!("{metric}{{{labels}"));
        let samples = metrics.lines().filter(|l| l.starts_with(&name)).filter_map(|l| l.rsplit(' ').next());
        // Gauges of devices are written with a point.
        samples
            .map(|value| value.trim_end_matches(".0").parse::<u64>().unwrap_or_else(|e| panic!("{metric} {value}: {e}")))
            .reduce(|a, b| a + b)
    }

    /// Waits until these samples of a metric are what they should be.
    pub fn measured(&self, metric: &str, labels: &str, right: impl Fn(u64) -> bool) {
        until(metric, || self.counted(metric, labels).filter(|value| right(*value)));
    }

    /// Waits until the stream's health has a finding that is not well, and gives its severity.
    pub fn finding(&self, name: &str, code: &str) -> String {
        until(code, || self.severity(name, code).filter(|severity| severity != "ok"))
    }

    fn severity(&self, name: &str, code: &str) -> Option<String> {
        let health: Value = serde_json::from_slice(&self.worker.get(&format!("v1/streams/{name}/health")).body).ok()?;
        let found = health["findings"].as_array()?.iter().find(|f| f["code"] == code)?.clone();
        Some(found["severity"].as_str()?.to_owned())
    }

    /// A stream that nothing happened to: by its status, its health and its metrics.
    pub fn assert_well(&self, name: &str) {
        let status = self.status(name);
        assert_eq!(
            (&status["codec_restarts"], &status["gaps"], &status["discontinuities"]),
            (&0.into(), &0.into(), &0.into()),
            "{status}"
        );
        // Of codec processes there is a finding where one was lost.
        assert_eq!(self.severity(name, "encoder_lost").filter(|severity| severity != "ok"), None, "{name}");
        for metric in ["weir_codec_restarts_total", "weir_gaps_total"] {
            assert_eq!(self.counted(metric, &format!("stream=\"{name}\"")), Some(0), "{name}: {metric}");
        }
    }

    /// Everybody sends to the end over a connection that holds; what the viewers saw, the worker's end, and an empty device.
    pub fn finish(self) -> BTreeMap<String, Seen> {
        let Self { double, worker, live, clip: _ } = self;
        let (watches, publishers): (Vec<_>, Vec<_>) = live.into_iter().map(|(name, watch, p)| ((name, watch), p)).unzip();
        publishers.into_iter().for_each(Publisher::finish);
        let seen = watches.into_iter().map(|(name, watch)| (name, watch.finish())).collect();
        let worker = Arc::into_inner(worker).expect("the watches are over");
        worker.stop();
        double.until_clean();
        seen
    }
}

/// Segments of a clip.
pub fn segments(clip: &Clip) -> usize {
    (clip.seconds / 2) as usize
}

/// What holds whatever happens to encoders: the source rung and the audio are whole, and all tracks have the same segments and the same discontinuities.
pub fn source_is_whole(seen: &Seen, clip: &Clip) {
    assert_eq!(seen.rungs(), ["src", RUNG], "the set stays whole");
    let breaks = |track: &str| seen.tracks[track].segments.iter().map(|s| s.discontinuity).collect::<Vec<_>>();
    for (name, media) in &seen.tracks {
        assert_eq!(media.segments.len(), segments(clip), "{name}");
        assert_eq!(breaks(name), breaks("src"), "{name}: discontinuities stand at the same segments of all tracks");
        assert!(name == RUNG || media.gaps().is_empty(), "{name}: {:?}", media.gaps());
    }
    Track::of(seen, "src").check();
}

/// Gaps of the encoded rung.
pub fn gaps(seen: &Seen) -> usize {
    seen.tracks[RUNG].gaps().len()
}

/// Which segments of the encoded rung are its own, not the source rung's in its place.
pub fn own(seen: &Seen) -> Vec<bool> {
    seen.tracks[RUNG].segments.iter().map(|s| !s.gap && s.path.contains(&format!("/{RUNG}/"))).collect()
}

/// Nothing happened to it.
pub fn untouched(seen: &Seen, clip: &Clip) {
    source_is_whole(seen, clip);
    for (name, media) in &seen.tracks {
        assert!(media.gaps().is_empty() && media.segments.iter().all(|s| !s.discontinuity), "{name}: {media:?}");
    }
    assert!(own(seen).iter().all(|own| *own), "{:?}", own(seen));
    Track::of(seen, RUNG).check();
}

/// It lost its process once: at most two segments of the encoded rung, which is back before the end.
pub fn struck(seen: &Seen, clip: &Clip) {
    lost_at_most(seen, clip, 2);
}

/// Likewise, with another number.
pub fn lost_at_most(seen: &Seen, clip: &Clip, most: usize) {
    source_is_whole(seen, clip);
    assert!(gaps(seen) <= most, "segments {:?} of the rung are lost", seen.tracks[RUNG].gaps());
    let media = &seen.tracks[RUNG];
    assert!(media.segments.iter().all(|s| !s.discontinuity), "the parameter sets are the same");
    assert_eq!(own(seen).last(), Some(&true), "the rung is back");
    Track::of(seen, RUNG).check();
}
