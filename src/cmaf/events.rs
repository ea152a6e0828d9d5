//! Timed metadata in segments: `emsg` version 1 (ISO/IEC 23009-1, 5.10.3.3) with an ID3 tag, as AOM's "Carriage of ID3 Timed Metadata in CMAF" has it. Pure.

use std::collections::VecDeque;

use bytes::Bytes;
use mp4_atom::{Emsg, EmsgTimestamp, Encode};

use crate::logic::time::{MediaTime, Timescale};

/// `scheme_id_uri` of every box, and `schemeIdUri` of InbandEventStream.
pub const SCHEME: &str = "https://aomedia.org/emsg/ID3";

/// Events that wait for their segment: 10 s of ten a second, and some. More than the retained 10 s belongs to segments that are lost.
const MAX_WAITING: usize = 128;

/// AOM, 2.2.3: ID3 has no duration.
const UNKNOWN_DURATION: u32 = u32::MAX;

/// One message, the same on all tracks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When it is due.
    pub time: MediaTime,
    /// Tells it from the others of its Period: a player that changes rungs may read it twice.
    pub id: u32,
    /// An ID3 tag.
    pub tag: Bytes,
}

/// What waits for the segments of one track, by time.
#[derive(Debug, Default)]
pub(super) struct Events {
    waiting: VecDeque<Event>,
}

impl Events {
    pub fn push(&mut self, event: Event) {
        let at = self.waiting.iter().rposition(|e| e.time <= event.time).map_or(0, |i| i + 1);
        self.waiting.insert(at, event);
        if self.waiting.len() > MAX_WAITING {
            self.waiting.pop_front();
        }
    }

    /// Writes the boxes of what is due before `reach` in front of a fragment from `start` to `end` (ticks of `scale`). AOM, 2.2.3: `presentation_time` is within the fragment.
    pub fn write(
        &mut self,
        (start, end): (i64, i64),
        reach: i64,
        scale: Timescale,
        out: &mut Vec<u8>,
    ) -> Result<(), mp4_atom::Error> {
        while let Some(event) = self.waiting.pop_front_if(|e| e.time.in_scale(scale) < reach) {
            let time = event.time.in_scale(scale).min(end.saturating_sub(1)).max(start);
            let emsg = Emsg {
                timescale: scale.hz(),
                presentation_time: EmsgTimestamp::Absolute(u64::try_from(time).unwrap_or_default()),
                event_duration: UNKNOWN_DURATION,
                id: event.id,
                scheme_id_uri: SCHEME.to_owned(),
                value: String::new(),
                message_data: event.tag.to_vec(),
            };
            emsg.encode(out)?;
        }
        Ok(())
    }

    /// The fragments before `time` are lost, or their run is over.
    pub fn forget_before(&mut self, time: i64, scale: Timescale) {
        while self.waiting.pop_front_if(|e| e.time.in_scale(scale) < time).is_some() {}
    }
}

/// An ID3 tag, version 2.4.0, with one TXXX frame in UTF-8 (id3.org: ID3v2.4.0 structure 3.1 and 4, frames 4.2.6).
pub fn id3(description: &str, text: &str) -> Bytes {
    const UTF_8: u8 = 3;
    // A description ends at its zero byte; the text is the last thing in the frame and needs none.
    let description: Vec<u8> = description.bytes().filter(|b| *b != 0).collect();
    let frame = [&[UTF_8], &description[..], &[0], text.as_bytes()].concat();
    let mut tag = b"ID3\x04\0\0".to_vec();
    tag.extend(synchsafe(frame.len() + 10));
    tag.extend(b"TXXX");
    tag.extend(synchsafe(frame.len()));
    tag.extend([0, 0]);
    tag.extend(frame);
    tag.into()
}

/// Seven bits in each byte (ID3v2.4.0 structure, 6.2); texts here are kilobytes long.
fn synchsafe(n: usize) -> [u8; 4] {
    let n = n.min((1 << 28) - 1);
    [21, 14, 7, 0].map(|shift| u8::try_from(n >> shift & 0x7f).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mp4_atom::Decode;

    fn event(ms: i64, id: u32) -> Event {
        Event { time: MediaTime::from_millis(ms), id, tag: Bytes::from_static(b"tag") }
    }

    fn read(mut bytes: &[u8]) -> Vec<(u64, u32)> {
        let mut out = Vec::new();
        while !bytes.is_empty() {
            let emsg = Emsg::decode(&mut bytes).unwrap();
            assert_eq!((emsg.scheme_id_uri.as_str(), emsg.value.as_str(), emsg.event_duration), (SCHEME, "", u32::MAX));
            let EmsgTimestamp::Absolute(time) = emsg.presentation_time else { panic!("version 1") };
            out.push((time, emsg.id));
        }
        out
    }

    #[test]
    fn a_fragment_gets_what_is_due_in_it_and_late_ones_at_its_start() {
        let mut events = Events::default();
        for (ms, id) in [(2500, 3), (1000, 1), (1000, 2), (4000, 4)] {
            events.push(event(ms, id));
        }
        let scale = Timescale::new(48_000).unwrap();
        let mut out = Vec::new();
        events.write((96_000, 192_000), 192_000, scale, &mut out).unwrap();
        assert_eq!(read(&out), [(96_000, 1), (96_000, 2), (120_000, 3)]);
        out.clear();
        events.write((192_000, 240_000), 240_000, scale, &mut out).unwrap();
        assert_eq!(read(&out), [(192_000, 4)]);
    }

    #[test]
    fn the_last_fragment_of_a_run_takes_what_is_due_behind_it() {
        let mut events = Events::default();
        events.push(event(5000, 1));
        events.push(event(90_000, 2));
        let mut out = Vec::new();
        events.write((0, 180_000), 90_000 * 90, Timescale::VIDEO, &mut out).unwrap();
        assert_eq!(read(&out), [(179_999, 1)]);
        events.forget_before(i64::MAX, Timescale::VIDEO);
        assert!(events.waiting.is_empty());
        for id in 0..500 {
            events.push(event(0, id));
        }
        assert_eq!(events.waiting.len(), MAX_WAITING);
        assert_eq!(events.waiting.back().unwrap().id, 499, "the oldest go");
    }

    #[test]
    fn a_tag_is_laid_out_as_id3_has_it() {
        let tag = id3("on\0TextData", "{\"a\":\"ü\"}");
        assert_eq!(&tag[..], b"ID3\x04\0\0\0\0\0\x20TXXX\0\0\0\x16\0\0\x03onTextData\0{\"a\":\"\xc3\xbc\"}");
        let long = id3("", &"x".repeat(300));
        assert_eq!(&long[6..10], [0, 0, 2, 0x38], "312 in bytes of seven bits");
        assert_eq!(&long[14..18], [0, 0, 2, 0x2e]);
    }
}
