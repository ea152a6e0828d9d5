//! CPU time of the client for each PUT of a 1.5 MB segment over TLS: Weir's store against the bare SDK, in alternating pairs of processes. The peer is a process
//! that reads and forgets. `cargo bench --bench put [-- PAIRS [PUTS]]`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use weir::logic::model::ObjectKey;
use weir::store::{Endpoint, Location, Store};

/// 2 s at 6 Mbit/s.
const SIZE: usize = 1_500_000;

/// As many as a stream has under way at once.
const AT_ONCE: usize = 8;

const BUCKET: &str = "bench";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["sink"] => sink(),
        [client @ ("weir" | "sdk"), endpoint, puts] => client_main(client, endpoint, puts.parse()?),
        [] => compare(10, 200),
        [pairs] => compare(pairs.parse()?, 200),
        [pairs, puts] => compare(pairs.parse()?, puts.parse()?),
        _ => Err(anyhow!("put [PAIRS [PUTS]]")),
    }
}

fn myself(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments);
    Ok(command)
}

/// Killed when it is dropped.
struct Sink(Child);

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn compare(pairs: usize, puts: usize) -> Result<()> {
    let mut sink = Sink(myself(&["sink"])?.stdout(Stdio::piped()).spawn()?);
    let mut said = BufReader::new(sink.0.stdout.take().context("no output")?);
    let mut address = String::new();
    said.read_line(&mut address)?;
    let mut pem = String::new();
    while !pem.contains("END CERTIFICATE") {
        if said.read_line(&mut pem)? == 0 {
            return Err(anyhow!("the sink ended"));
        }
    }
    let folder = tempfile::tempdir()?;
    let trusted = folder.path().join("ca.pem");
    std::fs::write(&trusted, pem)?;
    let endpoint = format!("https://127.0.0.1:{}", address.trim().parse::<SocketAddr>()?.port());
    let run = |client: &str| -> Result<u64> {
        let output = myself(&[client, &endpoint, &puts.to_string()])?
            .env("SSL_CERT_FILE", &trusted)
            .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "testtest"), ("AWS_REGION", "us-east-1")])
            .stderr(Stdio::inherit())
            .output()?;
        String::from_utf8(output.stdout)?.trim().parse().with_context(|| format!("{client} failed"))
    };
    let (mut ratios, mut weirs, mut sdks) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..pairs {
        // The order alternates as well.
        let (weir, sdk) = if pair.is_multiple_of(2) {
            let weir = run("weir")?;
            (weir, run("sdk")?)
        } else {
            let sdk = run("sdk")?;
            (run("weir")?, sdk)
        };
        println!("pair {pair}: weir {weir} us, bare SDK {sdk} us for each PUT");
        ratios.push(weir * 1000 / sdk.max(1));
        weirs.push(weir);
        sdks.push(sdk);
    }
    for list in [&mut ratios, &mut weirs, &mut sdks] {
        list.sort_unstable();
    }
    let median = |list: &[u64]| list.get(list.len() / 2).copied().unwrap_or(0);
    let thousandths = |n: u64| format!("{}.{:03}", n / 1000, n % 1000);
    let (least, most) = (ratios.first().copied().unwrap_or(0), ratios.last().copied().unwrap_or(0));
    println!(
        "weir {} us, bare SDK {} us; ratio {} ({} to {}) over {pairs} pairs of {puts} PUTs of {SIZE} bytes",
        median(&weirs),
        median(&sdks),
        thousandths(median(&ratios)),
        thousandths(least),
        thousandths(most),
    );
    Ok(())
}

/// CPU time of this process so far, microseconds (proc(5): utime and stime, 100 ticks a second).
fn cpu() -> Result<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| -> Result<u64> { Ok(fields.get(i).context("short stat")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) * 10_000)
}

fn client_main(client: &str, endpoint: &str, puts: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let body = Bytes::from((0..SIZE).map(|i| (i.wrapping_mul(2_654_435_761) >> 7) as u8).collect::<Vec<u8>>());
    let used = if client == "weir" {
        runtime.block_on(by_weir(endpoint, puts, body))?
    } else {
        runtime.block_on(by_sdk(endpoint, puts, body))?
    };
    println!("{}", used / puts as u64);
    Ok(())
}

fn key(client: usize, n: usize) -> String {
    format!("seg/rk/1/eu/demo/s/{client}/src/{n}.m4s")
}

async fn by_weir(endpoint: &str, puts: usize, body: Bytes) -> Result<u64> {
    let location = Location::S3 { bucket: BUCKET.into(), prefix: String::new() };
    let endpoint = Endpoint { url: endpoint.to_owned(), path_style: true };
    let store = Arc::new(Store::open(&location, Some(&endpoint)).await?);
    let before = cpu()?;
    let clients = (0..AT_ONCE).map(|c| {
        let (store, body) = (Arc::clone(&store), body.clone());
        tokio::spawn(async move {
            for n in 0..puts / AT_ONCE {
                let key = ObjectKey::parse(&key(c, n)).context("a key")?;
                store.put_new(&key, body.clone()).await?;
            }
            anyhow::Ok(())
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await??;
    }
    Ok(cpu()? - before)
}

async fn by_sdk(endpoint: &str, puts: usize, body: Bytes) -> Result<u64> {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(aws_smithy_http_client::tls::Provider::Rustls(
            aws_smithy_http_client::tls::rustls_provider::CryptoMode::Ring,
        ))
        .build_https();
    let shared = aws_config::defaults(aws_config::BehaviorVersion::latest()).http_client(http).load().await;
    let config = aws_sdk_s3::config::Builder::from(&shared).endpoint_url(endpoint).force_path_style(true).build();
    let client = aws_sdk_s3::Client::from_conf(config);
    client.list_objects_v2().bucket(BUCKET).prefix("live/").send().await?;
    let before = cpu()?;
    let clients = (0..AT_ONCE).map(|c| {
        let (client, body) = (client.clone(), body.clone());
        tokio::spawn(async move {
            for n in 0..puts / AT_ONCE {
                let put = client.put_object().bucket(BUCKET).key(key(c, n)).content_type("video/iso.segment");
                put.cache_control("public, max-age=31536000, immutable").body(body.clone().into()).send().await?;
            }
            anyhow::Ok(())
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await??;
    }
    Ok(cpu()? - before)
}

/// An HTTPS server that takes everything. Prints its address and its certificate.
fn sink() -> Result<()> {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}\n{}", listener.local_addr()?, made.cert.pem());
    std::io::stdout().flush()?;
    for stream in listener.incoming() {
        let (stream, config) = (stream?, Arc::clone(&config));
        // A client that ends is no error.
        std::thread::spawn(move || take(stream, config).ok());
    }
    Ok(())
}

fn take(stream: TcpStream, config: Arc<rustls::ServerConfig>) -> Result<()> {
    stream.set_nodelay(true)?;
    let tls = rustls::StreamOwned::new(rustls::ServerConnection::new(config)?, stream);
    let mut reader = BufReader::with_capacity(1 << 16, tls);
    loop {
        let (mut length, mut first) = (0u64, String::new());
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(n) = line.strip_prefix("content-length:") {
                length = n.trim().parse()?;
            }
        }
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
        let body = if first.starts_with("GET") { "<ListBucketResult></ListBucketResult>" } else { "" };
        let head = format!(
            "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        reader.get_mut().write_all(format!("{head}{body}").as_bytes())?;
        reader.get_mut().flush()?;
    }
}
