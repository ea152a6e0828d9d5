//! HLS playlists and MPDs as a player sees them: addresses resolved, times as written.

use std::collections::BTreeMap;

use super::worker::Worker;

/// RFC 3986, 5.2 for references that do not begin with a slash; both without the leading one.
pub fn resolve(base: &str, reference: &str) -> String {
    let mut path: Vec<&str> = base.split('/').collect();
    path.pop();
    for element in reference.split('/') {
        match element {
            ".." => assert!(path.pop().is_some(), "{reference} leaves the server"),
            e => path.push(e),
        }
    }
    path.join("/")
}

/// Attributes of a tag: `A=1,B="x,y"`.
fn attributes(list: &str) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut rest = list;
    while let Some((name, tail)) = rest.split_once('=') {
        let (value, after) = match tail.strip_prefix('"') {
            Some(quoted) => {
                let (value, after) = quoted.split_once('"').expect("closing quote");
                (value, after.strip_prefix(',').unwrap_or(after))
            }
            None => tail.split_once(',').unwrap_or((tail, "")),
        };
        out.insert(name.to_owned(), value.to_owned());
        rest = after;
    }
    out
}

/// One variant, or the audio rendition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Path of its playlist.
    pub path: String,
    /// `src`, `480p`, `audio`: the playlist's file name.
    pub name: String,
    pub attributes: BTreeMap<String, String>,
}

/// The multivariant playlist: variants in order, then the renditions of EXT-X-MEDIA.
pub fn multivariant(path: &str, text: &str) -> Vec<Variant> {
    let variant = |uri: &str, attributes| {
        let name = uri.rsplit('/').next().and_then(|f| f.strip_suffix(".m3u8")).expect("a playlist").to_owned();
        Variant { path: resolve(path, uri), name, attributes }
    };
    let (mut out, mut renditions) = (Vec::new(), Vec::new());
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("#EXTM3U"));
    while let Some(line) = lines.next() {
        if let Some(list) = line.strip_prefix("#EXT-X-STREAM-INF:") {
            out.push(variant(lines.next().expect("the variant's address"), attributes(list)));
        } else if let Some(list) = line.strip_prefix("#EXT-X-MEDIA:") {
            let attributes = attributes(list);
            if attributes["TYPE"] == "CLOSED-CAPTIONS" {
                // They lie in the video and have no playlist.
                continue;
            }
            renditions.push(variant(&attributes["URI"].clone(), attributes));
        }
    }
    out.append(&mut renditions);
    out
}

/// One segment of a media playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub number: u64,
    pub path: String,
    /// Path of the init segment in force.
    pub init: Option<String>,
    /// EXTINF in microseconds.
    pub micros: u64,
    /// EXT-X-PROGRAM-DATE-TIME, Unix milliseconds.
    pub date: i64,
    pub gap: bool,
    pub discontinuity: bool,
}

/// A media playlist.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Media {
    pub target_duration: u64,
    pub sequence: u64,
    pub discontinuity_sequence: u64,
    pub segments: Vec<Listed>,
    pub ended: bool,
}

impl Media {
    pub fn read(path: &str, text: &str) -> Self {
        let mut media = Self::default();
        let (mut init, mut micros, mut date, mut gap, mut discontinuity) = (None, None, None, false, false);
        for line in text.lines() {
            let value = |tag: &str| line.strip_prefix(tag).and_then(|v| v.strip_prefix(':'));
            if let Some(v) = value("#EXT-X-TARGETDURATION") {
                media.target_duration = v.parse().unwrap();
            } else if let Some(v) = value("#EXT-X-MEDIA-SEQUENCE") {
                media.sequence = v.parse().unwrap();
            } else if let Some(v) = value("#EXT-X-DISCONTINUITY-SEQUENCE") {
                media.discontinuity_sequence = v.parse().unwrap();
            } else if let Some(v) = value("#EXT-X-MAP") {
                init = Some(resolve(path, &attributes(v)["URI"]));
            } else if let Some(v) = value("#EXT-X-PROGRAM-DATE-TIME") {
                date = Some(v.parse::<jiff::Timestamp>().unwrap().as_millisecond());
            } else if let Some(v) = value("#EXTINF") {
                let (seconds, fraction) = v.trim_end_matches(',').split_once('.').expect("a decimal");
                assert_eq!(fraction.len(), 6, "{line}");
                micros = Some(seconds.parse::<u64>().unwrap() * 1_000_000 + fraction.parse::<u64>().unwrap());
            } else if line == "#EXT-X-GAP" {
                gap = true;
            } else if line == "#EXT-X-DISCONTINUITY" {
                discontinuity = true;
            } else if line == "#EXT-X-ENDLIST" {
                media.ended = true;
            } else if !line.starts_with('#') {
                media.segments.push(Listed {
                    number: media.sequence + media.segments.len() as u64,
                    path: resolve(path, line),
                    init: init.clone(),
                    micros: micros.take().expect("EXTINF"),
                    date: date.take().expect("EXT-X-PROGRAM-DATE-TIME"),
                    gap: std::mem::take(&mut gap),
                    discontinuity: std::mem::take(&mut discontinuity),
                });
            }
        }
        media
    }

    /// Segments that are there.
    pub fn media(&self) -> impl Iterator<Item = &Listed> {
        self.segments.iter().filter(|s| !s.gap)
    }

    /// Numbers of EXT-X-GAP.
    pub fn gaps(&self) -> Vec<u64> {
        self.segments.iter().filter(|s| s.gap).map(|s| s.number).collect()
    }
}

/// One Representation in one Period.
#[derive(Debug, Clone)]
pub struct Representation {
    pub name: String,
    pub init: String,
    pub timescale: u64,
    /// Start and duration in ticks, and the path.
    pub segments: Vec<(i64, i64, String)>,
}

/// One Period.
#[derive(Debug, Clone)]
pub struct Period {
    /// CODECS of the representations of each AdaptationSet.
    pub sets: Vec<Vec<String>>,
    pub start: std::time::Duration,
    pub duration: Option<std::time::Duration>,
    pub representations: Vec<Representation>,
}

/// An MPD, its timelines written out.
#[derive(Debug, Clone)]
pub struct Mpd {
    pub dynamic: bool,
    pub duration: Option<std::time::Duration>,
    pub periods: Vec<Period>,
}

impl Mpd {
    pub fn read(path: &str, text: &str) -> Self {
        let mpd = dash_mpd_core::parse(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let period = |p: &dash_mpd_core::Period| Period {
            start: p.start.expect("Period@start"),
            duration: p.duration,
            sets: p.adaptations.iter().map(|a| a.representations.iter().filter_map(|r| r.codecs.clone()).collect()).collect(),
            representations: p.adaptations.iter().flat_map(|a| &a.representations).map(|r| representation(path, r)).collect(),
        };
        Self {
            dynamic: mpd.mpdtype.as_deref() == Some("dynamic"),
            duration: mpd.mediaPresentationDuration,
            periods: mpd.periods.iter().map(period).collect(),
        }
    }

    /// A Representation of one Period.
    pub fn representation(&self, period: usize, name: &str) -> &Representation {
        let found = self.periods[period].representations.iter().find(|r| r.name == name);
        found.unwrap_or_else(|| panic!("no Representation {name} in Period {period}"))
    }
}

fn representation(path: &str, r: &dash_mpd_core::Representation) -> Representation {
    let name = r.id.clone().expect("Representation@id");
    let template = r.SegmentTemplate.as_ref().expect("SegmentTemplate");
    let media = template.media.as_ref().expect("@media").replace("$RepresentationID$", &name);
    let mut segments = Vec::new();
    let mut next = 0;
    for s in &template.SegmentTimeline.as_ref().expect("SegmentTimeline").segments {
        next = s.t.unwrap_or(next);
        for _ in 0..=s.r.unwrap_or(0) {
            segments.push((next as i64, s.d as i64, resolve(path, &media.replace("$Time$", &next.to_string()))));
            next += s.d;
        }
    }
    Representation {
        init: resolve(path, template.initialization.as_ref().expect("@initialization")),
        timescale: template.timescale.expect("@timescale"),
        name,
        segments,
    }
}

/// Where the manifests of a stream lie.
pub fn index_path(stream: &str) -> String {
    format!("live/local/{stream}/index.m3u8")
}

/// Likewise.
pub fn mpd_path(stream: &str) -> String {
    format!("live/local/{stream}/manifest.mpd")
}

/// The multivariant playlist, as soon as there is one.
pub fn variants(worker: &Worker, stream: &str) -> Option<Vec<Variant>> {
    let path = index_path(stream);
    let answer = worker.get(&path);
    (answer.status == 200).then(|| multivariant(&path, &answer.text()))
}

/// A media playlist that must be there.
pub fn media(worker: &Worker, variant: &Variant) -> Media {
    let answer = worker.get(&variant.path);
    assert_eq!(answer.status, 200, "{}", variant.path);
    Media::read(&variant.path, &answer.text())
}
