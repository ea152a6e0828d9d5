//! Sources that no manual describes: each becomes rungs that every player takes.

use std::process::Command;
use std::sync::Arc;

use crate::harness::clip::{Clip, SMALL};
use crate::harness::flv::Sets;
use crate::harness::players::{self, Play};
use crate::harness::publisher::Publisher;
use crate::harness::runs;
use crate::harness::track::Track;
use crate::harness::watch::{Seen, Watch};
use crate::harness::worker::{SMALL_LADDER, Worker};
use crate::harness::{beside_others, decode, tools};

const CLIP: Clip = Clip { seconds: 6, ..SMALL };

/// What is odd, the rungs that come of it, and the size of the best one.
type Source = (&'static str, Clip, &'static [&'static str], (u32, u32));

const SOURCES: [Source; 21] = [
    ("portrait", Clip { width: 360, height: 640, ..CLIP }, &["src", "240p"], (360, 640)),
    ("square", Clip { width: 360, height: 360, ..CLIP }, &["src", "240p"], (360, 360)),
    ("4:3 with wide samples", Clip { width: 480, height: 360, more: "-vf setsar=4/3", ..CLIP }, &["src", "240p"], (480, 360)),
    ("59.94 frames a second", Clip { fps: 60, gop: 120, more: "-r 60000/1001", ..CLIP }, &["src", "240p"], (640, 360)),
    ("50 frames a second", Clip { fps: 50, gop: 100, ..CLIP }, &["src", "240p"], (640, 360)),
    ("25 frames a second", Clip { fps: 25, gop: 50, ..CLIP }, &["src", "240p"], (640, 360)),
    ("24 frames a second", Clip { fps: 24, gop: 48, ..CLIP }, &["src", "240p"], (640, 360)),
    ("15 frames a second", Clip { fps: 15, gop: 30, ..CLIP }, &["src", "240p"], (640, 360)),
    (
        "a shared screen at 1 frame a second",
        Clip { fps: 1, gop: 2, more: "-bufsize 2000k", ..CLIP },
        &["src", "240p"],
        (640, 360),
    ),
    (
        "frames that come unevenly",
        Clip {
            more: "-vf select=not(mod(n\\,7))+lt(mod(n\\,5)\\,3) -fps_mode vfr -force_key_frames expr:gte(t,n_forced*2)",
            gop: 300,
            ..CLIP
        },
        &["src", "240p"],
        (640, 360),
    ),
    ("176x144", Clip { width: 176, height: 144, kbps: 200, ..CLIP }, &["src", "half"], (176, 144)),
    ("4K", Clip { width: 3840, height: 2160, fps: 10, gop: 20, kbps: 4000, ..CLIP }, &["top", "240p"], (1920, 1080)),
    ("a size of half macroblocks", Clip { width: 638, height: 358, ..CLIP }, &["src", "240p"], (638, 358)),
    ("audio that begins late", Clip { more: "-af atrim=start=3", ..CLIP }, &["src", "240p"], (640, 360)),
    ("audio that stops", Clip { more: "-af atrim=end=3", ..CLIP }, &["src", "240p"], (640, 360)),
    ("10 bits", Clip { more: "-profile:v high10 -pix_fmt yuv420p10le", ..CLIP }, &["top", "240p"], (640, 360)),
    ("4:2:2", Clip { more: "-profile:v high422 -pix_fmt yuv422p", ..CLIP }, &["top", "240p"], (640, 360)),
    ("interlaced", Clip { more: "-flags +ilme+ildct -x264opts tff=1:weightp=0", ..CLIP }, &["top", "240p"], (640, 360)),
    ("an IDR every 8.33 s, as OBS has it", Clip { gop: 250, seconds: 10, ..CLIP }, &["top", "240p"], (640, 360)),
    ("32 kHz", Clip { more: "-ar 32000", ..CLIP }, &["src", "240p"], (640, 360)),
    ("5.1", Clip { more: "-ac 6", ..CLIP }, &["src", "240p"], (640, 360)),
];

/// Sources whose pictures carry the counter where the players' test looks for it; one for each kind of trouble: shape, rate, chroma, sound.
const PLAYED: [&str; 4] = ["portrait", "25 frames a second", "10 bits", "5.1"];

fn published(clip: &Clip, played: bool) -> Seen {
    let file = clip.file();
    let worker = Arc::new(Worker::start(&["--ladder", SMALL_LADDER]));
    let watch = Watch::start(&worker, "anna");
    Publisher::start(&file, &worker, "anna").finish();
    let seen = watch.finish();
    if played {
        let fps = clip.fps.to_string();
        let options = ["--vod", "--seconds", "4", "--fps", &fps];
        let results = Play::start(&worker, "anna", "hls.js,dash.js,shaka-hls,shaka-dash", &options).finish();
        players::went_through(&results, 2);
    }
    Arc::into_inner(worker).expect("the watch is over").stop();
    seen
}

/// What ffprobe says of a track: pixel format, field order, sample aspect ratio.
fn probed(track: &Track) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("track.mp4");
    std::fs::write(&path, &track.file).unwrap();
    let entries = "stream=pix_fmt,sample_aspect_ratio,field_order";
    let arguments = ["-v", "error", "-show_entries", entries, "-of", "default=nk=1:nw=1"];
    let said = tools::run(Command::new("ffprobe").args(arguments).arg(&path));
    String::from_utf8(said.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn odd_sources_become_rungs_that_every_player_takes() {
    players::install();
    let _machine = beside_others();
    for (what, clip, rungs, size) in &SOURCES {
        println!("{what}");
        let played = PLAYED.contains(what);
        // Players stay 4 s on each of two levels.
        let seen = published(&Clip { seconds: if played { 12 } else { clip.seconds }, ..*clip }, played);
        assert_eq!(seen.rungs(), *rungs, "{what}");
        let segments = seen.tracks[rungs[0]].segments.len();
        for (name, media) in &seen.tracks {
            assert_eq!(media.segments.len(), segments, "{what}: {name}");
            assert!(media.gaps().is_empty() && media.segments.iter().all(|s| !s.discontinuity), "{what}: {media:?}");
            let longest = media.segments.iter().map(|s| (s.micros + 500_000) / 1_000_000).max().unwrap();
            assert!(longest <= media.target_duration, "{what}: {name}: {longest} s");
            let track = Track::of(&seen, name);
            track.check();
            if track.init.kind != "avc1" {
                continue;
            }
            decode::brightness(&track);
            assert_eq!(track.starts(), Track::of(&seen, rungs[0]).starts(), "{what}: {name} is aligned to the tick");
            if name == rungs[0] {
                assert_eq!(track.init.size, *size, "{what}");
            }
            if name != "src" {
                let probed = probed(&track);
                assert!(
                    probed.iter().any(|s| s == "yuv420p") && !probed.iter().any(|s| s == "tt" || s == "bb"),
                    "{what}: {probed:?}"
                );
                assert!(probed.iter().all(|s| !s.contains(':') || s == "1:1"), "{what}: square samples: {probed:?}");
            }
        }
        let audio = Track::of(&seen, "audio");
        let rate = if clip.more.contains("32000") { 32_000 } else { 48_000 };
        assert_eq!(audio.init.timescale, rate, "{what}");
    }
}

/// A page that shares its screen announces 30 frames a second, and sends one while nothing moves.
#[test]
fn a_screen_on_which_nothing_moves_any_more_keeps_its_rungs() {
    // As such a page encodes: with look-ahead ffmpeg itself would write the pictures 16 s behind the sound.
    let still =
        "-tune zerolatency -bf 0 -vf select=lt(t\\,6)+not(mod(n\\,30)) -fps_mode vfr -force_key_frames expr:gte(t,n_forced*2)";
    let clip = Clip { seconds: 26, gop: 300, more: still, ..CLIP };
    let _machine = beside_others();
    let seen = published(&clip, false);
    assert_eq!(seen.rungs(), ["src", "240p"]);
    for name in ["src", "audio"] {
        assert!(seen.tracks[name].gaps().is_empty(), "{:?}", seen.tracks[name]);
    }
    // Encoders hold back 16 pictures, which are 16 s now; they are replaced when five came slowly.
    let rung = &seen.tracks["240p"];
    assert!(rung.gaps().iter().all(|number| (2..7).contains(number)), "{rung:?}");
    let again: Vec<u64> = rung.segments.iter().filter(|s| s.discontinuity).map(|s| s.number).collect();
    assert!(again.len() == 1 && (5..9).contains(&again[0]), "one new encoder: {rung:?}");
    // The rung has two encoders' parameter sets: a track of two files.
    for name in ["src", "audio"] {
        Track::of(&seen, name).check();
    }
}

/// rules.md 1, 2, 5 and 7, of sources whose parameter sets change again and again while the publisher stays.
#[test]
fn whatever_changes_within_one_connection_is_a_discontinuity_and_nothing_else() {
    const PART: Clip = Clip { seconds: 4, ..SMALL };
    const SMALLER: Clip = Clip { width: 480, height: 270, ..PART };
    let changes = [
        PART,
        SMALLER,
        Clip { more: "-profile:v main", ..SMALLER },
        // The second parameter set alone: another entropy coder.
        Clip { more: "-profile:v main -coder 0", ..SMALLER },
        Clip { width: 360, height: 640, ..PART },
        Clip { fps: 25, gop: 50, ..PART },
        PART,
    ];
    let _machine = beside_others();
    for (rungs, set) in [(["src", "240p"], "passthrough_kbps=8000"), (["top", "240p"], "passthrough_kbps=200")] {
        let worker = Arc::new(Worker::start(&["--ladder", SMALL_LADDER, "--set", "window=120", "--set", set]));
        std::thread::scope(|scope| {
            for (stream, sets) in [("anna", Sets::Header), ("bert", Sets::InBand)] {
                let (worker, changes) = (&worker, &changes);
                scope.spawn(move || runs::over_one_connection(worker, stream, rungs, changes, sets));
            }
        });
        Arc::into_inner(worker).expect("the watches are over").stop();
    }
}
