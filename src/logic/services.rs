//! Which caption services a source has, read from its `cc_data()`: what manifests announce once it was seen (rules.md 10). Pure and bounded.
//!
//! A channel of line 21 counts when a command chooses how its captions are shown (every caption of CTA-608 begins with one), a service of DTVCC when a
//! packet has a block for it. Nothing else of the captions is understood.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::time::MediaTime;
use crate::cmaf::sei::Triplet;

/// One caption service, written as HLS's INSTREAM-ID (RFC 8216bis, 4.4.6.1): `CC1` to `CC4`, `SERVICE1` to `SERVICE63`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Service {
    /// Channel 1 to 4 of line 21 (CTA-608): 1 and 2 in field 1, 3 and 4 in field 2.
    Line21(u8),
    /// Service 1 to 63 of DTVCC (CTA-708).
    Digital(u8),
}

/// Those of one stream. At most 67.
pub type Services = BTreeSet<Service>;

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line21(n) => write!(f, "CC{n}"),
            Self::Digital(n) => write!(f, "SERVICE{n}"),
        }
    }
}

impl From<Service> for String {
    fn from(service: Service) -> Self {
        service.to_string()
    }
}

/// A text that names no service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no caption service")]
pub struct NoService(String);

impl FromStr for Service {
    type Err = NoService;
    fn from_str(text: &str) -> Result<Self, NoService> {
        let number = |prefix: &str| text.strip_prefix(prefix)?.parse().ok();
        match (number("CC"), number("SERVICE")) {
            (Some(n @ 1..=4), _) => Ok(Self::Line21(n)),
            (_, Some(n @ 1..=63)) => Ok(Self::Digital(n)),
            _ => Err(NoService(text.chars().take(20).collect())),
        }
    }
}

impl TryFrom<String> for Service {
    type Error = NoService;
    fn try_from(text: String) -> Result<Self, NoService> {
        text.parse()
    }
}

/// Pictures that wait for their turn: H.264 reorders 16 at the most (table A-1, max_num_reorder_frames).
const MAX_REORDERED: usize = 17;

/// Longest caption channel packet (CTA-708): the size code 0 stands for 128 bytes.
const MAX_PACKET: usize = 128;

/// Reads the captions of one publisher after the other.
#[derive(Debug, Default)]
pub struct Detector {
    /// By presentation time: a DTVCC packet goes over several pictures in the order in which they are shown.
    reordered: VecDeque<(MediaTime, Vec<Triplet>)>,
    packet: Vec<u8>,
}

impl Detector {
    /// A picture in decode order with its captions. What was found is added to `seen`.
    pub fn push(&mut self, pts: MediaTime, dts: MediaTime, triplets: Vec<Triplet>, seen: &mut Services) {
        let at = self.reordered.iter().rposition(|(t, _)| *t <= pts).map_or(0, |i| i + 1);
        self.reordered.insert(at, (pts, triplets));
        // Every picture that is still to come is shown behind this one's decode time.
        while self.reordered.front().is_some_and(|(t, _)| *t <= dts) || self.reordered.len() > MAX_REORDERED {
            let Some((_, triplets)) = self.reordered.pop_front() else { return };
            triplets.into_iter().for_each(|t| self.triplet(t, seen));
        }
    }

    /// Another publisher, or another run of the same one: half a packet of before means nothing.
    pub fn restart(&mut self) {
        self.reordered.clear();
        self.packet.clear();
    }

    fn triplet(&mut self, [head, a, b]: Triplet, seen: &mut Services) {
        let valid = head & 0x04 != 0;
        match head & 0x03 {
            field @ (0 | 1) if valid => seen.extend(line_21(field, a & 0x7f, b & 0x7f)),
            // DTVCC_PACKET_START
            3 if valid => self.packet = vec![a, b],
            2 if valid && !self.packet.is_empty() => self.packet.extend([a, b]),
            _ => return,
        }
        let size = match self.packet.first().map(|b| usize::from(b & 0x3f)) {
            None => return,
            Some(0) => MAX_PACKET,
            Some(code) => code * 2,
        };
        if let Some(packet) = self.packet.get(1..size) {
            blocks(packet, seen);
            self.packet.clear();
        }
    }
}

/// The channel that a command of `field` (0 or 1) chooses the mode of, without parity: resume caption loading 0x20, roll-up 0x25 to 0x27, resume direct
/// captioning 0x29 (CTA-608). The first byte is 0x14 or 0x1c, in field 2 also 0x15 or 0x1d; its bit 3 is the channel.
fn line_21(field: u8, a: u8, b: u8) -> Option<Service> {
    let command = a & 0x76 == 0x14 && matches!(b, 0x20 | 0x25..=0x27 | 0x29);
    command.then_some(Service::Line21(1 + 2 * field + (a >> 3 & 1)))
}

/// The service blocks of a packet behind its header (CTA-708).
fn blocks(mut rest: &[u8], seen: &mut Services) {
    while let Some((head, behind)) = rest.split_first() {
        let size = usize::from(head & 0x1f);
        let (service, behind) = match (head >> 5, behind.split_first()) {
            // An extended header; without data there is none.
            (7, Some((extended, behind))) if size > 0 => (extended & 0x3f, behind),
            (n, _) => (n, behind),
        };
        let Some((_, behind)) = behind.split_at_checked(size) else { return };
        // Service 0 fills a packet up.
        if size > 0 && (1..=63).contains(&service) {
            seen.insert(Service::Digital(service));
        }
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seen(pictures: &[&[Triplet]]) -> Vec<String> {
        let (mut detector, mut seen) = (Detector::default(), Services::new());
        for (n, triplets) in pictures.iter().enumerate() {
            let t = MediaTime::from_millis(n as i64 * 33);
            detector.push(t, t, triplets.to_vec(), &mut seen);
        }
        seen.iter().map(Service::to_string).collect()
    }

    #[test]
    fn a_channel_of_line_21_counts_from_its_first_mode_command() {
        // with odd parity, as it is on the wire: 0x14 is 0x94, 0x1c stays, 0x15 stays, 0x1d is 0x9d
        assert_eq!(seen(&[&[[0xfc, 0x94, 0x20]]]), ["CC1"]);
        assert_eq!(seen(&[&[[0xfc, 0x1c, 0x25], [0xfd, 0x15, 0xa7]]]), ["CC2", "CC3"]);
        assert_eq!(seen(&[&[[0xfd, 0x9d, 0x29], [0xfd, 0x94, 0x20]]]), ["CC3", "CC4"]);
        let nothing: &[Triplet] = &[
            [0xfc, 0x80, 0x80], // null
            [0xfc, 0x94, 0x2c], // erase displayed memory
            [0xfc, 0xc8, 0x20], // text
            [0xfd, 0x01, 0x0e], // extended data services
            [0xfc, 0x94, 0x2a], // text mode
            [0xf8, 0x94, 0x20], // not valid
        ];
        assert!(seen(&[nothing]).is_empty());
    }

    #[test]
    fn services_of_dtvcc_are_read_from_their_blocks_over_several_pictures() {
        // 6 x 2 bytes: service 1 with two bytes, service 7 by its extended header as 9 with one, a null block
        let packet = [0x46, 0x22, b'a', b'b', 0xe1, 0x09, b'c', 0x00, 0, 0, 0, 0];
        let triplets: Vec<Triplet> =
            packet.chunks(2).enumerate().map(|(i, p)| [if i == 0 { 0xff } else { 0xfe }, p[0], p[1]]).collect();
        assert_eq!(seen(&[&triplets]), ["SERVICE1", "SERVICE9"]);
        assert_eq!(seen(&[&triplets[..2], &triplets[2..]]), ["SERVICE1", "SERVICE9"]);
        assert!(seen(&[&triplets[..5]]).is_empty(), "not all of it");
        assert!(seen(&[&triplets[1..]]).is_empty(), "no beginning");
        assert!(seen(&[&[[0xff, 0x41, 0x20]]]).is_empty(), "a block without data");
    }

    #[test]
    fn pictures_are_read_in_the_order_in_which_they_are_shown() {
        let (mut detector, mut services) = (Detector::default(), Services::new());
        let at = MediaTime::from_millis;
        let start: Triplet = [0xff, 0x02, 0x21];
        let end: Triplet = [0xfe, b'x', 0];
        // decoded I P B: the P has the end of the packet that the B begins
        detector.push(at(40), at(0), vec![], &mut services);
        detector.push(at(120), at(40), vec![end], &mut services);
        detector.push(at(80), at(80), vec![start], &mut services);
        assert!(services.is_empty());
        detector.push(at(160), at(120), vec![], &mut services);
        assert_eq!(services.into_iter().collect::<Vec<_>>(), [Service::Digital(1)]);
    }

    #[test]
    fn names_are_read_back_and_others_are_refused() {
        for service in (1..=4).map(Service::Line21).chain((1..=63).map(Service::Digital)) {
            assert_eq!(service.to_string().parse(), Ok(service));
        }
        for bad in ["CC0", "CC5", "SERVICE0", "SERVICE64", "CC", "cc1", ""] {
            assert!(bad.parse::<Service>().is_err(), "{bad}");
        }
        assert_eq!(serde_json::to_string(&Service::Digital(3)).unwrap(), "\"SERVICE3\"");
        assert!(serde_json::from_str::<Service>("\"T1\"").is_err());
    }

    proptest! {
        #[test]
        fn strange_captions_never_panic_and_fill_no_memory(
            pictures in prop::collection::vec((any::<i16>(), prop::collection::vec(any::<[u8; 3]>(), 0..40)), 0..60),
        ) {
            let (mut detector, mut services) = (Detector::default(), Services::new());
            for (t, triplets) in pictures {
                detector.push(MediaTime(t.into()), MediaTime::ZERO, triplets, &mut services);
                prop_assert!(detector.packet.len() <= MAX_PACKET && detector.reordered.len() <= MAX_REORDERED);
            }
            prop_assert!(services.len() <= 67);
        }
    }
}
