//! What a source says beside picture and sound: closed captions in its pictures, and timed metadata between its messages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::harness::boxes;
use crate::harness::captions::{self, CcData};
use crate::harness::clip::{Clip, SMALL};
use crate::harness::publisher::Publisher;
use crate::harness::track::Track;
use crate::harness::watch::Watch;
use crate::harness::worker::{SMALL_LADDER, Worker};
use crate::harness::{beside_others, manifest, tools};

const CLIP: Clip = Clip { seconds: 6, ..SMALL };

/// Texts and when they are due, in milliseconds.
const CUES: [(&str, i64); 2] = [("first cue", 1000), ("second cue", 3500)];

/// Subtitles, which ffmpeg sends as `onTextData`.
fn cues(folder: &Path) -> PathBuf {
    let time = |ms: i64| format!("00:00:{:02},{:03}", ms / 1000, ms % 1000);
    let text = CUES.iter().enumerate().map(|(i, (t, ms))| format!("{}\n{} --> {}\n{t}\n\n", i + 1, time(*ms), time(ms + 500)));
    let path = folder.join("cues.srt");
    std::fs::write(&path, text.collect::<String>()).unwrap();
    path
}

/// Messages of a segment: time in ms and the text of their ID3 tag.
fn messages(segment: &[u8]) -> Vec<(i64, String)> {
    let (mut rest, mut out) = (segment, Vec::new());
    while let Some((size, behind)) = rest.split_first_chunk::<4>() {
        let (body, next) = behind.split_at(u32::from_be_bytes(*size) as usize - 4);
        if body.starts_with(b"emsg\x01") {
            let number = |at: usize| i64::from(u32::from_be_bytes(body[at..at + 4].try_into().unwrap()));
            let (scale, time) = (number(8), number(12) << 32 | number(16));
            assert!(body[28..].starts_with(b"https://aomedia.org/emsg/ID3\0\0ID3\x04"));
            out.push((time * 1000 / scale, String::from_utf8_lossy(&body[28..]).into_owned()));
        }
        rest = next;
    }
    out
}

#[test]
fn captions_and_cues_come_out_of_every_rung() {
    let folder = tempfile::tempdir().unwrap();
    let (clip, cues) = (captions::captioned(&CLIP, folder.path()), cues(folder.path()));
    let _machine = beside_others();
    let worker = Arc::new(Worker::start(&["--ladder", SMALL_LADDER]));
    let watch = Watch::start(&worker, "anna");
    let options = ["-map", "0", "-map", "1", "-c:v", "copy", "-c:a", "copy", "-c:s", "text"];
    Publisher::of(&[&clip, &cues], &options, &worker, "anna").finish();
    let seen = watch.finish();
    let index = worker.get(&manifest::index_path("anna")).text();
    for id in ["CC1", "SERVICE1"] {
        assert!(index.contains("TYPE=CLOSED-CAPTIONS") && index.contains(&format!("INSTREAM-ID=\"{id}\"")), "{index}");
    }
    let mpd = worker.get(&manifest::mpd_path("anna")).text();
    for scheme in ["urn:scte:dash:cc:cea-608:2015", "urn:scte:dash:cc:cea-708:2015", "https://aomedia.org/emsg/ID3"] {
        assert!(mpd.contains(scheme), "{mpd}");
    }
    Arc::into_inner(worker).expect("the watch is over").stop();

    let of = |name: &str| -> BTreeMap<i64, CcData> {
        let track = Track::of(&seen, name);
        track.check();
        track.samples().iter().map(|(sample, bytes)| (sample.pts, captions::read(bytes))).collect()
    };
    let source = of("src");
    assert!(source.values().cloned().eq((0..CLIP.frames()).map(captions::written)), "passthrough");
    assert_eq!(of("240p"), source, "each picture has its own");

    // An independent reader finds them in each picture of the rung.
    let track = Track::of(&seen, "240p");
    let path = folder.path().join("240p.mp4");
    std::fs::write(&path, &track.file).unwrap();
    let entries = ["-v", "error", "-select_streams", "v", "-show_entries", "frame=pts:side_data=side_data_type", "-of", "csv"];
    let said = tools::run(Command::new("ffprobe").args(entries).arg(&path));
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(said.matches("ATSC A53 Part 4 Closed Captions").count(), CLIP.frames(), "{said}");

    for name in ["src", "240p"] {
        let track = Track::of(&seen, name);
        let found: Vec<_> = track.listed.iter().flat_map(|l| messages(&seen.objects[&l.path])).collect();
        assert_eq!(found.len(), CUES.len(), "{name}: {found:?}");
        for ((time, tag), (text, due)) in found.iter().zip(CUES) {
            assert!(tag.contains(&format!("\"text\":\"{text}\"")) && tag.contains("onTextData"), "{name}: {tag}");
            // The clip's first picture is shown two frames behind its decode time.
            assert!((time - due).abs() <= 100, "{name}: {text} at {time} ms");
        }
    }
    assert!(Track::of(&seen, "audio").listed.iter().all(|l| messages(&seen.objects[&l.path]).is_empty()));
    assert!(boxes::nal_types(Track::of(&seen, "240p").samples()[0].1).contains(&6));
}
