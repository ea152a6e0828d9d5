//! What viewers see while a publisher is away (rules.md 8): a clip that is sent like a publisher's, round after round. Pure.

use std::sync::Arc;
use std::time::Duration;

use super::model::Coding;
use super::packet::Packet;
use crate::cmaf::{aac, h264};

/// Longest clip: what an operator shows in a pause, and well within what is kept in memory.
const MAX_LENGTH: u32 = 60_000;

/// And its bytes: a minute at 4 Mbit/s.
const MAX_BYTES: usize = 32 << 20;

/// Shortest: a picture has to be seen, and every round begins with an IDR.
const MIN_LENGTH: u32 = 500;

/// Why a clip cannot be a slate; the operator's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadClip {
    /// It has no H.264.
    #[error("no H.264 video in it")]
    NoVideo,
    /// Nothing can be decoded from its beginning.
    #[error("its first picture is no IDR")]
    NoIdr,
    /// A configuration of video that we cannot send.
    #[error("video: {0}")]
    Video(#[from] h264::H264Error),
    /// Likewise of audio.
    #[error("audio: {0}")]
    Audio(#[from] aac::AacError),
    /// Another configuration in mid-clip.
    #[error("its configuration changes")]
    Changes,
    /// Shorter than half a second, or longer than a minute.
    #[error("{0} ms long, must be {MIN_LENGTH} to {MAX_LENGTH}")]
    Length(u32),
    /// Over 32 MiB.
    #[error("larger than {MAX_BYTES} bytes")]
    Large,
}

/// A clip that can be sent round after round.
#[derive(Debug, PartialEq, Eq)]
pub struct Clip {
    configs: Vec<Packet>,
    /// Video and audio; times count from 0 and do not fall.
    units: Vec<Packet>,
    /// Of one round, milliseconds.
    length: u32,
}

impl Clip {
    /// Of what a file holds, in its order.
    ///
    /// # Errors
    /// [`BadClip`].
    pub fn new(packets: Vec<Packet>) -> Result<Self, BadClip> {
        let (mut configs, mut units, mut bytes) = (Vec::new(), Vec::new(), 0usize);
        let mut video = Vec::new();
        for packet in packets {
            match &packet {
                Packet::VideoConfig(Coding::Hevc | Coding::Av1, _) => return Err(BadClip::NoVideo),
                Packet::VideoConfig(Coding::H264, avcc) => {
                    h264::read_record(avcc, None)?;
                    keep_config(&mut configs, packet)?;
                }
                Packet::AudioConfig(asc) => {
                    aac::read_config(asc)?;
                    keep_config(&mut configs, packet)?;
                }
                Packet::Video { time, data, .. } => {
                    video.push(*time);
                    bytes = bytes.saturating_add(data.len());
                    units.push(packet);
                }
                Packet::Audio { data, .. } => {
                    bytes = bytes.saturating_add(data.len());
                    units.push(packet);
                }
                Packet::Clock(_) | Packet::AudioLanguage(_) | Packet::Metadata(_) | Packet::Cue(_) | Packet::Unpublish => {}
            }
            if bytes > MAX_BYTES {
                return Err(BadClip::Large);
            }
        }
        let (Some(&first), Some(&last)) = (video.iter().min(), video.iter().max()) else { return Err(BadClip::NoVideo) };
        let begins = units
            .iter()
            .find_map(|p| if let Packet::Video { data, .. } = p { Some(h264::scan(data).map(|s| s.idr)) } else { None });
        match begins.transpose()? {
            Some(true) if configs.iter().any(|c| matches!(c, Packet::VideoConfig(..))) => {}
            Some(true) => return Err(BadClip::NoVideo),
            _ => return Err(BadClip::NoIdr),
        }
        // The last picture is as long as all are on average.
        let pictures = u32::try_from(video.len()).unwrap_or(u32::MAX);
        let length = (last - first).checked_div(pictures - 1).map_or(0, |picture| (last - first).saturating_add(picture));
        if !(MIN_LENGTH..=MAX_LENGTH).contains(&length) {
            return Err(BadClip::Length(length));
        }
        let mut units: Vec<Packet> = units.into_iter().filter_map(|p| moved(p, first, length)).collect();
        units.sort_by_key(time_of);
        Ok(Self { configs, units, length })
    }
}

fn keep_config(configs: &mut Vec<Packet>, packet: Packet) -> Result<(), BadClip> {
    match configs.iter().find(|c| std::mem::discriminant(*c) == std::mem::discriminant(&packet)) {
        Some(known) if *known != packet => Err(BadClip::Changes),
        Some(_) => Ok(()),
        None => {
            configs.push(packet);
            Ok(())
        }
    }
}

/// Counted from the first picture; what lies outside of the round is left out.
fn moved(packet: Packet, first: u32, length: u32) -> Option<Packet> {
    let inside = |time: u32| time.checked_sub(first).filter(|t| *t < length);
    Some(match packet {
        Packet::Video { time, composition, key, data } => Packet::Video { time: inside(time)?, composition, key, data },
        Packet::Audio { time, data } => Packet::Audio { time: inside(time)?, data },
        other => other,
    })
}

fn time_of(packet: &Packet) -> u32 {
    match packet {
        Packet::Video { time, .. } | Packet::Audio { time, .. } => *time,
        _ => 0,
    }
}

/// Sends a clip in real time.
#[derive(Debug)]
pub struct Player {
    clip: Arc<Clip>,
    since: Duration,
    round: u32,
    next: usize,
}

impl Player {
    /// Begins at `now`.
    pub fn new(clip: Arc<Clip>, now: Duration) -> Self {
        Self { clip, since: now, round: 0, next: 0 }
    }

    /// What stands before everything.
    pub fn configs(&self) -> Vec<Packet> {
        self.clip.configs.clone()
    }

    /// When the next packet is due.
    pub fn poll_timeout(&self) -> Duration {
        let rounds = u64::from(self.round) * u64::from(self.clip.length);
        let within = self.clip.units.get(self.next).map_or(self.clip.length, time_of);
        self.since + Duration::from_millis(rounds + u64::from(within))
    }

    /// The next packet, if it is due; times count on from round to round.
    pub fn next(&mut self, now: Duration) -> Option<Packet> {
        if now < self.poll_timeout() {
            return None;
        }
        let on = self.round.wrapping_mul(self.clip.length);
        let packet = self.clip.units.get(self.next).cloned()?;
        self.next += 1;
        if self.next == self.clip.units.len() {
            (self.next, self.round) = (0, self.round + 1);
        }
        Some(match packet {
            Packet::Video { time, composition, key, data } => {
                Packet::Video { time: time.wrapping_add(on), composition, key, data }
            }
            Packet::Audio { time, data } => Packet::Audio { time: time.wrapping_add(on), data },
            other => other,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::cmaf::h264::tests::RECORD_720P30;

    fn config() -> Packet {
        Packet::VideoConfig(Coding::H264, Bytes::from_static(RECORD_720P30))
    }

    fn picture(time: u32, idr: bool) -> Packet {
        let data = Bytes::from(vec![0, 0, 0, 2, if idr { 0x65 } else { 0x41 }, 0]);
        Packet::Video { time, composition: 0, key: idr, data }
    }

    /// A second at 25 fps, and audio if wanted.
    pub(crate) fn clip(audio: bool) -> Arc<Clip> {
        let mut packets = vec![config()];
        packets.extend((0..25).map(|n| picture(1000 + n * 40, n == 0)));
        if audio {
            packets.push(Packet::AudioConfig(Bytes::from_static(&[0x11, 0x90])));
            packets.extend((0..50).map(|n| Packet::Audio { time: 990 + n * 64 / 3, data: Bytes::from_static(b"slate") }));
        }
        Arc::new(Clip::new(packets).unwrap())
    }

    #[test]
    fn rounds_follow_each_other_without_a_hole() {
        let start = Duration::from_secs(7);
        let mut player = Player::new(clip(true), start);
        assert_eq!(player.configs().len(), 2);
        let (mut times, mut sounds) = (Vec::new(), 0);
        while player.poll_timeout() < start + Duration::from_secs(3) {
            let at = player.poll_timeout();
            assert!(player.next(at - Duration::from_millis(1)).is_none());
            match player.next(at).unwrap() {
                Packet::Video { time, key, .. } => {
                    assert_eq!(at, start + Duration::from_millis(time.into()));
                    assert_eq!(key, time % 1000 == 0);
                    times.push(time);
                }
                Packet::Audio { .. } => sounds += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(times, (0..75).map(|n| n * 40).collect::<Vec<_>>());
        // The one before the first picture and those behind the last are left out.
        assert_eq!(sounds, 3 * 47);
    }

    #[test]
    fn what_cannot_be_a_slate_is_refused_by_its_reason() {
        let refused = |packets: Vec<Packet>| Clip::new(packets).unwrap_err();
        assert_eq!(refused(vec![config()]), BadClip::NoVideo);
        assert_eq!(refused(vec![picture(0, true), picture(900, false)]), BadClip::NoVideo);
        assert_eq!(refused(vec![config(), picture(0, false), picture(900, true)]), BadClip::NoIdr);
        assert_eq!(refused(vec![config(), picture(0, true)]), BadClip::Length(0));
        assert_eq!(refused(vec![config(), picture(5, true), picture(105, false)]), BadClip::Length(200));
        assert_eq!(refused(vec![config(), picture(0, true), picture(60_000, false)]), BadClip::Length(120_000));
        let other = Packet::AudioConfig(Bytes::from_static(&[0x12, 0x10]));
        let first = Packet::AudioConfig(Bytes::from_static(&[0x11, 0x90]));
        assert_eq!(refused(vec![config(), first, picture(0, true), other]), BadClip::Changes);
        assert!(matches!(refused(vec![Packet::VideoConfig(Coding::H264, Bytes::from_static(b"x"))]), BadClip::Video(_)));
        let large = Packet::Video { time: 0, composition: 0, key: true, data: vec![0; MAX_BYTES + 1].into() };
        assert_eq!(refused(vec![config(), large]), BadClip::Large);
    }
}
