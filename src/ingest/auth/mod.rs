//! Who may publish: key stores, asked one after the other, and the back-off for those who guess. Knows nothing of connections; decides nothing about capacity.
//!
//! A publishing name is looked for in the keys file, then taken for a signed key, then asked of the operator's control plane; the first store whose
//! name it is answers for good. `docs/security.md` says what each protects against.

mod bans;
mod error;
mod file;
mod judge;
mod name;
mod reload;
mod signed;
mod stats;
mod webhook;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tokio::signal::unix::Signal;

use crate::clock::{Clock, wall};

pub use self::bans::{BanSettings, Banned, Bans};
pub use self::error::{Error, MIN_SECRET, read_secret};
pub use self::file::{Hashed, entry, sha256_hex};
pub use self::judge::{Asked, Denied, Granted, Known};
pub use self::name::{BadName, Name, Signed};
pub use self::signed::{SigningKeys, Ticket, hmac_entry};
pub use self::stats::{Judgement, Stats};
pub use self::webhook::{OnOutage, Outcome, Webhook, WebhookSettings};

use self::file::FileKeys;
use self::reload::Looked;
use self::signed::SignedKeys;

/// What one key store says of a publishing name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The key is right.
    Granted(Granted),
    /// It is not, and no other store needs to be asked.
    Denied(Denied),
    /// This store does not know such names; the next one may.
    NotMine,
    /// It has to be asked of somebody else first.
    NotYet,
}

/// Where keys are known from.
pub trait KeyStore: fmt::Debug + Send + Sync {
    /// From memory alone, at once. A store that answers [`Answer::NotYet`] asks in the background, so that a later question is answered.
    fn known(&self, asked: &Asked) -> Answer;

    /// Waits for the answer where it is not known yet, within the store's own deadline. Never [`Answer::NotYet`].
    fn ask<'a>(&'a self, asked: &'a Asked) -> BoxFuture<'a, Answer>;
}

/// The key is the stream id; for laptops and tests. Anybody who reaches the port may publish.
#[derive(Debug)]
struct Open;

impl KeyStore for Open {
    fn known(&self, asked: &Asked) -> Answer {
        match asked.key.expose().parse() {
            Ok(stream) => Answer::Granted(Granted::new(stream)),
            Err(_) => Answer::NotMine,
        }
    }

    fn ask<'a>(&'a self, asked: &'a Asked) -> BoxFuture<'a, Answer> {
        Box::pin(std::future::ready(self.known(asked)))
    }
}

/// All that is known of who may publish.
#[derive(Debug)]
pub struct Keys {
    clock: Clock,
    open: Option<Open>,
    file: Option<FileKeys>,
    signed: Option<SignedKeys>,
    webhook: Option<Webhook>,
    bans: Mutex<Bans>,
    stats: Stats,
}

/// Where keys come from, as configured. An empty one lets nobody in.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The stream key is the stream id; nothing else is looked at.
    pub open: bool,
    /// The keys file; empty: none.
    pub file: &'a str,
    /// The file of signing keys; empty: none.
    pub signing: &'a str,
    /// The control plane.
    pub webhook: &'a WebhookSettings,
    /// Who guesses.
    pub bans: &'a BanSettings,
    /// This worker and its region, for the control plane.
    pub worker: (&'a str, &'a str),
}

impl Keys {
    /// Every stream id is a key, and nobody is banned.
    pub fn open() -> Self {
        Self {
            clock: Clock::start(),
            open: Some(Open),
            file: None,
            signed: None,
            webhook: None,
            bans: Mutex::new(Bans::new(&BanSettings { after: 0, ..BanSettings::default() })),
            stats: Stats::default(),
        }
    }

    /// Reads the files and makes ready what asks the control plane; nothing is asked yet.
    ///
    /// # Errors
    /// [`Error`]: a file that cannot be read or is not as it must be.
    pub fn load(sources: &Sources<'_>) -> Result<Self, Error> {
        if sources.open {
            return Ok(Self::open());
        }
        let some = |path: &'_ str| (!path.is_empty()).then(|| path.to_owned().into());
        let clock = Clock::start();
        Ok(Self {
            clock,
            open: None,
            file: some(sources.file).map(FileKeys::open).transpose()?,
            signed: some(sources.signing).map(SignedKeys::open).transpose()?,
            webhook: match sources.webhook.url.is_empty() {
                true => None,
                false => Some(Webhook::new(sources.webhook, sources.worker, clock)?),
            },
            bans: Mutex::new(Bans::new(sources.bans)),
            stats: Stats::default(),
        })
    }

    fn stores(&self) -> impl Iterator<Item = &dyn KeyStore> {
        fn store<K: KeyStore>(key_store: &Option<K>) -> Option<&dyn KeyStore> {
            key_store.as_ref().map(|k| k as &dyn KeyStore)
        }
        [store(&self.open), store(&self.file), store(&self.signed), store(&self.webhook)].into_iter().flatten()
    }

    /// Number of keys in the keys file; `None` without one.
    pub fn count(&self) -> Option<usize> {
        self.file.as_ref().map(|f| f.count())
    }

    /// Signing keys; `None` without a file of them.
    pub fn signing_keys(&self) -> Option<usize> {
        self.signed.as_ref().map(|s| s.count())
    }

    /// The control plane, where one is asked.
    pub fn webhook(&self) -> Option<&Webhook> {
        self.webhook.as_ref()
    }

    /// What was answered so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Who may not try at the moment.
    pub fn banned(&self) -> Vec<Banned> {
        self.bans().banned(self.clock.now().mono)
    }

    /// Lets an address (an IPv4 address, or any of an IPv6 /64) try again, or all of them. How many bans were lifted.
    pub fn lift_bans(&self, address: Option<std::net::IpAddr>) -> usize {
        self.bans().lift(address, self.clock.now().mono)
    }

    fn bans(&self) -> std::sync::MutexGuard<'_, Bans> {
        // Each change is whole: a poisoned lock is as good as any.
        self.bans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks after the files: every second, and at once at each SIGHUP. Never returns.
    pub async fn follow(self: Arc<Self>, mut hangup: Signal) {
        let mut every = tokio::time::interval(reload::EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let at_once = tokio::select! {
                _ = every.tick() => false,
                _ = hangup.recv() => true,
            };
            let keys = Arc::clone(&self);
            // A file of 100,000 keys takes a while.
            if let Err(error) = tokio::task::spawn_blocking(move || keys.look_at_files(at_once)).await {
                tracing::error!(%error, "keys files cannot be looked after");
            }
        }
    }

    /// Reads files that have changed; with `at_once` all of them. One that is broken leaves what was read before in force.
    fn look_at_files(&self, at_once: bool) {
        let mut looks = Vec::new();
        looks.extend(self.file.as_ref().map(|f| (f.path(), f.look(at_once), f.count(), "keys file")));
        looks.extend(self.signed.as_ref().map(|s| (s.path(), s.look(at_once), s.count(), "signing keys")));
        looks.extend(self.webhook.as_ref().and_then(|w| Some((w.secret_path()?, w.look(at_once)?, 1, "webhook's secret"))));
        for (path, looked, keys, what) in looks {
            match looked {
                Looked::Same => {}
                Looked::Read => {
                    self.stats.reloaded(true);
                    tracing::info!(file = %path.display(), keys, "{what} read again");
                }
                Looked::Kept(error) => {
                    self.stats.reloaded(false);
                    tracing::warn!(blame = error.blame().as_str(), "{error}; what was read before stays in force");
                }
            }
        }
    }
}

/// Unix seconds; a clock before 1970 shows 0.
fn unix_seconds() -> u64 {
    u64::try_from(wall().0 / 1000).unwrap_or(0)
}

#[cfg(test)]
mod tests;
