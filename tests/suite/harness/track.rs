//! One track of a stream, from its boxes.

use super::boxes::{self, Init, Sample, Segment};
use super::manifest::Listed;
use super::watch::Seen;

/// The segments of a track that are there, in order.
pub struct Track {
    pub name: String,
    pub init: Init,
    pub listed: Vec<Listed>,
    pub segments: Vec<Segment>,
    /// The init segment and all segments, one behind the other.
    pub file: Vec<u8>,
    /// Where each segment begins in `file`.
    offsets: Vec<usize>,
}

impl Track {
    /// Everything that was listed of a track which kept one init segment.
    pub fn of(seen: &Seen, name: &str) -> Self {
        let listed: Vec<_> =
            seen.listed.iter().filter(|((t, _), l)| t == name && !l.gap).map(|(_, listed)| listed.clone()).collect();
        let path = listed[0].init.clone().expect("EXT-X-MAP");
        assert!(listed.iter().all(|l| l.init.as_ref() == Some(&path)), "{name}: one init segment");
        Self::new(seen, name, listed)
    }

    /// These segments, which have the init segment of the first.
    pub fn new(seen: &Seen, name: &str, listed: Vec<Listed>) -> Self {
        let mut file = seen.objects[listed[0].init.as_ref().expect("EXT-X-MAP")].clone();
        let init = Init::read(&file);
        let (mut segments, mut offsets) = (Vec::new(), Vec::new());
        for l in &listed {
            let bytes = &seen.objects[&l.path];
            segments.push(Segment::read(bytes, &init));
            offsets.push(file.len());
            file.extend_from_slice(bytes);
        }
        Self { name: name.to_owned(), init, listed, segments, file, offsets }
    }

    /// All samples in decode order, with their bytes.
    pub fn samples(&self) -> Vec<(Sample, &[u8])> {
        let mut out = Vec::new();
        for (segment, offset) in self.segments.iter().zip(&self.offsets) {
            for s in &segment.samples {
                out.push((s.clone(), &self.file[offset + s.bytes.start..offset + s.bytes.end]));
            }
        }
        out
    }

    /// Presentation times in order.
    pub fn times(&self) -> Vec<i64> {
        let mut times: Vec<_> = self.segments.iter().flat_map(|s| &s.samples).map(|s| s.pts).collect();
        times.sort_unstable();
        times
    }

    /// Starts of the segments.
    pub fn starts(&self) -> Vec<i64> {
        self.segments.iter().map(|s| s.tfdt).collect()
    }

    /// Checks what holds for every track: times add up inside a segment and from one to the next, and the playlist says the same.
    pub fn check(&self) {
        let name = &self.name;
        assert!(!self.init.edit_list && self.init.brands.iter().any(|b| b == "cmfc"), "{name}: rules.md 6: {:?}", self.init);
        for (segment, listed) in self.segments.iter().zip(&self.listed) {
            let duration: i64 = segment.samples.iter().map(|s| s.duration).sum();
            let earliest = segment.samples.iter().map(|s| s.pts).min().unwrap();
            assert_eq!(earliest, segment.tfdt, "{name}: rules.md 6: tfdt is the earliest presentation time");
            let micros = (duration * 1_000_000 + i64::from(self.init.timescale) / 2) / i64::from(self.init.timescale);
            assert_eq!(listed.micros as i64, micros, "{name}: EXTINF of {}", listed.path);
            assert!(listed.path.ends_with(&format!("/{}.m4s", segment.tfdt)), "{name}: rules.md 4: {}", listed.path);
        }
        for (i, pair) in self.segments.windows(2).enumerate() {
            if self.listed[i].number + 1 == self.listed[i + 1].number && !self.listed[i + 1].discontinuity {
                let end = pair[0].tfdt + pair[0].samples.iter().map(|s| s.duration).sum::<i64>();
                assert_eq!(end, pair[1].tfdt, "{name}: segment {} ends where the next begins", self.listed[i].number);
            }
        }
        if self.init.kind == "avc1" {
            self.check_pictures();
        }
    }

    fn check_pictures(&self) {
        let name = &self.name;
        let samples = self.samples();
        let mut rest = samples.as_slice();
        for segment in &self.segments {
            let (own, behind) = rest.split_at(segment.samples.len());
            rest = behind;
            let first = boxes::nal_types(own[0].1);
            assert_eq!(first.iter().find(|t| matches!(t, 1..=5)), Some(&5), "{name}: {} begins with {first:?}", segment.tfdt);
            for (sample, bytes) in own {
                assert_eq!(boxes::nal_types(bytes).contains(&5), sample.sync, "{name}: sync flag at {}", sample.pts);
            }
        }
        let times = self.times();
        assert!(times.windows(2).all(|w| w[0] < w[1]), "{name}: a presentation time twice");
    }
}
