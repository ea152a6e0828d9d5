//! The audio of the codec process: sound in, sound out, at the same time.

use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use weir::cmaf::aac;
use weir::link::wire::{FromCodec, ToCodec};
use weir::logic::loudness::Loudness;
use weir::logic::sound::{self, AudioEncode, AudioPlan};

use super::clip::{Clip, ffmpeg};
use super::process::{Codec, message, plan};

/// FLV's header and the length of no tag before the first.
const FLV_HEADER: &[u8] = b"FLV\x01\x04\0\0\0\x09\0\0\0\0";

/// Audio as a publisher sends it: raw AAC frames with times in 1/90000 s.
#[derive(Debug, Clone, Default)]
struct Audio {
    asc: Bytes,
    frames: Vec<(i64, Bytes)>,
}

/// A beep of 0.1 s in the middle of each second, at half of full scale.
const BEEP: &str = "0.5*sin(2*PI*1000*t)*between(mod(t\\,1)\\,0.5\\,0.6)";

impl Audio {
    /// By ffmpeg's `aac`, from a source of `aevalsrc` (channels behind each other with `|`); `extra` goes to ffmpeg before the output.
    fn make(expressions: &str, layout: &str, rate: u32, seconds: u32, extra: &[&str]) -> Self {
        let source = format!("aevalsrc={expressions}:c={layout}:s={rate}:d={seconds}");
        let mut arguments = vec!["-f", "lavfi", "-i", &source, "-c:a", "aac"];
        arguments.extend(extra);
        arguments.extend(["-f", "flv", "-flvflags", "no_duration_filesize", "-"]);
        Self::read(&ffmpeg("error", &arguments, None))
    }

    fn fixture(name: &str) -> Self {
        Self::read(&std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)).unwrap())
    }

    fn read(flv: &[u8]) -> Self {
        let mut audio = Self::default();
        let mut rest = &flv[FLV_HEADER.len()..];
        while rest.len() > 15 {
            let size = usize::from(rest[1]) << 16 | usize::from(rest[2]) << 8 | usize::from(rest[3]);
            let time = i64::from(u32::from_be_bytes([rest[7], rest[4], rest[5], rest[6]]));
            let (body, tail) = rest[11..].split_at(size);
            match (rest[0], body) {
                (8, [_, 0, asc @ ..]) => audio.asc = Bytes::copy_from_slice(asc),
                (8, [_, 1, frame @ ..]) => audio.frames.push((time * 90, Bytes::copy_from_slice(frame))),
                _ => {}
            }
            rest = &tail[4..];
        }
        assert!(!audio.asc.is_empty() && !audio.frames.is_empty());
        audio
    }

    fn flv(&self) -> Vec<u8> {
        let mut out = FLV_HEADER.to_vec();
        let mut put = |time: i64, kind: u8, data: &[u8]| {
            let size = (data.len() + 2) as u32;
            let time = u32::try_from(time / 90).unwrap().to_be_bytes();
            out.push(8);
            out.extend(&size.to_be_bytes()[1..]);
            out.extend([time[1], time[2], time[3], time[0], 0, 0, 0, 0xaf, kind]);
            out.extend(data);
            out.extend((size + 11).to_be_bytes());
        };
        let first = self.frames[0].0;
        put(0, 0, &self.asc);
        self.frames.iter().for_each(|(pts, data)| put(pts - first, 1, data));
        out
    }

    fn file(&self) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audio.flv");
        std::fs::write(&path, self.flv()).unwrap();
        (folder, path)
    }

    /// What ffmpeg decodes, as 48 kHz mono.
    fn decoded(&self) -> Vec<i16> {
        let (_folder, path) = self.file();
        let raw = ffmpeg("error", &["-ac", "1", "-ar", "48000", "-f", "s16le", "-"], Some(&path));
        raw.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect()
    }

    /// Microseconds at which a beep begins: half of the highest peak is passed behind 0.3 s of less.
    fn beeps(&self) -> Vec<i64> {
        let samples = self.decoded();
        let half = samples.iter().map(|s| s.unsigned_abs()).max().unwrap() / 2;
        let mut loud = -48_000;
        let mut out = Vec::new();
        for (n, sample) in (0..).zip(&samples) {
            if sample.unsigned_abs() > half {
                if n - loud > 14_400 {
                    out.push(self.frames[0].0 * 100 / 9 + n * 1_000_000 / 48_000);
                }
                loud = n;
            }
        }
        out
    }

    /// Integrated loudness by ffmpeg's own filter, LUFS.
    fn loudness(&self) -> f64 {
        let (_folder, path) = self.file();
        let said = std::process::Command::new("ffmpeg")
            .args(["-hide_banner", "-nostdin", "-i"])
            .arg(&path)
            .args(["-filter_complex", "ebur128", "-f", "null", "-"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        let summary = said.rsplit("Summary:").next().unwrap();
        let value = summary.split("I:").nth(1).and_then(|rest| rest.split_whitespace().next());
        value.unwrap_or_else(|| panic!("{said}")).parse().unwrap()
    }

    fn plan(&self, encode: Option<AudioEncode>) -> AudioPlan {
        AudioPlan { source: aac::read_config(&self.asc).unwrap(), encode }
    }
}

const ENCODE: AudioEncode = AudioEncode { bits_per_second: sound::BITS_PER_SECOND, target: None, stretch_ppm: 0 };

/// Everything that came back of some audio.
#[derive(Debug, Default)]
struct Heard {
    audio: Audio,
    loudness: Vec<Loudness>,
    failed: Option<String>,
    ended: usize,
}

impl Heard {
    /// Takes one message. `true` for the last.
    fn take(&mut self, (message, payload): (FromCodec, Bytes)) -> bool {
        match message {
            FromCodec::Audio { pts, .. } => self.audio.frames.push((pts, payload)),
            FromCodec::Loudness { loudness, .. } => self.loudness.push(loudness),
            FromCodec::AudioFailed { reason, .. } => self.failed = Some(reason),
            FromCodec::AudioEnded { .. } => self.ended += 1,
            FromCodec::Ended { .. } => return true,
            other => panic!("{other:?}"),
        }
        false
    }
}

fn start_audio(plan: AudioPlan) -> Vec<u8> {
    message(&ToCodec::StartAudio { stream: 1, plan: Box::new(plan) }, &[]).to_vec()
}

fn frames(audio: &Audio) -> Vec<u8> {
    audio.frames.iter().flat_map(|(pts, data)| message(&ToCodec::Audio { stream: 1, pts: *pts }, data).to_vec()).collect()
}

/// Sends `bytes`, then the end, and takes what comes. The process must go well.
fn run(bytes: Vec<u8>) -> (Heard, String) {
    let mut codec = Codec::start();
    codec.greet();
    let mut writer = codec.writer();
    let feeding = std::thread::spawn(move || {
        let end = message(&ToCodec::End { stream: 1 }, &[]);
        let _ = writer.write_all(&bytes).and_then(|()| writer.write_all(&end));
    });
    let mut heard = Heard { audio: Audio { asc: aac::silent_format().asc, frames: Vec::new() }, ..Heard::default() };
    while !heard.take(codec.receive().expect("the process answers before it goes")) {}
    feeding.join().unwrap();
    let (status, log) = codec.finish();
    assert!(status.success() && !log.contains("panicked"), "{status} {log}");
    (heard, log)
}

/// Encodes a source and checks what must hold of every one that is not damaged. Gives the largest distance of a beep from its place, microseconds.
fn encoded(audio: &Audio, encode: AudioEncode) -> (Heard, i64) {
    let (heard, log) = run([start_audio(audio.plan(Some(encode))), frames(audio)].concat());
    assert!(heard.failed.is_none() && log.is_empty(), "{:?} {log}", heard.failed);
    let made = &heard.audio.frames;
    assert!(
        made.windows(2).all(|w| (1800..2040).contains(&(w[1].0 - w[0].0))),
        "frames of 1024 samples, to a millisecond of the source"
    );
    let (before, after) = (audio.beeps(), heard.audio.beeps());
    assert_eq!(before.len(), after.len(), "{before:?} {after:?}");
    let off: Vec<i64> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
    println!("  beeps {off:?} us off");
    let worst = off.iter().map(|o| o.abs()).max().unwrap();
    (heard, worst)
}

/// RTMP counts milliseconds.
const MAX_OFFSET_MICROS: i64 = 1_000;

#[test]
fn what_is_encoded_again_is_heard_at_its_own_time() {
    for (what, audio) in [
        ("AAC-LC, 48 kHz", Audio::make(&format!("{BEEP}|{BEEP}"), "stereo", 48_000, 5, &[])),
        ("AAC-LC, 44.1 kHz", Audio::make(&format!("{BEEP}|{BEEP}"), "stereo", 44_100, 5, &[])),
        ("AAC-LC, 22.05 kHz, mono", Audio::make(BEEP, "mono", 22_050, 5, &[])),
        ("AAC-LC 5.1, 48 kHz", Audio::make(&format!("0|0|{BEEP}|0|0|0"), "5.1", 48_000, 5, &["-b:a", "256k"])),
        ("AAC-LC 5.1, 44.1 kHz", Audio::make(&format!("0|0|0|0|{BEEP}|{BEEP}"), "5.1", 44_100, 5, &["-b:a", "256k"])),
        ("AAC-LC 7.1", Audio::make(&format!("{BEEP}|{BEEP}|0|0|0|0|0|0"), "7.1", 48_000, 5, &["-b:a", "384k"])),
        ("AAC-LC 5.0", Audio::make(&format!("0|0|{BEEP}|0|0"), "5.0", 48_000, 5, &[])),
        ("AAC Main", Audio::make(&format!("{BEEP}|{BEEP}"), "stereo", 48_000, 5, &["-profile:a", "aac_main", "-strict", "-2"])),
        ("HE-AAC", Audio::fixture("he-aac.flv")),
        ("HE-AAC v2", Audio::fixture("he-aac-v2.flv")),
    ] {
        println!("{what}");
        let (_, off) = encoded(&audio, ENCODE);
        assert!(off < MAX_OFFSET_MICROS, "{what}: {off} us");
    }
}

/// A tone in Hz, by how often it crosses zero in the middle of what is heard.
fn frequency(audio: &Audio) -> f64 {
    let samples = audio.decoded();
    let middle = &samples[24_000..samples.len() - 24_000];
    let crossings: Vec<usize> = (1..middle.len()).filter(|&n| middle[n - 1] < 0 && middle[n] >= 0).collect();
    (crossings.len() - 1) as f64 * 48_000.0 / (crossings.last().unwrap() - crossings[0]) as f64
}

#[test]
fn audio_whose_clock_is_off_comes_out_at_the_publishers() {
    for (rate, ppm) in [(48_000, 5000), (48_000, -5000), (44_100, 5000), (44_100, -19_000)] {
        let pace = |time: i64| time * 1_000_000 / (1_000_000 + ppm);
        let encode = AudioEncode { stretch_ppm: i32::try_from(ppm).unwrap(), ..ENCODE };
        let retime = |a: &mut Audio| {
            let first = a.frames[0].0;
            a.frames.iter_mut().for_each(|(pts, _)| *pts = first + pace(*pts - first) / 90 * 90);
        };
        let mut tone = Audio::make("0.3*sin(2*PI*1000*t)|0.3*sin(2*PI*1000*t)", "stereo", rate, 10, &[]);
        retime(&mut tone);
        let (heard, _) = encoded_tone(&tone, encode);
        let made = &heard.audio.frames;
        let given = tone.frames.len() as i64 * 1024 * 48_000 / i64::from(rate);
        let extra = made.len() as i64 * 1024 - pace(given);
        // what encoder and limiter put in front, and the end of a frame
        assert!((0..=3 * 1024).contains(&extra), "{rate} Hz, {ppm} ppm: {extra} samples more than expected");
        let span = made[made.len() - 1].0 - made[0].0;
        assert!((span - (made.len() as i64 - 1) * 1920).abs() <= 180, "{rate} Hz, {ppm} ppm: off by {span} and no drift");
        let (is, should) = (frequency(&heard.audio), 1000.0 * (1.0 + ppm as f64 / 1e6));
        println!("{rate} Hz, {ppm} ppm: {is} Hz, {extra} samples more");
        assert!((is / should - 1.0).abs() < 0.001, "{rate} Hz, {ppm} ppm: {is} Hz");

        let mut marks = Audio::make(&format!("{BEEP}|{BEEP}"), "stereo", rate, 10, &[]);
        let first = marks.frames[0].0 * 100 / 9;
        let expected: Vec<i64> = marks.beeps().into_iter().map(|b| first + pace(b - first)).collect();
        retime(&mut marks);
        let (heard, _) = encoded_tone(&marks, encode);
        let off: Vec<i64> = heard.audio.beeps().iter().zip(&expected).map(|(is, should)| is - should).collect();
        println!("  beeps {off:?} us off");
        assert!(off.len() == 10 && off.iter().all(|o| o.abs() < 2 * MAX_OFFSET_MICROS), "{rate} Hz, {ppm} ppm: {off:?}");
    }
}

#[test]
fn what_players_would_decode_is_plain_stereo_of_the_rate_that_was_asked_for() {
    let noise = "0.2*random(0)-0.1|0.2*random(1)-0.1|0.2*random(2)-0.1|0|0.2*random(4)-0.1|0.2*random(5)-0.1";
    let (heard, _) = run({
        let audio = Audio::make(noise, "5.1", 48_000, 8, &["-b:a", "384k"]);
        [start_audio(audio.plan(Some(ENCODE))), frames(&audio)].concat()
    });
    let (_folder, path) = heard.audio.file();
    let shown = std::process::Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "stream=profile,sample_rate,channels", "-of", "csv=p=0"])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&shown.stdout).trim(), "LC,48000,2");
    let bytes: usize = heard.audio.frames.iter().map(|(_, data)| data.len()).sum();
    let rate = bytes * 8 * 48_000 / (heard.audio.frames.len() * 1024);
    assert!((110_000..=140_000).contains(&rate), "{rate} bit/s");
}

#[test]
fn loudness_is_what_ffmpeg_measures() {
    // Two steps of pink noise with a pause, so that the gates have something to do.
    let step = |n: u32| format!("(random({n})-0.5)*if(lt(t\\,4)\\,0.4\\,if(lt(t\\,6)\\,0.0001\\,0.1))");
    let tone = "0.3*sin(2*PI*440*t)";
    for (what, audio) in [
        ("stereo", Audio::make(&format!("{}|{}", step(0), step(1)), "stereo", 48_000, 12, &["-b:a", "192k"])),
        ("44.1 kHz", Audio::make(&format!("{tone}|{}", step(1)), "stereo", 44_100, 12, &["-b:a", "192k"])),
        ("mono", Audio::make(tone, "mono", 48_000, 12, &[])),
        ("5.1", Audio::make(&[0, 1, 2, 3, 4, 5].map(step).join("|"), "5.1", 48_000, 12, &["-b:a", "384k"])),
        ("HE-AAC", Audio::fixture("he-aac.flv")),
    ] {
        // Only measured, as audio that is copied.
        let (heard, log) = run([start_audio(audio.plan(None)), frames(&audio)].concat());
        assert!(heard.failed.is_none() && log.is_empty() && heard.audio.frames.is_empty(), "{:?} {log}", heard.failed);
        let seconds = audio.frames.last().unwrap().0 / 90_000;
        assert!((heard.loudness.len() as i64 - seconds).abs() <= 1, "once a second: {}", heard.loudness.len());
        let ours = f64::from(heard.loudness.last().unwrap().integrated.unwrap()) / 100.0;
        let theirs = audio.loudness();
        println!("{what}: {ours} LUFS, by ffmpeg {theirs}");
        assert!((ours - theirs).abs() < 0.5, "{what}: {ours} {theirs}");
        assert!(heard.loudness.iter().all(|l| l.gain.is_none()));
    }
}

#[test]
fn a_target_is_reached_slowly_and_nothing_is_cut() {
    let target = Some(-2000);
    for (what, amplitude, seconds) in [("quiet", 0.02, 30), ("loud", 0.9, 16)] {
        let tone = format!("{amplitude}*sin(2*PI*997*t)");
        let audio = Audio::make(&format!("{tone}|{tone}"), "stereo", 48_000, seconds, &[]);
        let (heard, _) = encoded_tone(&audio, AudioEncode { target, ..ENCODE });
        let before = audio.loudness();
        let samples = heard.audio.decoded();
        let gains: Vec<i32> = heard.loudness.iter().filter_map(|l| l.gain).collect();
        println!("{what}: {before} LUFS, gains {gains:?}");
        let most = |w: &[i32]| (-2001..=501).contains(&(w[1] - w[0]));
        assert!(gains.windows(2).all(most), "{gains:?}");
        // the last seconds, as a clip of their own
        let last = Audio { frames: heard.audio.frames[heard.audio.frames.len() - 188..].to_vec(), ..heard.audio.clone() };
        let after = last.loudness();
        let reached = if what == "quiet" { before + 12.0 } else { -20.0 };
        println!("{what}: {after} LUFS at the end");
        assert!((after - reached).abs() < 0.6, "{what}: {after}, not {reached}");
        assert!(samples.iter().all(|s| s.unsigned_abs() < 32_000), "{what}: -1 dB of full scale, and what AAC adds");
    }
}

/// As [`encoded`], for sound without beeps.
fn encoded_tone(audio: &Audio, encode: AudioEncode) -> (Heard, String) {
    let (heard, log) = run([start_audio(audio.plan(Some(encode))), frames(audio)].concat());
    assert!(heard.failed.is_none() && log.is_empty(), "{:?} {log}", heard.failed);
    (heard, log)
}

#[test]
fn holes_and_jumps_of_the_source_come_out_where_they_went_in() {
    let mut audio = Audio::make(&format!("{BEEP}|{BEEP}"), "stereo", 44_100, 6, &[]);
    // Frames are missing between two beeps, and the clock goes on; later it jumps.
    audio.frames.drain(70..80);
    let jump = 90_000 * 1000;
    audio.frames.iter_mut().skip(150).for_each(|(pts, _)| *pts += jump);
    let (heard, _) = encoded_tone(&audio, ENCODE);
    let steps: Vec<i64> = heard.audio.frames.windows(2).map(|w| w[1].0 - w[0].0).filter(|step| *step > 2100).collect();
    let (hole, jumped) = (10 * 1024 * 90_000 / 44_100, jump);
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert!((steps[0] - hole - 1920).abs() < 180 && (steps[1] - jumped - 1920).abs() < 180, "{steps:?}");
}

#[test]
fn another_source_takes_over_behind_all_that_was_inside() {
    let first = Audio::make(&format!("{BEEP}|{BEEP}"), "stereo", 44_100, 3, &[]);
    let mut second = Audio::fixture("he-aac.flv");
    second.frames.iter_mut().for_each(|(pts, _)| *pts += 270_000);
    let bytes = [
        start_audio(first.plan(Some(ENCODE))),
        frames(&first),
        start_audio(second.plan(Some(ENCODE))),
        frames(&second),
        start_audio(first.plan(None)),
    ];
    let (heard, log) = run(bytes.concat());
    assert!(heard.failed.is_none() && log.is_empty(), "{:?} {log}", heard.failed);
    assert_eq!(heard.ended, 2);
    // Behind the first: all its sound, and the second one's begins where it should.
    let times: Vec<i64> = heard.audio.frames.iter().map(|(pts, _)| *pts).collect();
    let joint = times.windows(2).position(|w| w[1] < w[0]).unwrap() + 1;
    assert!((times[joint] - 270_000).abs() < 3800, "{}", times[joint]);
    let last = first.frames.last().unwrap().0 + 1024 * 90_000 / 44_100;
    assert!(times[joint - 1] + 1920 >= last, "{} of {last}", times[joint - 1]);
}

#[test]
fn pictures_and_audio_do_not_wait_for_each_other() {
    let clip = Clip::make(320, 180, 30, 4, &[]);
    let audio = Audio::make(&format!("{BEEP}|{BEEP}"), "stereo", 48_000, 4, &[]);
    let mut codec = Codec::start();
    codec.greet();
    let start = ToCodec::Start { stream: 1, plan: Box::new(plan(&clip, &[(160, 90, false)])) };
    codec.send_raw(&message(&start, &[]));
    codec.send_raw(&start_audio(audio.plan(Some(ENCODE))));
    // Audio alone gives frames although no picture has come.
    codec.send_raw(&frames(&audio));
    let mut heard = Heard::default();
    while heard.audio.frames.len() < 150 {
        assert!(!heard.take(codec.receive().unwrap()));
    }
    for u in &clip.units {
        let video = ToCodec::Video { stream: 1, pts: u.pts, dts: u.dts, idr: u.idr, cut: u.idr };
        codec.send_raw(&message(&video, &u.data));
    }
    codec.send_raw(&message(&ToCodec::End { stream: 1 }, &[]));
    let mut units = 0;
    loop {
        match codec.receive().unwrap() {
            (FromCodec::Unit { .. }, _) => units += 1,
            (FromCodec::Config { .. }, _) => {}
            other if heard.take(other.clone()) => break,
            _ => {}
        }
    }
    assert_eq!(units, clip.units.len());
    assert!(heard.audio.frames.len() >= 187, "{}", heard.audio.frames.len());
}

#[test]
fn audio_that_cannot_be_decoded_costs_no_process_and_no_picture() {
    let good = Audio::make(&format!("{BEEP}|{BEEP}"), "stereo", 48_000, 2, &[]);
    let mut seed = 0x1234_5678_9abc_def1_u64;
    let mut dice = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 24) as u8
    };
    let mut cases = Vec::new();
    let mut garbage = good.clone();
    garbage.frames.iter_mut().for_each(|(_, data)| *data = (0..200).map(|_| dice()).collect());
    cases.push(("garbage", garbage));
    let mut flipped = good.clone();
    for (_, data) in flipped.frames.iter_mut() {
        let mut bytes = data.to_vec();
        for _ in 0..4 {
            let at = usize::from(dice()) % bytes.len();
            bytes[at] ^= 1 << (dice() % 8);
        }
        *data = bytes.into();
    }
    cases.push(("flipped bits", flipped));
    let mut tiny = good.clone();
    tiny.frames.iter_mut().for_each(|(_, data)| *data = Bytes::from_static(&[0xff]));
    cases.push(("one byte", tiny));
    let mut wrong = good.clone();
    wrong.asc = Bytes::from_static(&[0xeb, 0x09, 0x88, 0x00]);
    cases.push(("another configuration", wrong));
    let mut back = good.clone();
    back.frames.iter_mut().for_each(|(pts, _)| *pts = -*pts);
    cases.push(("backwards", back));
    let mut far = good.clone();
    far.frames.iter_mut().for_each(|(pts, _)| *pts = i64::MAX);
    cases.push(("out of range", far));
    for (what, audio) in cases {
        for encode in [None, Some(AudioEncode { target: Some(-2300), ..ENCODE })] {
            let (heard, log) = run([start_audio(audio.plan(encode)), frames(&audio)].concat());
            println!("{what}: {} frames, {:?}, {} lines", heard.audio.frames.len(), heard.failed, log.lines().count());
            assert!(log.lines().count() <= 25, "{what}: {log}");
            assert!(heard.audio.frames.iter().all(|(_, data)| data.len() <= aac::MAX_FRAME_BYTES));
        }
    }
}

#[test]
fn a_frame_that_is_none_ends_the_process() {
    let audio = Audio::make(BEEP, "mono", 48_000, 1, &[]);
    for (data, says) in [(vec![], "frame of audio of 0 bytes"), (vec![0; 8193], "frame of audio of 8193 bytes")] {
        let mut codec = Codec::start();
        codec.greet();
        codec.send_raw(&start_audio(audio.plan(Some(ENCODE))));
        codec.send_raw(&message(&ToCodec::Audio { stream: 1, pts: 0 }, &data));
        while codec.receive().is_some() {}
        let (status, log) = codec.finish();
        assert!(status.code() == Some(2) && log.contains(says), "{log}");
    }
    let mut codec = Codec::start();
    codec.greet();
    codec.send_raw(&message(&ToCodec::Audio { stream: 9, pts: 0 }, &[1]));
    assert!(codec.receive().is_none());
    let (_, log) = codec.finish();
    assert!(log.contains("stream 9, which was not started"), "{log}");
}

#[test]
fn an_end_without_a_frame_is_answered() {
    let audio = Audio::make(BEEP, "mono", 48_000, 1, &[]);
    let (heard, log) = run(start_audio(audio.plan(Some(ENCODE))));
    assert!(heard.audio.frames.is_empty() && heard.failed.is_none() && log.is_empty(), "{:?} {log}", heard.failed);
}
