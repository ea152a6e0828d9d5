use proptest::prelude::*;

use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn all(q: &mut Queue, now: Duration) -> Vec<u64> {
    std::iter::from_fn(|| q.next(now)).collect()
}

#[test]
fn objects_go_in_order_and_so_many_at_once() {
    let mut q = Queue::new(1);
    for id in 0..15 {
        q.add(id, id / 5, 10, ms(0));
    }
    assert_eq!(all(&mut q, ms(0)), (0..10).collect::<Vec<_>>());
    assert!(q.finished(3, Outcome::Stored, ms(5)));
    assert_eq!(all(&mut q, ms(5)), [10]);
    assert_eq!(q.bytes(), 140);
    assert_eq!(q.lag(ms(70)), ms(70));
}

#[test]
fn one_that_failed_goes_again_after_a_while_and_its_row_is_not_excused() {
    let mut q = Queue::new(1);
    q.add(0, 0, 1, ms(0));
    q.add(1, 0, 1, ms(0));
    assert!(!q.excuses(7) && q.excuses(0));
    assert_eq!(all(&mut q, ms(0)), [0, 1]);
    assert!(q.finished(1, Outcome::Stored, ms(10)));
    assert!(!q.finished(0, Outcome::Failed, ms(10)));
    assert!(!q.excuses(0), "the store took another one and refused this one");
    let at = q.poll_timeout().unwrap();
    assert!((ms(160)..=ms(210)).contains(&at), "{at:?}");
    assert!(all(&mut q, at - ms(1)).is_empty());
    assert_eq!(all(&mut q, at), [0]);
    assert!(!q.is_away());
}

#[test]
fn failures_without_a_success_beside_them_refuse_nothing() {
    let mut q = Queue::new(1);
    q.add(0, 0, 1, ms(0));
    q.add(1, 1, 1, ms(0));
    q.succeeded(ms(5));
    assert_eq!(all(&mut q, ms(10)), [0, 1]);
    // Both hung for as long as the store lets them: an outage whose third failure is still to come.
    q.finished(0, Outcome::Failed, ms(6000));
    q.finished(1, Outcome::Failed, ms(6000));
    assert!(!q.is_away() && q.excuses(0) && q.excuses(1));
}

#[test]
fn a_store_that_is_away_is_asked_by_one_object_at_a_time() {
    let mut q = Queue::new(1);
    for id in 0..6 {
        q.add(id, id, 1, ms(0));
    }
    for id in all(&mut q, ms(0)) {
        q.finished(id, Outcome::Failed, ms(0));
    }
    assert!(q.is_away());
    let mut now = ms(0);
    for _ in 0..8 {
        let next = q.poll_timeout().unwrap();
        assert!(next > now && next - now <= LONGEST_WAIT);
        now = next;
        let asked = all(&mut q, now);
        assert_eq!(asked, [0], "the oldest asks");
        assert!(q.poll_timeout().is_none());
        q.finished(0, Outcome::Failed, now);
    }
    now = q.poll_timeout().unwrap();
    assert_eq!(all(&mut q, now), [0]);
    assert!(q.finished(0, Outcome::Stored, now));
    assert_eq!(all(&mut q, now), [1, 2, 3, 4, 5], "all others at once");
    assert!((1..6).all(|row| q.excuses(row)), "what failed during the outage was not refused");
}

#[test]
fn what_only_the_recording_wants_goes_behind() {
    let mut q = Queue::new(1);
    for id in 0..6 {
        q.add(id, id, 1, ms(0));
    }
    for row in 0..4 {
        assert!(q.demote(row, true).is_empty());
    }
    assert_eq!(q.oldest_late(), Some(0));
    assert_eq!(all(&mut q, ms(0)), [4, 5, 0, 1]);
    assert!(!q.excuses(0));
    let mut q = Queue::new(1);
    q.add(0, 0, 1, ms(0));
    q.add(1, 0, 1, ms(0));
    q.add(2, 1, 1, ms(0));
    assert_eq!(q.demote(0, false), [0, 1]);
    assert_eq!(all(&mut q, ms(0)), [2]);
    assert!(!q.finished(0, Outcome::Stored, ms(1)), "nobody waits for it");
}

#[derive(Debug, Clone)]
enum Step {
    Add,
    Answer(usize, bool),
    Demote(u64),
    Manifest(bool),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Add),
        6 => (any::<usize>(), prop::bool::weighted(0.6)).prop_map(|(i, ok)| Step::Answer(i, ok)),
        1 => (0u64..40).prop_map(Step::Demote),
        1 => any::<bool>().prop_map(Step::Manifest),
        3 => (0u64..3000).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..400)
}

proptest! {
    /// Whatever happens, no object is tried twice at once, none is forgotten, and a store that recovers gets them all.
    #[test]
    fn nothing_is_lost(steps in steps(), seed in any::<u64>()) {
        let mut q = Queue::new(seed);
        let mut now = ms(0);
        let mut added = 0u64;
        let mut under_way: Vec<u64> = Vec::new();
        let mut stored = std::collections::BTreeSet::new();
        let begin = |q: &mut Queue, under_way: &mut Vec<u64>, now| {
            while let Some(id) = q.next(now) {
                assert!(!under_way.contains(&id), "{id} is tried twice at once");
                under_way.push(id);
                assert!(under_way.len() <= LIVE_AT_ONCE + LATE_AT_ONCE);
            }
        };
        for step in steps {
            match step {
                Step::Add => {
                    q.add(added, added / 3, 1, now);
                    added += 1;
                }
                Step::Answer(i, ok) if !under_way.is_empty() => {
                    let id = under_way.remove(i % under_way.len());
                    let outcome = if ok { Outcome::Stored } else { Outcome::Failed };
                    prop_assert_eq!(q.finished(id, outcome, now), ok);
                    if ok {
                        prop_assert!(stored.insert(id));
                    }
                }
                Step::Answer(..) => {}
                Step::Demote(row) => prop_assert!(q.demote(row, true).is_empty()),
                Step::Manifest(true) => q.succeeded(now),
                Step::Manifest(false) => q.failed(now),
                Step::Pass(by) => now += ms(by),
            }
            begin(&mut q, &mut under_way, now);
        }
        // The store is well from now on.
        for _ in 0..10_000 {
            if q.is_empty() {
                break;
            }
            for id in std::mem::take(&mut under_way) {
                q.finished(id, Outcome::Stored, now);
                prop_assert!(stored.insert(id));
            }
            begin(&mut q, &mut under_way, now);
            if under_way.is_empty()
                && let Some(at) = q.poll_timeout()
            {
                now = now.max(at);
                begin(&mut q, &mut under_way, now);
            }
        }
        prop_assert!(q.is_empty(), "{} stay", q.len());
        prop_assert_eq!(stored.len() as u64, added);
    }
}
