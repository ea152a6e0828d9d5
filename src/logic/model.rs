//! Plain data that several machines share: names, tracks, access units, object keys. Decides nothing.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::language::Language;
use super::pathway::PathwayId;
use super::time::{MediaTime, Timescale, UnixMillis};

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {given:?} must be 1 to {max} characters of A-Z a-z 0-9 _ -")]
pub struct BadName {
    what: &'static str,
    given: String,
    max: usize,
}

/// 64: the name is one path element of every object key, and S3 allows 1024 bytes for a whole key.
const NAME_MAX: usize = 64;

fn check_name(what: &'static str, s: &str) -> Result<(), BadName> {
    let fine = !s.is_empty() && s.len() <= NAME_MAX && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if fine {
        return Ok(());
    }
    // Cut the echo: the name may come from a stranger.
    let given = s.chars().take(80).collect();
    Err(BadName { what, given, max: NAME_MAX })
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = BadName;
            fn from_str(s: &str) -> Result<Self, BadName> {
                check_name($what, s)?;
                Ok(Self(s.into()))
            }
        }
        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(s: String) -> Result<Self, BadName> {
                s.parse()
            }
        }
        impl From<$name> for String {
            fn from(n: $name) -> String {
                n.0.as_ref().to_owned()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// The name that a publisher's key stands for; part of every public URL, never secret.
    StreamId, "stream id"
);
name_type!(
    /// A signing key of the operator's, as publishing names and its file give it; never secret.
    KeyId, "key id"
);
name_type!(
    /// A region, as written in every object key.
    Region, "region"
);
name_type!(
    /// One session of a stream: from its first publish to its ENDLIST.
    SessionId, "session id"
);
name_type!(
    /// The name of a track, and of its folder: `src`, `720p`, `audio`.
    TrackName, "track name"
);

/// `numerator / denominator` frames per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FrameRate {
    /// Frames.
    pub num: u32,
    /// Seconds; never 0.
    pub den: u32,
}

impl FrameRate {
    /// A whole number of frames per second.
    pub const fn whole(fps: u32) -> Self {
        Self { num: fps, den: 1 }
    }

    /// Frames in 1000 seconds, rounded.
    pub fn milli(self) -> u64 {
        let den = u64::from(self.den.max(1));
        (u64::from(self.num) * 1000 + den / 2) / den
    }

    /// Half of it: 60 to 30, 60000/1001 to 30000/1001.
    pub const fn halved(self) -> Self {
        if self.num.is_multiple_of(2) {
            Self { num: self.num / 2, den: self.den }
        } else {
            Self { num: self.num, den: self.den.saturating_mul(2) }
        }
    }
}

/// How pictures are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Coding {
    /// ITU-T H.264.
    H264,
    /// ITU-T H.265.
    Hevc,
    /// AOMedia Video 1.
    Av1,
}

impl Coding {
    /// As people call it: `HEVC`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::H264 => "H.264",
            Self::Hevc => "HEVC",
            Self::Av1 => "AV1",
        }
    }
}

/// What makes one video track different from another; equal formats can share an init segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoFormat {
    /// Width of the displayed picture in luma samples (after cropping, before the sample aspect ratio).
    pub width: u32,
    /// Height likewise.
    pub height: u32,
    /// Nominal rate.
    pub fps: FrameRate,
    /// RFC 6381 string, from the real parameter sets: `avc1.64001f`, `hvc1.1.6.L93.B0`, `av01.0.04M.08`.
    pub codec: String,
    /// The decoder configuration record of its coding, without the box header: AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1),
    /// HEVCDecoderConfigurationRecord (8.3.2.1), AV1CodecConfigurationRecord (AV1 in ISOBMFF, 2.3). Checkpoints have had it by this name since there
    /// was only the first.
    pub avcc: Bytes,
}

impl VideoFormat {
    /// How its pictures are coded, by what stands in front of its RFC 6381 string.
    pub fn coding(&self) -> Coding {
        match self.codec.get(..4) {
            Some("hvc1") => Coding::Hevc,
            Some("av01") => Coding::Av1,
            _ => Coding::H264,
        }
    }
}

/// The same for audio.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioFormat {
    /// Samples per second; also the track's timescale.
    pub rate: Timescale,
    /// Channels, 1 to 8.
    pub channels: u8,
    /// RFC 6381 string: `mp4a.40.2`.
    pub codec: String,
    /// AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1).
    pub asc: Bytes,
    /// Its language, where the publisher says it. Checkpoints of before do not have it; it is never left out, for what codec processes read has no names.
    #[serde(default)]
    pub language: Option<Language>,
}

/// One compressed picture of the source, on the output timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoUnit {
    /// Presentation time.
    pub pts: MediaTime,
    /// Decode time.
    pub dts: MediaTime,
    /// `true` for an IDR picture (AV1: a shown key frame); recovery points and open-GOP I pictures do not count.
    pub idr: bool,
    /// NAL units, each behind its 4-byte length; of AV1, OBUs.
    pub data: Bytes,
}

/// One AAC frame of the source (1024 samples per channel), on the output timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioUnit {
    /// Presentation time as the publisher gave it, to the millisecond.
    pub pts: MediaTime,
    /// Raw AAC without ADTS.
    pub data: Bytes,
}

/// A key in the object store; see [`Keys`] for the only place that makes them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectKey(Arc<str>);

/// Text that is no key of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no key")]
pub struct BadKey(String);

impl TryFrom<String> for ObjectKey {
    type Error = BadKey;
    fn try_from(text: String) -> Result<Self, BadKey> {
        Self::parse(&text).ok_or(BadKey(text))
    }
}

impl From<ObjectKey> for String {
    fn from(key: ObjectKey) -> String {
        key.0.as_ref().to_owned()
    }
}

impl ObjectKey {
    /// The key as text, without a leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `None` for text that is no key of ours: it must begin with `live/`, `seg/`, `ckpt/`, `rec/` or `thumb/` and every element must
    /// be made of `A-Z a-z 0-9 _ - .` without being `.` or `..`. At most 512 characters, twice the longest key that [`Keys`] makes.
    pub fn parse(text: &str) -> Option<Self> {
        let (class, _) = text.split_once('/')?;
        let known = ["live", "seg", "ckpt", "rec", "thumb"].contains(&class);
        let element = |e: &str| {
            !e.is_empty()
                && e != "."
                && e != ".."
                && e.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        (known && text.len() <= 512 && text.split('/').all(element)).then(|| Self(text.into()))
    }

    /// This key as a relative reference (RFC 3986, 4.2) from an object in the folder of `base`.
    pub fn relative_to(&self, base: &ObjectKey) -> String {
        let from: Vec<&str> = base.0.split('/').collect();
        let to: Vec<&str> = self.0.split('/').collect();
        let folders = from.len() - 1;
        let shared = from[..folders].iter().zip(&to[..to.len() - 1]).take_while(|(a, b)| a == b).count();
        let mut out = "../".repeat(folders - shared);
        out.push_str(&to[shared..].join("/"));
        out
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How long the objects of a track live, and where: the first element of a segment's key, so that replication and lifecycle rules filter
/// by prefix (rules.md 16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Class {
    /// Copied to the other region's bucket (`r`), or local (`l`).
    pub replicated: bool,
    /// Kept for the recording (`k`), or for the live window (`w`).
    pub kept: bool,
}

impl Class {
    /// All four, as a prefix filter needs them.
    pub const ALL: [Self; 4] = [
        Self { replicated: true, kept: true },
        Self { replicated: true, kept: false },
        Self { replicated: false, kept: true },
        Self { replicated: false, kept: false },
    ];

    /// `rk`, `rw`, `lk`, `lw`.
    pub const fn as_str(self) -> &'static str {
        match (self.replicated, self.kept) {
            (true, true) => "rk",
            (true, false) => "rw",
            (false, true) => "lk",
            (false, false) => "lw",
        }
    }
}

/// Which tracks' segments are copied to the other region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Replicate {
    /// Every track.
    #[default]
    All,
    /// The best rung and the audio: the others can be made again of them.
    Top,
    /// None.
    None,
}

/// What decides the class of every track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keeping {
    /// Which tracks are copied.
    pub replicate: Replicate,
    /// The session is recorded: nothing is deleted (rules.md 17).
    pub recorded: bool,
}

/// The object layout of one session's epoch (rules.md 16).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    region: Region,
    stream: StreamId,
    session: SessionId,
    epoch: u32,
    keeping: Keeping,
    place: Place,
    /// The best rung and the audio, once tracks are known: what [`Replicate::Top`] copies.
    top: Vec<TrackName>,
}

/// Which manifests of a session are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Live,
    Recording,
}

/// Number of shards that segment keys are spread over: S3 scales request rates by prefix.
const SHARDS: u32 = 16;

impl Keys {
    /// Keys of one session's epoch. `epoch` counts the writers of a stream, from 1, over all its sessions.
    pub fn new(region: &Region, stream: &StreamId, session: &SessionId, epoch: u32, keeping: Keeping) -> Self {
        let (region, stream, session) = (region.clone(), stream.clone(), session.clone());
        Self { region, stream, session, epoch, keeping, place: Place::Live, top: Vec::new() }
    }

    /// The same, with the playlists and the MPD of the session's recording in place of the live ones.
    #[must_use]
    pub fn of_recording(self) -> Self {
        Self { place: Place::Recording, ..self }
    }

    /// Tells which tracks are the best rung and the audio.
    pub fn set_top(&mut self, top: Vec<TrackName>) {
        self.top = top;
    }

    /// Whether the session is recorded.
    pub fn is_recorded(&self) -> bool {
        self.keeping.recorded
    }

    /// This epoch.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The prefixes under which all segments of a stream lie, one for each class.
    pub fn stream_segments(region: &Region, stream: &StreamId) -> Vec<String> {
        Class::ALL.iter().map(|class| format!("seg/{}/{:x}/{region}/{stream}/", class.as_str(), shard(stream))).collect()
    }

    /// The prefix under which the checkpoints of a region lie.
    pub fn checkpoints(region: &Region) -> String {
        format!("ckpt/{region}/")
    }

    /// Who writes the stream, and how far it is.
    pub fn state(region: &Region, stream: &StreamId) -> ObjectKey {
        ObjectKey(format!("{}{stream}/state.json", Self::checkpoints(region)).into())
    }

    fn manifest(&self, file: fmt::Arguments<'_>) -> ObjectKey {
        let key = match self.place {
            Place::Live => format!("live/{}/{}/{file}", self.region, self.stream),
            Place::Recording => format!("{}{file}", self.recording()),
        };
        ObjectKey(key.into())
    }

    /// The multivariant playlist.
    pub fn index(&self) -> ObjectKey {
        self.manifest(format_args!("index.m3u8"))
    }

    /// The media playlist of one track.
    pub fn playlist(&self, track: &TrackName) -> ObjectKey {
        self.manifest(format_args!("{track}.m3u8"))
    }

    /// The same for one pathway alone, whose segments are elsewhere (rules.md 15).
    pub fn playlist_of(&self, track: &TrackName, pathway: Option<&PathwayId>) -> ObjectKey {
        match pathway {
            Some(id) => self.manifest(format_args!("{track}.{id}.m3u8")),
            None => self.playlist(track),
        }
    }

    /// The same stream's keys in another region, for its manifests.
    #[must_use]
    pub fn in_region(&self, region: Option<&Region>) -> Self {
        Self { region: region.unwrap_or(&self.region).clone(), ..self.clone() }
    }

    /// What stands in the address of every segment of the session, and of no other.
    pub fn session_part(&self) -> String {
        format!("/{}/{}/{}/", self.region, self.stream, self.session)
    }

    /// The own region.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The MPD.
    pub fn mpd(&self) -> ObjectKey {
        self.manifest(format_args!("manifest.mpd"))
    }

    /// The prefix under which a stream's thumbnails lie, of all its sessions.
    pub fn thumbnails(region: &Region, stream: &StreamId) -> String {
        format!("thumb/{region}/{stream}/")
    }

    /// The thumbnail that is always there, and is another one every few seconds.
    pub fn latest_thumbnail(&self) -> ObjectKey {
        ObjectKey(format!("{}latest.jpg", Self::thumbnails(&self.region, &self.stream)).into())
    }

    /// The thumbnail of a picture by its date, milliseconds since 1970.
    pub fn thumbnail(&self, at: UnixMillis) -> ObjectKey {
        ObjectKey(format!("{}{}.jpg", Self::thumbnails(&self.region, &self.stream), at.0).into())
    }

    /// The prefix under which everything of the session's recording lies.
    pub fn recording(&self) -> String {
        format!("rec/{}/{}/{}/", self.region, self.stream, self.session)
    }

    /// The prefix of all journals of the session.
    pub fn journals(&self) -> String {
        format!("{}j/", self.recording())
    }

    /// The `n`th journal of this epoch.
    pub fn journal(&self, n: u64) -> ObjectKey {
        ObjectKey(format!("{}{}-{n}.json", self.journals(), self.epoch).into())
    }

    /// The prefixes under which the session's kept segments lie, of all its epochs.
    pub fn kept_segments(&self) -> Vec<String> {
        let Self { region, stream, session, .. } = self;
        let kept = Class::ALL.into_iter().filter(|class| class.kept);
        kept.map(|class| format!("seg/{}/{:x}/{region}/{stream}/{session}/", class.as_str(), shard(stream))).collect()
    }

    fn class(&self, track: &TrackName) -> Class {
        let replicated = match self.keeping.replicate {
            Replicate::All => true,
            Replicate::Top => self.top.contains(track),
            Replicate::None => false,
        };
        Class { replicated, kept: self.keeping.recorded }
    }

    fn segments(&self, track: &TrackName) -> String {
        let Self { region, stream, session, epoch, .. } = self;
        format!("seg/{}/{:x}/{region}/{stream}/{session}/{epoch}/{track}", self.class(track).as_str(), shard(stream))
    }

    /// The media segment that begins at `start` ticks of the track's timescale.
    pub fn segment(&self, track: &TrackName, start: i64) -> ObjectKey {
        ObjectKey(format!("{}/{start}.m4s", self.segments(track)).into())
    }

    /// The init segment with this content hash (8 hexadecimal digits).
    pub fn init(&self, track: &TrackName, hash: &str) -> ObjectKey {
        ObjectKey(format!("{}/init-{hash}.mp4", self.segments(track)).into())
    }
}

/// FNV-1a, 32 bit: any even spread will do, it must only stay the same for ever.
fn shard(stream: &StreamId) -> u32 {
    let hash = stream.as_str().bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    hash % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys::new(&"local".parse().unwrap(), &"demo".parse().unwrap(), &"s1".parse().unwrap(), 1, Keeping::default())
    }

    #[test]
    fn names_from_strangers_are_checked() {
        assert!("abc_-9".parse::<StreamId>().is_ok());
        for bad in ["", "../x", "a/b", "ü", "a b", &"x".repeat(65)] {
            assert!(bad.parse::<StreamId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn keys_follow_rule_16_and_are_reached_relatively_from_the_playlist() {
        let track: TrackName = "720p".parse().unwrap();
        let seg = keys().segment(&track, 180_000);
        assert_eq!(keys().playlist(&track).as_str(), "live/local/demo/720p.m3u8");
        let shard = shard(&"demo".parse().unwrap());
        assert_eq!(seg.as_str(), format!("seg/rw/{shard:x}/local/demo/s1/1/720p/180000.m4s"));
        assert_eq!(seg.relative_to(&keys().index()), format!("../../../{seg}"));
        assert_eq!(keys().playlist(&track).relative_to(&keys().index()), "720p.m3u8");
        assert_eq!(Keys::state(&"local".parse().unwrap(), &"demo".parse().unwrap()).as_str(), "ckpt/local/demo/state.json");
        assert_eq!(keys().thumbnail(UnixMillis(1_764_140_000_123)).as_str(), "thumb/local/demo/1764140000123.jpg");
        assert_eq!(keys().latest_thumbnail().as_str(), "thumb/local/demo/latest.jpg");
        assert_eq!(keys().journal(3).as_str(), "rec/local/demo/s1/j/1-3.json");
    }

    #[test]
    fn the_class_follows_what_is_copied_and_kept() {
        let (top, low): (TrackName, TrackName) = ("src".parse().unwrap(), "360p".parse().unwrap());
        let class = |replicate, recorded, track: &TrackName| {
            let keeping = Keeping { replicate, recorded };
            let mut keys = Keys::new(&"r".parse().unwrap(), &"s".parse().unwrap(), &"1".parse().unwrap(), 1, keeping);
            keys.set_top(vec![top.clone()]);
            keys.segment(track, 0).as_str()[4..6].to_owned()
        };
        assert_eq!(class(Replicate::All, true, &low), "rk");
        assert_eq!(class(Replicate::Top, false, &top), "rw");
        assert_eq!(class(Replicate::Top, false, &low), "lw");
        assert_eq!(class(Replicate::None, true, &top), "lk");
    }

    #[test]
    fn only_keys_of_the_layout_parse() {
        assert!(ObjectKey::parse(keys().segment(&"src".parse().unwrap(), 0).as_str()).is_some());
        for bad in ["", "live", "live/", "live/../x", "live//x", "etc/passwd", "live/a b", "/live/x", "live/%2e%2e/x"] {
            assert!(ObjectKey::parse(bad).is_none(), "{bad:?}");
        }
    }
}
