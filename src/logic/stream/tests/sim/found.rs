//! What schedules found, each cut down to the shortest one. What it broke is fixed where it began.

use super::*;

/// 5 pictures a second, an IDR every 2 s, 8 kHz mono.
fn camera() -> Source {
    Source { record: Some(0), level: false, fps: 5, gop: 10, b_frames: false, audio: Some(2), clocks: [0, 0] }
}

#[test]
fn an_undisturbed_session_lists_everything() {
    let sim = run(session(true), camera(), &[Act::Play(20_000)]).unwrap();
    for (playlist, count) in sim.reader.counts() {
        assert_eq!(count, 10, "{playlist}");
    }
    assert!(sim.reader.entries("src").values().take(9).all(|e| e.length == 2_000_000 && !e.fresh));
}

/// An outage and a slow store: rows that were ready had deadlines in the past, and the shell would not have slept until the last one was.
#[test]
fn a_backlog_that_waits_for_its_last_row_wakes_nobody() {
    let again = Act::Reconnect(false, 7061, camera());
    let acts = [Act::Latency(1141), Act::Down(true), Act::Play(5021), again, Act::Play(5941)];
    run(session(false), Source { b_frames: true, ..camera() }, &acts).unwrap();
}

/// An object whose row left the window while it was on its way belonged to nobody.
#[test]
fn what_was_given_up_on_its_way_to_the_store_is_deleted() {
    let again = Act::Reconnect(false, 3681, camera());
    let acts = [Act::Latency(1141), Act::Down(true), Act::Play(201), again, Act::Play(14_001)];
    run(session(false), Source { b_frames: true, ..camera() }, &acts).unwrap();
}

/// While tracks were not decided, a hole left the grid of cuts behind: the next picture made a segment of its own.
#[test]
fn pictures_missing_before_the_decision_make_no_tiny_segment() {
    let acts = [Act::Play(1), Act::Silence(0, 4000), Act::Play(5000)];
    run(session(true), Source { audio: None, ..camera() }, &acts).unwrap();
}

/// When everything listed had left the window, no sign of life was written, and its deadline stayed in the past.
#[test]
fn a_sign_of_life_is_written_when_nothing_is_listed() {
    run(session(false), camera(), &[Act::Play(2700), Act::Down(true), Act::Play(11_301)]).unwrap();
}

/// A try that failed had stored the object, and a later one was refused: the number is a gap, and the object was nobody's.
#[test]
fn a_refused_object_that_is_there_all_the_same_is_deleted() {
    let acts = [Act::Play(6201), Act::Fail(4), Act::Play(14_280), Act::Refuse(3), Act::Play(1820)];
    run(session(true), Source { record: Some(1), fps: 25, gop: 50, ..camera() }, &acts).unwrap();
}

/// A picture half a minute ahead made a segment of that length, and the target duration with it.
#[test]
fn a_codec_process_that_gives_what_it_was_not_given_is_replaced() {
    let acts = [Act::Play(601), Act::Lie(3_014_999, false), Act::Play(8000), Act::Lie(3_014_999, true), Act::Play(4000)];
    let sim = run(session(true), Source { fps: 25, gop: 50, ..camera() }, &acts).unwrap();
    assert_eq!(sim.codec.starts, 3);
}

/// The deadline for video passed, and there was no audio to decide on.
#[test]
fn a_publisher_that_sends_nothing_but_its_formats_wakes_nobody() {
    run(session(false), Source { record: None, ..camera() }, &[Act::Pause(9000, true)]).unwrap();
}

/// Its deadline made an audio stream of it after it had left, with one segment that nobody could fill.
#[test]
fn a_publisher_that_left_at_once_makes_no_stream() {
    let sim = run(session(false), Source { record: None, ..camera() }, &[Act::Play(1)]).unwrap();
    assert!(sim.reader.counts().is_empty());
}

/// A retry was due while all places were taken.
#[test]
fn an_upload_that_finds_no_room_wakes_nobody() {
    let acts = [Act::Down(true), Act::Play(6360), Act::Down(false), Act::Latency(401), Act::Fail(2), Act::Play(3550)];
    run(session(true), camera(), &acts).unwrap();
}

/// Audio without canned silence: the frame before a hole was as long as the hole, and its segment longer than the target duration.
#[test]
fn a_hole_that_nothing_fills_makes_no_long_segment() {
    let surround = Source { audio: Some(3), ..camera() };
    let again = Act::Reconnect(false, 0, surround);
    let acts = [Act::Play(4601), again, Act::Play(732), Act::Stall(3847), Act::Silence(1, 1928), Act::Play(4022)];
    run(session(true), Source { gop: 42, ..camera() }, &acts).unwrap();
}

/// The last frame's nominal end lay behind the first frame of the new format, and the Periods overlapped.
#[test]
fn an_audio_stream_that_changes_its_format_has_periods_in_a_row() {
    let radio = Source { record: None, ..camera() };
    let acts = [
        Act::Play(2000),
        Act::Reconnect(false, 0, radio),
        Act::Play(641),
        Act::Switch(Source { audio: Some(0), ..radio }),
        Act::Play(4512),
    ];
    run(session(false), radio, &acts).unwrap();
}

/// Audio that had jumped before it was known that no video comes lay hours ahead, with a cut every two seconds until there.
#[test]
fn audio_that_jumps_before_the_decision_makes_no_cuts_for_hours() {
    let radio = Source { record: None, ..camera() };
    let acts = [Act::Play(500), Act::Jump(0, 90_000_000), Act::Play(7000)];
    let sim = run(session(true), radio, &acts).unwrap();
    assert_eq!(sim.reader.counts().values().copied().collect::<Vec<_>>(), [4]);
}

/// The first frame behind a hole stood almost half a second behind the grid, and the segment before it was longer than the target duration.
#[test]
fn an_audio_stream_with_a_hole_at_a_cut_has_no_long_segment() {
    let radio = Source { record: None, ..camera() };
    let mut acts = vec![Act::Play(2000), Act::Reconnect(false, 0, camera())];
    acts.extend([4774, 3256, 3318, 3596, 4802, 5215].map(Act::Play));
    acts.extend([Act::Pause(5377, true), Act::Play(256)]);
    run(session(true), radio, &acts).unwrap();
}

/// Ten seconds that come at once are no outage: rows were skipped before the encoders had their time for them.
#[test]
fn a_burst_of_the_length_of_the_window_skips_nothing() {
    let acts = [Act::Play(984), Act::Slow(281), Act::Play(777), Act::Stall(8230), Act::Play(4010)];
    run(session(true), camera(), &acts).unwrap();
}

/// Names are start times in samples: after 44.1 kHz, 8 kHz came to the same numbers again, and overwrote what was listed.
#[test]
fn another_sample_rate_does_not_give_the_same_names_again() {
    let first = Source { audio: Some(1), ..camera() };
    let acts = [Act::Play(7000), Act::Switch(Source { fps: 10, gop: 20, ..camera() }), Act::Play(4601)];
    run(session(false), first, &acts).unwrap();
}

/// Behind silence the first frame stood at its own time, a part of a frame off, and there was the cut: the segment began 160 ms behind it.
#[test]
fn the_first_sound_behind_silence_is_on_the_grid_of_frames() {
    let acts = [
        Act::Play(3018),
        Act::Stall(5688),
        Act::Silence(1, 7039),
        Act::Play(4294),
        Act::Switch(Source { level: true, ..camera() }),
        Act::Play(3001),
    ];
    run(session(false), camera(), &acts).unwrap();
}

/// The last picture before another format came less than its nominal length before it: what was too short by that was closed as long enough, and ended
/// behind the beginning of what followed.
#[test]
fn a_run_that_another_format_ends_does_not_reach_into_it() {
    let first = Source { gop: 3, level: true, ..camera() };
    let other = Source { fps: 10, gop: 20, ..camera() };
    let acts =
        [Act::Play(5068), Act::Stall(2401), Act::Pause(198, true), Act::Garbage(254), Act::Switch(other), Act::Play(532)];
    run(session(false), first, &acts).unwrap();
}

/// A frame whose own time was before the horizon was packed although it was counted behind it: the cut came between the two, and the next segment began
/// with the frame behind it, a frame late.
#[test]
fn a_frame_that_is_counted_behind_a_cut_is_the_first_of_its_segment() {
    let acts = [Act::Play(1), Act::Silence(0, 520), Act::Jump(-131, 0), Act::Play(4954), Act::Jump(8, 8), Act::Play(13_526)];
    run(session(false), Source { fps: 25, gop: 50, audio: Some(0), ..camera() }, &acts).unwrap();
}

/// The last picture of a session lay within the target duration, and its end, by the length that the parameter sets say, was not.
#[test]
fn the_last_picture_is_not_shown_beyond_the_target_duration() {
    let other = Source { record: Some(3), fps: 25, gop: 50, audio: Some(0), ..camera() };
    let acts = [
        Act::Reconnect(false, 0, other),
        Act::Play(5024),
        Act::Silence(0, 3057),
        Act::Play(3065),
        Act::Jump(-834, -834),
        Act::Play(4352),
        Act::Pause(1814, true),
        Act::Play(1160),
    ];
    run(session(true), camera(), &acts).unwrap();
}

/// One row was held up by encoders that were replaced, and those behind it became ready with it: more than the window, so that it left without having been listed.
#[test]
fn rows_that_become_ready_at_once_are_all_listed() {
    let acts = [Act::Lookahead(23), Act::Play(6821), Act::Stall(8820), Act::Play(2600)];
    run(session(true), Source { record: Some(1), ..camera() }, &acts).unwrap();
}
