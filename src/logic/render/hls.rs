//! HLS playlists (RFC 8216bis): the multivariant playlist and one media playlist per track.
//!
//! Decides the text only. What is listed, numbered and lost was decided by [`playlist::Window`](crate::logic::playlist::Window).
//! Deliberately absent of live playlists: EXT-X-PLAYLIST-TYPE (the window slides), EXT-X-START (players know where to begin), CLOSED-CAPTIONS=NONE (captions
//! that were not seen yet may still come, and it would be a promise: rules.md 10), and low-latency tags.

use std::fmt::Write;

use super::{bandwidths, comment};
use crate::cmaf::video;
use crate::logic::model::{AudioFormat, Keys, ObjectKey, TrackName, VideoFormat};
use crate::logic::pathway::{Pathway, Pathways};
use crate::logic::playlist::{Format, Placed, Row, Slot, Snapshot, Track};
use crate::logic::services::Services;
use crate::logic::time::{Timescale, decimal_seconds};

/// EXT-X-GAP needs version 8 (RFC 8216bis, section 8). Any playlist may come to hold a gap, and the version is written as 8 always:
/// a playlist whose version moves while it is played gains nobody anything.
const VERSION: u32 = 8;

/// Digits behind the point of EXTINF: one microsecond is finer than a tick of any timescale in use (1/90000 s).
const EXTINF_DIGITS: u32 = 6;

/// GROUP-ID of the closed captions, which lie in the video and so have no address, whichever the pathway.
const CAPTIONS: &str = "cc";

/// Writes one line. Writing to a `String` can not fail.
macro_rules! line {
    ($out:expr, $($arg:tt)*) => {{
        let _ = writeln!($out, $($arg)*);
    }};
}

/// The first lines of every playlist. The mark makes each written text unique (rules.md 18); a line that begins with `#` but not with
/// `#EXT` is a comment (RFC 8216bis, 4.1).
fn head(mark: &str) -> String {
    let mut out = String::new();
    line!(out, "#EXTM3U");
    line!(out, "# weir {}", comment(mark));
    line!(out, "#EXT-X-VERSION:{VERSION}");
    out
}

/// The multivariant playlist (RFC 8216bis, 4.4.6), to be written at [`Keys::index`].
///
/// Rungs stand in the order of [`Snapshot::tracks`], best first; with audio each names the one AUDIO group. A stream without video
/// is one variant: its audio playlist. With pathways all of that once for each, with absolute addresses, an AUDIO group of its own and the same
/// STABLE-VARIANT-ID and STABLE-RENDITION-ID, by which a player finds the variant again that it plays (RFC 8216bis, 7.4). `mark` is unique per write.
pub fn multivariant(snapshot: &Snapshot, keys: &Keys, pathways: &Pathways, mark: &str) -> String {
    let rates = bandwidths(&snapshot.tracks);
    let mut rungs = Vec::new();
    let mut audio = None;
    for (track, &rate) in snapshot.tracks.iter().zip(&rates) {
        match &track.format {
            Format::Video(format) => rungs.push((track, format, rate)),
            Format::Audio(format) => audio = audio.or(Some((track, format, rate))),
        }
    }

    let mut out = head(mark);
    line!(out, "#EXT-X-INDEPENDENT-SEGMENTS");
    if let (Some(url), Some(first)) = (&pathways.steering_url, pathways.list.first()) {
        line!(out, "#EXT-X-CONTENT-STEERING:SERVER-URI=\"{url}\",PATHWAY-ID=\"{}\"", first.id);
    }
    if !rungs.is_empty() {
        captions(&mut out, &snapshot.captions);
    }
    let has_captions = !snapshot.captions.is_empty();
    let ways: Vec<Option<&Pathway>> =
        if pathways.list.is_empty() { vec![None] } else { pathways.list.iter().map(Some).collect() };
    for way in ways {
        let way = Way { keys, pathway: way, captions: has_captions };
        match audio {
            Some((track, _, rate)) if rungs.is_empty() => variant(&mut out, way, track, None, None, rate),
            Some((track, format, _)) => audio_rendition(&mut out, way, track, format),
            None => {}
        }
        for &(track, format, rate) in &rungs {
            variant(&mut out, way, track, Some(format), audio.map(|(t, _, rate)| (t, rate)), rate);
        }
    }
    out
}

/// How a player gets at the media playlists.
#[derive(Clone, Copy)]
struct Way<'a> {
    keys: &'a Keys,
    /// `None`: where it got the multivariant playlist.
    pathway: Option<&'a Pathway>,
    /// The video has closed captions.
    captions: bool,
}

impl Way<'_> {
    fn playlist(self, track: &TrackName) -> String {
        match self.pathway {
            Some(pathway) => pathway.playlist(self.keys, track),
            None => self.keys.playlist(track).relative_to(&self.keys.index()),
        }
    }

    /// GROUP-ID of the audio.
    fn group(self, track: &TrackName) -> String {
        match self.pathway {
            Some(pathway) => format!("{track}-{}", pathway.id),
            None => track.to_string(),
        }
    }
}

/// EXT-X-MEDIA (RFC 8216bis, 4.4.6.1). LANGUAGE is left out where nobody has told it.
fn audio_rendition(out: &mut String, way: Way<'_>, track: &Track, format: &AudioFormat) {
    let (name, channels) = (&track.name, format.channels);
    let (uri, group) = (way.playlist(name), way.group(name));
    let language = format.language.map_or(String::new(), |l| format!("LANGUAGE=\"{}\",", l.tag()));
    line!(
        out,
        "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{group}\",{language}NAME=\"{name}\",DEFAULT=YES,AUTOSELECT=YES,\
         CHANNELS=\"{channels}\",STABLE-RENDITION-ID=\"{name}\",URI=\"{uri}\""
    );
}

/// EXT-X-MEDIA of each caption service (RFC 8216bis, 4.4.6.1). AUTOSELECT, so that a viewer whose device asks for captions gets them; no language, as for audio.
fn captions(out: &mut String, services: &Services) {
    for service in services {
        line!(
            out,
            "#EXT-X-MEDIA:TYPE=CLOSED-CAPTIONS,GROUP-ID=\"{CAPTIONS}\",NAME=\"{service}\",AUTOSELECT=YES,INSTREAM-ID=\"{service}\""
        );
    }
}

/// EXT-X-STREAM-INF (RFC 8216bis, 4.4.6.2) of `track`, played together with `audio` (and its rate).
fn variant(
    out: &mut String,
    way: Way<'_>,
    track: &Track,
    video: Option<&VideoFormat>,
    audio: Option<(&Track, u64)>,
    rate: u64,
) {
    let bandwidth = rate.saturating_add(audio.map_or(0, |(_, rate)| rate));
    let _ = write!(out, "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth}");
    if let Some(own) = track.average_bitrate {
        // Audio that was not measured yet counts with its ceiling. An average above the peak would be nonsense to a player.
        let audio = audio.map_or(0, |(track, rate)| track.average_bitrate.unwrap_or(rate));
        let _ = write!(out, ",AVERAGE-BANDWIDTH={}", own.saturating_add(audio).clamp(1, bandwidth));
    }
    let _ = write!(out, ",CODECS=\"{}", track.format.codec());
    if let Some((audio, _)) = audio {
        let _ = write!(out, ",{}", audio.format.codec());
    }
    out.push('"');
    if let Some(video) = video {
        // 4.4.6.2: the size at which to display it.
        let (width, height) = video::displayed(video);
        let _ = write!(out, ",RESOLUTION={width}x{height}");
        let milli = video.fps.milli();
        if milli > 0 {
            let _ = write!(out, ",FRAME-RATE={}.{:03}", milli / 1000, milli % 1000);
        }
    }
    if let Some((audio, _)) = audio {
        let _ = write!(out, ",AUDIO=\"{}\"", way.group(&audio.name));
    }
    if way.captions && video.is_some() {
        let _ = write!(out, ",CLOSED-CAPTIONS=\"{CAPTIONS}\"");
    }
    if let Some(pathway) = way.pathway {
        let _ = write!(out, ",PATHWAY-ID=\"{}\"", pathway.id);
    }
    line!(out, ",STABLE-VARIANT-ID=\"{}\"", track.name);
    line!(out, "{}", way.playlist(&track.name));
}

/// The media playlist (RFC 8216bis, 4.4.3) of the track at `track_index`, to be written at [`Keys::playlist_of`] the pathway.
///
/// Addresses are relative to that key, or below the pathway's folder of segments. A gap keeps its number, its length and an address in the layout of [`Keys::segment`], where
/// nothing lies; players do not ask for it (RFC 8216bis, 4.4.4.7). `mark` is unique per write.
///
/// # Panics
/// When the snapshot has no such track.
pub fn media(snapshot: &Snapshot, keys: &Keys, track_index: usize, pathway: Option<&Pathway>, mark: &str) -> String {
    let track = &snapshot.tracks[track_index];
    let mut out = head(mark);
    line!(out, "#EXT-X-TARGETDURATION:{}", snapshot.target_duration);
    if snapshot.recorded {
        line!(out, "#EXT-X-PLAYLIST-TYPE:VOD");
    }
    line!(out, "#EXT-X-MEDIA-SEQUENCE:{}", snapshot.rows.first().map_or(0, |r| r.number));
    if snapshot.discontinuity_sequence > 0 || snapshot.rows.iter().any(|r| r.discontinuity) {
        line!(out, "#EXT-X-DISCONTINUITY-SEQUENCE:{}", snapshot.discontinuity_sequence);
    }
    line!(out, "#EXT-X-INDEPENDENT-SEGMENTS");

    let base = keys.playlist(&track.name);
    let address = |key: &ObjectKey| match pathway {
        Some(pathway) => pathway.object(key),
        None => key.relative_to(&base),
    };
    // The init segment that EXT-X-MAP has named since the last discontinuity.
    let mut map: Option<&ObjectKey> = None;
    for row in &snapshot.rows {
        if row.discontinuity {
            line!(out, "#EXT-X-DISCONTINUITY");
            map = None;
        }
        match row.slots.get(track_index) {
            Some(Slot::Media(placed)) => {
                let init = &placed.init.key;
                if map != Some(init) {
                    line!(out, "#EXT-X-MAP:URI=\"{}\"", address(init));
                    map = Some(init);
                }
                segment(&mut out, snapshot, row, placed, &address(&placed.key));
            }
            Some(Slot::Gap) | None => {
                let start = row.start.in_scale(track.format.timescale());
                gap(&mut out, snapshot, row, &address(&keys.segment(&track.name, start)));
            }
        }
    }
    if snapshot.ended {
        line!(out, "#EXT-X-ENDLIST");
    }
    out
}

fn segment(out: &mut String, snapshot: &Snapshot, row: &Row, placed: &Placed, address: &str) {
    date(out, snapshot, row);
    let scale = placed.init.format.timescale();
    line!(out, "#EXTINF:{},", decimal_seconds(placed.duration, scale, EXTINF_DIGITS));
    line!(out, "{address}");
}

fn gap(out: &mut String, snapshot: &Snapshot, row: &Row, address: &str) {
    date(out, snapshot, row);
    line!(out, "#EXT-X-GAP");
    line!(out, "#EXTINF:{},", decimal_seconds((row.end - row.start).0, Timescale::VIDEO, EXTINF_DIGITS));
    line!(out, "{address}");
}

/// EXT-X-PROGRAM-DATE-TIME (RFC 8216bis, 4.4.4.6) of every segment: the cut's wall clock, so that all tracks say the same
/// and players can align them by it. Within a run it steps by the segment's length, give or take a hundredth ([`dating`](crate::logic::dating)).
fn date(out: &mut String, snapshot: &Snapshot, row: &Row) {
    line!(out, "#EXT-X-PROGRAM-DATE-TIME:{}", row.date(snapshot.anchor));
}
