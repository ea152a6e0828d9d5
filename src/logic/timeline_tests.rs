use super::*;
use crate::cmaf::aac;
use crate::cmaf::h264::read_record;
use crate::cmaf::h264::tests::{RECORD_720P30, records};
use proptest::prelude::*;

const NOW: Duration = Duration::ZERO;

fn format() -> VideoFormat {
    read_record(&Bytes::from_static(RECORD_720P30), None).unwrap()
}

fn timeline(policy: Policy) -> Timeline {
    let mut t = Timeline::new(policy);
    t.video_config(format(), NOW);
    t.audio_config(aac::silent_format(), NOW);
    t
}

/// Pushes 30 fps video (B-frames: decode order 0 3 1 2 6 4 5 ...) with IDRs at the given milliseconds, until `end`.
fn play(t: &mut Timeline, idrs: &[i64], from: i64, end: i64) -> Vec<Event> {
    let mut out = Vec::new();
    let frames = (from * 3 / 100)..(end * 3 / 100);
    for n in frames {
        let ms = n * 100 / 3;
        let idr = idrs.iter().any(|&i| (i * 3 + 99) / 100 == n);
        out.extend(t.video(ms as u32, 66, idr, Bytes::from(vec![0; 1000]), NOW));
        out.extend(t.audio(ms as u32, Bytes::from_static(b"a"), NOW));
    }
    out
}

/// (number, start in ms, discontinuity)
fn cuts(events: &[Event]) -> Vec<(u64, i64, bool)> {
    let row = |c: &Cut| (c.number, c.start.millis(), c.discontinuity);
    events
        .iter()
        .flat_map(|e| match e {
            Event::Decided(d) => d.cuts.iter().map(row).collect(),
            Event::Cut(c) => vec![row(c)],
            _ => vec![],
        })
        .collect()
}

fn decision(events: &[Event]) -> &Decision {
    events.iter().find_map(|e| if let Event::Decided(d) = e { Some(d) } else { None }).expect("decided")
}

fn every(step: i64, end: i64) -> Vec<i64> {
    (0..).map(|n| n * step).take_while(|&t| t < end).collect()
}

#[test]
fn a_two_second_gop_is_passed_through_and_cut_at_its_idrs() {
    let events = play(&mut timeline(Policy::default()), &every(2000, 10_000), 0, 8100);
    let d = decision(&events);
    assert!(d.passthrough);
    assert_eq!(d.target_duration, 2);
    assert_eq!(cuts(&events), [(0, 0, false), (1, 2000, false), (2, 4000, false), (3, 6000, false), (4, 8000, false)]);
}

#[test]
fn short_gops_are_joined_up_to_the_target() {
    let events = play(&mut timeline(Policy::default()), &every(500, 10_000), 0, 6100);
    assert_eq!(cuts(&events).iter().map(|c| c.1).collect::<Vec<_>>(), [0, 2000, 4000, 6000]);
    assert_eq!(decision(&events).target_duration, 2);
}

#[test]
fn obs_at_its_defaults_is_reencoded_and_cut_every_two_seconds() {
    let events = play(&mut timeline(Policy::default()), &[0, 8333], 0, 9000);
    let d = decision(&events);
    assert!(!d.passthrough);
    assert_eq!(d.reason, Some(Obstacle::Gop));
    assert_eq!(d.target_duration, 2);
    assert_eq!(d.cuts.len(), 3, "the segments of the 4.5 s that were waited for");
    assert_eq!(cuts(&events).iter().map(|c| c.1).collect::<Vec<_>>(), [0, 2000, 4000, 6000, 8000]);
}

#[test]
fn four_seconds_at_sixty_frames_pass_with_a_longer_target_duration() {
    let events = play(&mut timeline(Policy::default()), &every(4167, 20_000), 0, 13_000);
    let d = decision(&events);
    assert!(d.passthrough);
    assert_eq!(d.target_duration, 5);
}

#[test]
fn refuse_and_long_segments_do_what_they_say() {
    let refuse = Policy { long_gop: LongGop::Refuse, ..Policy::default() };
    let events = play(&mut timeline(refuse), &[0, 8333], 0, 9000);
    assert!(events.iter().any(|e| matches!(e, Event::Refused(r) if r.contains("2 s in OBS"))));
    let long = Policy { long_gop: LongGop::LongSegments, ..Policy::default() };
    let events = play(&mut timeline(long), &[0, 8333, 16_667], 0, 17_000);
    assert!(decision(&events).passthrough);
    assert_eq!(decision(&events).target_duration, 9);
    assert_eq!(cuts(&events).len(), 3);
}

/// OBS at its defaults sends an IDR every 250 frames: 8.33 s at 30 a second, 4.17 s at 60. What comes of it: passed
/// through, target duration, longest segment in tenths of a second (key frames are on a grid of pictures); or refused.
#[test]
fn each_setting_for_long_gops_with_both_intervals_of_obs() {
    let outcome = |long_gop, gop| {
        let events = play(&mut timeline(Policy { long_gop, ..Policy::default() }), &every(gop, 40_000), 0, 20_000);
        if events.iter().any(|e| matches!(e, Event::Refused(_))) {
            return None;
        }
        let (d, longest) = (decision(&events), cuts(&events).windows(2).map(|w| w[1].1 - w[0].1).max().unwrap());
        Some((d.passthrough, d.target_duration, (longest + 99) / 100))
    };
    let pass_60 = Some((true, 5, 42));
    for (setting, at_30, at_60) in [
        (LongGop::Auto, Some((false, 2, 20)), pass_60),
        (LongGop::Reencode, Some((false, 2, 20)), pass_60),
        (LongGop::Refuse, None, pass_60),
        (LongGop::LongSegments, Some((true, 9, 84)), pass_60),
    ] {
        assert_eq!((outcome(setting, 8333), outcome(setting, 4167)), (at_30, at_60), "{setting:?}");
    }
}

#[test]
fn a_cut_says_how_long_before_it_is_live_it_is_known() {
    let early = |composition: i32| {
        let mut t = timeline(Policy::default());
        let pictures = (0..10u32).flat_map(|n| t.video(n * 1000, composition, n % 2 == 0, Bytes::from_static(b"v"), NOW));
        let cuts = pictures.filter_map(|e| if let Event::Cut(c) = e { Some(c.early.millis()) } else { None });
        cuts.collect::<Vec<_>>()
    };
    assert_eq!((early(0), early(2000)), (vec![0, 0, 0], vec![2000, 2000, 2000]));
}

#[test]
fn a_scene_cut_is_used_rather_than_exceeding_the_target_duration() {
    // x264 restarts its key frame count at a scene cut: 1.9 s and then 2 s later
    let events = play(&mut timeline(Policy::default()), &[0, 2000, 4000, 5900, 7900, 9900], 0, 10_100);
    let c = cuts(&events);
    assert!(c.windows(2).all(|w| w[1].1 - w[0].1 <= 2499), "{c:?}");
    assert!(c.iter().any(|c| (5867..=5934).contains(&c.1)), "{c:?}");
}

/// (start in ms, discontinuity, source) of the cuts behind the decision.
fn sources(events: &[Event]) -> Vec<(i64, bool, bool)> {
    events
        .iter()
        .filter_map(|e| if let Event::Cut(c) = e { Some((c.start.millis(), c.discontinuity, c.source)) } else { None })
        .collect()
}

#[test]
fn a_gop_that_grows_over_the_target_duration_leaves_the_source_out_until_it_has_proved_itself() {
    let mut idrs = vec![0, 2000, 4000];
    idrs.extend(every(2000, 40_000).iter().map(|t| t + 10_000));
    let events = play(&mut timeline(Policy::default()), &idrs, 0, 50_000);
    let c = cuts(&events);
    assert!(c.windows(2).all(|w| w[1].1 - w[0].1 <= 2534), "{c:?}");
    let s = sources(&events);
    let away: Vec<_> = s.iter().filter(|(_, _, source)| !source).collect();
    assert!((6400..6500).contains(&away[0].0) && away[0].1, "{s:?}");
    assert!(away[1..].iter().all(|c| !c.1), "one discontinuity, not many: {s:?}");
    let back = s.iter().find(|c| c.2 && c.0 > 7000).expect("it comes back");
    assert_eq!((back.0, back.1), (40_000, true), "30 s behind the IDR at 10 s: {s:?}");
}

#[test]
fn without_encoders_a_long_gop_makes_a_long_segment() {
    let policy = Policy { can_encode: false, ..Policy::default() };
    let events = play(&mut timeline(policy), &[0, 2000, 4000, 10_000, 12_000], 0, 12_100);
    assert_eq!(cuts(&events).iter().map(|c| c.1).collect::<Vec<_>>(), [0, 2000, 4000, 10_000, 12_000]);
}

fn of(hex: &str) -> VideoFormat {
    read_record(&records::bytes(hex), None).unwrap()
}

#[test]
fn a_source_that_browsers_cannot_play_is_reencoded_and_nothing_is_waited_for() {
    let mut t = Timeline::new(Policy::default());
    t.video_config(of(records::HIGH_10), NOW);
    t.audio_config(aac::silent_format(), NOW);
    let events = play(&mut t, &every(8333, 10_000), 0, 8100);
    let d = decision(&events);
    assert_eq!((d.passthrough, &d.reason, d.target_duration), (false, &Some(Obstacle::Depth(10)), 2));
    assert!(d.audio.is_some());
    assert_eq!(d.cuts.len(), 2, "decided at the first boundary, not after 4.5 s");
    assert_eq!(cuts(&events).iter().map(|c| c.1).collect::<Vec<_>>(), [0, 2000, 4000, 6000, 8000]);
}

#[test]
fn where_nobody_encodes_what_cannot_be_played_is_refused_and_the_rest_passes() {
    let policy = Policy { can_encode: false, passthrough_short_side: 100, ..Policy::default() };
    for hex in [records::HIGH_10, records::HIGH_422, records::HIGH_444, records::INTERLACED] {
        let mut t = Timeline::new(policy.clone());
        t.video_config(of(hex), NOW);
        let events = play(&mut t, &every(2000, 10_000), 0, 4000);
        assert!(matches!(&events[..], [Event::Refused(reason)] if reason.contains("does not encode")), "{events:?}");
    }
    let events = play(&mut timeline(policy.clone()), &every(2000, 10_000), 0, 4100);
    assert!(decision(&events).passthrough && matches!(decision(&events).reason, Some(Obstacle::Size { .. })));
    // In mid-stream too.
    let mut t = timeline(policy);
    play(&mut t, &every(2000, 10_000), 0, 5000);
    t.video_config(of(records::INTERLACED), NOW);
    let events = play(&mut t, &[6000], 5000, 6500);
    assert_eq!(events.iter().filter(|e| matches!(e, Event::Refused(_))).count(), 1);
    assert!(matches!(t.pause()[..], [Event::Closed { dropped: false, .. }]), "what came before is kept");
}

#[test]
fn a_format_that_cannot_be_passed_through_leaves_the_source_out_until_another_one_comes() {
    let mut t = timeline(Policy::default());
    let mut events = play(&mut t, &every(2000, 10_000), 0, 4500);
    assert!(decision(&events).passthrough);
    t.video_config(of(records::HIGH_10), NOW);
    events.extend(play(&mut t, &every(1000, 50_000), 4500, 45_000));
    t.video_config(format(), NOW);
    events.extend(play(&mut t, &every(1000, 50_000), 45_000, 48_100));
    let s = sources(&events);
    let before: Vec<_> = s.iter().filter(|c| c.0 < 5000).collect();
    assert!(before.iter().all(|c| c.2 && !c.1), "{before:?}");
    let barred: Vec<_> = s.iter().filter(|c| (5000..45_000).contains(&c.0)).collect();
    assert!(barred.iter().all(|c| !c.2), "however short its GOPs are: {barred:?}");
    assert_eq!(
        barred.iter().map(|c| c.0).collect::<Vec<_>>(),
        every(2000, 40_000).iter().map(|t| t + 5000).collect::<Vec<_>>()
    );
    assert_eq!(barred.iter().filter(|c| c.1).count(), 1, "one discontinuity: {barred:?}");
    let back: Vec<_> = s.iter().filter(|c| c.0 >= 45_000).collect();
    assert!(back[0].0 == 45_000 && back[0].1 && back.iter().all(|c| c.2), "at once: {back:?}");
}

#[test]
fn a_writer_that_goes_on_with_a_session_looks_at_the_source_it_gets() {
    let past = Past { source: Some(Coding::H264), video: true, target_duration: 2, end: MediaTime::from_secs(10) };
    for (format, passes) in [(format(), true), (of(records::INTERLACED), false)] {
        let mut t = Timeline::resumed(Policy::default(), &past);
        t.video_config(format, NOW);
        let events = play(&mut t, &every(2000, 10_000), 0, 4100);
        assert!(sources(&events).iter().all(|c| c.2 == passes), "{:?}", sources(&events));
        assert_eq!(cuts(&events).len(), 3);
    }
}

#[test]
fn refusing_long_gops_refuses_nothing_else() {
    let refuse = Policy { long_gop: LongGop::Refuse, passthrough_short_side: 360, ..Policy::default() };
    let events = play(&mut timeline(refuse), &every(2000, 10_000), 0, 5000);
    assert!(!decision(&events).passthrough && !events.iter().any(|e| matches!(e, Event::Refused(_))));
}

#[test]
fn a_reconnect_goes_on_with_a_discontinuity_and_never_back() {
    let mut t = timeline(Policy::default());
    let mut events = play(&mut t, &every(2000, 10_000), 0, 5000);
    events.extend(t.pause());
    assert!(matches!(events.last(), Some(Event::Closed { dropped: false, .. })));
    t.resume(MediaTime::from_secs(9));
    events.extend(play(&mut t, &every(2000, 10_000), 0, 4100));
    assert_eq!(cuts(&events)[2..], [(2, 4000, false), (3, 9000, true), (4, 11_000, false), (5, 13_000, false)]);
}

#[test]
fn a_tail_under_half_a_second_is_dropped_and_its_number_used_again() {
    let mut t = timeline(Policy::default());
    let mut events = play(&mut t, &every(2000, 10_000), 0, 4200);
    events.extend(t.pause());
    assert!(matches!(events.last(), Some(Event::Closed { dropped: true, .. })));
    t.resume(MediaTime::from_secs(6));
    events.extend(play(&mut t, &every(2000, 10_000), 0, 100));
    assert_eq!(cuts(&events).last(), Some(&(2, 6000, true)));
}

#[test]
fn another_format_takes_effect_at_the_next_idr_with_a_discontinuity() {
    let mut t = timeline(Policy::default());
    let mut events = play(&mut t, &every(2000, 10_000), 0, 4500);
    t.video_config(VideoFormat { width: 640, ..format() }, NOW);
    events.extend(play(&mut t, &[5000, 7000], 4500, 7100));
    let c = events.iter().find_map(|e| if let Event::Cut(c) = e { c.video.as_ref().map(|_| c) } else { None }).unwrap();
    assert!(c.discontinuity);
    assert_eq!(c.video.as_ref().unwrap().width, 640);
    assert_eq!(c.start.millis(), 5000);
}

/// Segments lie one behind another.
fn in_order(events: &[Event]) -> Vec<(i64, i64)> {
    let all = segments(events);
    assert!(all.windows(2).all(|w| w[0].1 <= w[1].0), "{all:?}");
    all
}

#[test]
fn another_format_that_comes_at_once_drops_what_is_too_short_by_it() {
    // The last picture, 480 ms behind the cut, would be shown for 33 ms: long enough for a segment, but the next one begins 490 ms behind it.
    let mut t = timeline(Policy::default());
    let mut events = show(&mut t, (0..63).map(|n| n * 40), &[0, 2000]);
    t.video_config(VideoFormat { width: 640, ..format() }, NOW);
    for ms in (2490..5000).step_by(40) {
        events.extend(t.video(ms, 0, ms == 2490 || ms == 4490, Bytes::from_static(b"x"), NOW));
    }
    assert_eq!(in_order(&events), [(0, 2000), (2490, 4490)]);
}

#[test]
fn a_picture_that_is_shown_before_the_end_of_what_was_closed_is_moved_behind_it() {
    // Nobody encodes, so what is behind the hole has no IDR and the segment is closed; then one comes that says it is shown 13 ms before its end.
    let mut t = timeline(Policy { can_encode: false, ..Policy::default() });
    let mut events = show(&mut t, (0..98).map(|n| n * 40).chain([5800]), &[0, 2000]);
    for ms in (5840..8000).step_by(40) {
        events.extend(t.video(ms, -1940, ms == 5840 || ms == 7840, Bytes::from_static(b"x"), NOW));
    }
    assert_eq!(in_order(&events), [(0, 2000), (2000, 3913), (3913, 5913)]);
}

#[test]
fn late_audio_of_another_format_waits_for_a_discontinuity() {
    let mut t = Timeline::new(Policy::default());
    t.video_config(format(), NOW);
    let mut events = play(&mut t, &every(2000, 10_000), 0, 4500);
    assert!(decision(&events).audio.is_none());
    t.audio_config(aac::read_config(&Bytes::from_static(&[0x12, 0x08])).unwrap(), NOW);
    events.extend(play(&mut t, &every(2000, 10_000), 4500, 8500));
    let first = events.iter().position(|e| matches!(e, Event::Audio(_))).unwrap();
    let cut = events.iter().position(|e| matches!(e, Event::Cut(c) if c.audio.is_some() && c.discontinuity)).unwrap();
    assert!(cut < first);
}

#[test]
fn two_seconds_without_video_make_an_audio_only_stream() {
    let mut t = Timeline::new(Policy::default());
    t.audio_config(aac::silent_format(), NOW);
    let mut events = Vec::new();
    for n in 0..400u32 {
        let ms = n * 1024 / 48;
        events.extend(t.audio(ms, Bytes::from_static(b"a"), Duration::from_millis(ms.into())));
    }
    let d = decision(&events);
    assert!(d.video.is_none() && !d.passthrough);
    assert_eq!(cuts(&events).len(), 5);
    assert_eq!(events.iter().filter(|e| matches!(e, Event::Audio(_))).count(), 400);
}

#[test]
fn video_missing_while_audio_runs_closes_the_segment() {
    let mut t = timeline(Policy::default());
    play(&mut t, &every(2000, 10_000), 0, 5000);
    let mut events = Vec::new();
    for ms in (5000..9000).step_by(21) {
        events.extend(t.audio(ms, Bytes::from_static(b"a"), NOW));
    }
    assert_eq!(events.iter().filter(|e| matches!(e, Event::Closed { .. })).count(), 1);
    events = play(&mut t, &[9000], 9000, 9100);
    assert!(cuts(&events)[0].2);
}

#[test]
fn audio_before_the_first_key_frame_is_dropped() {
    let mut t = timeline(Policy::default());
    t.audio(0, Bytes::from_static(b"early"), NOW);
    let events = play(&mut t, &[1000, 3000, 5000], 1000, 5100);
    assert!(!events.iter().any(|e| matches!(e, Event::Audio(u) if &u.data[..] == b"early")));
}

#[test]
fn a_stream_shorter_than_a_segment_is_not_lost() {
    let mut t = timeline(Policy::default());
    let mut events = play(&mut t, &[0], 0, 1500);
    events.extend(t.pause());
    assert_eq!(cuts(&events), [(0, 0, false)]);
    assert!(matches!(events.last(), Some(Event::Closed { dropped: false, .. })));
}

/// Pictures with one time for decoding and showing, at these milliseconds; IDRs at the ones in `idrs`. Audio goes on all the time.
fn show(t: &mut Timeline, pictures: impl IntoIterator<Item = i64>, idrs: &[i64]) -> Vec<Event> {
    let mut out = Vec::new();
    let mut audio = 0;
    for ms in pictures {
        while audio <= ms {
            out.extend(t.audio(audio as u32, Bytes::from_static(b"a"), NOW));
            audio += 20;
        }
        out.extend(t.video(ms as u32, 0, idrs.contains(&ms), Bytes::from(vec![0; 1000]), NOW));
    }
    out
}

/// Every segment as (start, end) in ms.
fn segments(events: &[Event]) -> Vec<(i64, i64)> {
    let mut out: Vec<(i64, i64)> = Vec::new();
    let mut open = None;
    let cuts = |e: &Event| match e {
        Event::Decided(d) => d.cuts.clone(),
        Event::Cut(c) => vec![c.clone()],
        _ => vec![],
    };
    for e in events {
        for c in cuts(e) {
            let end = c.hole_from.unwrap_or(c.start).millis();
            out.extend(open.replace(c.start.millis()).map(|start| (start, end)));
        }
        if let Event::Closed { end, dropped } = e {
            out.extend(open.take().filter(|_| !dropped).map(|start| (start, end.millis())));
        }
    }
    out
}

#[test]
fn missing_pictures_end_a_segment_that_would_be_too_long() {
    // Of a GOP of 2 s the last picture is at 3.9 s, and the IDR at 4 s was lost with the rest of the GOP.
    let pictures = (0..98).map(|n| n * 40).chain((145..300).map(|n| n * 40));
    let events = show(&mut timeline(Policy::default()), pictures.clone(), &[0, 2000, 5800, 7800, 9800]);
    assert_eq!(segments(&events), [(0, 2000), (2000, 3913), (5800, 7800), (7800, 9800)]);
    assert_eq!(sources(&events).iter().filter(|s| !s.2).count(), 0, "{:?}", sources(&events));
    // The first picture behind the hole is no IDR: encoders make one, and stand in for the source.
    let events = show(&mut timeline(Policy::default()), pictures.clone(), &[0, 2000, 6000, 8000, 10_000]);
    assert_eq!(segments(&events)[..3], [(0, 2000), (2000, 3913), (5800, 7800)]);
    assert!(!sources(&events)[1].2);
    // Without them nothing can begin before the next IDR.
    let alone = Policy { can_encode: false, ..Policy::default() };
    let events = show(&mut timeline(alone), pictures, &[0, 2000, 6000, 8000, 10_000]);
    assert_eq!(segments(&events), [(0, 2000), (2000, 3913), (6000, 8000), (8000, 10_000)]);
}

#[test]
fn encoded_segments_too_end_where_pictures_are_missing() {
    // A hole over a cut makes that segment longer, and the next one shorter: the grid stays.
    let pictures = (0..190).map(|n| n * 40).chain((210..400).map(|n| n * 40));
    let events = show(&mut timeline(Policy::default()), pictures, &[0, 8320]);
    assert_eq!(segments(&events)[..6], [(0, 2000), (2000, 4000), (4000, 6000), (6000, 8400), (8400, 10_000), (10_000, 12_000)]);
    // A hole over several targets leaves no tiny segment behind it.
    let pictures = (0..160).map(|n| n * 40).chain((350..600).map(|n| n * 40));
    let events = show(&mut timeline(Policy::default()), pictures, &[0, 14_000, 20_000]);
    assert!(segments(&events).iter().all(|(start, end)| (500..=2478).contains(&(end - start))), "{:?}", segments(&events));
}

#[test]
fn slow_pictures_make_segments_in_time() {
    for step in [500, 700, 900, 1300] {
        let pictures: Vec<i64> = (0..40).map(|n| n * step).collect();
        let events = show(&mut timeline(Policy::default()), pictures, &[0]);
        let target = i64::from(decision(&events).target_duration);
        assert!(segments(&events).iter().all(|(start, end)| end - start <= target * 1000 + 478), "{:?}", segments(&events));
        assert_eq!(cuts(&events).iter().filter(|c| c.2).count(), 0, "nothing is missing at {step} ms");
    }
}

#[test]
fn a_composition_time_of_hours_is_garbage() {
    let mut t = timeline(Policy::default());
    let mut events = play(&mut t, &every(2000, 20_000), 0, 5000);
    events.extend(t.video(5000, 8_000_000, false, Bytes::from_static(b"x"), NOW));
    events.extend(t.video(5033, -8_000_000, false, Bytes::from_static(b"x"), NOW));
    events.extend(play(&mut t, &every(2000, 20_000), 5100, 9000));
    assert_eq!(cuts(&events).iter().map(|c| c.1).collect::<Vec<_>>(), [0, 2000, 4000, 6000, 8000]);
    assert!(t.end() <= MediaTime::from_secs(10));
}

#[test]
fn an_idr_is_never_shown_before_the_picture_before_it() {
    // A step back of 180 ms is no jump, but here a segment begins.
    let pictures = (0..100).map(|n| n * 40).chain((100..300).map(|n| n * 40 - 180));
    let events = show(&mut timeline(Policy::default()), pictures, &[0, 2000, 3820, 5820, 7820]);
    let c = cuts(&events);
    assert_eq!(c.iter().map(|c| c.1).collect::<Vec<_>>(), [0, 2000, 3993, 5993, 7993, 10_433]);
    let mut open = MediaTime::ZERO;
    for e in &events {
        match e {
            Event::Cut(c) => open = c.start,
            Event::Video { unit, .. } => assert!(unit.pts >= open),
            _ => {}
        }
    }
}

#[test]
fn pictures_shown_before_a_cut_belong_to_the_segment_before() {
    // Decode order 0 3 1 2 6 4 5 of a stream that is cut every 2 s: the cut falls on a picture whose two B pictures come behind it.
    let mut t = timeline(Policy::default());
    let mut events = Vec::new();
    for n in 0..300i64 {
        let shown = if n == 0 { 0 } else { (n - 1) / 3 * 3 + [3, 1, 2][((n - 1) % 3) as usize] };
        let composition = (shown - n + 2) * 40;
        events.extend(t.video((n * 40) as u32, composition as i32, n == 0, Bytes::from(vec![0; 100]), NOW));
    }
    let mut cut = (MediaTime::ZERO, 0);
    let mut before = 0;
    for e in &events {
        match e {
            Event::Cut(c) => cut = (c.start, 0),
            Event::Video { unit, cut: first } => {
                assert!(!first || unit.pts == cut.0);
                before += usize::from(unit.pts < cut.0);
                // Only the two behind it, and the horizon has not passed them.
                cut.1 += 1;
                assert!(unit.pts >= cut.0 || cut.1 <= 3);
            }
            Event::Horizon(h) => assert!(*h <= cut.0 || cut.1 > 1),
            _ => {}
        }
    }
    assert!(before > 0);
}

#[test]
fn an_audio_stream_with_a_hole_is_cut_in_the_silence() {
    let mut t = Timeline::new(Policy::default());
    t.audio_config(aac::silent_format(), NOW);
    let mut events = Vec::new();
    for n in (0..300u64).chain(600..800) {
        events.extend(t.audio((n * 20) as u32, Bytes::from_static(b"a"), Duration::from_millis(n * 20)));
    }
    let c: Vec<i64> = cuts(&events).iter().map(|c| c.1).collect();
    assert_eq!(c, [0, 2000, 4000, 6000, 8000, 10_000, 12_000, 14_000]);
    // Another format begins at once.
    t.audio_config(aac::read_config(&Bytes::from_static(&[0x12, 0x08])).unwrap(), NOW);
    let events = t.audio(16_000, Bytes::from_static(b"b"), Duration::from_secs(16));
    assert!(cuts(&events)[0].2 && events.iter().any(|e| matches!(e, Event::Audio(_))));
}

#[test]
fn audio_that_is_always_seconds_late_is_no_missing_video() {
    let mut t = timeline(Policy::default());
    let mut events = Vec::new();
    // Pictures come 3 s behind the sound.
    for n in 0..500i64 {
        events.extend(t.audio((n * 40) as u32, Bytes::from_static(b"a"), NOW));
        if n >= 75 {
            events.extend(t.video(((n - 75) * 40) as u32, 0, n % 50 == 25, Bytes::from(vec![0; 1000]), NOW));
        }
    }
    assert!(!events.iter().any(|e| matches!(e, Event::Closed { .. })));
}

proptest! {
    #[test]
    fn numbers_have_no_holes_and_segments_stay_within_the_target_duration(
        gaps in proptest::collection::vec(100i64..6000, 1..40),
    ) {
        let mut at = 0;
        let idrs: Vec<i64> = std::iter::once(0).chain(gaps.iter().map(|g| { at += g; at })).collect();
        let mut t = timeline(Policy::default());
        let events = play(&mut t, &idrs, 0, at + 3000);
        let c = cuts(&events);
        prop_assert!(c.iter().enumerate().all(|(i, c)| c.0 == i as u64));
        prop_assert!(c.windows(2).all(|w| w[1].1 > w[0].1));
        if let Some(Event::Decided(d)) = events.iter().find(|e| matches!(e, Event::Decided(_))) {
            let most = i64::from(d.target_duration) * 1000 + 499;
            prop_assert!(c.windows(2).all(|w| w[1].1 - w[0].1 <= most), "{:?} over {}", c, most);
        }
    }
}

#[test]
fn ticks_of_mpeg_ts_stay_ticks_and_the_slate_counts_in_milliseconds_again() {
    let mut t = timeline(Policy::default());
    t.clock(Clock::Ticks90k);
    let mut events = Vec::new();
    for n in 0..130i64 {
        // Over the wrap of 32 bits, which 33 have in their middle.
        let time = ((1 << 32) - 90_000 + n * 3003) as u32;
        events.extend(t.video(time, 6006, n % 60 == 0, Bytes::from_static(b"v"), NOW));
    }
    let units = |events: &[Event]| -> Vec<(i64, i64)> {
        let times = |e: &Event| if let Event::Video { unit, .. } = e { Some((unit.dts.0, unit.pts.0)) } else { None };
        events.iter().filter_map(times).collect()
    };
    assert_eq!(units(&events), (0..130).map(|n| (n * 3003 - 6006, n * 3003)).collect::<Vec<_>>());
    assert!(decision(&events).passthrough);
    assert_eq!(t.jumps(), 0);
    t.pause();
    t.resume_by_slate(MediaTime::ZERO);
    let slate: Vec<Event> = (0..3u32).flat_map(|n| t.video(n * 40, 0, n == 0, Bytes::from_static(b"s"), NOW)).collect();
    let decoded: Vec<i64> = units(&slate).iter().map(|u| u.1).collect();
    assert_eq!([decoded[1] - decoded[0], decoded[2] - decoded[1]], [3600, 3600]);
}
