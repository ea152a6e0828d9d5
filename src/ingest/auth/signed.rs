//! Signed keys: a stream id, a time and an HMAC over both. Whoever has a signing key (the operator's control plane, `weir key sign`) makes them; the worker
//! needs to be told of none.
//!
//! ```toml
//! [[hmac]]
//! id = "k1"
//! secret = "a4f1…"      # 64 hexadecimal digits
//! ```
//!
//! A signing key is changed by adding the new one, signing with it, and taking the old one out when the last key that it signed is over.
//! HMAC needs the key itself, so it stands in clear, and the file must be unreadable for others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha2::Sha256;

use super::error::{Error, Text};
use super::file::Terms;
use super::name::{Mac, from_hex, hex};
use super::reload::{Looked, Reloaded};
use super::{Answer, Asked, Denied, Granted, KeyStore, Signed, unix_seconds};
use crate::logic::capacity::Priority;
use crate::logic::model::{KeyId, StreamId};
use crate::secret::Secret;

const WHAT: &str = "signing keys";

/// Bytes of a signing key: 256 bits are what HMAC-SHA256 can use, and one that is shorter than its digest is weaker (RFC 2104, 3).
const SECRET: usize = 32;

/// What is signed, one line each, so that no two things have the same text: names have no line feeds.
fn signed_text(id: &KeyId, stream: &StreamId, expires: u64) -> String {
    format!("weir publish 1\n{id}\n{stream}\n{expires}\n")
}

/// And what a passphrase is derived from: another first line, so that no signature is ever a passphrase.
fn passphrase_text(id: &KeyId, stream: &StreamId, expires: u64) -> String {
    format!("weir srt passphrase 1\n{id}\n{stream}\n{expires}\n")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    hmac: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: KeyId,
    secret: Secret,
    srt_passphrase: Option<bool>,
    latency_ms: Option<u64>,
    ladder: Option<String>,
    max_kbps: Option<u32>,
    priority: Option<Priority>,
}

/// A signing key and what everything that it signs is granted.
#[derive(Clone)]
struct Key {
    secret: [u8; SECRET],
    srt_passphrase: bool,
    terms: Terms,
}

/// The signing keys by their ids.
#[derive(Clone, Default)]
pub struct SigningKeys(BTreeMap<KeyId, Key>);

impl std::fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} signing keys", self.0.len())
    }
}

/// What `weir key sign` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The publishing name: the stream key as an encoder wants it.
    pub name: Secret,
    /// What SRT must be encrypted with, where that is wanted.
    pub passphrase: Option<Secret>,
}

impl SigningKeys {
    /// Reads a file of signing keys.
    ///
    /// # Errors
    /// [`Error`], naming the file and the line or entry.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::parse(&Text::read(WHAT, path)?)
    }

    fn parse(text: &Text) -> Result<Self, Error> {
        let file: File = text.parse()?;
        text.must_be_private()?;
        let mut keys = BTreeMap::new();
        for (i, Entry { id, secret, srt_passphrase, latency_ms, ladder, max_kbps, priority }) in
            file.hmac.into_iter().enumerate()
        {
            let terms = Terms { latency_ms, ladder, max_kbps, priority };
            let of = format!("id {id}");
            let Some(secret) = from_hex::<SECRET>(secret.expose()) else {
                let have = secret.expose().chars().count();
                return Err(text.fault(i, of, format!("secret must be 64 hexadecimal digits, here are {have} characters")));
            };
            if let Some(fault) = terms.fault() {
                return Err(text.fault(i, of, fault));
            }
            let key = Key { secret, srt_passphrase: srt_passphrase.unwrap_or(true), terms };
            if keys.insert(id, key).is_some() {
                return Err(text.fault(i, of, "the same id twice"));
            }
        }
        Ok(Self(keys))
    }

    /// One key, from elsewhere than a file.
    ///
    /// # Errors
    /// `None`: no 64 hexadecimal digits.
    pub fn single(id: KeyId, secret: &Secret) -> Option<Self> {
        let secret = from_hex(secret.expose())?;
        Some(Self(BTreeMap::from([(id, Key { secret, srt_passphrase: true, terms: Terms::default() })])))
    }

    /// Signs a stream id with one of the keys; `None` if there is no such key.
    pub fn sign(&self, id: &KeyId, stream: &StreamId, expires: u64) -> Option<Ticket> {
        let key = self.0.get(id)?;
        let sig = hex(&key.mac(&signed_text(id, stream, expires)).finalize().into_bytes());
        Some(Ticket {
            name: Secret::new(format!("{stream}?exp={expires}&id={id}&sig={sig}")),
            passphrase: key.passphrase(id, stream, expires),
        })
    }

    /// Whether a stream id is rightly signed, and its time not over at `now` (Unix seconds).
    ///
    /// # Errors
    /// Why not. The signature is looked at first: who cannot sign learns nothing of times.
    pub fn verify(&self, name: &Secret, signed: &Signed, now: u64) -> Result<Granted, Denied> {
        let Signed { id, expires, mac: Mac(mac) } = signed;
        let stream: StreamId = name.expose().parse().map_err(|_| Denied::Signature)?;
        let key = self.0.get(id).ok_or_else(|| Denied::SigningKey { id: id.clone() })?;
        // In constant time.
        key.mac(&signed_text(id, &stream, *expires)).verify_slice(mac).map_err(|_| Denied::Signature)?;
        if now >= *expires {
            return Err(Denied::Expired { seconds: now - expires });
        }
        let passphrase = key.passphrase(id, &stream, *expires);
        Ok(key.terms.grant(stream, passphrase))
    }
}

impl Key {
    fn mac(&self, text: &str) -> Hmac<Sha256> {
        hmac(&self.secret, &[text.as_bytes()])
    }

    /// 128 bits as 32 hexadecimal digits. In SRT the publishing name goes over the wire in clear, this does not.
    fn passphrase(&self, id: &KeyId, stream: &StreamId, expires: u64) -> Option<Secret> {
        let mac = self.srt_passphrase.then(|| self.mac(&passphrase_text(id, stream, expires)).finalize().into_bytes())?;
        Some(Secret::new(hex(&mac[..16])))
    }
}

/// HMAC-SHA256 (RFC 2104) over the parts in a row.
pub(super) fn hmac(secret: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    // A key of any length is taken: longer ones are hashed.
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap_or_else(|_| Hmac::<Sha256>::new(&Default::default()));
    parts.iter().for_each(|part| mac.update(part));
    mac
}

/// An entry for the file of signing keys, with a new random key.
///
/// # Errors
/// The system has no random numbers.
pub fn hmac_entry(id: &KeyId) -> Result<String, getrandom::Error> {
    let mut secret = [0; SECRET];
    getrandom::fill(&mut secret)?;
    Ok(format!("[[hmac]]\nid = \"{id}\"\nsecret = \"{}\"\n", hex(&secret)))
}

/// The file in force.
#[derive(Debug)]
pub(super) struct SignedKeys(Reloaded<SigningKeys>);

impl SignedKeys {
    pub(super) fn open(path: PathBuf) -> Result<Self, Error> {
        Reloaded::open(path, SigningKeys::read).map(Self)
    }

    pub(super) fn look(&self, at_once: bool) -> Looked {
        self.0.look(at_once)
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn count(&self) -> usize {
        self.0.current().0.len()
    }
}

impl KeyStore for SignedKeys {
    fn known(&self, asked: &Asked) -> Answer {
        let Some(signed) = &asked.signed else { return Answer::NotMine };
        match self.0.current().verify(&asked.key, signed, unix_seconds()) {
            Ok(granted) => Answer::Granted(granted),
            Err(denied) => Answer::Denied(denied),
        }
    }

    fn ask<'a>(&'a self, asked: &'a Asked) -> BoxFuture<'a, Answer> {
        Box::pin(std::future::ready(self.known(asked)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Name;
    use super::*;

    const EXPIRES: u64 = 1_790_000_000;

    fn keys(toml: &str, mode: u32) -> Result<SigningKeys, Error> {
        SigningKeys::parse(&Text { what: WHAT, path: "signing.toml".into(), text: toml.into(), mode })
    }

    fn file(ids: &[(&str, &str)]) -> String {
        ids.iter().map(|(id, digit)| format!("[[hmac]]\nid = '{id}'\nsecret = '{}'\n", digit.repeat(64))).collect()
    }

    fn id(text: &str) -> KeyId {
        text.parse().unwrap()
    }

    fn stream(text: &str) -> StreamId {
        text.parse().unwrap()
    }

    fn verify(keys: &SigningKeys, name: &str, now: u64) -> Result<Granted, Denied> {
        let name = Name::parse(name).unwrap();
        keys.verify(&name.key, &name.signed.unwrap(), now)
    }

    #[test]
    fn what_is_signed_is_granted_until_its_time_is_over() {
        let keys = keys(&file(&[("k1", "a")]), 0o600).unwrap();
        let ticket = keys.sign(&id("k1"), &stream("anna"), EXPIRES).unwrap();
        let granted = verify(&keys, ticket.name.expose(), EXPIRES - 1).unwrap();
        assert_eq!(granted, Granted { passphrase: ticket.passphrase.clone(), ..Granted::new(stream("anna")) });
        assert_eq!(verify(&keys, ticket.name.expose(), EXPIRES), Err(Denied::Expired { seconds: 0 }));
        assert_eq!(verify(&keys, ticket.name.expose(), EXPIRES + 60), Err(Denied::Expired { seconds: 60 }));
    }

    /// The same by `printf 'weir publish 1\nk1\nanna\n1790000000\n' | openssl dgst -sha256 -mac HMAC -macopt hexkey:aa...`: other programs sign too.
    #[test]
    fn the_signature_is_what_other_programs_make_of_the_documented_text() {
        let keys = keys(&file(&[("k1", "a")]), 0o600).unwrap();
        let ticket = keys.sign(&id("k1"), &stream("anna"), EXPIRES).unwrap();
        assert_eq!(
            ticket.name.expose(),
            concat!("anna?exp=1790000000&id=k1&sig=", "281e0c4ff7cb7f49b3da4156370d4c6f71d208daaa10e4a70856035835a974a4")
        );
        assert_eq!(ticket.passphrase.unwrap().expose(), "acbe5aa0e84713cb3d6508c2aa212cf1");
    }

    #[test]
    fn a_signature_is_good_for_its_stream_its_time_and_its_key_only() {
        let keys = keys(&file(&[("k1", "a"), ("k2", "b")]), 0o600).unwrap();
        let ticket = keys.sign(&id("k1"), &stream("anna"), EXPIRES).unwrap();
        let name = ticket.name.expose();
        for (what, other) in [
            ("another stream", name.replace("anna?", "ben?")),
            ("later", name.replace("exp=1790000000", "exp=1890000000")),
            ("another key's id", name.replace("id=k1", "id=k2")),
            ("no stream id", name.replace("anna?", "an na?")),
            ("of nobody's", name[..name.len() - 1].to_owned() + if name.ends_with('0') { "1" } else { "0" }),
        ] {
            assert_eq!(verify(&keys, &other, EXPIRES - 1), Err(Denied::Signature), "{what}");
            assert_eq!(verify(&keys, &other, EXPIRES + 1), Err(Denied::Signature), "{what}: nothing is said of its time");
        }
        let missing = verify(&keys, &name.replace("id=k1", "id=k3"), EXPIRES - 1);
        assert_eq!(missing, Err(Denied::SigningKey { id: id("k3") }));
        assert!(keys.sign(&id("k3"), &stream("anna"), EXPIRES).is_none());
    }

    #[test]
    fn keys_are_rotated_by_their_ids() {
        let (old, both, new) = (file(&[("k1", "a")]), file(&[("k1", "a"), ("k2", "b")]), file(&[("k2", "b")]));
        let [old, both, new] = [old, both, new].map(|toml| keys(&toml, 0o640).unwrap());
        let before = old.sign(&id("k1"), &stream("anna"), EXPIRES).unwrap();
        let after = both.sign(&id("k2"), &stream("anna"), EXPIRES).unwrap();
        assert!(verify(&both, before.name.expose(), 1).is_ok() && verify(&both, after.name.expose(), 1).is_ok());
        assert!(verify(&new, before.name.expose(), 1).is_err() && verify(&new, after.name.expose(), 1).is_ok());
    }

    #[test]
    fn passphrases_are_of_one_key_only_and_can_be_left_out() {
        let with = |more: &str| keys(&format!("{}{more}", file(&[("k1", "a")])), 0o600).unwrap();
        let pass =
            |stream_id: &str, expires| with("").sign(&id("k1"), &stream(stream_id), expires).unwrap().passphrase.unwrap();
        assert_ne!(pass("anna", EXPIRES), pass("ben", EXPIRES));
        assert_ne!(pass("anna", EXPIRES), pass("anna", EXPIRES + 1));
        assert!(super::super::file::is_passphrase(&pass("anna", EXPIRES)));
        let clear = with("srt_passphrase = false\nladder = 'sport'\nmax_kbps = 6000\n");
        let ticket = clear.sign(&id("k1"), &stream("anna"), EXPIRES).unwrap();
        assert_eq!(ticket.passphrase, None);
        let granted = verify(&clear, ticket.name.expose(), 1).unwrap();
        assert_eq!((granted.passphrase, granted.ladder.as_deref(), granted.max_kbps), (None, Some("sport"), Some(6000)));
    }

    #[test]
    fn a_printed_entry_is_taken_and_two_are_different() {
        let (a, b) = (hmac_entry(&id("k1")).unwrap(), hmac_entry(&id("k1")).unwrap());
        assert_ne!(a, b);
        assert_eq!(keys(&a, 0o600).unwrap().0.len(), 1);
        assert!(SigningKeys::single(id("env"), &Secret::new("a".repeat(64))).is_some());
        assert!(SigningKeys::single(id("env"), &Secret::new("a".repeat(63))).is_none());
    }

    #[test]
    fn errors_name_file_and_place_and_no_secret() {
        for (toml, mode, want) in [
            (file(&[("k1", "a")]), 0o604, "others may read it"),
            (
                "[[hmac]]\nid = 'k1'\nsecret = 'hunter2'".into(),
                0o600,
                "entry 1 (id k1): secret must be 64 hexadecimal digits, here are 7",
            ),
            (file(&[("k1", "a"), ("k1", "b")]), 0o600, "entry 2 (id k1): the same id twice"),
            ("[[hmac]]\nid = 'k 1'\nsecret = ''".into(), 0o600, "line 2: key id"),
            ("[[hmac]]\nid = 'k1'\nkey = 'hunter2'".into(), 0o600, "unknown field `key`"),
            (file(&[("k1", "a")]) + "max_kbps = 1", 0o600, "max_kbps is 1"),
        ] {
            let said = keys(&toml, mode).unwrap_err().to_string();
            assert!(said.starts_with("signing keys signing.toml") && said.contains(want), "{said}");
            assert!(!said.contains("hunter2") && !said.contains("aaaa"), "{said}");
        }
        assert_eq!(format!("{:?}", keys(&file(&[("k1", "a")]), 0o600).unwrap()), "1 signing keys");
    }
}
