//! The question and the answer as texts. Pure.

use serde::{Deserialize, Serialize};

use super::{Denied, Granted, Verdict};
use crate::ingest::auth::Asked;
use crate::ingest::auth::file::{Terms, is_passphrase};
use crate::logic::model::StreamId;
use crate::secret::Secret;

/// Longest answer, bytes: a thousand times what one has.
pub(super) const MAX_ANSWER: usize = 64 << 10;

/// Longest reason that a streamer is shown, characters: one line of OBS's dialog, and some.
const MAX_REASON: usize = 200;

#[derive(Serialize)]
struct Body<'a> {
    v: u32,
    key: &'a str,
    app: &'a str,
    protocol: &'static str,
    address: String,
    port: u16,
    worker: &'a str,
    region: &'a str,
}

/// The body of a question.
pub(super) fn question(asked: &Asked, worker: &str, region: &str) -> String {
    let body = Body {
        v: 1,
        key: asked.key.expose(),
        app: &asked.app,
        protocol: asked.protocol.as_str(),
        address: asked.peer.ip().to_canonical().to_string(),
        port: asked.peer.port(),
        worker,
        region,
    };
    // Texts and numbers always have a form in JSON.
    serde_json::to_string(&body).unwrap_or_default()
}

/// A readable answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub verdict: Verdict,
    /// How long a yes holds, seconds, where it says so.
    pub ttl: Option<u32>,
}

/// Fields that are not known are left alone: a newer control plane may say more.
#[derive(Deserialize)]
struct Said {
    allow: bool,
    stream: Option<StreamId>,
    passphrase: Option<Secret>,
    reason: Option<String>,
    ttl: Option<u32>,
    #[serde(flatten)]
    terms: Terms,
}

/// Reads the body of an answer.
///
/// # Errors
/// What is wrong with it, without its text: it may hold a passphrase.
pub(super) fn read(body: &[u8]) -> Result<Answer, String> {
    let said: Said = serde_json::from_slice(body).map_err(|e| {
        // serde's own message may quote a value.
        let kind = match e.classify() {
            serde_json::error::Category::Data => "a field that is missing or of another type",
            _ => "no JSON",
        };
        format!("answer with {kind}, line {} column {}", e.line(), e.column())
    })?;
    if !said.allow {
        let reason = said.reason.as_deref().map(plain).filter(|r| !r.is_empty());
        let reason = reason.unwrap_or_else(|| "this stream key may not publish".to_owned());
        return Ok(Answer { verdict: Err(Denied::Refused { reason }), ttl: None });
    }
    let stream = said.stream.ok_or("answer that allows and names no stream")?;
    if let Some(fault) = said.terms.fault() {
        return Err(format!("answer in which {fault}"));
    }
    if said.passphrase.as_ref().is_some_and(|p| !is_passphrase(p)) {
        return Err("answer in which passphrase is not 10 to 79 printable ASCII characters".to_owned());
    }
    let granted: Granted = said.terms.grant(stream, said.passphrase);
    Ok(Answer { verdict: Ok(granted), ttl: said.ttl })
}

/// One line that ends.
fn plain(reason: &str) -> String {
    let line: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON).collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::Protocol;

    #[test]
    fn a_question_says_who_wants_what_and_how() {
        let asked = Asked {
            protocol: Protocol::Srt,
            peer: "[::ffff:192.0.2.7]:4711".parse().unwrap(),
            app: "live".into(),
            key: Secret::new("k\"1"),
            signed: None,
        };
        let want = r#"{"v":1,"key":"k\"1","app":"live","protocol":"srt","address":"192.0.2.7","port":4711,"worker":"w1","region":"eu"}"#;
        assert_eq!(question(&asked, "w1", "eu"), want);
    }

    #[test]
    fn a_yes_may_say_more_than_its_stream() {
        let body = br#"{"allow":true,"stream":"anna","ladder":"sport","passphrase":"hunter2hunter2","max_kbps":6000,"latency_ms":300,"ttl":90,"new":{}}"#;
        let Answer { verdict, ttl } = read(body).unwrap();
        let granted = verdict.unwrap();
        assert_eq!(
            (granted.stream.as_str(), granted.ladder.as_deref(), granted.max_kbps, ttl),
            ("anna", Some("sport"), Some(6000), Some(90))
        );
        assert_eq!(granted.passphrase, Some(Secret::new("hunter2hunter2")));
        assert_eq!(read(br#"{"allow":true,"stream":"anna"}"#).unwrap().verdict, Ok(Granted::new("anna".parse().unwrap())));
    }

    #[test]
    fn a_no_is_one_short_line() {
        let no = |body: &str| match read(body.as_bytes()).unwrap().verdict {
            Err(Denied::Refused { reason }) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(no(r#"{"allow":false}"#), "this stream key may not publish");
        assert_eq!(no(r#"{"allow":false,"reason":"  "}"#), "this stream key may not publish");
        assert_eq!(no(r#"{"allow":false,"reason":"unpaid\nINFO forged"}"#), "unpaid INFO forged");
        assert_eq!(no(&format!(r#"{{"allow":false,"reason":"{}"}}"#, "x".repeat(999))).len(), MAX_REASON);
    }

    #[test]
    fn garbage_is_refused_without_its_text() {
        for (body, want) in [
            (&b""[..], "no JSON"),
            (b"<html>hunter2", "no JSON"),
            (b"\xff\xfe", "no JSON"),
            (b"[]", "missing or of another type"),
            (b"{}", "missing or of another type"),
            (br#"{"allow":"hunter2"}"#, "missing or of another type"),
            (br#"{"allow":true}"#, "names no stream"),
            (br#"{"allow":true,"stream":"../hunter2"}"#, "missing or of another type"),
            (br#"{"allow":true,"stream":"a","passphrase":"hunter2"}"#, "passphrase is not 10 to 79"),
            (br#"{"allow":true,"stream":"a","max_kbps":1}"#, "max_kbps is 1"),
            (br#"{"allow":true,"stream":"a","max_kbps":-1}"#, "missing or of another type"),
            (br#"{"allow":true,"stream":"a","latency_ms":99999999}"#, "latency_ms"),
        ] {
            let said = read(body).unwrap_err();
            assert!(said.contains(want) && !said.contains("hunter2"), "{said}");
        }
        assert!(read("[".repeat(MAX_ANSWER).as_bytes()).is_err(), "nesting ends");
    }
}
