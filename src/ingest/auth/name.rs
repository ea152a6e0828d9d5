//! A publishing name taken apart: `anna?exp=1790000000&id=k1&sig=9f86...&token=t1`. Pure.
//!
//! The part behind the `?` is read as written, without percent decoding: all that means something here is made of letters, digits, `_` and `-`, and
//! what encoders do to other characters differs.

use std::fmt;

use crate::logic::model::KeyId;
use crate::secret::Secret;

/// Longest publishing name, bytes: a stream key of 512 and all parameters have room.
pub const MAX_NAME: usize = 1024;

/// A publishing name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// What stands before the `?`: the stream key, or the stream id of a signed key.
    pub key: Secret,
    /// `token=`: who may take a live stream over (rules.md 29).
    pub token: Option<Secret>,
    /// `exp=`, `id=`, `sig=`.
    pub signed: Option<Signed>,
}

/// What makes a signed key of a stream id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mac(pub [u8; 32]);

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The signature of a publishing name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The signing key's.
    pub id: KeyId,
    /// Unix seconds until which the key is good.
    pub expires: u64,
    /// HMAC-SHA256, not compared yet.
    pub mac: Mac,
}

/// A publishing name that cannot be one. Holds nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Over `MAX_NAME`.
    #[error("the stream key is longer than {MAX_NAME} bytes")]
    TooLong,
    /// `sig=` without `exp=` or `id=`, or one of them twice or in a form that it cannot have.
    #[error("the signed stream key is not whole: it needs exp, id and sig, each once; copy all of it")]
    Signature,
}

impl Name {
    /// Takes it apart. Parameters that are not known are left alone; of several tokens the first counts.
    ///
    /// # Errors
    /// [`BadName`].
    pub fn parse(name: &str) -> Result<Self, BadName> {
        if name.len() > MAX_NAME {
            return Err(BadName::TooLong);
        }
        let (key, query) = name.split_once('?').unwrap_or((name, ""));
        let values = |of: &'static str| query.split('&').filter_map(move |pair| pair.strip_prefix(of)?.strip_prefix('='));
        let signed = match values("sig").next() {
            None => None,
            Some(_) => {
                let once = |of| {
                    let mut all = values(of);
                    all.next().filter(|_| all.next().is_none()).ok_or(BadName::Signature)
                };
                let id = once("id")?.parse().map_err(|_| BadName::Signature)?;
                let expires = seconds(once("exp")?).ok_or(BadName::Signature)?;
                let mac = Mac(from_hex(once("sig")?).ok_or(BadName::Signature)?);
                Some(Signed { id, expires, mac })
            }
        };
        Ok(Self { key: Secret::new(key), token: values("token").next().map(Secret::new), signed })
    }
}

/// Decimal digits only: what was signed has one form.
fn seconds(text: &str) -> Option<u64> {
    let plain = !text.starts_with('0') && text.len() <= 12 && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

/// `2 N` hexadecimal digits.
pub(super) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let nibble = |c: u8| char::from(c).to_digit(16);
        *byte = u8::try_from(nibble(pair[0])? << 4 | nibble(pair[1])?).ok()?;
    }
    Some(bytes)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIG: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn the_name_is_split_at_the_question_mark_and_the_token_found() {
        for (name, key, token) in [
            ("anna", "anna", None),
            ("anna?", "anna", None),
            ("anna?token=t1", "anna", Some("t1")),
            ("anna?a=b&token=t1&token=t2&x", "anna", Some("t1")),
            ("anna?xtoken=t1", "anna", None),
            ("anna?tokenx=t1", "anna", None),
            ("anna?token=a?b=c", "anna", Some("a?b=c")),
            ("anna?exp=1&id=k1", "anna", None),
            ("anna%3Ftoken=t1", "anna%3Ftoken=t1", None),
            ("?token=t1", "", Some("t1")),
        ] {
            let want = Name { key: Secret::new(key), token: token.map(Secret::new), signed: None };
            assert_eq!(Name::parse(name), Ok(want), "{name}");
        }
    }

    #[test]
    fn a_signature_is_whole_or_refused() {
        let name = Name::parse(&format!("anna?exp=1790000000&id=k1&sig={SIG}&token=t&other=x")).unwrap();
        let signed = name.signed.unwrap();
        assert_eq!((signed.id.as_str(), signed.expires, signed.mac.0[..2].to_vec()), ("k1", 1_790_000_000, vec![0x9f, 0x86]));
        assert_eq!(name.token, Some(Secret::new("t")));
        for broken in [
            format!("anna?sig={SIG}"),
            format!("anna?exp=1790000000&sig={SIG}"),
            format!("anna?id=k1&sig={SIG}"),
            format!("anna?exp=1790000000&id=k1&sig={}", &SIG[2..]),
            format!("anna?exp=1790000000&id=k1&sig={SIG}0"),
            format!("anna?exp=1790000000&id=k1&sig=g{}", &SIG[1..]),
            "anna?exp=1790000000&id=k1&sig=".into(),
            format!("anna?exp=1790000000&id=&sig={SIG}"),
            format!("anna?exp=1790000000&id=k%31&sig={SIG}"),
            format!("anna?exp=1790000000&exp=1990000000&id=k1&sig={SIG}"),
            format!("anna?exp=1790000000&id=k1&id=k2&sig={SIG}"),
            format!("anna?exp=1790000000&id=k1&sig={SIG}&sig={SIG}"),
            format!("anna?exp=01790000000&id=k1&sig={SIG}"),
            format!("anna?exp=+1790000000&id=k1&sig={SIG}"),
            format!("anna?exp=-1&id=k1&sig={SIG}"),
            format!("anna?exp=18446744073709551616&id=k1&sig={SIG}"),
        ] {
            assert_eq!(Name::parse(&broken), Err(BadName::Signature), "{broken}");
        }
    }

    #[test]
    fn names_are_bounded_and_print_nothing() {
        assert!(Name::parse(&"x".repeat(MAX_NAME)).is_ok());
        assert_eq!(Name::parse(&"x".repeat(MAX_NAME + 1)), Err(BadName::TooLong));
        let printed = format!("{:?}", Name::parse(&format!("hunter2?exp=1790000000&id=k1&sig={SIG}&token=hunter3")));
        assert!(!printed.contains("hunter") && !printed.contains("9f86") && !printed.contains("159"), "{printed}");
    }

    #[test]
    fn hexadecimal_digits_are_read_as_they_are_written() {
        assert_eq!(from_hex::<2>("00fF"), Some([0, 255]));
        assert_eq!(from_hex::<2>("00f"), None);
        assert_eq!(from_hex::<2>("\u{e4}\u{e4}"), None);
        assert_eq!(hex(&[0, 255]), "00ff");
    }
}
