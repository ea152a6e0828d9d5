//! HTTP requests that the worker makes of itself: to the control plane, to a scheduler, to a sidecar. Follows no redirect and asks no proxy: what is sent goes where the
//! operator said and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use sha2::Sha256;

use crate::secret::Secret;

/// A connection that nobody uses is closed after this: before most servers do, so that few requests meet one that is being closed.
const IDLE: Duration = Duration::from_secs(15);

/// Where requests go.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// `https://HOST[:PORT]/PATH`.
    pub url: &'a str,
    /// File with PEM certificates of the authorities that may vouch for the server, instead of the system's. Empty: the system's.
    pub ca_file: &'a str,
    /// Allow `http://` to another machine.
    pub allow_http: bool,
    /// What the network would see then: `stream keys`.
    pub shows: &'static str,
}

/// Why nothing can be sent there, for the operator. The address may hold a secret: it is never repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadTarget(pub String);

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection, or one that broke.
    #[error("{0}")]
    Connection(String),
    /// Another status than 200.
    #[error("status {0} instead of 200")]
    Status(u16),
    /// More than was asked for, bytes.
    #[error("answer of more than {0} bytes")]
    TooLong(usize),
}

/// Connections to one server.
#[derive(Debug)]
pub struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
}

impl Client {
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// [`BadTarget`].
    pub fn new(target: &Target<'_>) -> Result<Self, BadTarget> {
        let wrong = |text: String| BadTarget(text);
        let uri: Uri = target.url.parse().map_err(|_| wrong("url is no address".into()))?;
        let host = uri.host().ok_or_else(|| wrong("url must be https://HOST/PATH".into()))?;
        let is_secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if target.allow_http || is_loopback(host) => false,
            Some("http") => {
                return Err(wrong(format!(
                    "url is http:// to another machine, and would show {} to the network: set allow_http if that is meant",
                    target.shows
                )));
            }
            _ => return Err(wrong("url must be https://HOST/PATH".into())),
        };
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        let tls = tls(target.ca_file, is_secure)?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(http);
        let pool = Pool::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).build(connector);
        Ok(Self { pool, uri })
    }

    /// For the log.
    pub fn host(&self) -> &str {
        self.uri.host().unwrap_or_default()
    }

    /// Sends a JSON body to the target's own path, and reads the answer's, of at most so many bytes.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn post(&self, headers: HeaderMap, body: String, longest: usize) -> Result<Bytes, Failure> {
        self.send(Method::POST, self.uri.clone(), headers, body, longest).await
    }

    /// The same to another path of the server, by another method.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn call(&self, method: Method, path: &str, body: String, longest: usize) -> Result<Bytes, Failure> {
        let mut parts = self.uri.clone().into_parts();
        let path = path.parse().map_err(|_| Failure::Connection(format!("{path} is no path")))?;
        parts.path_and_query = Some(path);
        let uri = Uri::from_parts(parts).map_err(|e| Failure::Connection(e.to_string()))?;
        self.send(method, uri, HeaderMap::new(), body, longest).await
    }

    async fn send(&self, method: Method, uri: Uri, headers: HeaderMap, body: String, longest: usize) -> Result<Bytes, Failure> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answer = self.pool.request(request).await.map_err(|e| Failure::Connection(causes(&e)))?;
        if answer.status() != StatusCode::OK {
            return Err(Failure::Status(answer.status().as_u16()));
        }
        match Limited::new(answer.into_body(), longest).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(e) if e.is::<LengthLimitError>() => Err(Failure::TooLong(longest)),
            Err(e) => Err(Failure::Connection(format!("answer broke off: {e}"))),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback())
}

/// Whom the server's certificate must be vouched for by.
fn tls(ca_file: &str, is_needed: bool) -> Result<ClientConfig, BadTarget> {
    let mut roots = RootCertStore::empty();
    if !ca_file.is_empty() {
        let unreadable = |e: &dyn std::fmt::Display| BadTarget(format!("ca_file {ca_file}: {e}"));
        for certificate in CertificateDer::pem_file_iter(ca_file).map_err(|e| unreadable(&e))? {
            roots.add(certificate.map_err(|e| unreadable(&e))?).map_err(|e| unreadable(&e))?;
        }
    } else if is_needed {
        // Some of a system's certificates may be too old to be read.
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
    }
    if is_needed && roots.is_empty() {
        return Err(BadTarget("no certificate authority is known: install ca-certificates, or set ca_file".into()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| BadTarget(e.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// An error and what caused it: hyper's own says "client error (Connect)".
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// `Weir-Timestamp` and `Weir-Signature` of a body: who has the secret sees who sent it, and that it is not an old one sent again.
pub fn signed(secret: Option<&Secret>, at: u64, body: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("weir-timestamp", HeaderValue::from(at));
    if let Some(signature) = secret.and_then(|s| HeaderValue::from_str(&signature(s, at, body)).ok()) {
        headers.insert("weir-signature", signature);
    }
    headers
}

/// HMAC-SHA256 (RFC 2104) over the time in seconds, a point and the body.
fn signature(secret: &Secret, at: u64, body: &str) -> String {
    // A key of any length is taken: longer ones are hashed.
    let mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes());
    let mut mac = mac.unwrap_or_else(|_| Hmac::<Sha256>::new(&Default::default()));
    for part in [at.to_string().as_bytes(), b".", body.as_bytes()] {
        mac.update(part);
    }
    let digits = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect::<String>();
    format!("v1={digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same by `printf '1790000000.{}' | openssl dgst -sha256 -hmac 0123456789abcdef`.
    #[test]
    fn the_signature_is_what_other_programs_make_of_time_and_body() {
        let made = signature(&Secret::new("0123456789abcdef"), 1_790_000_000, "{}");
        assert_eq!(made, "v1=3d02334942fff50e279f641c1b104ff5f49380d94ff307bb92b1e03f5aee6ff0");
    }
}
