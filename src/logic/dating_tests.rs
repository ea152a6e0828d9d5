use super::*;
use proptest::prelude::*;

const START: i64 = 1_700_000_000_000;

/// A publisher of one row every 2 s, four pictures in each, and a worker with a wall clock.
struct World {
    dating: Dating,
    /// Milliseconds of the worker's monotonic clock, and what its wall clock is ahead of it.
    mono: i64,
    step: i64,
    /// Milliseconds of the publisher's clock.
    media: i64,
    /// Dates and starts of rows, and their discontinuities.
    rows: Vec<(i64, i64, bool)>,
    due: bool,
    set: usize,
}

impl World {
    fn new() -> Self {
        let mut dating = Dating::default();
        dating.begin(UnixMillis(START));
        Self { dating, mono: 0, step: 0, media: 0, rows: Vec::new(), due: false, set: 0 }
    }

    fn wall(&self) -> UnixMillis {
        UnixMillis(START + self.mono + self.step)
    }

    /// A picture of `ms`, late by so much.
    fn picture(&mut self, ms: i64, late: i64) {
        let (mono, at) = (Duration::from_millis((self.mono + late).unsigned_abs()), MediaTime::from_millis(ms));
        let wall = UnixMillis(self.wall().0 + late);
        if ms % 2000 == 0 {
            let fresh = std::mem::take(&mut self.due);
            let shift = self.dating.row(at, fresh, mono, wall);
            self.rows.push((UnixMillis(START).plus(at + shift).0, ms, fresh));
        }
        self.dating.observe(at, at, mono);
        if self.dating.judge(mono, wall).is_some() {
            self.due = true;
            self.set += 1;
        }
    }

    /// `ms` of the publisher's time, in which the monotonic clock does `millionths` of that; packets are late by what `late` says.
    fn run(&mut self, ms: i64, millionths: i64, mut late: impl FnMut(i64) -> i64) {
        let (media, mono) = (self.media, self.mono);
        for n in 0..ms / 500 {
            self.mono = mono + n * 500 * millionths / 1_000_000;
            self.picture(media + n * 500, late(n * 500));
        }
        self.media = media + ms;
        self.mono = mono + ms * millionths / 1_000_000;
    }

    /// How far the last row's date is behind its first picture's coming (in time).
    fn off(&self) -> i64 {
        let (date, start, _) = *self.rows.last().unwrap();
        let since = (self.media - start).min(2000);
        self.wall().0 - since - date
    }

    fn holds(&self) {
        for pair in self.rows.windows(2) {
            let ((a, from, _), (b, start, fresh)) = (pair[0], pair[1]);
            assert!(b >= a + 500, "a date goes back: {a} {b}");
            let slewed = (b - a) - (start - from);
            assert!(fresh || slewed.abs() <= (start - from) / 100 + 1, "{slewed} ms at {start}");
        }
    }
}

const EXACT: i64 = 1_000_000;

#[test]
fn a_steady_publisher_is_dated_by_its_own_times_to_the_millisecond() {
    let mut w = World::new();
    w.run(3_600_000, EXACT, |_| 0);
    assert!(w.rows.iter().all(|(date, start, _)| date - start == START));
}

#[test]
fn jitter_bursts_and_stalls_of_half_a_minute_move_nothing() {
    let mut w = World::new();
    // every packet up to 200 ms late, and once in five minutes 30 s in which all are late by what is left of them
    w.run(3_600_000, EXACT, |ms| {
        let stall = 30_000 - ms % 300_000;
        (ms * 7919 % 200) * i64::from(ms % 2000 != 0) + stall.max(0) * i64::from(ms > 300_000)
    });
    assert!(w.rows.iter().all(|(date, start, _)| date - start == START));
    assert_eq!(w.set, 0);
}

#[test]
fn a_clock_that_drifts_is_followed_without_a_discontinuity() {
    // half a percent slow, half a percent fast, 50 ppm
    for (millionths, most) in [(1_005_000, 400), (995_000, 100), (1_000_050, 60), (999_950, 60)] {
        let mut w = World::new();
        for _ in 0..12 * 60 {
            w.run(60_000, millionths, |_| 0);
            assert!(w.off().abs() <= most, "{millionths}: {} ms off", w.off());
        }
        w.holds();
        assert_eq!(w.set, 0, "{millionths}");
        assert!((w.rows.last().unwrap().0 - START - w.mono).abs() < 2500, "of 216 s");
    }
}

#[test]
fn a_publisher_whose_clock_stood_still_is_dated_anew_once() {
    let mut w = World::new();
    w.run(300_000, EXACT, |_| 0);
    w.mono += 5000;
    w.run(50_000, EXACT, |_| 0);
    assert_eq!(w.set, 0, "it may be a stall");
    w.run(30_000, EXACT, |_| 0);
    assert_eq!((w.set, w.rows.iter().filter(|r| r.2).count()), (1, 1));
    assert!(w.off().abs() <= 60, "{}", w.off());
    w.holds();
}

#[test]
fn a_small_step_of_the_wall_clock_is_slewed_and_a_large_one_is_a_discontinuity() {
    for (step, set) in [(400, 0), (-400, 0), (3_600_000, 1), (1200, 1), (-1200, 1)] {
        let mut w = World::new();
        w.run(120_000, EXACT, |_| 0);
        w.step += step;
        w.run(60_000, EXACT, |_| 0);
        assert_eq!(w.set, set, "{step}");
        assert!(w.off().abs() <= 60, "{step}: {}", w.off());
        w.holds();
    }
}

#[test]
fn a_wall_clock_that_is_stepped_there_and_back_within_ten_seconds_is_no_discontinuity() {
    let mut w = World::new();
    w.run(120_000, EXACT, |_| 0);
    w.step += 5000;
    w.run(8000, EXACT, |_| 0);
    w.step -= 5000;
    w.run(60_000, EXACT, |_| 0);
    w.holds();
    assert_eq!(w.set, 0);
    assert!(w.off().abs() <= 60, "{}", w.off());
}

#[test]
fn dates_in_the_future_come_back_once_a_minute_and_never_go_back() {
    let mut w = World::new();
    w.run(120_000, EXACT, |_| 0);
    w.step -= 10_000;
    w.run(300_000, EXACT, |_| 0);
    w.holds();
    assert!(w.off().abs() <= 500, "{}", w.off());
    assert!((4..=5).contains(&w.set), "{}", w.set);
}

#[test]
fn a_wall_clock_an_hour_back_is_not_chased_with_discontinuities() {
    let mut w = World::new();
    w.run(120_000, EXACT, |_| 0);
    w.step -= 3_600_000;
    w.run(3_600_000, EXACT, |_| 0);
    w.holds();
    assert_eq!(w.set, 0);
    // a hundredth of an hour
    assert!((3_563_000..=3_565_000).contains(&-w.off()), "{}", w.off());
}

#[test]
fn one_packet_with_a_wrong_time_moves_nothing() {
    let mut w = World::new();
    w.run(120_000, EXACT, |_| 0);
    // a picture that claims to be 0.9 s later
    w.dating.observe(MediaTime::from_millis(120_900), MediaTime::from_millis(120_900), Duration::from_secs(120));
    w.run(120_000, EXACT, |_| 0);
    assert!(w.rows.iter().all(|(date, start, _)| date - start == START));
}

#[test]
fn what_a_relay_has_kept_moves_the_anchor_before_anything_is_announced() {
    let mut d = Dating::default();
    d.begin(UnixMillis(START));
    // four seconds at once
    for ms in (0..=4000).step_by(40) {
        d.observe(MediaTime::from_millis(ms), MediaTime::from_millis(ms), Duration::from_secs(1));
    }
    d.settle(Duration::from_secs(1), UnixMillis(START));
    assert_eq!(d.anchor(), Some(UnixMillis(START - 4000)));
    // late ones do not
    let mut d = Dating::default();
    d.begin(UnixMillis(START));
    d.observe(MediaTime::ZERO, MediaTime::ZERO, Duration::from_secs(1));
    d.observe(MediaTime::from_millis(40), MediaTime::from_millis(40), Duration::from_secs(3));
    d.settle(Duration::from_secs(3), UnixMillis(START + 2000));
    assert_eq!(d.anchor(), Some(UnixMillis(START)));
}

#[test]
fn a_publisher_who_comes_back_is_dated_by_its_first_picture() {
    let mut w = World::new();
    // 20 minutes of a clock half a percent fast: 6 s more media than time
    w.run(1_200_000, 995_000, |_| 0);
    w.dating.resumed();
    w.mono += 3000;
    w.due = true;
    w.run(4000, EXACT, |_| 0);
    assert_eq!(w.off(), 0);
    w.holds();
}

#[test]
fn another_writer_goes_on_where_dates_were() {
    let (start, shift) = (MediaTime::from_secs(100), MediaTime::from_secs(7));
    let mut d = Dating::continued(UnixMillis(START), Some((start, shift)));
    // a worker whose clock is 10 s behind the first one's
    let next = MediaTime::from_secs(102);
    let got = d.row(next, true, Duration::from_secs(1), UnixMillis(START + 97_000));
    assert_eq!(next + got, start + shift + MIN_STEP, "not back");
    let mut d = Dating::continued(UnixMillis(START), Some((start, shift)));
    assert_eq!(d.row(next, true, Duration::from_secs(1), UnixMillis(START + 130_000)), MediaTime::from_secs(28));
    // and where nothing is listed, by the wall clock alone
    let mut d = Dating::continued(UnixMillis(START), None);
    assert_eq!(d.row(next, true, Duration::from_secs(1), UnixMillis(START + 97_000)), MediaTime::from_secs(-5));
}

/// What a network, a publisher and a host may do to the clocks.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Run { seconds: i64, ppm: i64 },
    Late { seconds: i64, by: i64 },
    Stop(i64),
    Step(i64),
    Back(i64),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => (1i64..400, -6000i64..6000).prop_map(|(seconds, ppm)| Fate::Run { seconds, ppm }),
        2 => (1i64..90, 0i64..30_000).prop_map(|(seconds, by)| Fate::Late { seconds, by }),
        1 => (0i64..20_000).prop_map(Fate::Stop),
        1 => prop_oneof![-700i64..700, -30_000i64..30_000, any::<i32>().prop_map(i64::from)].prop_map(Fate::Step),
        1 => (0i64..20_000).prop_map(Fate::Back),
    ]
}

proptest! {
    /// Whatever the clocks do: no date goes back, none steps by more than a hundredth but at a discontinuity, and of those there is one a minute at most.
    #[test]
    fn dates_never_go_back(fates in prop::collection::vec(fate(), 1..30)) {
        let mut w = World::new();
        let (mut asked, mut monos) = (0, 0);
        for fate in fates {
            match fate {
                Fate::Run { seconds, ppm } => w.run(seconds * 1000, EXACT + ppm, |_| 0),
                Fate::Late { seconds, by } => w.run(seconds * 1000, EXACT, |ms| (by - ms / 2).max(0)),
                Fate::Stop(ms) => w.mono += ms,
                Fate::Step(ms) => w.step += ms,
                Fate::Back(ms) => {
                    w.mono += ms;
                    w.dating.resumed();
                    (w.due, asked) = (true, asked + 1);
                }
            }
            monos = monos.max(w.mono);
        }
        w.holds();
        prop_assert!(w.set as i64 <= monos / 60_000 + 1, "{} in {monos} ms", w.set);
    }

    /// From any error up to a minute, a quiet quarter of an hour (and a minute for every 1.5 s of dates in the future) puts it right.
    #[test]
    fn dates_come_right_again(fates in prop::collection::vec(fate(), 1..10), error in -20_000i64..60_000) {
        let mut w = World::new();
        for fate in fates {
            if let Fate::Run { seconds, ppm } = fate {
                w.run(seconds * 1000, EXACT + ppm, |_| 0);
            }
        }
        w.step += error;
        w.run(900_000, EXACT, |_| 0);
        prop_assert!(w.off().abs() <= 500, "{} ms off", w.off());
    }
}
