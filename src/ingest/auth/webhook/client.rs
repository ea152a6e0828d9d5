//! One POST to the control plane. A stream key goes where the operator said and nowhere else.

use bytes::Bytes;

use super::message::MAX_ANSWER;
use super::{Error, Failure, Outcome, WebhookSettings};
use crate::outbound::{self, Target};
use crate::secret::Secret;

#[derive(Debug)]
pub(super) struct Client(outbound::Client);

impl Client {
    pub(super) fn new(settings: &WebhookSettings) -> Result<Self, Error> {
        let WebhookSettings { url, ca_file, allow_http, .. } = settings;
        let target = Target { url, ca_file, allow_http: *allow_http, shows: "stream keys" };
        outbound::Client::new(&target).map(Self).map_err(|e| Error::Webhook(e.to_string()))
    }

    /// For the log.
    pub(super) fn host(&self) -> &str {
        self.0.host()
    }

    /// Sends a body, and reads the answer's.
    pub(super) async fn post(&self, body: String, at: u64, secret: Option<&Secret>) -> Result<Bytes, Failure> {
        let headers = outbound::signed(secret, at, &body);
        self.0.post(headers, body, MAX_ANSWER).await.map_err(|failure| {
            let outcome = match failure {
                outbound::Failure::Connection(_) => Outcome::Connection,
                outbound::Failure::Status(_) => Outcome::Status,
                outbound::Failure::TooLong(_) => Outcome::Garbage,
            };
            Failure { outcome, text: failure.to_string() }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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
