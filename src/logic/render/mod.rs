//! The manifests as text: pure functions of a [`Snapshot`](super::playlist::Snapshot).
//!
//! Decides how a window is written down for HLS ([`hls`]) and DASH ([`dash`]), and nothing about what is in it. Knows
//! no clock (`now` is an argument), no store, and not which text was written before.

pub mod dash;
pub mod hls;
mod xml;

use super::playlist::{Format, Track};

/// What a manifest announces as the peak rate of each track alone, bits per second, in the order of `tracks` (rules.md 9).
///
/// A rung: its ceiling and a tenth for boxes and for what an encoder's buffer lets through; rounded up, so that it stays a ceiling.
/// Audio: its ceiling as it is. Rungs of one coding never invert: each announces more than the next lower one, whatever its ceiling says, because
/// players sort rungs by this number and nothing else.
pub fn bandwidths(tracks: &[Track]) -> Vec<u64> {
    let mut lower = std::collections::BTreeMap::new();
    let mut rates: Vec<u64> = tracks
        .iter()
        .rev()
        .map(|track| match &track.format {
            Format::Audio(_) => track.max_bitrate.max(1),
            Format::Video(video) => {
                let next_lower = lower.entry(video.coding()).or_insert(0);
                let own = u64::try_from((u128::from(track.max_bitrate) * 11).div_ceil(10)).unwrap_or(u64::MAX);
                *next_lower = own.max(u64::saturating_add(*next_lower, 1));
                *next_lower
            }
        })
        .collect();
    rates.reverse();
    rates
}

/// `mark` as it may stand in a comment of either format: printable ASCII without a line end and without `--` (XML 1.0, 2.5).
/// Different marks stay different, which is what they are for (rules.md 18).
fn comment(mark: &str) -> String {
    let mut out = String::with_capacity(mark.len());
    let mut dash = false;
    for byte in mark.bytes() {
        let plain = matches!(byte, b' '..=b'~') && byte != b'%' && !(byte == b'-' && dash);
        dash = byte == b'-' && plain;
        if plain {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A manifest of ours with another mark in its comment: what a writer that takes over makes of what it found (rules.md 18).
pub fn remarked(text: &str, mark: &str) -> String {
    const BEFORE: &str = " weir ";
    let Some(start) = text.find(BEFORE).map(|at| at + BEFORE.len()) else { return text.to_owned() };
    let rest = text.get(start..).unwrap_or_default();
    let end = [" -->", "\n"].iter().filter_map(|close| rest.find(close)).min().unwrap_or(rest.len());
    format!("{}{}{}", text.get(..start).unwrap_or_default(), comment(mark), rest.get(end..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::model::{AudioFormat, FrameRate, VideoFormat};
    use crate::logic::time::Timescale;
    use proptest::prelude::*;

    fn track(max_bitrate: u64, video: bool) -> Track {
        let format = if video {
            let (codec, avcc) = ("avc1.64001f".into(), Vec::new().into());
            Format::Video(VideoFormat { width: 2, height: 2, fps: FrameRate::whole(30), codec, avcc })
        } else {
            let (codec, asc) = ("mp4a.40.2".into(), Vec::new().into());
            Format::Audio(AudioFormat { rate: Timescale::new(48_000).unwrap(), channels: 2, codec, asc, language: None })
        };
        Track { name: "t".parse().unwrap(), format, max_bitrate, average_bitrate: None }
    }

    #[test]
    fn a_rung_announces_its_ceiling_and_a_tenth_rounded_up() {
        let tracks = [track(4_200_001, true), track(1_800_000, true), track(128_000, false)];
        assert_eq!(bandwidths(&tracks), [4_620_002, 1_980_000, 128_000]);
    }

    #[test]
    fn rungs_of_two_codings_are_in_no_order() {
        let mut hevc = track(3_000_000, true);
        if let Format::Video(video) = &mut hevc.format {
            video.codec = "hvc1.1.6.L93.B0".into();
        }
        let tracks = [hevc, track(7_500_000, true), track(1_800_000, true)];
        assert_eq!(bandwidths(&tracks), [3_300_000, 8_250_000, 1_980_000]);
    }

    #[test]
    fn a_mark_stays_within_its_comment() {
        assert_eq!(comment("1 7f3a 12"), "1 7f3a 12");
        assert_eq!(comment("a--b---c"), "a-%2Db-%2D-c");
        assert_eq!(comment("x\n#EXT-X-ENDLIST"), "x%0A#EXT-X-ENDLIST");
    }

    #[test]
    fn a_mark_is_replaced_and_nothing_else() {
        assert_eq!(remarked("#EXTM3U\n# weir a 1 2\n#EXT-X\n", "b 2"), "#EXTM3U\n# weir b 2\n#EXT-X\n");
        assert_eq!(remarked("<?xml?>\n<!-- weir a -->\n<MPD/>", "b"), "<?xml?>\n<!-- weir b -->\n<MPD/>");
        assert_eq!(remarked("something else", "b"), "something else");
    }

    proptest! {
        #[test]
        fn a_higher_rung_never_announces_less(rates in prop::collection::vec(0u64..20_000_000, 1..8)) {
            let tracks: Vec<Track> = rates.iter().map(|&r| track(r, true)).collect();
            let announced = bandwidths(&tracks);
            prop_assert!(announced.windows(2).all(|w| w[0] > w[1]));
            prop_assert!(announced.iter().zip(&rates).all(|(a, r)| a * 10 >= r * 11));
        }

        #[test]
        fn different_marks_make_different_comments(a in ".{0,12}", b in "[-% ]{0,6}", c in "[-% ]{0,6}") {
            prop_assert!(!comment(&a).contains("--"));
            prop_assert!(comment(&b) != comment(&c) || b == c);
        }
    }
}
