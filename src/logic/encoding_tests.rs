use super::*;
use crate::cmaf::h264::{read_record, tests::RECORD_720P30};
use crate::logic::model::FrameRate;
use bytes::Bytes;

fn encoding() -> Encoding {
    let source = read_record(&Bytes::from_static(RECORD_720P30), None).unwrap();
    let rung = Rung {
        name: "360p".parse().unwrap(),
        width: 640,
        height: 360,
        fps: FrameRate::whole(30),
        halved: false,
        kbps: 700,
        max_kbps: 1050,
    };
    Encoding::new(source, vec![rung])
}

fn unit(ms: i64, idr: bool) -> VideoUnit {
    let t = MediaTime::from_millis(ms);
    VideoUnit { pts: t, dts: t, idr, data: Bytes::from_static(b"data") }
}

fn commands(e: &mut Encoding) -> Vec<Command> {
    std::iter::from_fn(|| e.poll_command()).collect()
}

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_new_process_is_fed_from_the_idr_of_the_oldest_missing_segment_with_its_cuts() {
    let mut e = encoding();
    e.start(at(0));
    for ms in (0..6500).step_by(100) {
        e.push(&unit(ms, ms % 2000 == 0), ms % 2000 == 0, MediaTime::from_millis(4000), at(ms as u64));
        assert!(e.output(0, MediaTime::from_millis(ms)));
    }
    commands(&mut e);
    assert!(e.died(at(6500)));
    let again = commands(&mut e);
    assert!(matches!(again[0], Command::Start { .. }));
    assert!(matches!(&again[1], Command::Feed { unit, cut: true } if unit.pts.millis() == 4000 && unit.idr));
    assert_eq!(again.len(), 1 + 25);
}

#[test]
fn a_picture_that_was_not_given_is_refused() {
    let mut e = encoding();
    assert!(!e.output(0, MediaTime::ZERO));
    e.start(at(0));
    for ms in [1000, 1120, 1040, 1080] {
        e.push(&unit(ms, ms == 1000), false, MediaTime::ZERO, at(0));
    }
    let out = [999, 1000, 1120, 1121].map(|ms| e.output(0, MediaTime::from_millis(ms)));
    assert_eq!(out, [false, true, true, false]);
}

#[test]
fn repeated_deaths_wait() {
    let mut e = encoding();
    e.start(at(0));
    e.died(at(10));
    commands(&mut e);
    e.died(at(20));
    assert!(commands(&mut e).is_empty());
    assert_eq!(e.poll_timeout(), Some(at(1020)));
    e.handle_timeout(at(1020));
    assert!(matches!(commands(&mut e)[0], Command::Start { .. }));
    assert_eq!(e.deaths(), 2);
}

#[test]
fn five_seconds_without_output_while_input_flows_is_a_death() {
    let mut e = encoding();
    e.start(at(0));
    for ms in (0..5000).step_by(100) {
        e.push(&unit(ms, ms == 0), false, MediaTime::ZERO, at(ms as u64));
    }
    commands(&mut e);
    assert_eq!(e.handle_timeout(at(4900)), None);
    assert!(e.handle_timeout(at(5000)).unwrap().contains("360p"));
    assert!(matches!(&commands(&mut e)[0], Command::Kill { reason } if reason.contains("360p")));
}

#[test]
fn the_deadline_for_output_is_a_setting() {
    let mut e = encoding().within(at(4000));
    e.start(at(0));
    for ms in (0..4000).step_by(100) {
        e.push(&unit(ms, ms == 0), false, MediaTime::ZERO, at(ms as u64));
    }
    assert_eq!((e.poll_timeout(), e.handle_timeout(at(3900))), (Some(at(4000)), None));
    assert!(e.handle_timeout(at(4000)).unwrap().contains("for 4 s"));
}

#[test]
fn a_source_that_stalls_is_no_hang() {
    let mut e = encoding();
    e.start(at(0));
    e.push(&unit(0, true), false, MediaTime::ZERO, at(0));
    assert_eq!(e.handle_timeout(at(6000)), None);
    assert_eq!(e.handle_timeout(at(60_000)), None);
    assert!(e.poll_timeout().unwrap() > at(60_000));
}

#[test]
fn a_source_that_becomes_slow_gets_encoders_that_hold_nothing_back() {
    let mut e = encoding();
    e.start(at(0));
    let low_delay = |e: &mut Encoding| {
        commands(e)
            .iter()
            .filter_map(|c| if let Command::Start { low_delay, .. } = c { Some(*low_delay) } else { None })
            .collect::<Vec<_>>()
    };
    for n in 0..6 {
        e.push(&unit(n * 33, n == 0), n == 0, MediaTime::ZERO, at(0));
    }
    assert_eq!((low_delay(&mut e), e.poll_timeout(), e.keep_pace(at(0))), (vec![false], Some(at(5000)), false));
    for n in 1..6 {
        e.push(&unit(n * 1000, n % 2 == 0), n % 2 == 0, MediaTime::ZERO, at(0));
    }
    assert!(e.keep_pace(at(0)));
    assert_eq!((low_delay(&mut e), e.deaths(), e.slack()), (vec![true], 0, MediaTime::from_secs(3)));
    assert_eq!((e.handle_timeout(at(0)), e.keep_pace(at(0))), (None, false));
    // It stays so, also when a process dies.
    for n in 0..6 {
        e.push(&unit(6000 + n * 33, n == 0), n == 0, MediaTime::ZERO, at(0));
    }
    e.died(at(0));
    assert_eq!(low_delay(&mut e), [true]);
}

#[test]
fn a_process_that_holds_back_a_few_pictures_of_a_slow_source_is_not_hung() {
    let mut e = encoding();
    e.start(at(0));
    for n in 0..7 {
        e.push(&unit(n * 1000, n == 0), n == 0, MediaTime::ZERO, at(n as u64 * 1000));
    }
    e.handle_timeout(at(6000));
    assert_eq!((e.handle_timeout(at(6000)), e.is_running()), (None, true));
}

#[test]
fn memory_is_bounded_when_no_idr_comes() {
    let mut e = encoding();
    e.push(&unit(0, true), true, MediaTime::ZERO, at(0));
    for ms in (100..60_000).step_by(100) {
        e.push(&unit(ms, false), false, MediaTime::ZERO, at(0));
    }
    assert!(e.retained().count() <= 101);
}

fn sound(encode: bool) -> AudioPlan {
    let encode = encode.then_some(crate::logic::sound::AudioEncode { bits_per_second: 128_000, target: None, stretch_ppm: 0 });
    AudioPlan { source: crate::cmaf::aac::silent_format(), encode }
}

fn frame(ms: i64) -> AudioUnit {
    AudioUnit { pts: MediaTime::from_millis(ms), data: Bytes::from_static(b"aac") }
}

/// `v` and `a` with their times, for each unit that is fed.
fn fed(commands: &[Command]) -> Vec<(char, i64)> {
    let name = |c: &Command| match c {
        Command::Feed { unit, .. } => Some(('v', unit.pts.millis())),
        Command::FeedAudio(unit) => Some(('a', unit.pts.millis())),
        _ => None,
    };
    commands.iter().filter_map(name).collect()
}

#[test]
fn pictures_that_hang_are_seen_although_audio_flows() {
    let mut e = encoding();
    e.set_audio(Some(sound(true)), at(0));
    for ms in (0..5000).step_by(100) {
        e.push(&unit(ms, ms == 0), false, MediaTime::ZERO, at(ms as u64));
        e.push_audio(&frame(ms), MediaTime::ZERO, at(ms as u64));
        assert!(e.audio_output(MediaTime::from_millis(ms)));
    }
    assert!(e.handle_timeout(at(5000)).unwrap().contains("360p"));
}

#[test]
fn audio_that_hangs_is_seen_although_pictures_flow_unless_it_is_only_measured() {
    for (encode, hangs) in [(true, true), (false, false)] {
        let mut e = encoding();
        e.set_audio(Some(sound(encode)), at(0));
        for ms in (0..5000).step_by(100) {
            e.push(&unit(ms, ms == 0), false, MediaTime::ZERO, at(ms as u64));
            assert!(e.output(0, MediaTime::from_millis(ms)));
            e.push_audio(&frame(ms), MediaTime::ZERO, at(ms as u64));
        }
        assert_eq!(e.poll_timeout(), hangs.then_some(at(5000)));
        assert_eq!(e.handle_timeout(at(5000)).is_some_and(|r| r.contains("audio")), hangs);
    }
}

#[test]
fn a_stream_without_pictures_has_a_process_for_its_audio() {
    let mut e = Encoding::for_audio();
    e.start(at(0));
    assert!(!e.is_running(), "nothing to do yet");
    e.set_audio(Some(sound(true)), at(0));
    e.push_audio(&frame(0), MediaTime::ZERO, at(0));
    let first = commands(&mut e);
    assert!(matches!(first[..], [Command::Start { source: None, .. }, Command::StartAudio(_), Command::FeedAudio(_)]));
    assert_eq!(e.handle_timeout(at(60_000)), None, "a source that stalls is no hang");
    for ms in (100..10_000).step_by(100) {
        e.push_audio(&frame(ms), MediaTime::from_millis(ms - 3000), at(ms as u64));
    }
    commands(&mut e);
    assert!(e.died(at(10_000)));
    let again = fed(&commands(&mut e));
    assert_eq!((again.first(), again.last()), (Some(&('a', 6700)), Some(&('a', 9900))));
}

#[test]
fn a_new_process_is_fed_pictures_and_audio_side_by_side() {
    let mut e = encoding();
    e.start(at(0));
    e.set_audio(Some(sound(true)), at(0));
    for ms in (0..1000).step_by(100) {
        e.push_audio(&frame(ms + 50), MediaTime::ZERO, at(0));
        e.push(&unit(ms, ms == 0), ms == 0, MediaTime::ZERO, at(0));
    }
    let first = commands(&mut e);
    assert!(e.died(at(1000)));
    let again = commands(&mut e);
    assert!(matches!(again[..2], [Command::Start { source: Some(_), .. }, Command::StartAudio(_)]));
    let by_time = |mut f: Vec<(char, i64)>| {
        f.sort_by_key(|(_, ms)| *ms);
        f
    };
    assert_eq!(fed(&again), by_time(fed(&first)));
}

#[test]
fn another_source_begins_anew_in_the_same_process() {
    let mut e = encoding();
    e.start(at(0));
    e.set_audio(Some(sound(false)), at(0));
    e.push_audio(&frame(0), MediaTime::ZERO, at(0));
    e.set_audio(Some(sound(false)), at(0));
    assert_eq!(commands(&mut e).len(), 3, "the same one goes on");
    e.set_audio(Some(sound(true)), at(0));
    assert_eq!(commands(&mut e), [Command::StartAudio(sound(true))]);
    e.died(at(0));
    assert_eq!(fed(&commands(&mut e)), [], "frames of the old one are of no use");
}

#[test]
fn a_drained_process_is_followed_by_one_for_the_audio_that_goes_on() {
    let mut e = Encoding::for_audio();
    e.set_audio(Some(sound(true)), at(0));
    e.drain(at(10));
    e.set_audio(Some(sound(true)), at(20));
    e.push_audio(&frame(20), MediaTime::ZERO, at(20));
    commands(&mut e);
    e.go_on(at(30));
    assert!(commands(&mut e).is_empty(), "not before");
    e.drained();
    e.go_on(at(30));
    assert_eq!(fed(&commands(&mut e)), [('a', 20)]);
}

#[test]
fn audio_that_fails_is_tried_again_later_and_costs_no_picture() {
    let mut e = encoding();
    e.start(at(0));
    e.set_audio(Some(sound(true)), at(0));
    e.push_audio(&frame(0), MediaTime::ZERO, at(0));
    commands(&mut e);
    e.audio_failed(at(100));
    e.push_audio(&frame(100), MediaTime::ZERO, at(100));
    assert!(commands(&mut e).is_empty() && e.is_running());
    assert_eq!(e.poll_timeout(), Some(at(1100)));
    assert_eq!(e.handle_timeout(at(1100)), None);
    assert_eq!(fed(&commands(&mut e)), [('a', 0), ('a', 100)]);
}

#[test]
fn draining_ends_by_answer_or_by_deadline() {
    let mut e = encoding();
    assert!(!e.drain(at(0)), "nothing runs");
    e.start(at(0));
    assert!(e.drain(at(10)));
    e.drained();
    assert!(!e.is_running());
    e.start(at(20));
    e.drain(at(30));
    assert!(e.handle_timeout(at(5030)).is_some());
    assert!(!e.is_running());
}
