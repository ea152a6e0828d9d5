//! One POST over HTTP or HTTPS. Follows no redirect and asks no proxy: a stream key goes where the operator said and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::message::MAX_ANSWER;
use super::{Error, Failure, Outcome, WebhookSettings};

/// A connection that nobody uses is closed after this: before most servers do, so that few questions meet one that is being closed.
const IDLE: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
}

impl Client {
    pub(super) fn new(settings: &WebhookSettings) -> Result<Self, Error> {
        // The address may hold a secret: it is never repeated.
        let wrong = |text: &str| Error::Webhook(text.to_owned());
        let uri: Uri = settings.url.parse().map_err(|_| wrong("url is no address"))?;
        let host = uri.host().ok_or_else(|| wrong("url must be https://HOST/PATH"))?;
        let is_secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if settings.allow_http || is_loopback(host) => false,
            Some("http") => {
                return Err(wrong(
                    "url is http:// to another machine, and would show stream keys to the network: set allow_http if that is meant",
                ));
            }
            _ => return Err(wrong("url must be https://HOST/PATH")),
        };
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        let tls = tls(settings, is_secure)?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(http);
        let pool = Pool::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).build(connector);
        Ok(Self { pool, uri })
    }

    /// For the log.
    pub(super) fn host(&self) -> &str {
        self.uri.host().unwrap_or_default()
    }

    /// Sends a body, and reads the answer's.
    pub(super) async fn post(&self, body: String, at: u64, signature: Option<String>) -> Result<Bytes, Failure> {
        let connection = |text: String| Failure { outcome: Outcome::Connection, text };
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("weir-timestamp", HeaderValue::from(at));
        if let Some(signature) = signature.and_then(|s| HeaderValue::from_str(&s).ok()) {
            headers.insert("weir-signature", signature);
        }
        let answer = self.pool.request(request).await.map_err(|e| connection(causes(&e)))?;
        if answer.status() != StatusCode::OK {
            return Err(Failure {
                outcome: Outcome::Status,
                text: format!("status {} instead of 200", answer.status().as_u16()),
            });
        }
        match Limited::new(answer.into_body(), MAX_ANSWER).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(e) if e.is::<LengthLimitError>() => {
                Err(Failure { outcome: Outcome::Garbage, text: format!("answer of more than {MAX_ANSWER} bytes") })
            }
            Err(e) => Err(connection(format!("answer broke off: {e}"))),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback())
}

/// Whom the server's certificate must be vouched for by.
fn tls(settings: &WebhookSettings, is_needed: bool) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    if !settings.ca_file.is_empty() {
        let unreadable = |e: &dyn std::fmt::Display| Error::Webhook(format!("ca_file {}: {e}", settings.ca_file));
        for certificate in CertificateDer::pem_file_iter(&settings.ca_file).map_err(|e| unreadable(&e))? {
            roots.add(certificate.map_err(|e| unreadable(&e))?).map_err(|e| unreadable(&e))?;
        }
    } else if is_needed {
        // Some of a system's certificates may be too old to be read.
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
    }
    if is_needed && roots.is_empty() {
        return Err(Error::Webhook("no certificate authority is known: install ca-certificates, or set ca_file".into()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| Error::Webhook(e.to_string()))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn open(url: &str) -> Result<String, String> {
        let settings = WebhookSettings { url: url.into(), ..WebhookSettings::default() };
        Client::new(&settings).map(|c| c.host().to_owned()).map_err(|e| e.to_string())
    }

    #[test]
    fn keys_cross_a_network_encrypted_or_where_that_is_meant() {
        for url in ["http://127.0.0.1:8080/auth", "http://localhost/auth", "http://[::1]:80/auth"] {
            assert!(open(url).is_ok(), "{url}");
        }
        assert!(open("http://control.example/auth?token=hunter2").unwrap_err().contains("set allow_http"));
        let meant = WebhookSettings { url: "http://control.example/".into(), allow_http: true, ..WebhookSettings::default() };
        assert_eq!(Client::new(&meant).unwrap().host(), "control.example");
        for url in ["control.example/auth", "/auth", "ftp://control.example/hunter2", "https://", "http://a b/hunter2"] {
            let said = open(url).unwrap_err();
            assert!(said.contains("webhook: url") && !said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn a_file_of_authorities_is_read_or_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let settings = WebhookSettings {
            url: "https://127.0.0.1/".into(),
            ca_file: file.display().to_string(),
            ..WebhookSettings::default()
        };
        assert!(Client::new(&settings).unwrap_err().to_string().contains("ca.pem"));
        std::fs::write(&file, "no certificate").unwrap();
        assert!(Client::new(&settings).unwrap_err().to_string().contains("no certificate authority is known"));
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(&file, made.cert.pem()).unwrap();
        assert!(Client::new(&settings).is_ok());
    }

    /// Answers one question over TLS by a certificate for this name; gives the certificate's authority.
    fn secure_server(name: &str) -> (std::net::SocketAddr, String, std::thread::JoinHandle<()>) {
        use std::io::{Read as _, Write as _};
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = builder.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key.into()).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let served = std::thread::spawn(move || {
            let (socket, _) = listener.accept().unwrap();
            let mut tls = rustls::StreamOwned::new(rustls::ServerConnection::new(Arc::new(config)).unwrap(), socket);
            let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
            // A client that does not trust us says no more than that.
            while !request.ends_with(b"the body") {
                match tls.read(&mut buffer) {
                    Ok(n @ 1..) => request.extend(&buffer[..n]),
                    _ => return,
                }
            }
            tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        });
        (address, made.cert.pem(), served)
    }

    #[tokio::test]
    async fn a_server_is_trusted_by_its_authority_and_for_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        for (name, trusted, want) in
            [("127.0.0.1", true, Ok(Bytes::from_static(b"ok"))), ("127.0.0.1", false, Err(())), ("192.0.2.1", true, Err(()))]
        {
            let (address, authority, served) = secure_server(name);
            let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap().cert.pem();
            std::fs::write(&file, if trusted { authority } else { other }).unwrap();
            let settings = WebhookSettings {
                url: format!("https://{address}/"),
                ca_file: file.display().to_string(),
                ..WebhookSettings::default()
            };
            let answer = Client::new(&settings).unwrap().post("the body".into(), 1, None).await;
            if let Err(failure) = &answer {
                assert!(failure.outcome == Outcome::Connection && failure.text.contains("certificate"), "{failure}");
            }
            assert_eq!(answer.map_err(drop), want, "{name} {trusted}");
            served.join().unwrap();
        }
    }
}
