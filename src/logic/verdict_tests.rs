use super::*;
use crate::cmaf::video::Chroma;
use crate::logic::capacity::{Dimension, Saving};
use crate::logic::model::Coding;
use crate::logic::obstacle::MAX_GOP;
use crate::logic::pace;

/// 1080p30 of High 4.0 in NV12, as OBS sends it by default but for its key frames.
fn picture() -> Picture {
    Picture {
        coding: Coding::H264,
        profile: 100,
        level: 40,
        sar: (1, 1),
        chroma: Chroma::Quarter,
        depth: 8,
        interlaced: false,
        matrix: None,
    }
}

fn video() -> Video {
    Video {
        picture: Some(picture()),
        codec: "avc1.640028".into(),
        size: (1920, 1080),
        nominal_fps: 30_000,
        fps: Some(30_000),
        is_variable: Some(false),
        gop: Some(MediaTime::from_secs(2)),
        open_gops: 0,
        bitrate: Some(6_000_000),
    }
}

/// Nothing is wrong.
fn well() -> Observed {
    Observed {
        live: true,
        decided: true,
        passthrough: true,
        can_encode: true,
        no_room: None,
        obstacle: None,
        target: MediaTime::from_secs(2),
        short_side_limit: 1080,
        bitrate_limit: 8_000_000,
        video: Some(video()),
        audio: Audio { away: Some(Duration::ZERO), gaps: 0, loudness: Some(-2000), drift: None },
        declared: Metadata { video_bitrate: Some(6_000_000), ..Metadata::default() },
        allowance: None,
        uplink: Some(1000),
        uplink_is_slow: false,
        worker_is_slow: false,
        encoder_lag: None,
        encoders_lost: 0,
        saving: Saving::NONE,
        store_lag: None,
        store_away: false,
        clock_jumps: 0,
        srt: None,
    }
}

fn with(change: impl FnOnce(&mut Observed)) -> Verdict {
    let mut observed = well();
    change(&mut observed);
    judge(&observed)
}

fn of_video(change: impl FnOnce(&mut Video)) -> Verdict {
    with(|o| change(o.video.as_mut().unwrap()))
}

fn of_picture(change: impl FnOnce(&mut Picture)) -> Verdict {
    of_video(|v| change(v.picture.as_mut().unwrap()))
}

/// All that somebody should read.
#[track_caller]
fn wrong(verdict: &Verdict) -> Vec<(Code, Severity)> {
    verdict.findings.iter().filter(|f| f.severity > Severity::Ok).map(|f| (f.code, f.severity)).collect()
}

#[track_caller]
fn only(verdict: &Verdict) -> &Finding {
    let [(code, _)] = wrong(verdict)[..] else { panic!("{verdict:?}") };
    verdict.findings.iter().find(|f| f.code == code).unwrap()
}

#[test]
fn a_stream_that_does_well_has_findings_and_nothing_to_read() {
    let verdict = judge(&well());
    assert_eq!(verdict.overall, Overall::Good);
    assert_eq!(verdict.sentences(), Vec::<String>::new());
    let codes: Vec<_> = verdict.findings.iter().map(|f| f.code.as_str()).collect();
    let looked_at = [
        "long_gop",
        "high_bitrate",
        "not_playable_profile",
        "low_fps",
        "no_audio",
        "silent_audio",
        "uplink_too_slow",
        "store_behind",
    ];
    assert_eq!(codes, looked_at, "what was looked at is told");
    assert!(verdict.findings.iter().all(|f| f.setting.is_none()), "nothing is to be set");
}

#[test]
fn key_frames_of_both_intervals_of_obs_are_told_with_the_setting() {
    let gop = |millis| of_video(|v| v.gop = Some(MediaTime::from_millis(millis)));
    // A scene cut or a rounded interval is no fault.
    assert_eq!(wrong(&gop(2600)), []);
    assert_eq!(wrong(&gop(2601)), [(Code::LongGop, Severity::Notice)]);
    assert_eq!(wrong(&gop(4167)), [(Code::LongGop, Severity::Notice)]);
    assert_eq!(wrong(&of_video(|v| v.gop = Some(MAX_GOP))), [(Code::LongGop, Severity::Notice)]);
    let long = gop(8333);
    let found = only(&long);
    assert_eq!(found.severity, Severity::Warning);
    assert_eq!(found.text, "keyframe interval 8.3 s: set 2 s in OBS");
    assert_eq!((found.measured, found.limit, found.unit), (Some(Milli(8333)), Some(Milli(2600)), Some("s")));
    assert!(found.setting.unwrap().contains("Keyframe Interval: 2 s"));

    let encoded = with(|o| {
        o.passthrough = false;
        o.video.as_mut().unwrap().gop = Some(MediaTime::from_millis(8333));
    });
    assert!(only(&encoded).text.ends_with("; the source is encoded anew meanwhile"), "{:?}", only(&encoded));
}

#[test]
fn a_first_gop_that_is_too_long_is_told_before_it_is_over() {
    let unseen = |obstacle: Option<Obstacle>| {
        with(|o| {
            o.obstacle = obstacle;
            o.video.as_mut().unwrap().gop = None;
        })
    };
    assert_eq!(wrong(&unseen(None)), []);
    assert_eq!(wrong(&unseen(Some(Obstacle::Gop))), [(Code::LongGop, Severity::Warning)]);
    for gop in [None, Some(MediaTime::from_millis(8330))] {
        let full = with(|o| {
            (o.passthrough, o.obstacle, o.no_room) = (false, Some(Obstacle::Gop), Some(Dimension::Cpu));
            o.video.as_mut().unwrap().gop = gop;
        });
        assert!(only(&full).text.ends_with("no room to encode the source anew"), "{:?}", only(&full));
    }
}

#[test]
fn pictures_that_browsers_do_not_play_are_bad_only_where_nobody_encodes() {
    type Change = fn(&mut Picture);
    let cases: [(Change, Code, &str); 4] = [
        (|p| p.interlaced = true, Code::Interlaced, "interlaced video"),
        (|p| (p.depth, p.profile) = (10, 110), Code::TenBit, "10-bit video"),
        (|p| (p.chroma, p.profile) = (Chroma::Half, 122), Code::Chroma, "4:2:2 video"),
        (|p| p.profile = 88, Code::NotPlayableProfile, "H.264 Extended 4.0"),
    ];
    for (change, code, begins) in cases {
        let encoded = of_picture(change);
        assert_eq!(wrong(&encoded), [(code, Severity::Warning)]);
        assert!(only(&encoded).text.starts_with(begins), "{:?}", only(&encoded));
        assert!(only(&encoded).text.ends_with("; the source is encoded anew meanwhile"));
        let alone = with(|o| {
            o.can_encode = false;
            change(o.video.as_mut().unwrap().picture.as_mut().unwrap());
        });
        assert_eq!((wrong(&alone), alone.overall), (vec![(code, Severity::Bad)], Overall::Bad));
        assert!(only(&alone).text.ends_with("; it cannot be encoded anew here"));
    }
}

#[test]
fn hevc_and_av1_are_told_unless_they_are_passed_through() {
    for (coding, profile, name) in [(Coding::Hevc, 1, "HEVC Main"), (Coding::Av1, 0, "AV1 Main")] {
        let of = |passthrough, can_encode| {
            with(|o| {
                (o.passthrough, o.can_encode) = (passthrough, can_encode);
                o.video.as_mut().unwrap().picture = Some(Picture { coding, profile, level: 51, ..picture() });
            })
        };
        assert_eq!(wrong(&of(true, true)), []);
        let encoded = of(false, true);
        assert_eq!((only(&encoded).code, only(&encoded).severity), (Code::NotPlayableProfile, Severity::Notice));
        assert!(only(&encoded).text.starts_with(&format!("{name} is not played by every browser")), "{:?}", only(&encoded));
        assert!(only(&encoded).setting.unwrap().contains("one of H.264"));
        assert_eq!(wrong(&of(false, false)), [(Code::NotPlayableProfile, Severity::Bad)]);
    }
}

#[test]
fn levels_shapes_and_sizes() {
    assert_eq!(wrong(&of_picture(|p| p.level = 42)), []);
    let above = of_picture(|p| p.level = 50);
    assert_eq!((only(&above).code, only(&above).severity), (Code::NotPlayableProfile, Severity::Warning));
    assert_eq!((only(&above).measured, only(&above).limit), (Some(Milli(5000)), Some(Milli(4200))));
    assert_eq!(wrong(&of_picture(|p| p.sar = (8, 9))), [(Code::NonSquare, Severity::Notice)]);
    // The short side counts: upright pictures are no larger than others.
    assert_eq!(wrong(&of_video(|v| v.size = (1080, 1920))), []);
    assert_eq!(wrong(&of_video(|v| v.size = (2560, 1440))), [(Code::TooLarge, Severity::Notice)]);
    assert_eq!(wrong(&of_video(|v| v.open_gops = 1)), [(Code::OpenGop, Severity::Warning)]);
}

#[test]
fn frames_that_are_few_uneven_or_missing() {
    let fps = |fps, nominal| of_video(|v| (v.fps, v.nominal_fps) = (Some(fps), nominal));
    assert_eq!(wrong(&fps(20_000, 20_000)), []);
    assert_eq!(wrong(&fps(19_999, 20_000)), [(Code::LowFps, Severity::Notice)]);
    assert_eq!(wrong(&fps(27_000, 30_000)), []);
    assert_eq!(wrong(&fps(26_999, 30_000)), [(Code::FramesMissing, Severity::Notice)]);
    assert_eq!(wrong(&of_video(|v| v.is_variable = Some(true))), [(Code::VariableFps, Severity::Notice)]);
}

#[test]
fn more_bits_than_is_passed_through_declared_or_allowed() {
    let bits = |bits| {
        with(|o| {
            o.video.as_mut().unwrap().bitrate = Some(bits);
            o.declared.video_bitrate = None;
        })
    };
    assert_eq!(wrong(&bits(8_000_000)), []);
    let much = bits(8_001_000);
    assert_eq!((only(&much).code, only(&much).severity), (Code::HighBitrate, Severity::Warning));
    assert_eq!(only(&much).text, "8001 kbit/s is a lot for viewers: set at most 8000 kbit/s in OBS");
    // Kept out for a peak, though it is less now.
    let kept_out = with(|o| o.obstacle = Some(Obstacle::Bitrate { measured: 9_000_000, limit: 8_000_000 }));
    assert!(only(&kept_out).text.ends_with("; the source is encoded anew meanwhile"), "{:?}", only(&kept_out));

    let declared = |bits| with(|o| o.declared.video_bitrate = Some(bits));
    assert_eq!(wrong(&declared(4_000_000)), []);
    assert_eq!(wrong(&declared(3_999_000)), [(Code::DeclaredOtherwise, Severity::Notice)]);

    let allowed = |limit| with(|o| o.allowance = Some(Standing { measured: 6_200_000, limit }));
    assert_eq!(wrong(&allowed(6_200_000)), []);
    assert!(allowed(6_200_000).findings.iter().any(|f| f.code == Code::OverAllowance), "told to him whose key has one");
    assert_eq!(wrong(&allowed(6_199_000)), [(Code::OverAllowance, Severity::Warning)]);
}

#[test]
fn audio_that_is_missing_stops_is_silent_or_off_its_clock() {
    let audio = |audio| with(|o| o.audio = audio);
    let well = well().audio;
    assert_eq!(wrong(&audio(Audio::default())), [(Code::NoAudio, Severity::Notice)]);
    assert_eq!(wrong(&audio(Audio { away: Some(Duration::from_secs(2)), ..well })), []);
    let stopped = audio(Audio { away: Some(Duration::from_secs(5)), ..well });
    assert_eq!(wrong(&stopped), [(Code::NoAudio, Severity::Warning)]);
    assert_eq!(only(&stopped).text, "audio stopped 5 s ago: silence is sent in its place");
    assert_eq!(wrong(&audio(Audio { gaps: 3, ..well })), [(Code::AudioGaps, Severity::Warning)]);
    assert_eq!(wrong(&audio(Audio { loudness: Some(-6999), ..well })), []);
    assert_eq!(wrong(&audio(Audio { loudness: Some(-7000), ..well })), [(Code::SilentAudio, Severity::Warning)]);
    // Not decided yet: it may still come.
    let early = with(|o| (o.decided, o.audio) = (false, Audio::default()));
    assert_eq!(wrong(&early), []);

    let stretched = audio(Audio { drift: Some((5_000, true)), ..well });
    assert_eq!(wrong(&stretched), [(Code::AudioDrift, Severity::Notice)]);
    assert!(only(&stretched).text.starts_with("audio runs 0.50 % fast against its timestamps: it is resampled"));
    let dropped = audio(Audio { drift: Some((-5_000, false)), ..well });
    assert_eq!(wrong(&dropped), [(Code::AudioDrift, Severity::Warning)]);
    assert!(only(&dropped).text.starts_with("audio runs 0.50 % slow against its timestamps: a frame is left out"));
}

#[test]
fn a_weak_uplink_is_not_a_slow_server() {
    let slow = |uplink| with(|o| (o.uplink, o.uplink_is_slow) = (Some(uplink), true));
    assert_eq!(wrong(&slow(950)), [(Code::UplinkTooSlow, Severity::Warning)]);
    let much = slow(500);
    assert_eq!(wrong(&much), [(Code::UplinkTooSlow, Severity::Bad)]);
    // Four fifths of the half of 6000 kbit/s that comes.
    let text = "the upload is too slow, video arrives at 0.50 of real time: set at most 2400 kbit/s in OBS, or use a cable";
    assert_eq!(only(&much).text, text);
    // A moment of it is none: only `pace` judges the time.
    assert_eq!(wrong(&with(|o| o.uplink = Some(500))), []);

    let lag = pace::ENCODER + Duration::from_secs(1);
    type Change = fn(&mut Observed);
    let ours: [(Change, Code, Severity); 7] = [
        (|o| o.worker_is_slow = true, Code::WorkerBehind, Severity::Bad),
        (|o| o.encoder_lag = Some(pace::ENCODER + Duration::from_secs(1)), Code::EncoderBehind, Severity::Bad),
        (|o| o.encoders_lost = 1, Code::EncoderLost, Severity::Warning),
        (|o| o.saving.rungs_off = 1, Code::Shed, Severity::Warning),
        (|o| o.store_lag = Some(pace::STORE), Code::StoreBehind, Severity::Warning),
        (|o| (o.store_away, o.store_lag) = (true, Some(pace::STORE)), Code::StoreBehind, Severity::Bad),
        (|o| o.clock_jumps = 2, Code::ClockJumps, Severity::Notice),
    ];
    for (change, code, severity) in ours {
        let verdict = with(change);
        assert_eq!(wrong(&verdict), [(code, severity)]);
        assert!(only(&verdict).setting.is_none(), "the streamer can do nothing: {:?}", only(&verdict));
    }
    let behind = with(|o| o.encoder_lag = Some(lag));
    assert_eq!(only(&behind).measured, Some(Milli(i64::try_from(lag.as_millis()).unwrap())));
}

#[test]
fn the_worst_comes_first_and_is_the_streams() {
    let verdict = with(|o| {
        o.store_away = true;
        o.encoders_lost = 1;
        o.video.as_mut().unwrap().is_variable = Some(true);
    });
    let found =
        [(Code::StoreBehind, Severity::Bad), (Code::EncoderLost, Severity::Warning), (Code::VariableFps, Severity::Notice)];
    assert_eq!((wrong(&verdict), verdict.overall), (found.to_vec(), Overall::Bad));
    assert_eq!(verdict.sentences().len(), 3);
    assert!(verdict.has(Code::EncoderLost) && !verdict.has(Code::NoAudio));
    assert_eq!(with(|o| o.encoders_lost = 1).overall, Overall::Degraded);
    assert_eq!(of_video(|v| v.is_variable = Some(true)).overall, Overall::Good);
}

#[test]
fn without_a_publisher_only_the_store_is_looked_at() {
    let away = with(|o| {
        o.live = false;
        o.encoders_lost = 1;
        o.video.as_mut().unwrap().gop = Some(MediaTime::from_secs(9));
    });
    assert_eq!(away.findings.iter().map(|f| f.code).collect::<Vec<_>>(), [Code::StoreBehind]);
}

#[test]
fn numbers_are_written_as_numbers_and_huge_ones_do_no_harm() {
    let long = of_video(|v| v.gop = Some(MediaTime::from_millis(8333)));
    let json = serde_json::to_value(&long.findings[0]).unwrap();
    assert_eq!((&json["code"], &json["severity"]), (&"long_gop".into(), &"warning".into()));
    assert_eq!((&json["measured"], &json["limit"], &json["unit"]), (&8.333.into(), &2.6.into(), &"s".into()));
    let verdict = with(|o| {
        let video = o.video.as_mut().unwrap();
        (video.bitrate, video.fps, video.nominal_fps) = (Some(u64::MAX), Some(u64::MAX), u64::MAX);
        video.gop = Some(MediaTime(i64::MAX));
        (o.uplink, o.uplink_is_slow) = (Some(u64::MAX), true);
        o.declared.video_bitrate = Some(u64::MAX);
        o.encoder_lag = Some(Duration::MAX);
        o.audio.drift = Some((i32::MIN, false));
    });
    assert!(verdict.has(Code::HighBitrate) && verdict.has(Code::EncoderBehind));
}
