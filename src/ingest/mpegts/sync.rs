//! Where packets begin in a run of bytes: from any offset, past garbage, with 4 or 16 foreign bytes between packets.

use super::Stats;

/// Bytes of a transport packet (ISO/IEC 13818-1, 2.4.3.2).
pub(super) const PACKET: usize = 188;

/// The first byte of each.
pub(super) const SYNC: u8 = 0x47;

/// From one packet to the next: alone, behind a time stamp of 4 bytes (M2TS), with 16 bytes of Reed-Solomon parity (EN 300 429).
const STRIDES: [usize; 3] = [PACKET, 192, 204];

/// Sync bytes in a row that make a beginning. Random bytes pass once in 256^3 places.
const PROOF: usize = 3;

/// Finds packets. Holds less than [`PROOF`] of the longest strides between two calls, beside what was pushed and not asked for.
#[derive(Debug, Default)]
pub(super) struct Sync {
    kept: Vec<u8>,
    at: usize,
    /// Foreign bytes that are still to come.
    owed: usize,
    stride: Option<usize>,
}

enum Search {
    Found { skip: usize, stride: usize },
    Short { skip: usize },
}

impl Sync {
    pub fn push(&mut self, bytes: &[u8]) {
        self.kept.drain(..self.at);
        self.at = 0;
        let foreign = self.owed.min(bytes.len());
        self.owed -= foreign;
        self.kept.extend_from_slice(&bytes[foreign..]);
    }

    /// The next packet that is whole.
    pub fn next(&mut self, stats: &mut Stats) -> Option<[u8; PACKET]> {
        loop {
            let rest = &self.kept[self.at..];
            let Some(stride) = self.stride else {
                let (skip, stride) = match search(rest) {
                    Search::Found { skip, stride } => (skip, Some(stride)),
                    Search::Short { skip } => (skip, None),
                };
                self.at += skip;
                stats.garbage_bytes += skip as u64;
                self.stride = stride;
                stride?;
                continue;
            };
            if rest.first().is_some_and(|&first| first != SYNC) {
                stats.resyncs += 1;
                self.stride = None;
                continue;
            }
            let packet = *rest.first_chunk::<PACKET>()?;
            let step = stride.min(rest.len());
            self.owed = stride - step;
            self.at += step;
            return Some(packet);
        }
    }
}

fn search(bytes: &[u8]) -> Search {
    for (skip, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == SYNC) {
        let mut open = false;
        for stride in STRIDES {
            let fits = |n: usize| bytes.get(skip + n * stride).map(|&b| b == SYNC);
            let seen: Vec<Option<bool>> = (1..PROOF).map(fits).collect();
            if seen.iter().all(|s| *s == Some(true)) {
                return Search::Found { skip, stride };
            }
            open |= seen.iter().all(|s| *s != Some(false));
        }
        if open {
            return Search::Short { skip };
        }
    }
    Search::Short { skip: bytes.len() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packets(count: usize, foreign: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for n in 0..count {
            let mut packet = [n as u8; PACKET];
            packet[0] = SYNC;
            // A sync byte in each packet's content, always elsewhere.
            packet[10 + n * 7 % 100] = SYNC;
            out.extend(packet);
            out.extend(foreign);
        }
        out
    }

    /// The numbers of the packets that come out of `bytes`, pushed in pieces of `piece`.
    fn numbers(bytes: &[u8], piece: usize) -> (Vec<u8>, Stats) {
        let (mut sync, mut stats, mut seen) = (Sync::default(), Stats::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            sync.push(piece);
            while let Some(packet) = sync.next(&mut stats) {
                seen.push(packet[1]);
            }
        }
        (seen, stats)
    }

    #[test]
    fn packets_are_found_behind_foreign_bytes_and_garbage() {
        for foreign in [0, 4, 16] {
            let stream = packets(20, &vec![0xaa; foreign]);
            let all: Vec<u8> = (0..20).collect();
            for piece in [1, 7, 188, 204, 1316, 100_000] {
                assert_eq!(numbers(&stream, piece).0, all, "{foreign} foreign bytes in pieces of {piece}");
                let late = [&[0x47, 0, 0x47][..], &stream].concat();
                let (seen, stats) = numbers(&late, piece);
                assert_eq!((seen, stats.garbage_bytes), (all.clone(), 3));
            }
            let cut = numbers(&stream[50..], 500).0;
            assert_eq!(cut, all[1..], "begins in the middle of a packet");
            // Sync bytes all over: they pass for one packet, which takes a part of the next with it.
            let (seen, stats) = numbers(&[&packets(10, &[]), &[SYNC; 77][..], &stream].concat(), 1316);
            assert_eq!(seen, [&all[..10], &[SYNC], &all[1..]].concat());
            assert_eq!(stats.resyncs, 1);
        }
    }

    proptest! {
        #[test]
        fn memory_is_bounded_whatever_comes(bytes in prop::collection::vec(prop_oneof![Just(SYNC), any::<u8>()], 0..5000), piece in 1usize..500) {
            let (mut sync, mut stats) = (Sync::default(), Stats::default());
            for piece in bytes.chunks(piece) {
                sync.push(piece);
                while sync.next(&mut stats).is_some() {}
                prop_assert!(sync.kept.len() - sync.at <= PROOF * 204);
            }
        }
    }
}
