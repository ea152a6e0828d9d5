//! Asking the supervisor about a caller, from inside libsrt's listen callback.
//!
//! The callback runs on the thread that receives for all callers, so a question is worth its time: an address that is refused comes back at once (srt-live-transmit
//! does 50 to 100 times a second), and is then refused without asking.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use weir::ingest::household;
use weir::ingest::srt::{ANSWER_DEADLINE, BUSY};

use crate::link::lock;

/// Questions about one address in [`PERIOD`]: a studio's encoders that all come back at once, and not a loop.
const QUESTIONS: u32 = 20;

/// How long a count holds.
const PERIOD: Duration = Duration::from_secs(1);

/// Addresses that are counted at a time; the oldest go. At 20 questions each this is more than the thread could ask in a second.
const ADDRESSES: usize = 4096;

/// The supervisor's word.
#[derive(Clone, PartialEq, Eq)]
pub enum Answer {
    /// It may connect.
    Admit {
        /// For this caller, ms.
        latency_ms: Option<u32>,
        /// Empty: none.
        passphrase: Vec<u8>,
    },
    /// It may not; for `srt_setrejectreason`.
    Reject(u16),
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Admit { .. } => f.write_str("Admit"),
            Self::Reject(code) => write!(f, "Reject({code})"),
        }
    }
}

/// Questions, answers, and how often who asked.
#[derive(Debug, Default)]
pub struct Questions {
    last: AtomicU32,
    unasked: AtomicU64,
    /// Asked, and answered or not.
    open: Mutex<BTreeMap<u32, Option<Answer>>>,
    answered: Condvar,
    asked: Mutex<Asked>,
}

impl Questions {
    /// A number for a new caller, unless his address asked too often.
    pub fn number(&self, address: IpAddr, now: Instant) -> Result<u32, u16> {
        if !lock(&self.asked).may_ask(household(address), now) {
            self.unasked.fetch_add(1, Relaxed);
            return Err(BUSY);
        }
        let caller = self.last.fetch_add(1, Relaxed).wrapping_add(1);
        lock(&self.open).insert(caller, None);
        Ok(caller)
    }

    /// Waits for the answer; `None` if it is late.
    pub fn wait(&self, caller: u32) -> Option<Answer> {
        let open = lock(&self.open);
        let waits = |open: &mut BTreeMap<u32, Option<Answer>>| matches!(open.get(&caller), Some(None));
        let waited = self.answered.wait_timeout_while(open, ANSWER_DEADLINE, waits);
        let (mut open, _) = waited.unwrap_or_else(PoisonError::into_inner);
        open.remove(&caller).flatten()
    }

    /// From the supervisor; too late for some.
    pub fn answer(&self, caller: u32, answer: Answer) {
        if let Some(slot) = lock(&self.open).get_mut(&caller) {
            *slot = Some(answer);
            self.answered.notify_all();
        }
    }

    /// Callers that were refused without asking.
    pub fn unasked(&self) -> u64 {
        self.unasked.load(Relaxed)
    }
}

#[derive(Debug, Default)]
struct Asked {
    counts: BTreeMap<IpAddr, u32>,
    /// In the order of their first question.
    since: VecDeque<(Instant, IpAddr)>,
}

impl Asked {
    fn may_ask(&mut self, who: IpAddr, now: Instant) -> bool {
        while self.since.len() >= ADDRESSES
            || self.since.front().is_some_and(|(first, _)| now.saturating_duration_since(*first) >= PERIOD)
        {
            let Some((_, gone)) = self.since.pop_front() else { break };
            self.counts.remove(&gone);
        }
        let count = self.counts.entry(who).or_insert_with(|| {
            self.since.push_back((now, who));
            0
        });
        *count += u32::from(*count <= QUESTIONS);
        *count <= QUESTIONS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_loop_is_refused_without_asking_and_others_are_asked_about() {
        let (questions, now) = (Questions::default(), Instant::now());
        let numbers: Vec<_> = (0..30).filter_map(|_| questions.number(ip("2001:db8::1"), now).ok()).collect();
        assert_eq!(numbers, (1..=20).collect::<Vec<u32>>());
        assert_eq!(questions.number(ip("2001:db8::2:3"), now), Err(BUSY));
        assert_eq!(questions.unasked(), 11);
        assert!(questions.number(ip("2001:db8:0:1::1"), now).is_ok());
        assert!(questions.number(ip("192.0.2.1"), now).is_ok());
        assert!(questions.number(ip("2001:db8::1"), now + PERIOD).is_ok());
    }

    #[test]
    fn what_is_kept_of_addresses_is_bounded() {
        let mut asked = Asked::default();
        let now = Instant::now();
        assert!((0..100_000u32).all(|who| asked.may_ask(IpAddr::from(who.to_be_bytes()), now)));
        assert!(asked.counts.len() <= ADDRESSES && asked.since.len() <= ADDRESSES);
    }

    #[test]
    fn an_answer_ends_the_wait_and_a_late_one_is_nobodys() {
        let questions = Questions::default();
        let caller = questions.number(ip("192.0.2.1"), Instant::now()).unwrap();
        questions.answer(caller, Answer::Reject(1401));
        assert_eq!(questions.wait(caller), Some(Answer::Reject(1401)));
        let caller = questions.number(ip("192.0.2.1"), Instant::now()).unwrap();
        assert_eq!(questions.wait(caller), None);
        questions.answer(caller, Answer::Admit { latency_ms: None, passphrase: b"hunter2".to_vec() });
        assert!(lock(&questions.open).is_empty());
    }
}
