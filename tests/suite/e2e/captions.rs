//! What a source says beside picture and sound: closed captions in its pictures, and timed metadata between its messages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::harness::boxes;
use crate::harness::clip::{Clip, SMALL};
use crate::harness::publisher::Publisher;
use crate::harness::track::Track;
use crate::harness::watch::Watch;
use crate::harness::worker::{SMALL_LADDER, Worker};
use crate::harness::{beside_others, manifest, tools};

const CLIP: Clip = Clip { seconds: 6, ..SMALL };

/// Texts and when they are due, in milliseconds.
const CUES: [(&str, i64); 2] = [("first cue", 1000), ("second cue", 3500)];

/// The n-th picture's captions (CTA-608, channel 1) as `cc_data` (ATSC A/53 part 4): the command for two lines that roll up, then letters.
fn pair(n: usize) -> [u8; 3] {
    let (a, b) =
        if n == 0 { (0x14, 0x25) } else { (b'!' + u8::try_from(n / 64).unwrap(), b'!' + u8::try_from(n % 64).unwrap()) };
    let odd = |byte: u8| byte | u8::from(byte.count_ones().is_multiple_of(2)) << 7;
    [0xfc, odd(a), odd(b)]
}

/// The clip with a caption in each picture.
fn captioned(folder: &Path) -> PathBuf {
    let flv = std::fs::read(CLIP.file()).unwrap();
    let (mut out, mut at, mut n) = (flv[..13].to_vec(), 13, 0);
    while at < flv.len() {
        let size = usize::from(flv[at + 1]) << 16 | usize::from(flv[at + 2]) << 8 | usize::from(flv[at + 3]);
        let (head, body) = (&flv[at..at + 11], &flv[at + 11..at + 11 + size]);
        let mut body = body.to_vec();
        if head[0] == 9 && body[1] == 1 {
            let data = [&[0xb5, 0, 0x31][..], b"GA94", &[3, 0x41, 0xff], &pair(n), &[0xff]].concat();
            let sei = [&[6, 4, u8::try_from(data.len()).unwrap()][..], &data, &[0x80]].concat();
            let sei = [&u32::try_from(sei.len()).unwrap().to_be_bytes()[..], &sei].concat();
            body.splice(5..5, sei);
            n += 1;
        }
        out.extend_from_slice(&[&head[..1], &u32::try_from(body.len()).unwrap().to_be_bytes()[1..], &head[4..]].concat());
        out.extend_from_slice(&body);
        out.extend(u32::try_from(11 + body.len()).unwrap().to_be_bytes());
        at += 11 + size + 4;
    }
    let path = folder.join("captioned.flv");
    std::fs::write(&path, out).unwrap();
    path
}

/// Subtitles, which ffmpeg sends as `onTextData`.
fn cues(folder: &Path) -> PathBuf {
    let time = |ms: i64| format!("00:00:{:02},{:03}", ms / 1000, ms % 1000);
    let text = CUES.iter().enumerate().map(|(i, (t, ms))| format!("{}\n{} --> {}\n{t}\n\n", i + 1, time(*ms), time(ms + 500)));
    let path = folder.join("cues.srt");
    std::fs::write(&path, text.collect::<String>()).unwrap();
    path
}

/// `cc_data` of a picture, by a reader that knows as much of it as the test wrote.
fn captions(mut sample: &[u8]) -> Vec<u8> {
    while let Some((length, rest)) = sample.split_first_chunk::<4>() {
        let (unit, behind) = rest.split_at(u32::from_be_bytes(*length) as usize);
        let start = unit.windows(7).position(|w| w == [0xb5, 0, 0x31, b'G', b'A', b'9', b'4']);
        if let (6, Some(at)) = (unit[0] & 0x1f, start) {
            let data = &unit[at + 7..];
            assert_eq!(data[0], 3);
            return data[3..3 + 3 * usize::from(data[1] & 0x1f)].to_vec();
        }
        sample = behind;
    }
    Vec::new()
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
    let (clip, cues) = (captioned(folder.path()), cues(folder.path()));
    let _machine = beside_others();
    let worker = Arc::new(Worker::start(&["--ladder", SMALL_LADDER]));
    let watch = Watch::start(&worker, "anna");
    let options = ["-map", "0", "-map", "1", "-c:v", "copy", "-c:a", "copy", "-c:s", "text"];
    Publisher::of(&[&clip, &cues], &options, &worker, "anna").finish();
    let seen = watch.finish();
    let index = worker.get(&manifest::index_path("anna")).text();
    assert!(index.contains("TYPE=CLOSED-CAPTIONS") && index.contains("INSTREAM-ID=\"CC1\""), "{index}");
    let mpd = worker.get(&manifest::mpd_path("anna")).text();
    assert!(mpd.contains("urn:scte:dash:cc:cea-608:2015") && mpd.contains("https://aomedia.org/emsg/ID3"), "{mpd}");
    Arc::into_inner(worker).expect("the watch is over").stop();

    let of = |name: &str| -> BTreeMap<i64, Vec<u8>> {
        let track = Track::of(&seen, name);
        track.check();
        track.samples().iter().map(|(sample, bytes)| (sample.pts, captions(bytes))).collect()
    };
    let (source, rung) = (of("src"), of("240p"));
    let mut pairs: Vec<_> = source.values().cloned().collect();
    pairs.sort_unstable();
    let mut sent: Vec<_> = (0..CLIP.frames()).map(|n| pair(n).to_vec()).collect();
    sent.sort_unstable();
    assert_eq!(pairs, sent, "passthrough");
    assert_eq!(rung, source, "each picture has its own");

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
