use super::*;
use proptest::prelude::*;

/// A publisher in its own time: what is captured at `t` ms has the timestamps `video(t)` and `audio(t)`, and arrives at `arrive(t)`.
struct Publisher<'a> {
    video: &'a dyn Fn(i64) -> i64,
    audio: &'a dyn Fn(i64) -> i64,
    arrive: &'a dyn Fn(i64) -> i64,
    /// Milliseconds between pictures, and between audio packets.
    every: (i64, i64),
}

const REAL: &dyn Fn(i64) -> i64 = &|t| t;

impl Default for Publisher<'_> {
    fn default() -> Self {
        Self { video: REAL, audio: REAL, arrive: REAL, every: (40, 20) }
    }
}

/// When it was captured, and where it lies on the timeline, both in ms.
type Mapped = Vec<(i64, i64)>;

impl Publisher<'_> {
    /// Everything captured in `range`, in order; pictures first where both are due.
    fn play(&self, m: &mut Mapper, range: std::ops::Range<i64>) -> [Mapped; 2] {
        let mut out = [Vec::new(), Vec::new()];
        let (mut v, mut a) = (range.start, range.start);
        while v.min(a) < range.end {
            let (track, t) = if v <= a { (Track::Video, v) } else { (Track::Audio, a) };
            if let Some(at) = self.send(m, track, t) {
                out[usize::from(track == Track::Audio)].push((t, at.millis()));
            }
            if track == Track::Video { v += self.every.0 } else { a += self.every.1 }
        }
        out
    }

    fn send(&self, m: &mut Mapper, track: Track, t: i64) -> Option<MediaTime> {
        let raw = if track == Track::Video { (self.video)(t) } else { (self.audio)(t) } as u32;
        if track == Track::Video && !m.is_started() {
            m.start_video(raw, MediaTime::ZERO);
        }
        m.map(track, raw, Duration::from_millis((self.arrive)(t).unsigned_abs()))
    }
}

fn mapper() -> Mapper {
    Mapper::new(MediaTime::ZERO)
}

/// Largest distance between sound and picture that were captured together.
fn apart([video, audio]: &[Mapped; 2]) -> i64 {
    let late = |&(t, at): &(i64, i64)| at - t;
    let near = |&(t, _): &&(i64, i64), of: i64| (t - of).abs() <= 40;
    let mut rest = &video[..];
    let mut most = 0;
    for heard in audio {
        while rest.first().is_some_and(|v| v.0 + 40 < heard.0) {
            rest = &rest[1..];
        }
        if let Some(seen) = rest.first().filter(|v| near(v, heard.0)) {
            most = most.max((late(heard) - late(seen)).abs());
        }
    }
    most
}

fn never_goes_back(tracks: &[Mapped; 2]) {
    for track in tracks {
        assert!(track.windows(2).all(|w| w[1].1 >= w[0].1), "{:?}", track.windows(2).find(|w| w[1].1 < w[0].1));
    }
}

/// How much longer the timeline is than what was captured.
fn stretch(track: &Mapped) -> i64 {
    let (first, last) = (track[0], track[track.len() - 1]);
    (last.1 - first.1) - (last.0 - first.0)
}

#[test]
fn a_huge_start_becomes_zero() {
    let far = &|t| t + 4_000_000_000;
    let out = Publisher { video: far, audio: far, ..Default::default() }.play(&mut mapper(), 0..10_000);
    assert_eq!(out[0][..2], [(0, 0), (40, 40)]);
    assert_eq!((apart(&out), stretch(&out[0])), (0, 0));
}

#[test]
fn the_wrap_at_49_days_is_not_seen() {
    let near = &|t| t + (1 << 32) - 5000;
    let mut m = mapper();
    let out = Publisher { video: near, audio: near, ..Default::default() }.play(&mut m, 0..10_000);
    assert_eq!((apart(&out), stretch(&out[0]), stretch(&out[1]), m.jumps()), (0, 0, 0, 0));
}

#[test]
fn seventy_two_hours_over_the_wrap_are_exact_to_the_millisecond() {
    const HOUR: i64 = 3_600_000;
    let near = &|t| t + (1 << 32) - 30 * HOUR;
    let mut m = mapper();
    // Of a stream of 72 hours every fifth picture.
    let out = Publisher { video: near, audio: near, every: (200, 400), ..Default::default() }.play(&mut m, 0..72 * HOUR);
    assert_eq!((apart(&out), m.jumps()), (0, 0));
    assert!(out.iter().flatten().all(|(t, at)| t == at));
}

#[test]
fn a_clock_that_wraps_after_24_bits_is_mended() {
    // FLV's timestamp without its extension byte
    let short = &|t| (t + (1 << 24) - 5010) & 0xff_ffff;
    let out = Publisher { video: short, audio: short, ..Default::default() }.play(&mut mapper(), 0..10_000);
    never_goes_back(&out);
    assert!(apart(&out) <= 1 && stretch(&out[0]).abs() <= 40, "{} {}", apart(&out), stretch(&out[0]));
}

#[test]
fn both_tracks_jump_and_stay_together() {
    for by in [3_600_000, -4000, 1500, -300, 86_400_000, -1_000_000] {
        // The audio of the same moment jumps earlier or later: 0 to 30 packets of 20 ms.
        for first in [-600, -200, -20, 0, 20, 200, 600] {
            let video = &|t| 10_000_000 + t + if t >= 5000 { by } else { 0 };
            let audio = &|t| 10_000_000 + t + if t >= 5000 - first { by } else { 0 };
            let mut m = mapper();
            let out = Publisher { video, audio, ..Default::default() }.play(&mut m, 0..10_000);
            never_goes_back(&out);
            let after = out.clone().map(|track| track.into_iter().filter(|(t, _)| *t > 6000).collect());
            assert!(apart(&after) <= 40, "{by} {first}: {}", apart(&after));
            assert!(stretch(&out[0]).abs() <= 640 && stretch(&out[1]).abs() <= 640, "{by} {first}");
            assert!((1..=3).contains(&m.jumps()), "{by} {first}: {}", m.jumps());
        }
    }
}

#[test]
fn one_track_that_jumps_alone_goes_on_beside_the_other() {
    for by in [3_600_000, -3_600_000, 2000, -2000, 20_000] {
        let jumps = &|t| 10_000_000 + t + if t >= 5000 { by } else { 0 };
        let stays = &|t| 10_000_000 + t;
        for (video, audio) in [(jumps as &dyn Fn(i64) -> i64, stays as &dyn Fn(i64) -> i64), (stays, jumps)] {
            let mut m = mapper();
            let out = Publisher { video, audio, ..Default::default() }.play(&mut m, 0..100_000);
            never_goes_back(&out);
            assert!(apart(&out) <= 40 && stretch(&out[0]).abs() <= 40, "{by}: {} {}", apart(&out), stretch(&out[0]));
            assert_eq!(m.jumps(), 1, "{by}");
        }
    }
}

#[test]
fn audio_on_a_clock_of_its_own_stands_where_the_video_is() {
    for (video, audio) in [(0, 7_200_000), (7_200_000, 0), (5_000_000, 0), (0, 4_294_000_000)] {
        let (video, audio) = (&|t| t + video, &|t| t + audio);
        let mut m = mapper();
        let out = Publisher { video, audio, ..Default::default() }.play(&mut m, 0..20_000);
        assert!(apart(&out) <= 40, "{}", apart(&out));
        assert_eq!(m.jumps(), 0);
    }
}

#[test]
fn audio_that_came_before_the_first_key_frame_keeps_its_distance() {
    let at = |m: &Mapper, early: MediaTime| m.settle(early).millis();
    let mut m = mapper();
    let early: Vec<_> = (0..50).map(|n| m.early_audio(50_000 + n * 20, Duration::ZERO)).collect();
    m.start_video(51_000, MediaTime::ZERO);
    assert_eq!((at(&m, early[0]), at(&m, early[49])), (-1000, -20));
    // On another clock, the last of it came with the picture.
    let mut m = mapper();
    let early: Vec<_> = (0..50).map(|n| m.early_audio(50_000 + n * 20, Duration::ZERO)).collect();
    m.start_video(1000, MediaTime::ZERO);
    assert_eq!((at(&m, early[0]), at(&m, early[49])), (-980, 0));
    // A jump before the start is none behind it.
    let mut m = mapper();
    let early: Vec<_> = [50_000, 50_020, 9_000_040, 9_000_060].iter().map(|&t| m.early_audio(t, Duration::ZERO)).collect();
    m.start_audio(early[0]);
    assert_eq!(early.iter().map(|&t| at(&m, t)).collect::<Vec<_>>(), [0, 20, 40, 60]);
    assert_eq!(m.map(Track::Audio, 9_000_080, Duration::ZERO), Some(MediaTime::from_millis(80)));
}

#[test]
fn after_a_reconnect_audio_may_begin_at_zero_while_video_does_not() {
    let mut m = Mapper::new(MediaTime::from_secs(100));
    let out = Publisher { video: &|t| t + 40_000, audio: &|t| t, ..Default::default() }.play(&mut m, 0..20_000);
    assert_eq!(out[0][0].1, 100_000);
    assert!(apart(&out) <= 40, "{}", apart(&out));
}

#[test]
fn composition_of_the_first_picture_is_part_of_its_time() {
    let mut m = Mapper::new(MediaTime::from_secs(5));
    m.start_video(0, MediaTime::from_millis(66));
    assert_eq!(m.map(Track::Video, 0, Duration::ZERO), Some(MediaTime::from_millis(5000 - 66)));
}

#[test]
fn a_pause_of_the_sender_is_left_out_whether_its_clock_went_on_or_not() {
    for pause in [1500, 5000, 30_000] {
        for shown in [0, pause] {
            let clock = &|t| t + if t >= 5000 { shown } else { 0 };
            let arrive = &|t| t + if t >= 5000 { pause } else { 0 };
            let out = Publisher { video: clock, audio: clock, arrive, ..Default::default() }.play(&mut mapper(), 0..20_000);
            never_goes_back(&out);
            assert!(apart(&out) <= 1 && stretch(&out[0]).abs() <= 40, "{pause} {shown}: {} {}", apart(&out), stretch(&out[0]));
        }
    }
}

#[test]
fn a_stall_of_the_network_changes_nothing() {
    // Three seconds late at once, and caught up at twice real time.
    let arrive = &|t: i64| if t < 5000 { t } else { t.max(8000 + (t - 5000) / 2) };
    let mut m = mapper();
    let out = Publisher { arrive, ..Default::default() }.play(&mut m, 0..20_000);
    assert!(out.iter().flatten().all(|(t, at)| t == at) && m.jumps() == 0);
}

#[test]
fn a_hole_in_one_track_stays_a_hole() {
    let mut m = mapper();
    let p = Publisher::default();
    p.play(&mut m, 0..5000);
    // The other track goes on for longer than any credible step.
    for t in 250..1000 {
        assert_eq!(p.send(&mut m, Track::Audio, t * 20), Some(MediaTime::from_millis(t * 20)));
    }
    assert_eq!(p.send(&mut m, Track::Video, 20_000), Some(MediaTime::from_secs(20)));
    for t in 500..1000 {
        assert_eq!(p.send(&mut m, Track::Video, t * 40), Some(MediaTime::from_millis(t * 40)));
    }
    assert_eq!(p.send(&mut m, Track::Audio, 40_000), Some(MediaTime::from_secs(40)));
    assert_eq!(m.jumps(), 0);
}

#[test]
fn a_track_that_comes_back_with_its_old_times_is_put_beside_the_other() {
    let mut m = mapper();
    let p = Publisher::default();
    p.play(&mut m, 0..5000);
    for t in 250..1000 {
        p.send(&mut m, Track::Audio, t * 20);
    }
    // Its clock stood still for the 15 s.
    let out = Publisher { video: &|t| t - 15_000, ..Default::default() }.play(&mut m, 20_000..40_000);
    assert!(apart(&out) <= 40, "{}", apart(&out));
}

#[test]
fn one_wrong_time_does_not_move_the_clock() {
    for wrong in [0, 4_000_000_000, 20_000, 9000, 11_500] {
        for track in [Track::Video, Track::Audio] {
            let (mut m, p) = (mapper(), Publisher { video: &|t| t + 500, audio: &|t| t + 500, ..Default::default() });
            p.play(&mut m, 0..10_000);
            m.map(track, wrong, Duration::from_secs(10));
            let out = p.play(&mut m, 10_000..12_000);
            assert!(out.iter().flatten().all(|(t, at)| t == at), "{wrong} {track:?}");
        }
    }
}

#[test]
fn neighbours_in_disorder_and_doubled_times_are_no_jumps() {
    let mut m = mapper();
    m.start_video(0, MediaTime::ZERO);
    let times = [0, 40, 120, 80, 160, 160, 200, 240, 240, 220, 280];
    let out: Vec<i64> = times.iter().map(|&t| m.map(Track::Video, t, Duration::ZERO).unwrap().millis()).collect();
    assert_eq!(out, times.map(i64::from));
    assert_eq!(m.jumps(), 0);
}

#[test]
fn slow_pictures_without_audio_are_no_jumps() {
    let mut m = mapper();
    m.start_video(0, MediaTime::ZERO);
    for n in 0..100u32 {
        let at = m.map(Track::Video, n * 4000, Duration::from_secs(u64::from(n) * 4)).unwrap();
        assert_eq!(at, MediaTime::from_secs(i64::from(n) * 4));
    }
    assert_eq!(m.jumps(), 0);
}

#[test]
fn twelve_hours_of_audio_half_a_percent_off_stay_beside_the_video() {
    const HOURS: i64 = 12 * 3_600_000;
    for wrong in [5, -5] {
        let audio = &|t: i64| t + t * wrong / 1000;
        let p = Publisher { audio, every: (80, 40), ..Default::default() };
        let mut m = mapper();
        let mut most = 0;
        for hour in 0..12 {
            let out = p.play(&mut m, HOURS / 12 * hour..HOURS / 12 * (hour + 1));
            if hour > 0 {
                assert!(stretch(&out[1]).abs() <= 300, "{}", stretch(&out[1]));
            }
            most = most.max(apart(&out));
        }
        assert!(most <= 160, "{most} ms apart");
        assert_eq!(m.jumps(), 0);
    }
}

#[test]
fn a_picture_rate_that_falls_or_a_sender_in_bursts_is_no_drift() {
    let mut m = mapper();
    let mut out = Publisher::default().play(&mut m, 0..30_000);
    for (every, until) in [(1000, 90_000), (16, 120_000)] {
        let next = Publisher { every: (every, 20), ..Default::default() }.play(&mut m, out[0].last().unwrap().0 + 1000..until);
        out = next;
        assert!(out.iter().flatten().all(|(t, at)| t == at), "{every}");
    }
    // Half a second of pictures, then half a second of sound.
    let (mut m, p) = (mapper(), Publisher::default());
    for n in 0..200 {
        for t in 0..12 {
            assert_eq!(p.send(&mut m, Track::Video, n * 480 + t * 40).map(MediaTime::millis), Some(n * 480 + t * 40));
        }
        for t in 0..24 {
            assert_eq!(p.send(&mut m, Track::Audio, n * 480 + t * 20).map(MediaTime::millis), Some(n * 480 + t * 20));
        }
    }
}

/// What happens to a publisher's clocks.
#[derive(Debug, Clone, Copy)]
enum Event {
    Play(i64),
    Jump(i64, bool, bool),
    Stall(i64, bool),
    Garbage(u32, bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => (0i64..5000).prop_map(Event::Play),
        2 => (-100_000_000i64..100_000_000, any::<bool>(), any::<bool>()).prop_map(|(by, v, a)| Event::Jump(by, v, a)),
        1 => (-3000i64..3000, any::<bool>(), any::<bool>()).prop_map(|(by, v, a)| Event::Jump(by, v, a)),
        1 => (0i64..30_000, any::<bool>()).prop_map(|(by, shown)| Event::Stall(by, shown)),
        1 => (any::<u32>(), any::<bool>()).prop_map(|(raw, v)| Event::Garbage(raw, v)),
    ]
}

proptest! {
    #[test]
    fn whatever_the_clocks_do_the_timeline_goes_on(events in prop::collection::vec(event(), 1..40), start in any::<u32>()) {
        let mut m = mapper();
        let (mut t, mut now) = (0i64, 0i64);
        let mut clocks = [i64::from(start); 2];
        let mut latest = [None; 2];
        let mut played = 0;
        for event in events {
            match event {
                Event::Play(ms) => {
                    let (v, a, n) = (clocks[0], clocks[1], now - t);
                    let p = Publisher { video: &|t| t + v, audio: &|t| t + a, arrive: &|t| t + n, every: (40, 20) };
                    let out = p.play(&mut m, t..t + ms);
                    for (track, latest) in out.iter().zip(&mut latest) {
                        for &(_, at) in track {
                            prop_assert!(latest.is_none_or(|l| at >= l - 250), "{at} behind {latest:?}");
                            *latest = (*latest).max(Some(at));
                        }
                    }
                    t += ms;
                    now += ms;
                    played += ms;
                }
                Event::Jump(by, video, audio) => {
                    clocks[0] += if video { by } else { 0 };
                    clocks[1] += if audio { by } else { 0 };
                }
                Event::Stall(by, shown) => {
                    now += by;
                    if shown {
                        clocks.iter_mut().for_each(|c| *c += by);
                    }
                }
                Event::Garbage(raw, video) if m.is_started() => {
                    let track = if video { Track::Video } else { Track::Audio };
                    m.map(track, raw, Duration::from_millis(now.unsigned_abs()));
                }
                Event::Garbage(..) => {}
            }
        }
        // Each event may cost a second of hole where both tracks' credible steps end, and no more; nothing is lost.
        let end = m.reached().millis();
        prop_assert!(end <= played + 40_000 && end >= played / 2 - 10_000, "{end} of {played}");
    }
}

#[test]
fn ticks_of_a_33_bit_clock_are_kept_to_the_tick_over_its_wrap() {
    const WRAP: i64 = 1 << 33;
    // 30000/1001 pictures a second and frames of 44.1 kHz, neither a whole number of milliseconds.
    let mut m = mapper();
    m.count_in(packet::Clock::Ticks90k);
    let began = WRAP - 300_300;
    let raw = |t: i64| (t % WRAP) as u32;
    m.start_video(raw(began), m.length(3003));
    for n in 0..200i64 {
        let (video, audio) = (n * 3003, n * 3003 + 1001);
        let now = Duration::from_micros((n * 33_367).unsigned_abs());
        let at = m.map(Track::Video, raw(began + video), now);
        assert_eq!(at, Some(MediaTime(video - 3003)));
        assert_eq!(m.map(Track::Audio, raw(began + audio), now), Some(MediaTime(audio - 3003)));
    }
    assert_eq!(m.jumps(), 0);
}

#[test]
fn a_jump_of_a_33_bit_clock_is_mended_like_one_of_milliseconds() {
    let mut m = mapper();
    m.count_in(packet::Clock::Ticks90k);
    m.start_video(5_000_000, MediaTime::ZERO);
    let mut last = MediaTime(-3003);
    for n in 0..60u32 {
        let jump = if n < 30 { 0 } else { 900_000_000 };
        let at = m.map(Track::Video, 5_000_000 + n * 3003 + jump, Duration::from_micros(u64::from(n) * 33_367)).unwrap();
        assert_eq!(at - last, MediaTime(3003), "picture {n}");
        last = at;
    }
    assert_eq!(m.jumps(), 1);
}
