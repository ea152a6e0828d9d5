//! Back-off for those who guess keys. Pure: `now` is an argument.
//!
//! Counted are *different* wrong keys from one household: an encoder that tries one mistyped key again and again guesses nothing, and must not
//! shut its neighbours out. After some of them the household may not try for a while; each further wrong key doubles it. A ban is short, because
//! behind a carrier's NAT thousands share an address; and a key that has been right from there before is right all the same, so that
//! a streamer's reconnect does not hang on his neighbours. A guesser learns nothing by that.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use ipnet::IpNet;
use lru::LruCache;
use serde::{Deserialize, Serialize};

use crate::ingest::household;

/// Who guesses keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BanSettings {
    /// Different wrong keys from one IPv4 address or IPv6 /64 before the first ban, 1 to 1000; 0: nobody is banned. Default 5: a streamer who mistypes is
    /// through by then.
    pub after: u32,
    /// Length of the first ban, s, 1 to 3600. Default 10.
    pub first: u32,
    /// And of the longest, s, at most 86,400. Default 300: at one guess in five minutes a key of 8 digits takes 950 years.
    pub longest: u32,
    /// Addresses that are remembered, 100 to 1,000,000. Default 10,000: about 2 MB. The one that was heard of longest ago is forgotten first.
    pub entries: u32,
    /// Networks from which nobody is banned, as `10.0.0.0/8`. Default loopback: a relay on the same machine speaks for many.
    pub exempt: Vec<IpNet>,
}

impl Default for BanSettings {
    fn default() -> Self {
        let loopback = [IpNet::new([127, 0, 0, 0].into(), 8), IpNet::new(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), 128)];
        Self { after: 5, first: 10, longest: 300, entries: 10_000, exempt: loopback.into_iter().flatten().collect() }
    }
}

impl BanSettings {
    /// Checks all ranges.
    ///
    /// # Errors
    /// What is outside.
    pub fn check(&self) -> Result<(), String> {
        let ranges = [
            ("after", self.after, 0, 1000),
            ("first", self.first, 1, 3600),
            ("longest", self.longest, self.first, 86_400),
            ("entries", self.entries, 100, 1_000_000),
        ];
        match ranges.into_iter().find(|&(_, value, low, high)| !(low..=high).contains(&value)) {
            Some((name, value, low, high)) => Err(format!("bans.{name} is {value}, must be {low} to {high}")),
            None => Ok(()),
        }
    }
}

/// Wrong keys are forgotten so long after the last one and its ban: a guesser who is as slow as this needs centuries.
const FORGET: Duration = Duration::from_secs(3600);

/// Keys remembered of a household, wrong ones and right ones each: more than a household mistypes, or streams with.
const REMEMBERED: usize = 8;

/// Some bits of a key's digest: enough to know it again, too few to be of use to anybody.
pub(super) type Print = u64;

#[derive(Debug, Default)]
struct Household {
    /// Different wrong keys since it was last forgotten.
    wrong: u32,
    last_wrong: Option<Duration>,
    /// Until when it may not try.
    until: Option<Duration>,
    tried: Ring,
    right: Ring,
}

/// The last few different prints.
#[derive(Debug, Default)]
struct Ring {
    prints: [Print; REMEMBERED],
    next: usize,
}

impl Ring {
    fn has(&self, print: Print) -> bool {
        print != 0 && self.prints.contains(&print)
    }

    fn put(&mut self, print: Print) {
        if !self.has(print) {
            self.prints[self.next % REMEMBERED] = print;
            self.next = (self.next + 1) % REMEMBERED;
        }
    }
}

/// Somebody who may not try for a while, as the API says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Banned {
    /// An IPv4 address, or the first one of an IPv6 /64.
    pub address: IpAddr,
    /// For how long yet.
    pub seconds: u64,
    /// Different wrong keys from there.
    pub wrong_keys: u32,
}

/// All households that were heard of.
#[derive(Debug)]
pub struct Bans {
    after: u32,
    first: Duration,
    longest: Duration,
    exempt: Vec<IpNet>,
    households: LruCache<IpAddr, Household>,
}

impl Bans {
    /// Nobody is banned yet.
    pub fn new(settings: &BanSettings) -> Self {
        let entries = usize::try_from(settings.entries).ok().and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN);
        Self {
            after: settings.after,
            first: Duration::from_secs(settings.first.into()),
            longest: Duration::from_secs(settings.longest.into()),
            exempt: settings.exempt.clone(),
            households: LruCache::new(entries),
        }
    }

    fn watched(&self, address: IpAddr) -> Option<IpAddr> {
        let address = address.to_canonical();
        let watched = self.after > 0 && !self.exempt.iter().any(|net| net.contains(&address));
        watched.then(|| household(address))
    }

    /// Whether a key from there is looked at; else how long it has to wait.
    pub(super) fn may_try(&mut self, address: IpAddr, print: Print, now: Duration) -> Result<(), Duration> {
        let Some(address) = self.watched(address) else { return Ok(()) };
        let Some(household) = self.households.get(&address) else { return Ok(()) };
        match household.until {
            Some(until) if until > now && !household.right.has(print) => Err(until - now),
            _ => Ok(()),
        }
    }

    /// A key from there was right.
    pub(super) fn right(&mut self, address: IpAddr, print: Print) {
        if let Some(address) = self.watched(address) {
            self.households.get_or_insert_mut(address, Household::default).right.put(print);
        }
    }

    /// A key from there was wrong. How long nothing more is looked at, if that begins now.
    pub(super) fn wrong(&mut self, address: IpAddr, print: Print, now: Duration) -> Option<Duration> {
        let address = self.watched(address)?;
        let household = self.households.get_or_insert_mut(address, Household::default);
        let since = household.until.max(household.last_wrong);
        if since.is_some_and(|since| now.saturating_sub(since) > FORGET) {
            (household.wrong, household.tried) = (0, Ring::default());
        }
        if household.tried.has(print) {
            return None;
        }
        household.tried.put(print);
        household.wrong = household.wrong.saturating_add(1);
        household.last_wrong = Some(now);
        let doubled = household.wrong.checked_sub(self.after)?;
        let ban = 1u32.checked_shl(doubled).and_then(|n| self.first.checked_mul(n)).unwrap_or(self.longest).min(self.longest);
        household.until = Some(now + ban);
        Some(ban)
    }

    /// Who may not try now, those for longest first.
    pub fn banned(&self, now: Duration) -> Vec<Banned> {
        let mut banned: Vec<Banned> = self
            .households
            .iter()
            .filter_map(|(address, h)| {
                let left = h.until?.checked_sub(now).filter(|left| !left.is_zero())?;
                Some(Banned {
                    address: *address,
                    seconds: left.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX),
                    wrong_keys: h.wrong,
                })
            })
            .collect();
        banned.sort_by_key(|b| (std::cmp::Reverse(b.seconds), b.address));
        banned
    }

    /// Lets one household, or all, try again, and forgets what it tried. How many were banned.
    pub fn lift(&mut self, address: Option<IpAddr>, now: Duration) -> usize {
        let only = address.map(household);
        let mut lifted = 0;
        for (_, h) in self.households.iter_mut().filter(|(address, _)| only.is_none_or(|only| **address == only)) {
            lifted += usize::from(h.until.is_some_and(|until| until > now));
            (h.wrong, h.last_wrong, h.until, h.tried) = (0, None, None, Ring::default());
        }
        lifted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn bans() -> Bans {
        Bans::new(&BanSettings { after: 3, first: 10, longest: 60, ..BanSettings::default() })
    }

    fn guess(bans: &mut Bans, from: IpAddr, keys: std::ops::RangeInclusive<Print>, now: Duration) {
        for key in keys {
            bans.wrong(from, key, now);
        }
    }

    #[test]
    fn each_wrong_key_behind_the_first_few_doubles_the_wait_up_to_the_longest() {
        let mut bans = bans();
        let guesser = ip("192.0.2.1");
        let mut now = S(0);
        let mut waits = Vec::new();
        for guess in 1..=8 {
            assert_eq!(bans.may_try(guesser, guess, now), Ok(()), "{guess}");
            let ban = bans.wrong(guesser, guess, now).unwrap_or_default();
            if !ban.is_zero() {
                assert_eq!(bans.may_try(guesser, 100, now + ban - S(1)), Err(S(1)));
                assert_eq!(bans.banned(now), [Banned { address: guesser, seconds: ban.as_secs(), wrong_keys: guess as u32 }]);
            }
            waits.push(ban.as_secs());
            now += ban;
        }
        assert_eq!(waits, [0, 0, 10, 20, 40, 60, 60, 60]);
        assert_eq!(bans.may_try(ip("192.0.2.2"), 100, S(0)), Ok(()), "a neighbour is another household");
        assert_eq!(bans.banned(now), [], "and it ends by itself");
    }

    #[test]
    fn one_wrong_key_again_and_again_is_no_guessing() {
        let mut bans = bans();
        for n in 0..1000 {
            assert_eq!(bans.wrong(ip("192.0.2.1"), 7, S(10 * n)), None);
        }
        assert_eq!(bans.wrong(ip("192.0.2.1"), 8, S(10_000)), None, "it counted once");
    }

    #[test]
    fn what_was_right_from_there_stays_right_and_nothing_else() {
        let mut bans = bans();
        let nat = ip("192.0.2.1");
        bans.right(nat, 42);
        guess(&mut bans, nat, 1..=3, S(1));
        assert_eq!(bans.may_try(nat, 42, S(2)), Ok(()), "the streamer comes back");
        assert_eq!(bans.may_try(nat, 43, S(2)), Err(S(9)), "right or wrong, nobody learns it");
        assert_eq!(bans.may_try(nat, 0, S(2)), Err(S(9)), "an empty place is no key");
        bans.right(nat, 43);
        assert!(bans.wrong(nat, 4, S(11)).is_some(), "a right key forgives no wrong one");
    }

    #[test]
    fn a_household_is_a_64_and_nobody_gets_around_it_by_mapping() {
        let mut bans = bans();
        for n in 1..=3 {
            guess(&mut bans, ip(&format!("2001:db8:1:2::{n}")), n..=n, S(0));
        }
        assert!(bans.may_try(ip("2001:db8:1:2:ffff::1"), 9, S(1)).is_err());
        assert!(bans.may_try(ip("2001:db8:1:3::1"), 9, S(1)).is_ok());
        guess(&mut bans, ip("::ffff:192.0.2.1"), 1..=3, S(0));
        assert!(bans.may_try(ip("192.0.2.1"), 9, S(1)).is_err());
    }

    #[test]
    fn exempt_networks_and_a_switched_off_list_ban_nobody() {
        let mut bans =
            Bans::new(&BanSettings { after: 1, exempt: vec!["10.0.0.0/8".parse().unwrap()], ..BanSettings::default() });
        assert_eq!(bans.wrong(ip("10.1.2.3"), 1, S(0)), None);
        assert_eq!(bans.wrong(ip("::ffff:10.1.2.3"), 2, S(0)), None);
        assert!(bans.wrong(ip("11.1.2.3"), 1, S(0)).is_some());
        let mut off = Bans::new(&BanSettings { after: 0, ..BanSettings::default() });
        assert!((1..100).all(|n| off.wrong(ip("192.0.2.1"), n, S(0)).is_none()));
        assert_eq!(bans_of_loopback(), None);
    }

    fn bans_of_loopback() -> Option<Duration> {
        let mut bans = Bans::new(&BanSettings { after: 1, ..BanSettings::default() });
        bans.wrong(ip("127.0.0.5"), 1, S(0)).or(bans.wrong(ip("::1"), 1, S(0)))
    }

    #[test]
    fn an_hour_without_a_wrong_key_forgets_and_an_operator_forgives_at_once() {
        let mut bans = bans();
        let guesser = ip("192.0.2.1");
        guess(&mut bans, guesser, 1..=3, S(0));
        assert_eq!(bans.wrong(guesser, 4, S(10 + 3601)), None, "begins anew");
        guess(&mut bans, guesser, 5..=6, S(3612));
        assert!(bans.may_try(guesser, 9, S(3613)).is_err());
        assert_eq!(bans.lift(Some(ip("192.0.2.9")), S(3613)), 0);
        assert_eq!(bans.lift(Some(guesser), S(3613)), 1);
        assert_eq!((bans.may_try(guesser, 9, S(3613)), bans.wrong(guesser, 9, S(3613))), (Ok(()), None));
        guess(&mut bans, guesser, 10..=11, S(3614));
        assert_eq!((bans.lift(None, S(3615)), bans.banned(S(3615))), (1, vec![]));
    }

    #[test]
    fn addresses_are_bounded() {
        let mut bans = Bans::new(&BanSettings { after: 1, entries: 100, ..BanSettings::default() });
        for n in 0..1000u32 {
            bans.wrong(std::net::Ipv4Addr::from_bits(n << 8 | 0x0b00_0001).into(), 1, S(0));
        }
        assert_eq!(bans.households.len(), 100);
    }

    #[test]
    fn settings_outside_their_range_are_named() {
        let check = |s: BanSettings| s.check();
        assert_eq!(check(BanSettings::default()), Ok(()));
        let wrong = check(BanSettings { longest: 5, ..BanSettings::default() });
        assert_eq!(wrong.unwrap_err(), "bans.longest is 5, must be 10 to 86400");
    }
}
