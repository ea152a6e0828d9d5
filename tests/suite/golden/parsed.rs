//! Manifests read back by parsers that are not ours, and compared with the snapshot that they were made from.

use std::time::Duration;

use dash_mpd_core::{MPD, Period, Representation};
use m3u8_rs::{MasterPlaylist, MediaPlaylist, MediaSegment};
use weir::logic::model::{Keys, ObjectKey};
use weir::logic::pathway::Pathways;
use weir::logic::playlist::{Era, Format, Placed, Slot, Snapshot};
use weir::logic::render::{dash, hls};
use weir::logic::time::{Timescale, UnixMillis, decimal_seconds};

pub fn multivariant(text: &str) -> MasterPlaylist {
    m3u8_rs::parse_master_playlist_res(text.as_bytes()).unwrap()
}

pub fn media(text: &str) -> MediaPlaylist {
    m3u8_rs::parse_media_playlist_res(text.as_bytes()).unwrap()
}

pub fn mpd(text: &str) -> MPD {
    dash_mpd_core::parse(text).unwrap()
}

/// RFC 3986, 5.2 for the references that we write.
pub fn resolve(base: &ObjectKey, reference: &str) -> String {
    let mut path: Vec<&str> = base.as_str().split('/').collect();
    path.pop();
    for element in reference.split('/') {
        match element {
            ".." => assert!(path.pop().is_some(), "{reference} leaves the bucket"),
            e => path.push(e),
        }
    }
    path.join("/")
}

pub fn is_gap(segment: &MediaSegment) -> bool {
    segment.unknown_tags.iter().any(|t| t.tag == "X-GAP")
}

/// Checks the multivariant playlist, all media playlists and the MPD.
pub fn check(snapshot: &Snapshot, keys: &Keys) {
    check_multivariant(snapshot, keys);
    for track in 0..snapshot.tracks.len() {
        check_media(snapshot, keys, track);
    }
    check_mpd(snapshot, keys);
}

fn check_multivariant(snapshot: &Snapshot, keys: &Keys) {
    let list = multivariant(&hls::multivariant(snapshot, keys, &Pathways::default(), "m"));
    let video: Vec<_> = snapshot.tracks.iter().filter(|t| matches!(t.format, Format::Video(_))).collect();
    let audio = snapshot.tracks.iter().find(|t| matches!(t.format, Format::Audio(_)));
    assert_eq!(list.variants.len(), video.len().max(1));
    assert!(list.variants.windows(2).all(|w| w[0].bandwidth > w[1].bandwidth));
    for (variant, track) in list.variants.iter().zip(if video.is_empty() { vec![audio.unwrap()] } else { video.clone() }) {
        assert_eq!(resolve(&keys.index(), &variant.uri), keys.playlist(&track.name).as_str());
        assert!(variant.bandwidth >= track.max_bitrate);
        assert!(variant.average_bandwidth.is_none_or(|a| a > 0 && a <= variant.bandwidth));
        assert!(variant.codecs.as_ref().unwrap().starts_with(track.format.codec()));
        assert_eq!(variant.resolution.is_some(), !video.is_empty());
        let with_audio = !video.is_empty() && audio.is_some();
        assert_eq!(variant.audio.as_deref(), with_audio.then(|| audio.unwrap().name.as_str()));
        let group = m3u8_rs::ClosedCaptionGroupId::GroupId("cc".into());
        let captions = !video.is_empty() && !snapshot.captions.is_empty();
        assert_eq!(variant.closed_captions, captions.then_some(group), "never NONE: rules.md 10");
    }
    let closed = |a: &&m3u8_rs::AlternativeMedia| a.media_type == m3u8_rs::AlternativeMediaType::ClosedCaptions;
    let captions: Vec<_> = list.alternatives.iter().filter(closed).collect();
    let announced: Vec<String> = snapshot.captions.iter().filter(|_| !video.is_empty()).map(|c| c.to_string()).collect();
    assert_eq!(captions.iter().map(|c| c.instream_id.as_ref().unwrap().to_string()).collect::<Vec<_>>(), announced);
    assert!(captions.iter().all(|c| c.group_id == "cc" && c.uri.is_none()));
    let audio_renditions: Vec<_> = list.alternatives.iter().filter(|a| !closed(a)).collect();
    assert_eq!(audio_renditions.len(), usize::from(!video.is_empty() && audio.is_some()));
    for rendition in audio_renditions {
        let uri = rendition.uri.as_ref().unwrap();
        assert_eq!(resolve(&keys.index(), uri), keys.playlist(&audio.unwrap().name).as_str());
    }
}

fn check_media(snapshot: &Snapshot, keys: &Keys, track: usize) {
    let text = hls::media(snapshot, keys, track, None, "m");
    let list = media(&text);
    let base = keys.playlist(&snapshot.tracks[track].name);
    assert_eq!(list.version, Some(8));
    assert_eq!(list.target_duration, u64::from(snapshot.target_duration));
    assert_eq!(list.media_sequence, snapshot.rows[0].number);
    assert_eq!(list.discontinuity_sequence, snapshot.discontinuity_sequence);
    assert_eq!(list.end_list, snapshot.ended);
    assert!(list.independent_segments && list.playlist_type.is_none() && list.start.is_none());
    assert_eq!(list.segments.len(), snapshot.rows.len());

    let mut map = None;
    for (segment, row) in list.segments.iter().zip(&snapshot.rows) {
        assert_eq!(segment.discontinuity, row.discontinuity);
        if row.discontinuity {
            map = None;
        }
        if let Some(m) = &segment.map {
            map = Some(resolve(&base, &m.uri));
        }
        let date = segment.program_date_time.unwrap().timestamp_millis();
        assert_eq!(date, row.date(snapshot.anchor).0);
        assert!(segment.duration.round() <= snapshot.target_duration as f32, "{}", segment.duration);
        let uri = resolve(&base, &segment.uri);
        match &row.slots[track] {
            Slot::Media(placed) => {
                assert!(!is_gap(segment));
                assert_eq!(uri, placed.key.as_str());
                assert_eq!(map.as_deref(), Some(placed.init.key.as_str()));
                let exact = decimal_seconds(placed.duration, placed.init.format.timescale(), 6);
                assert!(text.contains(&format!("#EXTINF:{exact},\n{}\n", segment.uri)));
            }
            Slot::Gap => {
                assert!(is_gap(segment) && segment.map.is_none());
                assert!(ObjectKey::parse(&uri).is_some());
                let exact = decimal_seconds((row.end - row.start).0, Timescale::VIDEO, 6);
                assert!(text.contains(&format!("#EXT-X-GAP\n#EXTINF:{exact},\n{}\n", segment.uri)));
            }
        }
    }
}

/// One segment that an MPD names.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    pub track: String,
    pub key: String,
    pub init: String,
    pub start: i64,
    pub duration: i64,
    /// Presentation time, in nanoseconds from availabilityStartTime.
    pub presented: i128,
}

pub fn named(mpd: &MPD, keys: &Keys) -> Vec<Named> {
    let periods = mpd.periods.iter();
    periods.flat_map(|p| p.adaptations.iter().flat_map(|a| &a.representations).flat_map(|r| expand(p, r, keys))).collect()
}

fn expand(period: &Period, representation: &Representation, keys: &Keys) -> Vec<Named> {
    let track = representation.id.clone().unwrap();
    let template = representation.SegmentTemplate.as_ref().unwrap();
    let scale = i128::from(template.timescale.unwrap());
    let offset = i128::from(template.presentationTimeOffset.unwrap());
    let zero = i128::try_from(period.start.unwrap().as_nanos()).unwrap();
    let init = resolve(&keys.mpd(), template.initialization.as_ref().unwrap());
    let mut out = Vec::new();
    let mut t = 0;
    for s in &template.SegmentTimeline.as_ref().unwrap().segments {
        t = s.t.unwrap_or(t);
        for _ in 0..=s.r.unwrap_or(0) {
            let address = template.media.as_ref().unwrap().replace("$RepresentationID$", &track);
            let key = resolve(&keys.mpd(), &address.replace("$Time$", &t.to_string()));
            let presented = zero + (i128::from(t) - offset) * 1_000_000_000 / scale;
            let (start, duration) = (i64::try_from(t).unwrap(), i64::try_from(s.d).unwrap());
            out.push(Named { track: track.clone(), key, init: init.clone(), start, duration, presented });
            t += s.d;
        }
    }
    out
}

fn check_mpd(snapshot: &Snapshot, keys: &Keys) {
    let own =
        |track: usize, placed: &&Placed| placed.key.as_str().rsplit('/').nth(1) == Some(snapshot.tracks[track].name.as_str());
    let mut expected = Vec::new();
    for &Era { number: era, .. } in &snapshot.eras {
        for (i, track) in snapshot.tracks.iter().enumerate() {
            let rows = snapshot.rows.iter().filter(|r| r.era == era);
            let media = rows.filter_map(|r| match &r.slots[i] {
                Slot::Media(placed) => Some(placed),
                Slot::Gap => None,
            });
            expected.extend(media.filter(|p| own(i, p)).map(|p| (track.name.to_string(), p)));
        }
    }
    let Some(text) = dash::mpd(snapshot, keys, UnixMillis(0), &dash::MpdOptions::default(), "m") else {
        assert!(expected.is_empty());
        return;
    };
    let mpd = mpd(&text);
    let found = named(&mpd, keys);
    assert_eq!(found.len(), expected.len(), "{text}");
    for (found, (track, placed)) in found.iter().zip(expected) {
        assert_eq!((&found.track, found.key.as_str()), (&track, placed.key.as_str()));
        assert_eq!(found.init, placed.init.key.as_str());
        assert_eq!((found.start, found.duration), (placed.start, placed.duration));
        // Presentation time is media time: off by a microsecond of Period@start and a tick of @presentationTimeOffset at the most.
        let scale = i128::from(placed.init.format.timescale().hz());
        let off = found.presented - i128::from(placed.start) * 1_000_000_000 / scale;
        assert!(off.abs() <= 1_000_000_000 / scale + 1_001, "{off} ns");
        let longest = mpd.maxSegmentDuration.unwrap().as_nanos();
        assert!(placed.duration as u128 * 1_000_000_000 / scale as u128 <= longest);
    }
    check_periods(snapshot, &mpd);
}

fn check_periods(snapshot: &Snapshot, mpd: &MPD) {
    let mut before = Duration::ZERO;
    for (i, period) in mpd.periods.iter().enumerate() {
        let start = period.start.unwrap();
        assert!(start >= before, "Periods overlap");
        let open = !snapshot.ended && i + 1 == mpd.periods.len();
        assert_eq!(period.duration.is_none(), open, "only the last Period of a live MPD is open");
        before = start + period.duration.unwrap_or_default();
        let known = snapshot.eras.iter().any(|era| period.id.as_deref() == Some(era.number.to_string().as_str()));
        assert!(known);
        assert!(period.adaptations.iter().all(|a| !a.representations.is_empty()));
    }
}
