//! Thousands of schedules. A failure prints its seed and the shortest schedule that still fails.

use super::*;

fn source() -> impl Strategy<Value = Source> {
    let record = prop_oneof![9 => (0usize..4).prop_map(Some), 1 => Just(None)];
    let audio = prop_oneof![4 => Just(Some(2)), 4 => (0usize..4).prop_map(Some), 1 => Just(None)];
    let clock = || prop_oneof![2 => Just(0u32), 1 => any::<u32>(), 1 => Just(u32::MAX - 5000)];
    let clocks = prop_oneof![3 => clock().prop_map(|c| [c, c]), 1 => (clock(), clock()).prop_map(|(v, a)| [v, a])];
    let rates = prop_oneof![6 => Just(5i64), 2 => Just(10i64), 1 => Just(25i64), 1 => Just(1i64)];
    // Seconds of a GOP in fifths.
    let gop = prop_oneof![6 => Just(10i64), 1 => 1i64..30, 1 => Just(42i64)];
    (record, any::<bool>(), rates, gop, any::<bool>(), audio, clocks).prop_map(|(record, level, fps, gop, b, audio, clocks)| {
        Source {
            record,
            level: level && record == Some(0),
            fps,
            gop: (gop * fps / 5).max(1),
            b_frames: b && fps >= 5,
            audio: audio.filter(|_| true).or(record.is_none().then_some(2)),
            clocks,
        }
    })
}

fn act() -> impl Strategy<Value = Act> {
    let ms = |most: u16| 0..most;
    let jump = || prop_oneof![1 => -3000i32..3000, 1 => any::<i32>()];
    let publisher = prop_oneof![
        2 => jump().prop_map(|by| Act::Jump(by, by)),
        1 => jump().prop_map(|by| Act::Jump(by, 0)),
        1 => jump().prop_map(|by| Act::Jump(0, by)),
        2 => (ms(9000), any::<bool>()).prop_map(|(ms, shown)| Act::Pause(ms, shown)),
        1 => ms(9000).prop_map(Act::Stall),
        2 => (0usize..2, ms(9000)).prop_map(|(track, ms)| Act::Silence(track, ms)),
        1 => Just(Act::DropGop),
        2 => any::<u8>().prop_map(Act::Garbage),
        3 => (any::<bool>(), ms(9500), source()).prop_map(|(clean, ms, s)| Act::Reconnect(clean, ms, s)),
        1 => source().prop_map(Act::Switch),
    ];
    let codec = prop_oneof![
        3 => prop::bool::weighted(0.3).prop_map(Act::Die),
        1 => Just(Act::Hang),
        1 => (0u8..60).prop_map(Act::Lookahead),
        1 => (0u16..400).prop_map(Act::Slow),
        3 => (0u8..3, any::<bool>(), any::<bool>()).prop_map(|(off, half, brief)| Act::Save(off, half, brief)),
        1 => (prop_oneof![-1000i64..10_000_000, any::<i64>()], any::<bool>()).prop_map(|(pts, idr)| Act::Lie(pts, idr)),
    ];
    let store = prop_oneof![
        2 => (0u16..4000).prop_map(Act::Latency),
        1 => (0u8..6).prop_map(Act::Fail),
        2 => any::<bool>().prop_map(Act::Down),
        1 => (0u8..4).prop_map(Act::Refuse),
        1 => (0u8..4).prop_map(Act::Full),
    ];
    prop_oneof![6 => ms(6000).prop_map(Act::Play), 4 => publisher, 2 => codec, 2 => store]
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_no_manifest_lies_and_the_session_ends(
        first in source(),
        acts in prop::collection::vec(act(), 1..25),
        encodes in prop::bool::weighted(0.85),
    ) {
        if let Err(bad) = run(session(encodes), first, &acts) {
            prop_assert!(false, "{bad}");
        }
    }
}
