//! Samples of one track to media segments: `styp` and then one `moof` + `mdat` for each chunk (ISO/IEC 23000-19, 7.3.2).
//!
//! Decode times are the presentation times in ascending order. So `tfdt` is the earliest presentation time of the segment on every track
//! (rules.md 6), the durations of a segment's samples add up to the distance to the next segment exactly, and B-frames get the negative composition
//! offsets of `trun` version 1 without an edit list. It also makes rungs of one source equal, whatever decode times their encoders chose.

use bytes::Bytes;
use mp4_atom::{Decode, Encode, Mfhd, Moof, Styp, Tfdt, Tfhd, Traf, Trun, TrunEntry};

use super::captions::Captions;
use super::events::{Event, Events};
use super::init::TRACK_ID;
use super::sei::Triplet;
use crate::logic::time::Timescale;

/// One coded picture or audio frame, in decode order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Presentation time, ticks of the track's timescale, 0 or later.
    pub pts: i64,
    /// Decodable on its own: an IDR, or any audio frame.
    pub sync: bool,
    /// The sample as it stands in `mdat`.
    pub data: Bytes,
}

/// A finished chunk (an HLS part, a CMAF chunk).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Its `tfdt`.
    pub start: i64,
    /// Sum of its samples' durations, ticks.
    pub duration: i64,
    /// It begins with a sync sample (EXT-X-PART, INDEPENDENT=YES).
    pub independent: bool,
    /// Where it lies in the segment's bytes: offset.
    pub offset: usize,
    /// Length in bytes.
    pub length: usize,
}

/// A finished media segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Earliest presentation time = `tfdt` of the first chunk.
    pub start: i64,
    /// Distance to `end`, ticks.
    pub duration: i64,
    /// Number of samples.
    pub samples: usize,
    /// The whole object.
    pub bytes: Bytes,
    /// Its chunks, at least one.
    pub chunks: Vec<Chunk>,
}

/// Why a chunk cannot be written; a sample or a time that no box can hold.
#[derive(Debug, thiserror::Error)]
pub enum FragmentError {
    /// A size or a time is outside the field of its box.
    #[error("a sample does not fit into trun: {0}")]
    Range(&'static str),
    /// The box writer refused.
    #[error("moof: {0}")]
    Boxes(#[from] mp4_atom::Error),
}

/// ISO/IEC 14496-12, 8.8.3.1: sample_depends_on = 2 (I picture).
const SYNC: u32 = 0x0200_0000;
/// sample_depends_on = 1, sample_is_non_sync_sample.
const NOT_SYNC: u32 = 0x0101_0000;

/// Collects the samples of one segment at a time.
#[derive(Debug)]
pub struct Fragmenter {
    scale: Timescale,
    /// Captions and messages of this segment and later ones; they outlive [`Fragmenter::discard`].
    captions: Captions,
    events: Events,
    sequence: u32,
    waiting: Vec<Sample>,
    waiting_bytes: usize,
    bytes: Vec<u8>,
    chunks: Vec<Chunk>,
    samples: usize,
}

impl Fragmenter {
    /// Nothing collected yet; samples have the times of `scale`.
    pub fn new(scale: Timescale) -> Self {
        Self {
            scale,
            captions: Captions::default(),
            events: Events::default(),
            sequence: 0,
            waiting: Vec::new(),
            waiting_bytes: 0,
            bytes: Vec::new(),
            chunks: Vec::new(),
            samples: 0,
        }
    }

    /// Closed captions for the picture at `pts`, or the next one behind it (H.264 only).
    pub fn caption(&mut self, pts: i64, triplets: Vec<Triplet>) {
        self.captions.push(pts, triplets);
    }

    /// A message for the chunk that contains its time.
    pub fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    /// What is before `time` is lost, or its run is over: captions and messages of it go too.
    pub fn forget_before(&mut self, time: i64) {
        self.captions.forget_before(time);
        self.events.forget_before(time, self.scale);
    }

    /// Adds a sample to the open segment.
    pub fn push(&mut self, sample: Sample) {
        self.waiting_bytes += sample.data.len();
        self.waiting.push(sample);
    }

    /// Samples in the open segment.
    pub fn len(&self) -> usize {
        self.samples + self.waiting.len()
    }

    /// Bytes in the open segment.
    pub fn bytes(&self) -> usize {
        self.bytes.len() + self.waiting_bytes
    }

    /// `true` when the open segment has no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets the open segment.
    pub fn discard(&mut self) {
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.bytes.clear();
        self.chunks.clear();
        self.samples = 0;
    }

    /// Ends a chunk inside the segment if it is complete: every sample that follows in decode order is presented after all of its samples. With
    /// B-frames that holds in front of a sample presented later than everything before it, so `next` is that sample's presentation time.
    ///
    /// # Errors
    /// [`FragmentError`]; the segment is lost then.
    pub fn close_chunk(&mut self, next: i64) -> Result<Option<Chunk>, FragmentError> {
        let latest = self.waiting.iter().map(|s| s.pts).max();
        if latest.is_none_or(|latest| latest >= next) {
            return Ok(None);
        }
        // The distance between pictures is the best guess for the last one; `tfdt` of the next chunk is exact again.
        let end = latest.unwrap_or(next) + self.step();
        self.write_chunk(end.min(next), None).map(Some)
    }

    /// Ends the segment at `end`, the start of the next one (or of a pause). `None` when nothing was collected.
    ///
    /// # Errors
    /// [`FragmentError`]; the segment is lost then and the next one can begin.
    pub fn close_segment(&mut self, end: i64) -> Result<Option<Segment>, FragmentError> {
        self.close(end, None)
    }

    /// The same for the last segment of a run. Captions and messages that came behind its pictures have no later ones of this run to go to: all before `until`, where
    /// the next run begins, are in it.
    ///
    /// # Errors
    /// As [`Fragmenter::close_segment`].
    pub fn close_run(&mut self, end: i64, until: i64) -> Result<Option<Segment>, FragmentError> {
        self.close(end, Some(until))
    }

    fn close(&mut self, end: i64, until: Option<i64>) -> Result<Option<Segment>, FragmentError> {
        if self.is_empty() {
            return Ok(None);
        }
        if !self.waiting.is_empty()
            && let Err(e) = self.write_chunk(end, until)
        {
            self.discard();
            return Err(e);
        }
        let chunks = std::mem::take(&mut self.chunks);
        let bytes = Bytes::from(std::mem::take(&mut self.bytes));
        let samples = std::mem::take(&mut self.samples);
        let Some(start) = chunks.first().map(|c| c.start) else { return Ok(None) };
        let duration = chunks.last().map_or(0, |c| c.start + c.duration - start);
        Ok(Some(Segment { start, duration, samples, bytes, chunks }))
    }

    /// Smallest distance between two presentation times that wait, at least 1 tick.
    fn step(&self) -> i64 {
        let mut times: Vec<i64> = self.waiting.iter().map(|s| s.pts).collect();
        times.sort_unstable();
        times.windows(2).map(|w| w[1] - w[0]).filter(|&d| d > 0).min().unwrap_or(1)
    }

    fn write_chunk(&mut self, end: i64, until: Option<i64>) -> Result<Chunk, FragmentError> {
        let mut samples = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        // All pictures before `end` are here, so it is known which of them are in this track.
        self.captions.put(&mut samples, until);
        let floor = self.chunks.last().map_or(0, |c| c.start);
        let times = decode_times(&samples, floor);
        let start = times.first().copied().ok_or(FragmentError::Range("no sample"))?;
        let last = times.last().copied().unwrap_or(start);
        let end = end.max(last + 1);
        let mut entries = Vec::with_capacity(samples.len());
        for (i, sample) in samples.iter().enumerate() {
            let next = times.get(i + 1).copied().unwrap_or(end);
            entries.push(TrunEntry {
                duration: Some(u32::try_from(next - times[i]).map_err(|_| FragmentError::Range("duration"))?),
                size: Some(u32::try_from(sample.data.len()).map_err(|_| FragmentError::Range("size"))?),
                flags: Some(if sample.sync { SYNC } else { NOT_SYNC }),
                cts: Some(sample.pts - times[i]),
            });
        }
        let offset = if self.bytes.is_empty() {
            styp().encode(&mut self.bytes)?;
            0
        } else {
            self.bytes.len()
        };
        self.events.write((start, end), until.unwrap_or(end), self.scale, &mut self.bytes)?;
        self.sequence = self.sequence.wrapping_add(1);
        let payload: usize = samples.iter().map(|s| s.data.len()).sum();
        self.write_boxes(start, entries, payload)?;
        for sample in &samples {
            self.bytes.extend_from_slice(&sample.data);
        }
        self.samples += samples.len();
        let chunk = Chunk {
            start,
            duration: end - start,
            independent: samples.first().is_some_and(|s| s.sync),
            offset,
            length: self.bytes.len() - offset,
        };
        self.chunks.push(chunk.clone());
        Ok(chunk)
    }

    fn write_boxes(&mut self, start: i64, entries: Vec<TrunEntry>, payload: usize) -> Result<(), FragmentError> {
        let base = u64::try_from(start).map_err(|_| FragmentError::Range("negative tfdt"))?;
        let mut moof = Moof {
            mfhd: Mfhd { sequence_number: self.sequence },
            traf: vec![Traf {
                tfhd: Tfhd { track_id: TRACK_ID, default_base_is_moof: true, ..Default::default() },
                tfdt: Some(Tfdt { base_media_decode_time: base }),
                trun: vec![Trun { data_offset: Some(0), samples: entries.into() }],
                ..Default::default()
            }],
        };
        // The offset counts from the first byte of moof to the first byte behind mdat's header; the size of moof does not depend on it.
        let mut measured = Vec::new();
        moof.encode(&mut measured)?;
        let data_offset = measured.len() + 8;
        if let Some(trun) = moof.traf.first_mut().and_then(|t| t.trun.first_mut()) {
            trun.data_offset = Some(i32::try_from(data_offset).map_err(|_| FragmentError::Range("data offset"))?);
        }
        self.bytes.reserve(measured.len() + 8 + payload);
        moof.encode(&mut self.bytes)?;
        let mdat = u32::try_from(payload + 8).map_err(|_| FragmentError::Range("mdat"))?;
        self.bytes.extend_from_slice(&mdat.to_be_bytes());
        self.bytes.extend_from_slice(b"mdat");
        Ok(())
    }
}

/// The earliest presentation time of a segment and the sum of its samples' durations, both in its ticks: what [`Segment`] said when it was made.
/// `None` for bytes that are no segment of ours.
pub fn measure(segment: &[u8]) -> Option<(i64, i64)> {
    let mut rest = segment;
    let (mut start, mut duration) = (None, 0u64);
    while let Some((header, _)) = rest.split_first_chunk::<8>() {
        let [a, b, c, d, name @ ..] = *header;
        let size = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
        let mut whole = rest.get(..size)?;
        rest = rest.get(size.max(8)..)?;
        if name != *b"moof" {
            continue;
        }
        let moof = Moof::decode(&mut whole).ok()?;
        let traf = moof.traf.first()?;
        let decode_time = traf.tfdt.as_ref()?.base_media_decode_time;
        let first = *start.get_or_insert(decode_time);
        let samples = traf.trun.iter().flat_map(|t| t.samples.iter()).map(|s| u64::from(s.duration.unwrap_or_default()));
        // A chunk's own `tfdt` is exact, the last duration before it was a guess.
        duration = decode_time.checked_sub(first)?.checked_add(samples.sum())?;
    }
    Some((i64::try_from(start?).ok()?, i64::try_from(duration).ok()?))
}

fn styp() -> Styp {
    Styp {
        major_brand: b"msdh".into(),
        minor_version: 0,
        compatible_brands: vec![b"msdh".into(), b"msix".into(), b"cmfs".into(), b"cmf2".into(), b"cmfc".into()],
    }
}

/// Presentation times in ascending order, made strictly increasing (a publisher may send one time twice) and not below `floor`.
fn decode_times(samples: &[Sample], floor: i64) -> Vec<i64> {
    let mut times: Vec<i64> = samples.iter().map(|s| s.pts).collect();
    times.sort_unstable();
    let mut least = floor;
    for t in &mut times {
        *t = (*t).max(least);
        least = *t + 1;
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;
    use mp4_atom::Decode;
    use proptest::prelude::*;

    fn sample(pts: i64, sync: bool) -> Sample {
        Sample { pts, sync, data: Bytes::from(vec![pts as u8; 5]) }
    }

    /// (dts, pts, size, sync) of each sample, read back from the bytes.
    fn read(segment: &[u8]) -> Vec<(i64, i64, u32, bool)> {
        let mut rest = segment;
        Styp::decode(&mut rest).unwrap();
        let mut rows = Vec::new();
        while !rest.is_empty() {
            let moof = Moof::decode(&mut rest).unwrap();
            let traf = &moof.traf[0];
            let mut dts = traf.tfdt.as_ref().unwrap().base_media_decode_time as i64;
            for e in traf.trun[0].samples.iter() {
                rows.push((dts, dts + e.cts.unwrap(), e.size.unwrap(), e.flags.unwrap() == SYNC));
                dts += i64::from(e.duration.unwrap());
            }
            let mdat = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
            rest = &rest[mdat..];
        }
        rows
    }

    #[test]
    fn tfdt_is_the_earliest_presentation_time_and_b_frames_get_negative_offsets() {
        let mut f = Fragmenter::new(Timescale::VIDEO);
        for (pts, sync) in [(9000, true), (18_000, false), (12_000, false), (15_000, false)] {
            f.push(sample(pts, sync));
        }
        let s = f.close_segment(21_000).unwrap().unwrap();
        assert_eq!((s.start, s.duration, s.samples), (9000, 12_000, 4));
        let rows = read(&s.bytes);
        assert_eq!(rows.iter().map(|r| r.0).collect::<Vec<_>>(), [9000, 12_000, 15_000, 18_000]);
        assert_eq!(rows.iter().map(|r| r.1).collect::<Vec<_>>(), [9000, 18_000, 12_000, 15_000]);
        assert_eq!(rows.iter().map(|r| r.3).collect::<Vec<_>>(), [true, false, false, false]);
    }

    #[test]
    fn a_chunk_ends_only_where_no_later_sample_is_presented_inside_it() {
        let mut f = Fragmenter::new(Timescale::VIDEO);
        f.push(sample(0, true));
        f.push(sample(9000, false));
        f.push(sample(3000, false));
        assert_eq!(f.close_chunk(6000).unwrap(), None, "6000 is shown before 9000");
        f.push(sample(6000, false));
        let chunk = f.close_chunk(18_000).unwrap().unwrap();
        assert_eq!((chunk.start, chunk.duration, chunk.independent, chunk.offset), (0, 12_000, true, 0));
        f.push(sample(18_000, false));
        f.push(sample(12_000, false));
        f.push(sample(15_000, false));
        let s = f.close_segment(21_000).unwrap().unwrap();
        assert_eq!(s.chunks.len(), 2);
        assert_eq!((s.chunks[1].start, s.chunks[1].independent), (12_000, false));
        assert_eq!(s.chunks[0].length + s.chunks[1].length, s.bytes.len());
        assert_eq!(read(&s.bytes).len(), 7);
        assert_eq!(s.duration, 21_000);
    }

    #[test]
    fn a_time_sent_twice_does_not_break_the_order() {
        let mut f = Fragmenter::new(Timescale::VIDEO);
        f.push(sample(0, true));
        f.push(sample(3000, false));
        f.push(sample(3000, false));
        let s = f.close_segment(3000).unwrap().unwrap();
        assert_eq!(read(&s.bytes).iter().map(|r| r.0).collect::<Vec<_>>(), [0, 3000, 3001]);
        assert!(f.is_empty());
    }

    proptest! {
        #[test]
        fn durations_add_up_and_presentation_times_survive(
            steps in proptest::collection::vec(1i64..9000, 1..60),
            swaps in proptest::collection::vec(0usize..60, 0..20),
            start in 0i64..1 << 40,
        ) {
            let mut pts: Vec<i64> = steps.iter().scan(start, |t, s| { let now = *t; *t += s; Some(now) }).collect();
            let end = start + steps.iter().sum::<i64>();
            for w in swaps {
                // the first sample of a closed GOP is presented first
                if w >= 1 && w + 1 < pts.len() { pts.swap(w, w + 1) }
            }
            let mut f = Fragmenter::new(Timescale::VIDEO);
            for (i, &p) in pts.iter().enumerate() { f.push(sample(p, i == 0)) }
            let s = f.close_segment(end).unwrap().unwrap();
            let rows = read(&s.bytes);
            prop_assert_eq!(s.start, start);
            prop_assert_eq!(s.duration, end - start);
            prop_assert_eq!(rows.iter().map(|r| r.1).collect::<Vec<_>>(), pts);
            prop_assert!(rows.windows(2).all(|w| w[0].0 < w[1].0));
        }
    }
}
