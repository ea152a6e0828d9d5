//! Answers of the control plane that are remembered. Pure: `now` is an argument.

use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use sha2::{Digest as _, Sha256};

use super::{Denied, Granted, Verdict};
use crate::ingest::auth::Asked;

/// Answers of each kind that are remembered: publishers of several workers, at about 200 bytes. Those that say no have a place of their own, so that
/// somebody who guesses does not push out those that say yes.
const ENTRIES: NonZeroUsize = NonZeroUsize::new(8192).unwrap();

/// A yes is remembered so long for an outage: a day, in which somebody will have mended the control plane.
const KEEP: Duration = Duration::from_secs(24 * 3600);

/// All of a question that an answer may depend on, as a digest: no key lies in memory for it. The address is part of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Question([u8; 32]);

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Question {
    pub(super) fn of(asked: &Asked) -> Self {
        let (address, app) = (asked.peer.ip().to_canonical().to_string(), asked.app.as_str());
        let mut digest = Sha256::new();
        for part in [asked.protocol.as_str(), &address, app, asked.key.expose()] {
            digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(part);
        }
        Self(digest.finalize().into())
    }
}

/// What is remembered of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// An answer that still holds.
    Fresh(Verdict),
    /// None.
    Nothing,
}

#[derive(Debug)]
struct Yes {
    granted: Granted,
    fresh_until: Duration,
    kept_until: Duration,
}

#[derive(Debug)]
pub(super) struct Cache {
    allowed: LruCache<Question, Yes>,
    denied: LruCache<Question, (Denied, Duration)>,
}

impl Default for Cache {
    fn default() -> Self {
        Self { allowed: LruCache::new(ENTRIES), denied: LruCache::new(ENTRIES) }
    }
}

impl Cache {
    pub(super) fn len(&self) -> usize {
        self.allowed.len() + self.denied.len()
    }

    pub(super) fn find(&mut self, question: &Question, now: Duration) -> Found {
        if let Some(yes) = self.allowed.get(question).filter(|yes| now < yes.fresh_until) {
            return Found::Fresh(Ok(yes.granted.clone()));
        }
        match self.denied.get(question).filter(|(_, until)| now < *until) {
            Some((denied, _)) => Found::Fresh(Err(denied.clone())),
            None => Found::Nothing,
        }
    }

    /// The newest answer takes the place of the one before, whatever that said.
    pub(super) fn put(&mut self, question: Question, verdict: Verdict, now: Duration, ttl: Duration) {
        self.allowed.pop(&question);
        self.denied.pop(&question);
        match verdict {
            Ok(granted) => {
                self.allowed.put(question, Yes { granted, fresh_until: now + ttl, kept_until: now + KEEP.max(ttl) });
            }
            Err(denied) => {
                self.denied.put(question, (denied, now + ttl));
            }
        }
    }

    /// The last yes, if there is one that is not too old, fresh for so much longer.
    pub(super) fn prolong(&mut self, question: &Question, now: Duration, by: Duration) -> Option<Verdict> {
        let yes = self.allowed.get_mut(question).filter(|yes| now < yes.kept_until)?;
        yes.fresh_until = now + by;
        Some(Ok(yes.granted.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::Protocol;
    use crate::secret::Secret;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn asked(peer: &str, key: &str) -> Asked {
        let (peer, key) = (peer.parse().unwrap(), Secret::new(key));
        Asked { protocol: Protocol::Rtmp, peer, app: "live".into(), key, signed: None }
    }

    fn yes(stream: &str) -> Verdict {
        Ok(Granted::new(stream.parse().unwrap()))
    }

    #[test]
    fn a_question_is_the_same_from_the_same_address_and_another_for_anything_else() {
        let of = |peer, key| Question::of(&asked(peer, key));
        assert_eq!(of("192.0.2.1:1", "k"), of("192.0.2.1:2", "k"));
        assert_eq!(of("192.0.2.1:1", "k"), of("[::ffff:192.0.2.1]:2", "k"));
        assert_ne!(of("192.0.2.1:1", "k"), of("192.0.2.2:1", "k"));
        assert_ne!(of("192.0.2.1:1", "k"), of("192.0.2.1:1", "K"));
        let srt = Asked { protocol: Protocol::Srt, ..asked("192.0.2.1:1", "k") };
        assert_ne!(Question::of(&srt), of("192.0.2.1:1", "k"));
        let shifted = Asked { app: "livek".into(), ..asked("192.0.2.1:1", "") };
        assert_ne!(Question::of(&shifted), of("192.0.2.1:1", "k"));
    }

    #[test]
    fn answers_hold_for_their_time_and_the_newest_counts() {
        let mut cache = Cache::default();
        let question = Question::of(&asked("192.0.2.1:1", "k"));
        assert_eq!(cache.find(&question, S(0)), Found::Nothing);
        cache.put(question, yes("anna"), S(0), S(60));
        assert_eq!(cache.find(&question, S(59)), Found::Fresh(yes("anna")));
        assert_eq!(cache.find(&question, S(60)), Found::Nothing);
        cache.put(question, Err(Denied::Unknown), S(61), S(5));
        assert_eq!(cache.find(&question, S(65)), Found::Fresh(Err(Denied::Unknown)));
        assert_eq!(cache.find(&question, S(66)), Found::Nothing);
        assert_eq!(cache.prolong(&question, S(66), S(15)), None, "the last answer was no");
    }

    #[test]
    fn the_last_yes_is_known_for_a_day() {
        let mut cache = Cache::default();
        let question = Question::of(&asked("192.0.2.1:1", "k"));
        cache.put(question, yes("anna"), S(0), S(60));
        assert_eq!(cache.prolong(&question, S(7200), S(15)), Some(yes("anna")));
        assert_eq!(cache.find(&question, S(7214)), Found::Fresh(yes("anna")), "who comes again is let in");
        assert_eq!(cache.find(&question, S(7215)), Found::Nothing);
        assert_eq!(cache.prolong(&question, S(24 * 3600), S(15)), None);
    }

    #[test]
    fn it_is_bounded_and_who_guesses_pushes_out_no_yes() {
        let mut cache = Cache::default();
        let anna = Question::of(&asked("192.0.2.1:1", "k"));
        cache.put(anna, yes("anna"), S(0), S(60));
        for guess in 0..10_000 {
            cache.put(Question::of(&asked("192.0.2.2:1", &guess.to_string())), Err(Denied::Unknown), S(0), S(60));
        }
        assert_eq!((cache.find(&anna, S(1)), cache.len()), (Found::Fresh(yes("anna")), 8193));
    }
}
