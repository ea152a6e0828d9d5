//! Playlists and MPDs as whole texts, read back by independent parsers, and for random windows.
//!
//! The texts lie in `tests/golden/`. `WEIR_UPDATE_GOLDEN=1 cargo test --test suite golden` writes them anew; read the difference.

mod parsed;
mod scene;

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use weir::logic::model::FrameRate;
use weir::logic::pathway::{Pathway, Pathways};
use weir::logic::playlist::Snapshot;
use weir::logic::recording;
use weir::logic::render::{dash, hls};
use weir::logic::time::{MediaTime, UnixMillis};

use scene::{ANCHOR, Cut, Part, Scene, aac, keys, ladder, rung, track};

/// The time at which the snapshot is written: a second after its last row.
fn written_at(snapshot: &Snapshot) -> UnixMillis {
    let end = snapshot.rows.last().unwrap().end;
    ANCHOR.plus(end + MediaTime::from_secs(1))
}

fn options() -> dash::MpdOptions {
    dash::MpdOptions { utc_timing_url: Some("https://time.example/?iso&ms".into()), ..Default::default() }
}

fn mpd(snapshot: &Snapshot) -> String {
    dash::mpd(snapshot, &keys(), written_at(snapshot), &options(), "1 7f3a 5").unwrap()
}

/// Compares every text of the snapshot with `tests/golden/{name}/`, and reads it back.
fn golden(name: &str, snapshot: &Snapshot) {
    parsed::check(snapshot, &keys());
    let mut texts = vec![
        ("index.m3u8".to_owned(), hls::multivariant(snapshot, &keys(), &Pathways::default(), "1 7f3a 3")),
        ("manifest.mpd".to_owned(), mpd(snapshot)),
    ];
    for (i, track) in snapshot.tracks.iter().enumerate() {
        texts.push((format!("{}.m3u8", track.name), hls::media(snapshot, &keys(), i, None, "1 7f3a 4")));
    }
    compare(name, texts);
}

fn compare(name: &str, texts: Vec<(String, String)>) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let update = std::env::var_os("WEIR_UPDATE_GOLDEN").is_some_and(|v| v == "1");
    for (file, text) in texts {
        let path = folder.join(file);
        if update {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, text).unwrap();
            continue;
        }
        let expected = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(expected == text, "{} differs:\n{text}", path.display());
    }
}

fn steady(rows: usize) -> Vec<Cut> {
    vec![Cut::two_seconds(); rows]
}

#[test]
fn live() {
    golden("live", &Scene::new(ladder(), 2).rows(steady(4)).snapshot());
}

#[test]
fn ended() {
    let last = Cut::of(MediaTime::from_millis(1300));
    golden("ended", &Scene::new(ladder(), 2).rows(steady(3)).rows([last]).end().snapshot());
}

#[test]
fn gap() {
    let mut cuts = steady(5);
    cuts[0] = Cut::two_seconds().parts(&[Part::Late]);
    cuts[2] = Cut::two_seconds().parts(&[Part::Own, Part::Lost, Part::Lost]);
    golden("gap", &Scene::new(ladder(), 2).rows(cuts).snapshot());
}

#[test]
fn discontinuity_with_another_format() {
    let mut scene = Scene::new(ladder(), 2).rows(steady(2));
    scene.formats[0] = rung("720p", (1280, 720), FrameRate::whole(25), "avc1.640020", 1).format;
    scene.formats[2] = aac(44_100, 1);
    let back = Cut { pause: MediaTime::from_millis(7300), ..Cut::two_seconds().discontinuity() };
    golden("discontinuity", &scene.rows([back]).rows(steady(2)).snapshot());
}

#[test]
fn a_rung_that_is_not_produced_names_the_next_lower_one() {
    let shed = Cut::two_seconds().parts(&[Part::Of(1)]);
    let scene = Scene::new(ladder(), 2).rows(steady(2)).rows([shed.clone().discontinuity(), shed]);
    golden("shed", &scene.snapshot());
}

#[test]
fn audio_only() {
    golden("audio-only", &Scene::new(vec![track("audio", aac(44_100, 2), 160)], 2).rows(steady(3)).snapshot());
}

#[test]
fn video_with_a_half_rate_rung() {
    let fast = FrameRate { num: 60_000, den: 1001 };
    let tracks = vec![
        rung("src", (1920, 1080), fast, "avc1.64002a", 6000),
        rung("480p", (854, 480), fast.halved(), "avc1.64001e", 1800),
    ];
    // 120 frames at 59.94 fps
    let cut = Cut::of(MediaTime(120 * 3003 / 2));
    golden("half-rate", &Scene::new(tracks, 3).rows(vec![cut; 4]).snapshot());
}

fn evicted() -> Scene {
    let mut cuts = steady(12);
    cuts[1].discontinuity = true;
    cuts[3].discontinuity = true;
    Scene::new(ladder(), 2).rows(cuts)
}

#[test]
fn a_window_that_has_moved() {
    golden("evicted", &evicted().snapshot());
}

#[test]
fn the_end_of_a_window_that_has_moved() {
    golden("evicted-ended", &evicted().end().snapshot());
}

/// A recording has no window and no clock: both eras stand one behind the other, the pause between them is not played.
#[test]
fn a_recording_of_two_eras() {
    let back = Cut { pause: MediaTime::from_millis(7300), ..Cut::two_seconds().discontinuity() };
    let live = Scene::new(ladder(), 2).rows(steady(2)).rows([back]).rows(steady(1)).end().snapshot();
    let snapshot = Snapshot { recorded: true, ..live };
    let files = recording::files(&snapshot, &keys().of_recording(), written_at(&snapshot), "s7 7f3a 0");
    for (key, text) in &files {
        match key.as_str().strip_prefix("rec/eu1/demo/s7/").unwrap() {
            "index.m3u8" => assert_eq!(parsed::multivariant(text).variants.len(), 2),
            "manifest.mpd" => {
                let mpd = parsed::mpd(text);
                let bounds = mpd.periods.iter().map(|p| (p.start.unwrap().as_secs(), p.duration.unwrap().as_secs()));
                assert_eq!(bounds.collect::<Vec<_>>(), [(0, 4), (4, 4)]);
                assert_eq!(mpd.mediaPresentationDuration.unwrap().as_secs(), 8);
                assert!(mpd.availabilityStartTime.is_none() && mpd.mpdtype.as_deref() == Some("static"));
            }
            _ => {
                let list = parsed::media(text);
                assert_eq!((list.playlist_type, list.end_list), (Some(m3u8_rs::MediaPlaylistType::Vod), true));
                let first = parsed::resolve(key, &list.segments[0].uri);
                assert!(first.starts_with("seg/") && first.ends_with("/0.m4s"), "{first}");
            }
        }
    }
    let name = |key: &weir::logic::model::ObjectKey| key.as_str().rsplit('/').next().unwrap().to_owned();
    compare("recorded", files.iter().map(|(key, text)| (name(key), text.clone())).collect());
}

/// What a source was seen to have is announced once per kind and on every variant, whichever the pathway; all MPDs say that messages may come.
#[test]
fn closed_captions_that_were_seen() {
    let seen = ["CC1", "CC3", "SERVICE1", "SERVICE12"].map(|s| s.parse().unwrap());
    let mut snapshot = Scene::new(ladder(), 2).rows(steady(3)).snapshot();
    snapshot.captions = seen.into_iter().collect();
    golden("captions", &snapshot);
    let [video, audio] = &parsed::mpd(&mpd(&snapshot)).periods[0].adaptations[..] else { panic!("two AdaptationSets") };
    let said: Vec<_> = video.Accessibility.iter().map(|a| (a.schemeIdUri.as_str(), a.value.as_deref().unwrap())).collect();
    let expected =
        [("urn:scte:dash:cc:cea-608:2015", "CC1=und;CC3=und"), ("urn:scte:dash:cc:cea-708:2015", "1=lang:und;12=lang:und")];
    assert_eq!(said, expected);
    assert!(audio.Accessibility.is_empty() && audio.InbandEventStream.is_empty());
    assert_eq!(video.InbandEventStream[0].schemeIdUri, "https://aomedia.org/emsg/ID3");

    let list = vec![pathway("a", "https://a.example/tv", None), pathway("b", "https://b.example/", None)];
    let pathways = Pathways::new(list, None).unwrap();
    let index = hls::multivariant(&snapshot, &keys(), &pathways, "m");
    assert_eq!((index.matches("TYPE=CLOSED-CAPTIONS").count(), index.matches(",CLOSED-CAPTIONS=\"cc\"").count()), (4, 4));

    let mut alone = Scene::new(vec![track("audio", aac(44_100, 2), 160)], 2).rows(steady(3)).snapshot();
    alone.captions = snapshot.captions;
    parsed::check(&alone, &keys());
}

fn pathway(id: &str, base: &str, region: Option<&str>) -> Pathway {
    Pathway {
        id: id.parse().unwrap(),
        base_url: base.parse().unwrap(),
        segment_base_url: None,
        region: region.map(|r| r.parse().unwrap()),
    }
}

/// Two CDNs of the own region, one with its segments elsewhere, and another region; a server that steers.
#[test]
fn pathways_of_two_regions() {
    let segments = Some("https://segments.example/".parse().unwrap());
    let list = vec![
        pathway("a", "https://a.example/tv", None),
        Pathway { segment_base_url: segments, ..pathway("b", "https://b.example/", Some("eu1")) },
        pathway("us", "https://a.example/tv", Some("us1")),
    ];
    let pathways = Pathways::new(list, Some("https://steer.example/demo?v=1&w=2".parse().unwrap())).unwrap();
    let snapshot = Scene::new(ladder(), 2).rows(steady(3)).snapshot();

    let index = hls::multivariant(&snapshot, &keys(), &pathways, "m");
    let read = parsed::multivariant(&index);
    assert_eq!((read.variants.len(), read.alternatives.len()), (6, 3));
    assert!(index.contains("#EXT-X-CONTENT-STEERING:SERVER-URI=\"https://steer.example/demo?v=1&w=2\",PATHWAY-ID=\"a\"\n"));
    let uris: Vec<&str> = read.variants.iter().map(|v| v.uri.as_str()).collect();
    assert_eq!(uris[0], "https://a.example/tv/live/eu1/demo/720p.m3u8");
    assert_eq!(uris[2], "https://b.example/live/eu1/demo/720p.b.m3u8");
    assert_eq!(uris[4], "https://a.example/tv/live/us1/demo/720p.m3u8");
    for variant in &read.variants {
        // Its audio is of the same pathway.
        let group = read.alternatives.iter().find(|a| Some(&a.group_id) == variant.audio.as_ref()).unwrap();
        let folder = |uri: &str| uri.rsplit_once('/').unwrap().0.to_owned();
        assert_eq!(folder(group.uri.as_ref().unwrap()), folder(&variant.uri));
    }

    let keys = keys();
    let own: Vec<&Pathway> = pathways.own_playlists(keys.region()).collect();
    let of_b = hls::media(&snapshot, &keys, 0, Some(own[0]), "m");
    assert!(parsed::media(&of_b).segments[0].uri.starts_with("https://segments.example/seg/"), "{of_b}");
    assert!(of_b.contains("#EXT-X-MAP:URI=\"https://segments.example/seg/"), "{of_b}");

    let options = dash::MpdOptions { pathways: pathways.clone(), ..options() };
    let text = dash::mpd(&snapshot, &keys, written_at(&snapshot), &options, "m").unwrap();
    let bases: Vec<_> = parsed::mpd(&text).base_url.into_iter().map(|b| (b.serviceLocation.unwrap(), b.base)).collect();
    let expected = [("a", "https://a.example/tv/live/eu1/demo/"), ("b", "https://segments.example/live/eu1/demo/")];
    assert_eq!(bases, expected.map(|(id, base)| (id.to_owned(), base.to_owned())), "another region's MPD is its own");
    let texts = [("index.m3u8", index), ("720p.b.m3u8", of_b), ("manifest.mpd", text)];
    compare("pathways", texts.map(|(name, text)| (name.to_owned(), text)).into());
}

#[test]
fn a_live_mpd_says_everything_of_rule_14() {
    let snapshot = evicted().snapshot();
    let mpd = parsed::mpd(&mpd(&snapshot));
    let secs = |d: Option<std::time::Duration>| d.unwrap().as_millis();
    assert_eq!(mpd.mpdtype.as_deref(), Some("dynamic"));
    assert_eq!(mpd.id.as_deref(), Some("s7"));
    assert_eq!(secs(mpd.minimumUpdatePeriod), 2_000);
    assert_eq!(secs(mpd.timeShiftBufferDepth), 10_000);
    assert_eq!(secs(mpd.maxSegmentDuration), 2_500);
    assert_eq!(secs(mpd.suggestedPresentationDelay), 8_000);
    assert_eq!(secs(mpd.minBufferTime), 2_000);
    assert_eq!(mpd.publishTime.unwrap().timestamp_millis(), written_at(&snapshot).0);
    assert_eq!(mpd.availabilityStartTime.unwrap().timestamp_millis(), ANCHOR.0);
    assert!(mpd.mediaPresentationDuration.is_none());
    let clock = &mpd.UTCTiming[0];
    assert_eq!(clock.schemeIdUri, "urn:mpeg:dash:utc:http-iso:2014");
    assert_eq!(clock.value.as_deref(), Some("https://time.example/?iso&ms"));

    let configured = dash::MpdOptions { suggested_presentation_delay: Some(MediaTime::from_secs(60)), ..Default::default() };
    let mpd = parsed::mpd(&dash::mpd(&snapshot, &keys(), UnixMillis(0), &configured, "m").unwrap());
    assert_eq!(secs(mpd.suggestedPresentationDelay), 10_000, "never more than the window");
    assert!(mpd.UTCTiming.is_empty());
}

#[test]
fn a_static_mpd_says_how_long_it_was_and_nothing_of_renewal() {
    let mpd = parsed::mpd(&mpd(&evicted().end().snapshot()));
    assert_eq!(mpd.mpdtype.as_deref(), Some("static"));
    assert_eq!(mpd.mediaPresentationDuration.unwrap().as_secs(), 24, "from media time 0, not from the window");
    assert_eq!(mpd.maxSegmentDuration.unwrap().as_millis(), 2_500);
    assert!(mpd.minimumUpdatePeriod.is_none());
    assert!(mpd.timeShiftBufferDepth.is_none());
    assert!(mpd.suggestedPresentationDelay.is_none());
    assert!(mpd.UTCTiming.is_empty());
}

#[test]
fn every_representation_is_described_in_full() {
    let mpd = parsed::mpd(&mpd(&evicted().snapshot()));
    let [video, audio] = &mpd.periods[0].adaptations[..] else { panic!("two AdaptationSets") };
    for (set, content) in [(video, "video"), (audio, "audio")] {
        assert_eq!(set.contentType.as_deref(), Some(content));
        assert_eq!(set.mimeType.as_deref(), Some(format!("{content}/mp4").as_str()));
        assert_eq!((set.segmentAlignment, set.startWithSAP), (Some(true), Some(1)));
        assert_eq!(set.Role[0].value.as_deref(), Some("main"));
    }
    assert_eq!((video.maxWidth, video.maxHeight, video.maxFrameRate.as_deref()), (Some(1280), Some(720), Some("30")));
    assert_eq!(audio.lang.as_deref(), Some("und"));
    let layout = &audio.AudioChannelConfiguration[0];
    assert_eq!(layout.schemeIdUri, "urn:mpeg:mpegB:cicp:ChannelConfiguration");
    assert_eq!(layout.value.as_deref(), Some("2"));
    let rates: Vec<_> = video.representations.iter().chain(&audio.representations).map(|r| r.bandwidth.unwrap()).collect();
    assert_eq!(rates, [4_620_000, 1_155_000, 128_000]);
    assert_eq!(audio.representations[0].audioSamplingRate.as_deref(), Some("48000"));
}

#[test]
fn nothing_to_play_is_no_mpd() {
    let lost = Cut::two_seconds().parts(&[Part::Lost; 3]);
    let snapshot = Scene::new(ladder(), 2).rows([lost]).snapshot();
    assert_eq!(dash::mpd(&snapshot, &keys(), UnixMillis(0), &options(), "m"), None);
    assert!(hls::media(&snapshot, &keys(), 0, None, "m").contains("#EXT-X-GAP"));
}

#[test]
fn rungs_whose_ceilings_invert_are_still_announced_in_order() {
    let mut tracks = ladder();
    tracks[0].max_bitrate = 1_000_000;
    let snapshot = Scene::new(tracks, 2).rows(steady(2)).snapshot();
    let list = parsed::multivariant(&hls::multivariant(&snapshot, &keys(), &Pathways::default(), "m"));
    assert_eq!(list.variants.iter().map(|v| v.bandwidth).collect::<Vec<_>>(), [1_283_001, 1_283_000]);
}

#[test]
fn every_text_carries_its_mark_once() {
    let snapshot = Scene::new(ladder(), 2).rows(steady(2)).snapshot();
    let mark = "2 --\n 9";
    let texts =
        [hls::multivariant(&snapshot, &keys(), &Pathways::default(), mark), hls::media(&snapshot, &keys(), 0, None, mark)];
    for text in texts {
        assert_eq!(text.lines().nth(1), Some("# weir 2 -%2D%0A 9"));
    }
    let text = dash::mpd(&snapshot, &keys(), UnixMillis(0), &options(), mark).unwrap();
    assert_eq!(text.lines().nth(1), Some("<!-- weir 2 -%2D%0A 9 -->"));
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![8 => Just(Part::Own), 1 => Just(Part::Lost), 1 => Just(Part::Late)]
}

fn cut() -> impl Strategy<Value = Cut> {
    let pause = prop_oneof![9 => Just(0i64), 1 => 1i64..2_000_000];
    (20_000i64..500_000, prop::bool::weighted(0.15), pause, prop::collection::vec(part(), 3)).prop_map(
        |(length, discontinuity, pause, parts)| {
            let cut = Cut { pause: MediaTime(pause), ..Cut::of(MediaTime(length)).parts(&parts) };
            // Time never jumps without a discontinuity.
            Cut { discontinuity: discontinuity || pause > 0, ..cut }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// After each row of a random session both manifests say what the window says, and what was said of a segment stays.
    #[test]
    fn any_window_is_read_back_as_it_is(cuts in prop::collection::vec(cut(), 1..24), target in 2u32..6, hz in 8_000u32..96_001) {
        let mut tracks = ladder();
        tracks[2].format = aac(hz, 2);
        let mut scene = Scene::new(tracks, target);
        let mut said: Vec<Vec<(u64, String)>> = vec![Vec::new(); 3];
        for cut in &cuts {
            if cut.discontinuity && hz.is_multiple_of(2) {
                scene.formats[2] = aac(96_001 - hz / 2, 1);
            }
            scene.row(cut);
            let snapshot = scene.snapshot();
            parsed::check(&snapshot, &keys());
            for (track, before) in said.iter_mut().enumerate() {
                let list = parsed::media(&hls::media(&snapshot, &keys(), track, None, "m"));
                let now: Vec<_> = list
                    .segments
                    .iter()
                    .zip(list.media_sequence..)
                    .map(|(s, n)| (n, format!("{} {} {} {}", s.uri, s.duration, s.discontinuity, parsed::is_gap(s))))
                    .collect();
                let kept: Vec<_> = before.iter().filter(|(n, _)| *n >= list.media_sequence).collect();
                prop_assert!(now.iter().zip(kept).all(|(a, b)| a == b));
                *before = now;
            }
        }
        let last = scene.snapshot();
        let live = dash::mpd(&last, &keys(), UnixMillis(0), &options(), "m");
        let ended = scene.end().snapshot();
        parsed::check(&ended, &keys());
        let after = dash::mpd(&ended, &keys(), UnixMillis(0), &options(), "m");
        // Presentation times and addresses stay for who is playing.
        if let (Some(live), Some(after)) = (live, after) {
            let times = |text: &str| parsed::named(&parsed::mpd(text), &keys());
            prop_assert_eq!(times(&live), times(&after));
        }
    }
}
