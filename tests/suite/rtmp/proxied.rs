//! Load balancers: whose connection it is, who may say so, and their health checks.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use weir::ingest::Protocol;
use weir::ingest::rtmp::{Cause, Front, Limits};
use weir::ingest::tls::{Files, Tls};

use super::{Bench, ends_behind, guarded};
use crate::raw_rtmp::{Publisher, hello};
use crate::tls_client::Pair;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header for a client at this address, with an extension.
fn header(client: &str) -> Vec<u8> {
    let client: SocketAddr = client.parse().unwrap();
    let (family, mut rest) = match client.ip() {
        IpAddr::V4(ip) => (0x11, [ip.octets(), [10, 0, 0, 1]].concat()),
        IpAddr::V6(ip) => (0x21, [ip.octets(), [0; 16]].concat()),
    };
    rest.extend(client.port().to_be_bytes());
    rest.extend(1935_u16.to_be_bytes());
    rest.extend(b"\x04\x00\x03abc");
    [SIGNATURE, &[0x21, family], &u16::try_from(rest.len()).unwrap().to_be_bytes(), &rest].concat()
}

/// As a health check begins.
fn local() -> Vec<u8> {
    [SIGNATURE, b"\x20\0\0\0"].concat()
}

fn trusting() -> Front {
    Front { proxies: Arc::new(["127.0.0.0/8".parse().unwrap()]), ..Front::default() }
}

#[test]
fn a_publisher_behind_a_balancer_has_its_own_address() {
    guarded(async {
        let mut bench = Bench::new(Limits::default());
        let (address, _serving) = bench.listen_behind(trusting()).await;
        for client in ["203.0.113.9:50000", "[2001:db8::7]:50001"] {
            let mut publisher = Publisher::new(TcpStream::connect(address).await.unwrap());
            // Balancers send it whole; a network may cut it anywhere.
            for byte in header(client) {
                publisher.send(&[byte]).await;
                publisher.io.flush().await.unwrap();
            }
            publisher.connect("live").await;
            let bytes = publisher.to.publish("anna");
            publisher.send(&bytes).await;
            assert_eq!(bench.requests.recv().await.unwrap().peer.to_string(), client);
        }
        // For itself, it has its own; so has somebody whom it does not name.
        for unnamed in [local(), [SIGNATURE, b"\x21\0\0\0"].concat()] {
            let mut publisher = Publisher::new(TcpStream::connect(address).await.unwrap());
            publisher.send(&unnamed).await;
            publisher.connect("live").await;
            let bytes = publisher.to.publish("anna");
            publisher.send(&bytes).await;
            let own = publisher.io.local_addr().unwrap();
            assert_eq!(bench.requests.recv().await.unwrap().peer, own);
        }
    });
}

#[test]
fn tls_begins_behind_the_header() {
    let (folder, pair) = (tempfile::tempdir().unwrap(), Pair::new());
    let (certificate, key) = pair.write(folder.path());
    let tls = Some(Arc::new(Tls::open(Files { certificate, key }).unwrap()));
    guarded(async {
        let mut bench = Bench::new(Limits::default());
        let (address, _serving) = bench.listen_behind(Front { tls, ..trusting() }).await;
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(&header("203.0.113.9:50000")).await.unwrap();
        let mut publisher = Publisher::new(pair.shake_hands(socket, &rustls::version::TLS13).await.unwrap());
        publisher.connect("live").await;
        let bytes = publisher.to.publish("anna");
        publisher.send(&bytes).await;
        let request = bench.requests.recv().await.unwrap();
        assert_eq!((request.peer.to_string().as_str(), request.protocol), ("203.0.113.9:50000", Protocol::Rtmps));
    });
}

#[test]
fn addresses_are_counted_as_they_were_told() {
    guarded(async {
        let bench = Bench::new(Limits { connections_per_address: 1, ..Limits::default() });
        let (address, _serving) = bench.listen_behind(trusting()).await;
        let mut open = Vec::new();
        for client in ["203.0.113.1:1", "203.0.113.2:1", "[2001:db8:0:1::1]:1", "[2001:db8:0:2::1]:1"] {
            let mut publisher = Publisher::new(TcpStream::connect(address).await.unwrap());
            publisher.send(&header(client)).await;
            publisher.handshake().await;
            open.push(publisher);
        }
        for again in ["203.0.113.2:2", "[2001:db8:0:2::2]:2"] {
            let mut publisher = Publisher::new(TcpStream::connect(address).await.unwrap());
            publisher.send(&header(again)).await;
            let _ = publisher.until_closed().await;
            assert!(publisher.heard.is_empty());
        }
        assert_eq!((bench.stats.ended(Cause::AddressFull), bench.stats.open()), (2, 4));
    });
}

#[test]
fn a_balancer_must_speak_and_nobody_else_may() {
    guarded(async {
        let wrong = [SIGNATURE, b"\x21\x12\0\x0c", &[0; 12]].concat();
        let ours = header("203.0.113.9:50000");
        for (bytes, closes, cause) in [
            (&hello()[..], false, Cause::Proxy),
            (b"\x16\x03\x01\x00\x00", false, Cause::Proxy),
            (b"PROXY TCP4 203.0.113.9 10.0.0.1 50000 1935\r\n", false, Cause::Proxy),
            (&wrong, false, Cause::Proxy),
            (&ours[..10], true, Cause::Proxy),
            (&ours[..20], true, Cause::Proxy),
            (&ours[..20], false, Cause::Deadline),
            (b"", false, Cause::Deadline),
            // Health checks.
            (b"", true, Cause::Left),
            (&local(), true, Cause::Left),
        ] {
            ends_behind(trusting(), bytes, closes, cause).await;
        }
        ends_behind(Front::default(), &header("203.0.113.9:50000"), false, Cause::Proxy).await;
        ends_behind(Front::default(), b"PROXY TCP4 203.0.113.9 10.0.0.1 50000 1935\r\n", false, Cause::Proxy).await;
    });
}
