//! MPEG-TS as ffmpeg and GStreamer write it: what comes out must be what ffmpeg reads out of the same bytes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use weir::ingest::Packet;
use weir::ingest::mpegts::{Demux, Error, Limits, Media, Stats};
use weir::logic::model::Coding;

const PACKET: usize = 188;

fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let done = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{program} is needed for this test: {e}"));
    assert!(done.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

/// ffmpeg's arguments for a source of small pictures and a tone, without what comes behind the sources.
fn source(rate: &str, samples: &str) -> Vec<String> {
    let video = format!("testsrc2=size=96x64:rate={rate}");
    let audio = format!("sine=frequency=440:sample_rate={samples}");
    ["-v", "error", "-y", "-f", "lavfi", "-i", &video, "-f", "lavfi", "-i", &audio].map(str::to_owned).to_vec()
}

const HEVC: &str =
    "-c:v libx265 -preset ultrafast -g 15 -pix_fmt yuv420p -x265-params log-level=none:bframes=3:keyint=15:hash=1";
const H264: &str = "-c:v libx264 -preset veryfast -threads 1 -bf 3 -g 15 -pix_fmt yuv420p";

/// A stream in a file of its own.
fn make(folder: &Path, name: &str, source: Vec<String>, rest: &str) -> PathBuf {
    let path = folder.join(name);
    let mut arguments = source;
    arguments.extend(rest.split_whitespace().map(str::to_owned));
    arguments.extend(["-f", "mpegts"].map(str::to_owned));
    arguments.push(path.to_str().unwrap().to_owned());
    run("ffmpeg", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    path
}

/// A picture: decode and presentation time, NAL units but for parameter sets, delimiters and filler.
type Picture = (i64, i64, Vec<Vec<u8>>);

/// What a stream holds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Content {
    pictures: Vec<Picture>,
    sounds: Vec<(i64, Vec<u8>)>,
}

/// As ffmpeg reads it. Its first audio stream only.
fn probed(path: &Path) -> Content {
    let entries = "packet=codec_type,stream_index,pts,dts,data:stream=codec_name";
    let json =
        run("ffprobe", &["-v", "error", "-show_entries", entries, "-show_data", "-of", "json=c=1", path.to_str().unwrap()]);
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let hevc = json["streams"].as_array().unwrap().iter().any(|s| s["codec_name"] == "hevc");
    let mut content = Content::default();
    let mut first_audio = None;
    for packet in json["packets"].as_array().unwrap() {
        let data = undumped(packet["data"].as_str().unwrap());
        let (pts, dts) = (packet["pts"].as_i64().unwrap(), packet["dts"].as_i64().unwrap());
        if packet["codec_type"] == "video" {
            content.pictures.push((dts, pts, annexb(&data, hevc)));
        } else if packet["codec_type"] == "audio"
            && *first_audio.get_or_insert(packet["stream_index"].clone()) == packet["stream_index"]
        {
            // protection_absent says whether a CRC follows the header.
            let header = if data[1] & 1 == 1 { 7 } else { 9 };
            content.sounds.push((pts, data[header..].to_vec()));
        }
    }
    content
}

/// ffprobe's dump: an offset, a colon, up to 40 columns of hexadecimal digits, and the characters.
fn undumped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for line in text.lines().filter(|line| line.len() > 10) {
        let digits: Vec<u8> = line.bytes().skip(10).take(40).filter(|b| *b != b' ').collect();
        out.extend(digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()));
    }
    out
}

fn is_media(nal: &[u8], hevc: bool) -> bool {
    let aside = |nal: &[u8]| if hevc { matches!(nal[0] >> 1, 32..=38) } else { matches!(nal[0] & 0x1f, 7..=12) };
    !nal.is_empty() && !aside(nal)
}

fn annexb(data: &[u8], hevc: bool) -> Vec<Vec<u8>> {
    let starts: Vec<usize> = (0..data.len().saturating_sub(2)).filter(|&at| data[at..].starts_with(&[0, 0, 1])).collect();
    let ends = starts.iter().skip(1).copied().chain([data.len()]);
    let nal = |(begin, end): (&usize, usize)| {
        let nal = &data[begin + 3..end];
        nal[..nal.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1)].to_vec()
    };
    starts.iter().zip(ends).map(nal).filter(|nal| is_media(nal, hevc)).collect()
}

fn with_lengths(mut data: &[u8], hevc: bool) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk::<4>() {
        let (nal, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        out.push(nal.to_vec());
        data = rest;
    }
    out.retain(|nal| is_media(nal, hevc));
    out
}

struct Demuxed {
    packets: Vec<Packet>,
    stats: Stats,
    notes: Vec<String>,
}

fn demuxed(bytes: &[u8], piece: usize) -> Demuxed {
    let (mut demux, mut packets) = (Demux::new(Limits::default()), Vec::new());
    for piece in bytes.chunks(piece) {
        demux.push(piece, &mut packets).unwrap();
    }
    demux.finish(&mut packets);
    Demuxed { packets, stats: *demux.stats(), notes: demux.take_notes() }
}

fn content(packets: &[Packet]) -> Content {
    let mut content = Content::default();
    let mut hevc = false;
    for packet in packets {
        match packet {
            Packet::VideoConfig(coding, _) => hevc = *coding == Coding::Hevc,
            Packet::Video { time, composition, data, .. } => {
                content.pictures.push((i64::from(*time), i64::from(*time) + i64::from(*composition), with_lengths(data, hevc)));
            }
            Packet::Audio { time, data } => content.sounds.push((i64::from(*time), data.to_vec())),
            _ => {}
        }
    }
    content
}

/// Equal but for the times of frames within a PES packet, which ffmpeg rounds to whole ticks otherwise than we do: at most one.
fn check_equal(ours: &Content, theirs: &Content, what: &str) {
    assert!(theirs.pictures.len() + theirs.sounds.len() > 20, "{what}: hardly anything in the stream");
    assert_eq!(ours.pictures.len(), theirs.pictures.len(), "{what}: pictures");
    for (n, (ours, theirs)) in ours.pictures.iter().zip(&theirs.pictures).enumerate() {
        assert!(ours == theirs, "{what}, picture {n}: {} {} for {} {}", ours.0, ours.1, theirs.0, theirs.1);
    }
    assert_eq!(ours.sounds.len(), theirs.sounds.len(), "{what}: frames");
    for (n, (ours, theirs)) in ours.sounds.iter().zip(&theirs.sounds).enumerate() {
        assert!(
            ours.1 == theirs.1 && (-1..=1).contains(&(ours.0 - theirs.0)),
            "{what}, frame {n}: {} for {}",
            ours.0,
            theirs.0
        );
    }
}

#[test]
fn what_ffmpeg_writes_comes_out_as_ffmpeg_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    for (name, rate, samples, coded, rest) in [
        ("hevc", "30000/1001", "48000", HEVC, "-c:a aac -ac 2"),
        ("ntsc", "30000/1001", "44100", H264, "-c:a aac -ac 1"),
        ("padded", "60", "48000", H264, "-c:a aac -ac 2 -muxrate 3000k"),
        ("surround", "25", "48000", H264, "-c:a aac -ac 6 -pes_payload_size 0 -flush_packets 1"),
        ("headers", "50", "44100", H264, "-c:a aac -ac 2 -mpegts_flags pat_pmt_at_frames+initial_discontinuity"),
        ("lengths", "30", "48000", H264, "-c:a aac -omit_video_pes_length 0 -mpegts_start_pid 0x1ff -pcr_period 40"),
        ("film", "24000/1001", "32000", H264, "-c:a aac"),
    ] {
        let path = make(folder.path(), name, source(rate, samples), &format!("-t 2 {coded} {rest}"));
        let (bytes, theirs) = (std::fs::read(&path).unwrap(), probed(&path));
        for piece in [PACKET, 7 * PACKET, 1000, bytes.len()] {
            let Demuxed { packets, stats, notes } = demuxed(&bytes, piece);
            check_equal(&content(&packets), &theirs, name);
            assert_eq!(
                (stats.continuity_errors, stats.lost_units, stats.resyncs, stats.broken_sections, stats.broken_pes),
                (0, 0, 0, 0, 0),
                "{name}"
            );
            assert_eq!((stats.skipped_audio_bytes, stats.untimed_units, notes.len()), (0, 0, 0), "{name}: {notes:?}");
            let configs = packets.iter().filter(|p| matches!(p, Packet::VideoConfig(..) | Packet::AudioConfig(_))).count();
            assert_eq!(configs, 2, "{name}");
        }
    }
}

/// As M2TS files have them: ffmpeg writes those too, but has no type for AAC there.
#[test]
fn packets_behind_time_codes_bring_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = clip(folder.path());
    let coded: Vec<u8> = bytes.chunks(PACKET).flat_map(|packet| [&[0x12, 0x34, 0x56, 0x78][..], packet].concat()).collect();
    let (plain, coded) = (content(&demuxed(&bytes, 1316).packets), demuxed(&coded, 1316));
    check_equal(&content(&coded.packets), &plain, "192 bytes");
    assert_eq!((coded.stats.resyncs, coded.stats.continuity_errors, coded.stats.lost_units), (0, 0, 0));
}

#[cfg(feature = "gst")]
#[test]
fn what_gstreamer_writes_comes_out_as_ffmpeg_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gst");
    let pipeline = format!(
        "mpegtsmux name=m alignment=7 ! filesink location={} \
         videotestsrc num-buffers=60 ! video/x-raw,width=96,height=64,framerate=30000/1001 ! x264enc key-int-max=15 bframes=2 ! h264parse ! m. \
         audiotestsrc num-buffers=90 ! audio/x-raw,rate=48000,channels=2 ! audioconvert ! avenc_aac ! aacparse ! m.",
        path.display()
    );
    run("gst-launch-1.0", &[&["-q"][..], &pipeline.split_whitespace().collect::<Vec<_>>()].concat());
    let (bytes, theirs) = (std::fs::read(&path).unwrap(), probed(&path));
    for piece in [7 * PACKET, 1000] {
        let Demuxed { packets, stats, .. } = demuxed(&bytes, piece);
        check_equal(&content(&packets), &theirs, "mpegtsmux");
        assert_eq!((stats.continuity_errors, stats.lost_units, stats.untimed_units), (0, 0, 0));
    }
}

/// A stream that the following tests damage.
fn clip(folder: &Path) -> Vec<u8> {
    let path = make(folder, "clip", source("30000/1001", "48000"), &format!("-t 3 {H264} -b:v 600k -c:a aac"));
    std::fs::read(path).unwrap()
}

#[test]
fn lost_packets_cost_what_they_belong_to_and_nothing_is_made_up() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = clip(folder.path());
    let whole = content(&demuxed(&bytes, 1316).packets);
    // One in a hundred, by a step that meets every PID; the tables and the first picture stay.
    let kept: Vec<u8> =
        bytes.chunks(PACKET).enumerate().filter(|(n, _)| *n < 60 || n % 101 != 0).flat_map(|(_, p)| p.to_vec()).collect();
    let lost = (bytes.len() - kept.len()) / PACKET;
    assert!(lost >= 5, "{lost}");
    let Demuxed { packets, stats, .. } = demuxed(&kept, 1316);
    let out = content(&packets);
    assert!(out.pictures.iter().all(|p| whole.pictures.contains(p)), "a picture that was never sent");
    assert!(out.sounds.iter().all(|s| whole.sounds.contains(s)), "a frame that was never sent");
    let gone = whole.pictures.len() - out.pictures.len() + whole.sounds.len() - out.sounds.len();
    assert!(gone > 0 && gone <= lost * 5, "{gone} units for {lost} packets");
    assert!(stats.continuity_errors > 0 && stats.continuity_errors <= lost as u64, "{stats:?}");
}

#[test]
fn a_clock_that_wraps_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plain");
    std::fs::write(&path, clip(folder.path())).unwrap();
    let plain = content(&demuxed(&std::fs::read(&path).unwrap(), 1316).packets);
    // 2^33 / 90000 is 95443.7 s; ffmpeg's muxer puts 1.4 s in front.
    let again = ["-v", "error", "-y", "-copyts", "-i", path.to_str().unwrap()].map(str::to_owned).to_vec();
    let path = make(folder.path(), "wraps", again, "-c copy -output_ts_offset 95439.5");
    let Demuxed { packets, stats, .. } = demuxed(&std::fs::read(path).unwrap(), 1316);
    let wrapped: Vec<u32> =
        packets.iter().filter_map(|p| if let Packet::Video { time, .. } = p { Some(*time) } else { None }).collect();
    assert_eq!(wrapped.len(), plain.pictures.len());
    let shift = wrapped[0].wrapping_sub(plain.pictures[0].0 as u32);
    for (time, picture) in wrapped.iter().zip(&plain.pictures) {
        assert_eq!(time.wrapping_sub(picture.0 as u32), shift);
    }
    assert!(wrapped.windows(2).any(|w| w[1] < w[0]), "it does not wrap");
    assert_eq!(stats.pcr_jumps, 0);
}

#[test]
fn another_program_and_another_clock_in_mid_stream_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let first = clip(folder.path());
    let rest =
        format!("-t 2 {H264} -s 128x96 -c:a aac -mpegts_start_pid 0x300 -mpegts_pmt_start_pid 0x200 -output_ts_offset 5000");
    let second = std::fs::read(make(folder.path(), "second", source("25", "44100"), &rest)).unwrap();
    let (a, b) = (demuxed(&first, 1316), demuxed(&second, 1316));
    let Demuxed { packets, stats, .. } = demuxed(&[first, second].concat(), 1316);
    let both = |f: fn(&Content) -> usize| f(&content(&a.packets)) + f(&content(&b.packets));
    assert_eq!(content(&packets).pictures.len(), both(|c| c.pictures.len()));
    assert_eq!(content(&packets).sounds.len(), both(|c| c.sounds.len()));
    assert_eq!(packets.iter().filter(|p| matches!(p, Packet::VideoConfig(..))).count(), 2);
    assert_eq!(stats.program_changes, 1, "{stats:?}");
}

#[test]
fn tracks_are_named_by_language_and_what_is_not_taken_by_codec() {
    let folder = tempfile::tempdir().unwrap();
    let two = format!(
        "-t 1 {H264} -map 0:v -map 1:a -map 1:a -map 1:a -c:a:0 aac -c:a:1 aac -c:a:2 mp2 -metadata:s:a:0 language=deu -metadata:s:a:1 language=fra -metadata:s:a:2 language=eng"
    );
    let bytes = std::fs::read(make(folder.path(), "two", source("25", "48000"), &two)).unwrap();
    let mut demux = Demux::new(Limits::default());
    demux.push(&bytes, &mut Vec::new()).unwrap();
    let seen: Vec<(Media, Option<&str>)> = demux.streams().iter().map(|s| (s.media, s.language.as_deref())).collect();
    assert_eq!(
        seen,
        [
            (Media::Video(Coding::H264), None),
            (Media::Aac, Some("deu")),
            (Media::Aac, Some("fra")),
            (Media::OtherAudio("MPEG audio (MP2, MP3)"), Some("eng"))
        ]
    );
    assert_eq!(demux.take_notes().len(), 2);
    for (codecs, name) in [
        ("-c:v mpeg2video -c:a mp2", "MPEG-2 video"),
        ("-vn -c:a aac -mpegts_flags latm", "AAC in LATM"),
        ("-vn -c:a ac3", "AC-3 audio"),
        ("-vn -c:a eac3", "E-AC-3 audio"),
        ("-vn -c:a libopus -strict -2", "Opus audio"),
    ] {
        let bytes = std::fs::read(make(folder.path(), "other", source("25", "48000"), &format!("-t 1 {codecs}"))).unwrap();
        let error = Demux::new(Limits::default()).push(&bytes, &mut Vec::new()).unwrap_err();
        assert_eq!(error, Error::Unsupported { codecs: name.into() });
    }
}
