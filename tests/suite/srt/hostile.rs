//! Datagrams made by hand (draft-sharabayko-srt-01, section 3.2): what ends other listeners, and what nobody sends. The listener is there afterwards, with the same
//! process and no more memory.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use super::{Bench, Book, Caller, guarded, ts};
use crate::harness::beside_others;

/// Our socket's number in the handshake.
const SOCKET: u32 = 4711;

/// Handshake extension types.
const HSREQ: u16 = 1;
const KMREQ: u16 = 3;
const SID: u16 = 5;
const CONGESTION: u16 = 6;
const FILTER: u16 = 7;
const GROUP: u16 = 8;

/// An extension: its type, its number of words as told, its bytes.
type Extension = (u16, u16, Vec<u8>);

fn extension(kind: u16, bytes: &[u8]) -> Extension {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().div_ceil(4) * 4, 0);
    (kind, (bytes.len() / 4) as u16, bytes)
}

/// Texts are words in the other byte order.
fn text(kind: u16, text: &str) -> Extension {
    let (kind, words, mut bytes) = extension(kind, text.as_bytes());
    bytes.chunks_exact_mut(4).for_each(<[u8]>::reverse);
    (kind, words, bytes)
}

fn hsreq() -> Extension {
    extension(HSREQ, &[0x00010501u32, 0xbf, 0x0078_0078].map(u32::to_be_bytes).concat())
}

fn handshake(version: u32, flags: u16, kind: u32, cookie: u32, extensions: &[Extension]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend([0x8000_0000u32, 0, 0, 0].map(u32::to_be_bytes).concat());
    out.extend(version.to_be_bytes());
    out.extend(0u16.to_be_bytes());
    out.extend(flags.to_be_bytes());
    out.extend([1000u32, 1500, 8192, kind, SOCKET, cookie, 0x0100_007f, 0, 0, 0].map(u32::to_be_bytes).concat());
    for (kind, words, bytes) in extensions {
        out.extend(kind.to_be_bytes());
        out.extend(words.to_be_bytes());
        out.extend(bytes);
    }
    out
}

/// A stranger on an address of his own.
struct Stranger(UdpSocket);

impl Stranger {
    fn new(to: SocketAddr) -> Self {
        Self::on("127.0.0.2:0", to)
    }

    fn on(own: &str, to: SocketAddr) -> Self {
        let socket = UdpSocket::bind(own).unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        Self(socket)
    }

    /// The first half of the handshake: the listener's cookie.
    fn cookie(&self) -> Option<u32> {
        self.0.send(&handshake(4, 2, 1, 0, &[])).unwrap();
        let mut answer = [0; 1500];
        let n = self.0.recv(&mut answer).ok()?;
        (n >= 64).then(|| u32::from_be_bytes(answer[44..48].try_into().unwrap()))
    }

    /// The second half. Gives the answer's handshake type: over 1000 is a rejection.
    fn conclude(&self, flags: u16, extensions: &[Extension]) -> Option<u32> {
        let cookie = self.cookie()?;
        self.0.send(&handshake(5, flags, u32::MAX, cookie, extensions)).unwrap();
        let mut answer = [0; 1500];
        let n = self.0.recv(&mut answer).ok()?;
        (n >= 64).then(|| u32::from_be_bytes(answer[36..40].try_into().unwrap()))
    }
}

fn resident(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Rejections are 1000 above what was set, on the wire.
const REJECTED: u32 = 1000;

#[test]
fn handshakes_that_nobody_sends_end_nothing() {
    let file = ts();
    let _machine = beside_others();
    guarded(async {
        let mut bench = Bench::new(Book::default().with("anna", None)).await;
        let (address, pid) = (bench.address, bench.stats.pid().unwrap());
        let before = resident(pid);
        tokio::task::spawn_blocking(move || odd(address)).await.unwrap();
        tokio::task::spawn_blocking(move || mutated(address)).await.unwrap();
        let caller = Caller::ffmpeg(&file, address, &["-srt_streamid", "anna"]);
        // A handshake that was changed may still be one: what came of it is not whole.
        loop {
            let came = bench.accept().await.all().await;
            if came.video > 0 {
                break came.is_whole();
            }
        }
        assert!(caller.end().await.success());
        assert_eq!(bench.stats.pid(), Some(pid), "another process");
        let grown = resident(pid).saturating_sub(before);
        println!("memory: {} KiB before, {} KiB more after", before >> 10, grown >> 10);
        assert!(grown < 48 << 20, "{grown}");
        bench.shutdown.cancel();
    });
}

#[test]
fn a_listener_on_all_addresses_takes_both_families() {
    let _machine = beside_others();
    guarded(async {
        let known = Book::default();
        let bench = Bench::at("[::]:0", known, Default::default(), Default::default()).await;
        let port = bench.address.port();
        let asked = move || {
            [("127.0.0.2:0", "127.0.0.1"), ("[::1]:0", "::1")].map(|(own, to)| {
                let to = SocketAddr::new(to.parse().unwrap(), port);
                Stranger::on(own, to).conclude(5, &[hsreq(), text(SID, "nobody")])
            })
        };
        assert_eq!(tokio::task::spawn_blocking(asked).await.unwrap(), [Some(2401); 2]);
        assert_eq!(bench.stats.calls(), 2);
        bench.stop().await;
    });
}

/// One by one, each with a right cookie.
fn odd(address: SocketAddr) {
    let long = "a".repeat(600);
    let cases: Vec<(&str, u16, Vec<Extension>)> = vec![
        ("file congestion control", 5, vec![hsreq(), text(CONGESTION, "file"), text(SID, "anna")]),
        ("unknown congestion control", 5, vec![hsreq(), text(CONGESTION, "nonsense"), text(SID, "anna")]),
        ("a group", 5, vec![hsreq(), extension(GROUP, &[0x40, 0, 0, 1, 1, 0, 0, 0]), text(SID, "anna")]),
        ("a short group", 5, vec![hsreq(), extension(GROUP, &[0x40]), text(SID, "anna")]),
        ("a packet filter", 5, vec![hsreq(), text(FILTER, "fec,cols:10"), text(SID, "anna")]),
        ("a short request", 1, vec![extension(HSREQ, &[0, 1])]),
        ("a short key", 3, vec![hsreq(), extension(KMREQ, &[0x12, 0x20, 0x29, 0x01])]),
        ("a request that is longer than the datagram", 1, vec![(HSREQ, 400, vec![0; 12])]),
        ("a stream id that is too long", 5, vec![hsreq(), text(SID, &long)]),
        ("an empty stream id", 5, vec![hsreq(), text(SID, "")]),
        ("an unknown extension", 5, vec![hsreq(), extension(99, &[1; 40]), text(SID, "anna")]),
        ("no extension", 0, vec![]),
    ];
    for (what, flags, extensions) in cases {
        let stranger = Stranger::new(address);
        let answer = stranger.conclude(flags, &extensions);
        println!("{what}: {answer:?}");
        assert!(Stranger::new(address).cookie().is_some(), "the listener is gone after {what}");
    }
    // And what must be refused is, by its code.
    for (id, code) in [
        ("nobody", 2401),
        ("#!::r=anna,m=request", 2405),
        ("#!::r=anna,t=file", 2415),
        ("a\u{7}", 2400),
        ("vod/anna", 2404),
        ("slow", 2423),
    ] {
        let answer = Stranger::new(address).conclude(5, &[hsreq(), text(SID, id)]);
        assert_eq!(answer, Some(code), "{id:?}: above {REJECTED}");
    }
}

/// Two thousand, with some bytes changed or cut off.
fn mutated(address: SocketAddr) {
    let mut dice: u64 = 5;
    let mut roll = |n: usize| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) as usize % n
    };
    let stranger = Stranger::new(address);
    stranger.0.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let mut cookie = 0;
    let extensions =
        [hsreq(), text(CONGESTION, "live"), text(SID, "#!::r=live/nobody,m=publish"), extension(KMREQ, &[0x12; 80])];
    for round in 0..2000 {
        if round % 100 == 0 {
            cookie = stranger.cookie().unwrap_or(cookie);
        }
        let mut datagram = match roll(4) {
            0 => handshake(4, 2, 1, 0, &[]),
            1 => {
                // Any other control packet.
                let mut other = handshake(5, 7, u32::MAX, cookie, &extensions[..roll(4)]);
                other[1] = roll(9) as u8;
                other
            }
            _ => handshake(5, 7, u32::MAX, cookie, &extensions[..roll(5)]),
        };
        for _ in 0..roll(6) {
            let at = roll(datagram.len());
            datagram[at] = roll(256) as u8;
        }
        if roll(5) == 0 {
            datagram.truncate(roll(datagram.len()));
        }
        let _ = stranger.0.send(&datagram);
        let mut answer = [0; 1500];
        let _ = stranger.0.recv(&mut answer);
    }
    assert!(Stranger::new(address).cookie().is_some(), "the listener is gone");
}
