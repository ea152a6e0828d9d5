//! A session's recording, as a viewer of it reads it from the bucket.

use std::collections::{BTreeMap, BTreeSet};

use super::manifest::{self, Media, Mpd};
use super::s3_server::Server;

/// The playlists of one recording.
pub struct Recording {
    /// `/rec/{region}/{stream}/{session}/`.
    pub folder: String,
    pub tracks: BTreeMap<String, Media>,
    pub mpd: Mpd,
}

impl Recording {
    /// The only one of a stream.
    pub fn of(server: &Server, stream: &str) -> Self {
        let all = server.keys(&format!("rec/local/{stream}/"));
        let indexes: Vec<&String> = all.iter().filter(|k| k.ends_with("/index.m3u8")).collect();
        assert_eq!(indexes.len(), 1, "one session, one recording: {all:?}");
        let text = |key: &str| String::from_utf8(server.object(key).unwrap_or_else(|| panic!("no {key}")).2).unwrap();
        let folder = indexes[0].trim_end_matches("index.m3u8").to_owned();
        let mut tracks = BTreeMap::new();
        for variant in manifest::multivariant(indexes[0], &text(indexes[0])) {
            let playlist = text(&variant.path);
            assert!(playlist.contains("#EXT-X-PLAYLIST-TYPE:VOD\n"), "{playlist}");
            let media = Media::read(&variant.path, &playlist);
            assert!(media.ended && media.sequence == 0, "{playlist}");
            tracks.insert(variant.name, media);
        }
        let path = format!("{folder}manifest.mpd");
        let mpd = Mpd::read(&path, &text(&path));
        assert!(!mpd.dynamic);
        Self { folder, tracks, mpd }
    }

    /// It plays all of these segments and no others, each once and in order, in both formats, and has all their init segments.
    pub fn holds(&self, server: &Server, made: &BTreeSet<String>) {
        let mut named = BTreeSet::new();
        for (track, media) in &self.tracks {
            let paths: Vec<&String> = media.media().map(|s| &s.path).collect();
            let starts: Vec<i64> = paths.iter().map(|p| start(p)).collect();
            assert!(starts.windows(2).all(|s| s[0] < s[1]), "{track}: {starts:?}");
            for listed in media.media() {
                let init = listed.init.as_ref().expect("EXT-X-MAP");
                assert!(server.object(init).is_some(), "{init} is not in the bucket");
            }
            let of_track = self.mpd.periods.iter().flat_map(|p| &p.representations).filter(|r| r.name == *track);
            let in_mpd: Vec<&String> = of_track.flat_map(|r| &r.segments).map(|(_, _, path)| path).collect();
            assert_eq!(in_mpd, paths, "{track}: the MPD plays what the playlist plays");
            named.extend(paths.into_iter().cloned());
            assert_eq!(self.discontinuities(track), self.discontinuities("audio"), "{track}");
        }
        let segments: BTreeSet<String> = made.iter().filter(|k| k.ends_with(".m4s")).cloned().collect();
        assert_eq!(named, segments);
        let mut end = std::time::Duration::ZERO;
        for period in &self.mpd.periods {
            assert_eq!(period.start, end, "Periods follow each other");
            end += period.duration.expect("Period@duration");
        }
        assert_eq!(self.mpd.duration, Some(end));
    }

    /// Numbers behind a discontinuity.
    pub fn discontinuities(&self, track: &str) -> Vec<u64> {
        self.tracks[track].segments.iter().filter(|s| s.discontinuity).map(|s| s.number).collect()
    }
}

/// `{start}.m4s`
fn start(path: &str) -> i64 {
    path.rsplit('/').next().unwrap().trim_end_matches(".m4s").parse().unwrap()
}
