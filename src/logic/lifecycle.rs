//! Is the session live, waiting for its publisher, or over? Pure.

use std::time::Duration;

/// How long a session outlives its publisher.
#[derive(Debug, Clone, Copy)]
pub struct Grace {
    /// After a clean unpublish (OBS sends one on every restart).
    pub reconnect: Duration,
    /// After a connection that was cut.
    pub end_after: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Live,
    Away { until: Duration },
    Over,
}

/// The machine.
#[derive(Debug)]
pub struct Lifecycle {
    grace: Grace,
    state: State,
}

impl Lifecycle {
    /// A publisher is there.
    pub fn new(grace: Grace) -> Self {
        Self { grace, state: State::Live }
    }

    /// The publisher said goodbye (`clean`) or was cut off.
    pub fn left(&mut self, clean: bool, now: Duration) {
        if self.state == State::Live {
            self.state = State::Away { until: now + if clean { self.grace.reconnect } else { self.grace.end_after } };
        }
    }

    /// A publisher is there again. `false` when it is too late for this session.
    #[must_use]
    pub fn returned(&mut self) -> bool {
        if self.state == State::Over {
            return false;
        }
        self.state = State::Live;
        true
    }

    /// Stop at once, by the operator.
    pub fn stop(&mut self) {
        self.state = State::Over;
    }

    /// A publisher is there.
    pub fn is_live(&self) -> bool {
        self.state == State::Live
    }

    /// The session takes nothing more.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// When [`Lifecycle::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Duration> {
        if let State::Away { until } = self.state { Some(until) } else { None }
    }

    /// `true` when the session ended now.
    pub fn handle_timeout(&mut self, now: Duration) -> bool {
        let due = self.poll_timeout().is_some_and(|at| now >= at);
        if due {
            self.state = State::Over;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lifecycle() -> Lifecycle {
        Lifecycle::new(Grace { reconnect: Duration::from_secs(60), end_after: Duration::from_secs(300) })
    }

    #[test]
    fn a_goodbye_waits_shorter_than_a_cut() {
        let mut l = lifecycle();
        l.left(true, Duration::from_secs(10));
        assert_eq!(l.poll_timeout(), Some(Duration::from_secs(70)));
        assert!(l.returned());
        l.left(false, Duration::from_secs(10));
        assert!(!l.handle_timeout(Duration::from_secs(309)));
        assert!(l.handle_timeout(Duration::from_secs(310)));
        assert!(!l.returned());
    }

    #[test]
    fn a_stop_is_final() {
        let mut l = lifecycle();
        l.stop();
        assert!(l.is_over() && !l.returned());
    }
}
