//! Reports of a real worker to a real receiver.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

use crate::harness::worker::Worker;

const SECRET: &str = "0123456789abcdef0123";

/// One request over a connection: its headers in lower case, and its body.
fn request(reader: &mut BufReader<TcpStream>) -> Option<(Vec<String>, String)> {
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => headers.push(line.to_ascii_lowercase()),
        }
    }
    let length = header(&headers, "content-length").parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((headers, String::from_utf8(body).unwrap()))
}

fn header<'a>(headers: &'a [String], name: &str) -> &'a str {
    headers.iter().find_map(|h| h.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim()
}

fn signature(at: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{at}.{body}").as_bytes());
    let digits: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
    format!("v1={digits}")
}

#[test]
fn reports_come_every_second_signed_and_fresh_with_their_version_first() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("report.url=http://{}/fleet", listener.local_addr().unwrap());
    let flags = ["--open", "--ladder", "none", "--set", &url];
    let worker = Worker::start_with(&flags, &[("WEIR_REPORT_SECRET", SECRET)]);
    let (socket, _) = listener.accept().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let mut socket = socket;
    let mut last: Option<(Instant, u64)> = None;
    for _ in 0..4 {
        let (headers, body) = request(&mut reader).unwrap();
        let came = Instant::now();
        assert_eq!(header(&headers, "weir-signature"), signature(header(&headers, "weir-timestamp"), &body));
        assert!(body.starts_with("{\"v\":1,"), "{body}");
        let report: Value = serde_json::from_str(&body).unwrap();
        let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
        // What it tells was counted so long ago when it is here.
        let age = now.saturating_sub(report["ts_ms"].as_u64().unwrap()) + report["age_ms"].as_u64().unwrap();
        assert!(age < 2000, "{age} ms");
        let seq = report["seq"].as_u64().unwrap();
        if let Some((at, before)) = last {
            assert!(seq > before && came - at < Duration::from_secs(2), "{:?}", came - at);
        }
        last = Some((came, seq));
        socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    }
    let asked = worker.get("v1/capacity").text();
    assert!(asked.starts_with("{\"v\":1,"), "{asked}");
    assert!(worker.get("metrics").text().contains("weir_heartbeats_total{result=\"taken\"}"));
}
