//! What a caller's stream id says: which stream, which way, what kind. Pure.
//!
//! SRT's access control guidelines (docs/features/access-control.md of libsrt): `#!::r=live/anna,m=publish`, or any other text, which here is `live/anna`, `anna`, or
//! `publish:live/anna`. Refusals are the guidelines' rejection codes, which are HTTP's with 1000 added.

use crate::secret::Secret;

/// SRT's own limit (the handshake extension SRT_CMD_SID).
pub const MAX_BYTES: usize = 512;

/// Who calls, as far as the stream id says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamId {
    /// What stands before the last slash of the resource; `live` where there is none.
    pub app: String,
    /// The stream key, with what stands behind a `?`.
    pub name: Secret,
}

/// Why a stream id cannot be served. Shows nothing of it: it holds a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not UTF-8, control characters, over 512 bytes, a broken pair, or a key that comes twice.
    #[error("stream id: {0}")]
    Malformed(&'static str),
    /// No resource, or an empty one.
    #[error("no stream key given: set the stream id to #!::r=live/KEY,m=publish, or to the key alone")]
    NoKey,
    /// It wants to be sent something, or both ways.
    #[error("stream id mode is not publish: nothing is sent over SRT here")]
    Mode,
    /// `t=file`, `t=auth`.
    #[error("stream id type is not stream")]
    Kind,
}

impl Error {
    /// As `srt_setrejectreason` takes it.
    pub const fn rejection(self) -> u16 {
        match self {
            // SRT_REJX_BAD_REQUEST, BAD_MODE, NOTSUP_MEDIA.
            Error::Malformed(_) | Error::NoKey => 1400,
            Error::Mode => 1405,
            Error::Kind => 1415,
        }
    }
}

/// Reads a stream id.
///
/// # Errors
/// [`Error`].
pub fn parse(bytes: &[u8]) -> Result<StreamId, Error> {
    if bytes.len() > MAX_BYTES {
        return Err(Error::Malformed("over 512 bytes"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Error::Malformed("not UTF-8"))?;
    // Some encoders pass on what stood in a URL without decoding it; a plain key never begins so.
    let decoded = if text.starts_with("%23!") || text.starts_with("%23%21") { Some(percent(text)?) } else { None };
    let text = decoded.as_deref().unwrap_or(text);
    if text.chars().any(char::is_control) {
        return Err(Error::Malformed("control characters"));
    }
    let resource = match text.strip_prefix("#!") {
        Some(standard) => fields(standard)?,
        None => plain(text)?.to_owned(),
    };
    let resource = resource.trim_start_matches('/');
    let path = resource.split('?').next().unwrap_or_default();
    let (app, name) = match path.rfind('/') {
        Some(slash) => (&resource[..slash], &resource[slash + 1..]),
        None => ("live", resource),
    };
    if name.is_empty() || name.starts_with('?') {
        return Err(Error::NoKey);
    }
    Ok(StreamId { app: app.to_owned(), name: Secret::new(name) })
}

/// Text that is not in the standard's form.
fn plain(text: &str) -> Result<&str, Error> {
    for other in ["read:", "play:", "request:", "bidirectional:"] {
        if text.starts_with(other) {
            return Err(Error::Mode);
        }
    }
    Ok(text.strip_prefix("publish:").unwrap_or(text))
}

/// `::key=value,key=value`; gives the resource. Without a mode it is a publisher: only those have a place here, and encoders leave it out.
fn fields(standard: &str) -> Result<String, Error> {
    // `#!:{...}` is YAML, which nobody sends.
    let pairs = standard.strip_prefix("::").ok_or(Error::Malformed("behind #! must stand ::"))?;
    let (mut resource, mut mode, mut kind) = (None, None, None);
    for pair in pairs.split(',').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or(Error::Malformed("a pair without ="))?;
        let slot = match key {
            "r" => &mut resource,
            "m" => &mut mode,
            "t" => &mut kind,
            // User, host, session, and whatever an encoder adds of its own.
            _ => continue,
        };
        if slot.replace(value).is_some() {
            return Err(Error::Malformed("a key twice"));
        }
    }
    match mode {
        None | Some("publish") => {}
        Some(_) => return Err(Error::Mode),
    }
    match kind {
        None | Some("stream") => {}
        Some(_) => return Err(Error::Kind),
    }
    resource.map(str::to_owned).ok_or(Error::NoKey)
}

/// RFC 3986, 2.1.
fn percent(text: &str) -> Result<String, Error> {
    let broken = Error::Malformed("broken percent-encoding");
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let high = digit(bytes.next()).ok_or(broken)?;
        let low = digit(bytes.next()).ok_or(broken)?;
        out.push(high << 4 | low);
    }
    String::from_utf8(out).map_err(|_| Error::Malformed("not UTF-8"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<(String, String), Error> {
        parse(text.as_bytes()).map(|id| (id.app, id.name.expose().to_owned()))
    }

    #[test]
    fn both_forms_name_the_same_stream() {
        for text in [
            "#!::r=live/anna,m=publish",
            "#!::m=publish,r=live/anna,u=bob,h=host,s=7,t=stream,x-own=1",
            "#!::r=live/anna",
            "#!::r=anna,m=publish",
            "#!::,r=anna,,m=publish,",
            "#!::r=/live/anna,m=publish",
            "anna",
            "live/anna",
            "publish:live/anna",
            "%23!::r=live/anna,m=publish",
            "%23!%3A%3Ar%3Dlive%2Fanna%2cm%3dpublish",
        ] {
            assert_eq!(read(text), Ok(("live".into(), "anna".into())), "{text}");
        }
        assert_eq!(read("#!::r=live/anna?token=a/b=c,m=publish"), Ok(("live".into(), "anna?token=a/b=c".into())));
        assert_eq!(read("other/deep/anna"), Ok(("other/deep".into(), "anna".into())));
        // A percent sign elsewhere is itself.
        assert_eq!(read("an%6Ea"), Ok(("live".into(), "an%6Ea".into())));
        assert_eq!(read("änna"), Ok(("live".into(), "änna".into())));
    }

    #[test]
    fn what_cannot_be_served_is_refused_by_code() {
        for (text, code) in [
            ("", 1400),
            ("live/", 1400),
            ("?token=x", 1400),
            ("#!::m=publish", 1400),
            ("#!::r=,m=publish", 1400),
            ("#!::r=a,r=b,m=publish", 1400),
            ("#!::r=a,m=publish,m=publish", 1400),
            ("#!::r=a,t=stream,t=stream", 1400),
            ("#!::r", 1400),
            ("#!:{r: a}", 1400),
            ("#!r=a", 1400),
            ("%23!::r=a%2", 1400),
            ("%23!::r=a%zz", 1400),
            ("%23!::r=a%ff", 1400),
            ("a\nb", 1400),
            ("#!::r=a%00", 0),
            ("#!::r=a,m=request", 1405),
            ("#!::r=a,m=bidirectional", 1405),
            ("#!::r=a,m=Publish", 1405),
            ("read:live/a", 1405),
            ("#!::r=a,m=publish,t=file", 1415),
            ("#!::r=a,t=auth", 1415),
        ] {
            assert_eq!(parse(text.as_bytes()).err().map_or(0, Error::rejection), code, "{text:?}");
        }
        assert_eq!(parse(&[b'a'; 513]).map_err(Error::rejection), Err(1400));
        assert!(parse(&[b'a'; 512]).is_ok());
        assert_eq!(parse(b"a\xff").map_err(Error::rejection), Err(1400));
        // The byte 0 ends a text in C: what came behind it was never checked there.
        assert_eq!(parse(b"%23!::r=a%00b").map_err(Error::rejection), Err(1400));
    }

    #[test]
    fn nothing_of_a_stream_id_is_printed() {
        assert!(!format!("{:?}", parse(b"live/hunter2")).contains("hunter2"));
        for text in ["#!::r=hunter2,m=request", "#!::hunter2", "hunter2\n", "%23!::r=hunter2%2"] {
            assert!(!parse(text.as_bytes()).unwrap_err().to_string().contains("hunter2"));
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_a_name_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(id) = parse(&bytes) {
                prop_assert!(!id.name.expose().is_empty() && bytes.len() <= MAX_BYTES);
            }
        }

        #[test]
        fn so_does_what_looks_like_the_standard(text in "(#!::|%23!::|publish:|)[rmtu=,?/%a2:]{0,40}") {
            if let Ok(id) = parse(text.as_bytes()) {
                prop_assert!(!id.name.expose().is_empty());
            }
        }
    }
}
