//! What a key store is asked and what it answers, whichever store it is.

use std::net::SocketAddr;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::bans::Print;
use super::stats::Judgement;
use super::{Answer, BadName, Keys, Signed};
use crate::blame::Blame;
use crate::ingest::{Protocol, Refusal};
use crate::logic::capacity::Priority;
use crate::logic::model::{KeyId, StreamId};
use crate::secret::Secret;

/// Somebody who wants to publish, as he presents himself.
#[derive(Debug, Clone)]
pub struct Asked {
    /// How his media come.
    pub protocol: Protocol,
    /// Where from; behind a load balancer, the address that it told.
    pub peer: SocketAddr,
    /// RTMP application or first part of an SRT resource, `live`.
    pub app: String,
    /// The stream key, what stands before a `?` ([`super::Name::key`]).
    pub key: Secret,
    /// The signature behind it ([`super::Name::signed`]).
    pub signed: Option<Signed>,
}

impl Asked {
    /// Enough of the key's digest to know it again; never 0.
    fn print(&self) -> Print {
        let mut digest = Sha256::new().chain_update(self.key.expose());
        if let Some(signed) = &self.signed {
            digest.update([0]);
            digest.update(signed.mac.0);
        }
        let digest: [u8; 32] = digest.finalize().into();
        digest.iter().take(8).fold(0, |print, byte| print << 8 | Print::from(*byte)).max(1)
    }
}

/// What an accepted publisher may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The stream that the key stands for.
    pub stream: StreamId,
    /// The passphrase that SRT must use; 10 to 79 bytes. Without one the connection must not be encrypted.
    pub passphrase: Option<Secret>,
    /// SRT's latency for this stream instead of the listener's.
    pub latency: Option<Duration>,
    /// The name of a ladder instead of the worker's.
    pub ladder: Option<String>,
    /// The highest bitrate of all that he sends, kbit/s.
    pub max_kbps: Option<u32>,
    /// Who goes first when it gets tight.
    pub priority: Priority,
}

impl Granted {
    /// The stream, and nothing special.
    pub fn new(stream: StreamId) -> Self {
        Self { stream, passphrase: None, latency: None, ladder: None, max_kbps: None, priority: Priority::default() }
    }
}

/// Why somebody may not publish. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No stream has this key.
    #[error("unknown stream key")]
    Unknown,
    /// Not a publishing name.
    #[error("{0}")]
    Malformed(#[from] BadName),
    /// Signed with a key that is not there (any more).
    #[error("the stream key is signed with {id}, which is not in force here: get a new one")]
    SigningKey {
        /// Its id.
        id: KeyId,
    },
    /// The signature is not that of this stream and time.
    #[error("the stream key's signature is wrong: copy all of it")]
    Signature,
    /// Rightly signed, and over.
    #[error("the stream key expired {seconds} s ago: get a new one")]
    Expired {
        /// Since when.
        seconds: u64,
    },
    /// The control plane said no.
    #[error("{reason}")]
    Refused {
        /// Its words, or ours.
        reason: String,
    },
    /// The control plane cannot be asked.
    #[error("who may publish cannot be looked up at the moment: try again")]
    Unavailable,
    /// Too many wrong keys from the same household.
    #[error("too many wrong stream keys from this address: wait {seconds} s")]
    Banned {
        /// For how long yet.
        seconds: u64,
    },
}

impl Denied {
    /// As the streamer sees it over RTMP.
    pub fn refusal(&self) -> Refusal {
        let code = match self {
            Denied::Unavailable => Refusal::REJECTED,
            _ => Refusal::BAD_NAME,
        };
        Refusal { code, reason: self.to_string() }
    }

    /// SRT's rejection reason, of its access control guidelines' range 1400 to 1599: they are HTTP's codes and 1000.
    pub const fn srt_rejection(&self) -> u16 {
        match self {
            // SRT_REJX_BAD_REQUEST.
            Denied::Malformed(_) => 1400,
            // SRT_REJX_UNAUTHORIZED.
            Denied::Unknown | Denied::SigningKey { .. } | Denied::Signature => 1401,
            // SRT_REJX_FORBIDDEN.
            Denied::Expired { .. } | Denied::Refused { .. } | Denied::Banned { .. } => 1403,
            // SRT_REJX_DOWN.
            Denied::Unavailable => 1503,
        }
    }

    /// Who has to do something about it.
    pub const fn blame(&self) -> Blame {
        match self {
            Denied::Unavailable => Blame::Operator,
            _ => Blame::Publisher,
        }
    }

    /// Whether it may have been a guess. A signature that is over was a right one.
    const fn is_guess(&self) -> bool {
        matches!(self, Denied::Unknown | Denied::SigningKey { .. } | Denied::Signature | Denied::Refused { .. })
    }

    const fn judgement(&self) -> Judgement {
        match self {
            Denied::Unknown => Judgement::Unknown,
            Denied::Malformed(_) => Judgement::Malformed,
            Denied::SigningKey { .. } | Denied::Signature => Judgement::Signature,
            Denied::Expired { .. } => Judgement::Expired,
            Denied::Refused { .. } => Judgement::Refused,
            Denied::Unavailable => Judgement::Unavailable,
            Denied::Banned { .. } => Judgement::Banned,
        }
    }
}

/// An answer from memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// As [`Keys::judge`] would answer.
    Judged(Result<Granted, Denied>),
    /// The control plane is being asked; the same question a few seconds later (deadline: `webhook.deadline_ms`) has an answer.
    NotYet,
}

impl Known {
    /// SRT's rejection reason for [`Known::NotYet`]: SRT_REJX_LOCKED, "the resource being accessed is locked" for now; callers try again.
    pub const NOT_YET_SRT: u16 = 1423;
}

impl Keys {
    /// Whether `asked` may publish, and what. Waits for the control plane where that has to be asked.
    ///
    /// # Errors
    /// Why not.
    pub async fn judge(&self, asked: &Asked) -> Result<Granted, Denied> {
        let outcome = match self.may_try(asked) {
            Ok(()) => self.look_for(asked).await,
            Err(denied) => Err(denied),
        };
        self.judged(asked, outcome)
    }

    /// The same at once, from memory alone: for callers that cannot wait, like a handshake. Where the control plane has to be asked that is begun, so that
    /// it is known when the publisher tries again. Must be called on a tokio runtime.
    pub fn known(&self, asked: &Asked) -> Known {
        let outcome = match self.may_try(asked) {
            Ok(()) => self.look_up(asked),
            Err(denied) => Some(Err(denied)),
        };
        match outcome {
            Some(outcome) => Known::Judged(self.judged(asked, outcome)),
            None => {
                self.stats.count(Judgement::NotYet);
                Known::NotYet
            }
        }
    }

    fn may_try(&self, asked: &Asked) -> Result<(), Denied> {
        let outcome = self.bans().may_try(asked.peer.ip(), asked.print(), self.clock.now().mono);
        outcome.map_err(|left| Denied::Banned { seconds: u64::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u64::MAX) })
    }

    async fn look_for(&self, asked: &Asked) -> Result<Granted, Denied> {
        for store in self.stores() {
            match store.ask(asked).await {
                Answer::Granted(granted) => return Ok(granted),
                Answer::Denied(denied) => return Err(denied),
                Answer::NotMine | Answer::NotYet => {}
            }
        }
        Err(Denied::Unknown)
    }

    fn look_up(&self, asked: &Asked) -> Option<Result<Granted, Denied>> {
        for store in self.stores() {
            match store.known(asked) {
                Answer::Granted(granted) => return Some(Ok(granted)),
                Answer::Denied(denied) => return Some(Err(denied)),
                Answer::NotMine => {}
                Answer::NotYet => return None,
            }
        }
        Some(Err(Denied::Unknown))
    }

    /// Counts it, and remembers the household's keys.
    fn judged(&self, asked: &Asked, outcome: Result<Granted, Denied>) -> Result<Granted, Denied> {
        let address = asked.peer.ip();
        match &outcome {
            Ok(_) => {
                self.stats.count(Judgement::Granted);
                self.bans().right(address, asked.print());
            }
            Err(denied) => {
                self.stats.count(denied.judgement());
                if denied.is_guess() {
                    let ban = self.bans().wrong(address, asked.print(), self.clock.now().mono);
                    if let Some(ban) = ban {
                        self.stats.count_ban();
                        let seconds = ban.as_secs();
                        tracing::warn!(%address, seconds, blame = Blame::Publisher.as_str(), "too many wrong stream keys: address is banned");
                    }
                }
            }
        }
        outcome
    }
}
