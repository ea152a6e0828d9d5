//! What we call of libsrt, safe to call. The only file that names its functions.
//!
//! Sockets are plain numbers in libsrt: one that is closed, or never was, is answered with an error by every function, from whichever thread it is called.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{IntoRawFd as _, OwnedFd};
use std::sync::Arc;

use weir::logic::srt::Numbers;

#[allow(
    non_camel_case_types,
    non_upper_case_globals,
    non_snake_case,
    dead_code,
    missing_docs,
    clippy::all,
    reason = "made by bindgen from libsrt's header"
)]
mod ffi {
    include!(concat!(env!("OUT_DIR"), "/srt.rs"));
}

// GnuTLS's build: it is in the image already, below libavformat, and OpenSSL's would be a second one.
#[link(name = "srt-gnutls")]
unsafe extern "C" {}

/// A socket.
pub type Socket = ffi::SRTSOCKET;

/// What libsrt says of its last failure on this thread.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {text}")]
pub struct Error {
    what: &'static str,
    code: c_int,
    text: String,
}

impl Error {
    fn last(what: &'static str) -> Self {
        // SAFETY: the text is a buffer of this thread, valid until its next call; it is copied here.
        let (code, text) = unsafe {
            (
                ffi::srt_getlasterror(std::ptr::null_mut()),
                CStr::from_ptr(ffi::srt_getlasterror_str()).to_string_lossy().into_owned(),
            )
        };
        Self { what, code, text }
    }

    /// Nothing to read now.
    fn is_empty(&self) -> bool {
        self.code == ffi::SRT_EASYNCRCV as c_int
    }
}

fn check(what: &'static str, result: c_int) -> Result<c_int, Error> {
    if result < 0 { Err(Error::last(what)) } else { Ok(result) }
}

/// The library, started. There is one; its threads end with the process.
pub fn start() -> Result<(), Error> {
    // SAFETY: no other thread of this process calls libsrt yet.
    check("srt_startup", unsafe { ffi::srt_startup() })?;
    // Its own log goes to standard error, a line for each odd packet of any stranger: only what is fatal (LOG_CRIT of syslog).
    // SAFETY: a number is stored.
    unsafe { ffi::srt_setloglevel(2) };
    Ok(())
}

/// 0x010501.
pub fn version() -> u32 {
    // SAFETY: a constant of the library.
    unsafe { ffi::srt_getversion() }
}

/// Options that we set or read; all of them are `int` or `bool`, but for texts.
#[derive(Debug, Clone, Copy)]
pub enum Flag {
    /// Reading waits; `bool`.
    ReceiveSync,
    /// ms.
    ReceiveLatency,
    /// ms.
    PeerIdle,
    /// Bytes.
    KeyLength,
    /// Least version of the other side.
    MinimumVersion,
    /// Of the other side.
    PeerVersion,
    /// Both must have a passphrase or neither; `bool`.
    EnforcedEncryption,
    /// State of decryption of what comes.
    KeyState,
}

impl Flag {
    const fn option(self) -> ffi::SRT_SOCKOPT {
        match self {
            Self::ReceiveSync => ffi::SRTO_RCVSYN,
            Self::ReceiveLatency => ffi::SRTO_RCVLATENCY,
            Self::PeerIdle => ffi::SRTO_PEERIDLETIMEO,
            Self::KeyLength => ffi::SRTO_PBKEYLEN,
            Self::MinimumVersion => ffi::SRTO_MINVERSION,
            Self::PeerVersion => ffi::SRTO_PEERVERSION,
            Self::EnforcedEncryption => ffi::SRTO_ENFORCEDENCRYPTION,
            Self::KeyState => ffi::SRTO_RCVKMSTATE,
        }
    }
}

/// Media are encrypted and can be decrypted.
pub const KEYED: c_int = ffi::SRT_KM_S_SECURED as c_int;

/// A new socket.
pub fn socket() -> Result<Socket, Error> {
    // SAFETY: no arguments.
    check("srt_create_socket", unsafe { ffi::srt_create_socket() })
}

/// Sets a number. libsrt takes four bytes for its `bool`s as well.
pub fn set(socket: Socket, flag: Flag, value: c_int) -> Result<(), Error> {
    let bytes = size_of::<c_int>() as c_int;
    // SAFETY: libsrt reads as many bytes as it is told.
    check("srt_setsockflag", unsafe { ffi::srt_setsockflag(socket, flag.option(), (&raw const value).cast(), bytes) }).map(drop)
}

/// Reads a number.
pub fn number(socket: Socket, flag: Flag) -> Option<c_int> {
    let (mut value, mut bytes): (c_int, c_int) = (0, size_of::<c_int>() as c_int);
    // SAFETY: all options above are four bytes at the most, and `bytes` says how many there are.
    let result = unsafe { ffi::srt_getsockflag(socket, flag.option(), (&raw mut value).cast(), &raw mut bytes) };
    (result >= 0).then_some(value)
}

/// Sets the passphrase: 10 to 79 bytes.
pub fn set_passphrase(socket: Socket, passphrase: &[u8]) -> Result<(), Error> {
    let bytes = c_int::try_from(passphrase.len()).unwrap_or(0);
    // SAFETY: libsrt copies as many bytes as it is told.
    let result = unsafe { ffi::srt_setsockflag(socket, ffi::SRTO_PASSPHRASE, passphrase.as_ptr().cast(), bytes) };
    check("SRTO_PASSPHRASE", result).map(drop)
}

/// Gives it a UDP socket that is bound already.
pub fn bind(socket: Socket, udp: OwnedFd) -> Result<(), Error> {
    // SAFETY: libsrt owns the descriptor from here on, also where it fails.
    check("srt_bind_acquire", unsafe { ffi::srt_bind_acquire(socket, udp.into_raw_fd()) }).map(drop)
}

/// Decides about one caller, on libsrt's receiving thread: while it decides nothing is received from anybody.
pub trait Judge: Send + Sync + 'static {
    /// Lets it in, having set what it needs on its socket; or gives the code of its rejection.
    fn judge(&self, socket: Socket, peer: SocketAddr, stream_id: &[u8]) -> Result<(), u16>;
}

/// A caller of HSv4, which has no stream id (SRT_REJX_VERSION).
const OLD: u16 = 1505;

/// Something went wrong with us (SRT_REJX_ISE).
const OURS: u16 = 1500;

/// Takes callers from here on. The judge lives as long as the process.
pub fn listen<J: Judge>(socket: Socket, judge: Arc<J>, backlog: c_int) -> Result<(), Error> {
    let opaque = Arc::into_raw(judge).cast_mut().cast::<c_void>();
    // SAFETY: `hook` takes `opaque` for a `J` again, which is never dropped.
    check("srt_listen_callback", unsafe { ffi::srt_listen_callback(socket, Some(hook::<J>), opaque) })?;
    // SAFETY: numbers only.
    check("srt_listen", unsafe { ffi::srt_listen(socket, backlog) }).map(drop)
}

unsafe extern "C" fn hook<J: Judge>(
    opaque: *mut c_void,
    socket: Socket,
    handshake: c_int,
    peer: *const ffi::sockaddr,
    stream_id: *const c_char,
) -> c_int {
    let judged = std::panic::catch_unwind(|| {
        if handshake < 5 {
            return Err(OLD);
        }
        // SAFETY: libsrt gives the address of a caller, whose family says how long it is, and a text that ends with a zero; both live until we return.
        let (peer, stream_id) =
            unsafe { (address(peer), if stream_id.is_null() { &[][..] } else { CStr::from_ptr(stream_id).to_bytes() }) };
        // SAFETY: `listen` gave it, and it lives as long as the process.
        let judge = unsafe { &*opaque.cast::<J>() };
        judge.judge(socket, peer.ok_or(OURS)?, stream_id)
    });
    match judged.unwrap_or(Err(OURS)) {
        Ok(()) => 0,
        Err(code) => {
            // SAFETY: numbers only.
            unsafe { ffi::srt_setrejectreason(socket, c_int::from(code)) };
            -1
        }
    }
}

/// # Safety
/// `address` is null, or as many bytes as its family has can be read.
unsafe fn address(address: *const ffi::sockaddr) -> Option<SocketAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: every address begins with its family.
    match c_int::from(unsafe { (*address).sa_family }) {
        libc::AF_INET => {
            // SAFETY: of this family.
            let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some((IpAddr::V4(Ipv4Addr::from_bits(u32::from_be(v4.sin_addr.s_addr))), u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: of this family.
            let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some((IpAddr::V6(Ipv6Addr::from(v6.sin6_addr.s6_addr)).to_canonical(), u16::from_be(v6.sin6_port)).into())
        }
        _ => None,
    }
}

/// The next caller that was let in, if one is connected.
pub fn accept(listener: Socket) -> Option<Socket> {
    // SAFETY: no address is asked for.
    let socket = unsafe { ffi::srt_accept(listener, std::ptr::null_mut(), std::ptr::null_mut()) };
    (socket >= 0).then_some(socket)
}

/// Ends a connection.
pub fn close(socket: Socket) {
    // SAFETY: a number. It fails for one that is closed already.
    unsafe { ffi::srt_close(socket) };
}

/// It is connected, or will be.
pub fn is_alive(socket: Socket) -> bool {
    // SAFETY: a number.
    let state = unsafe { ffi::srt_getsockstate(socket) };
    !matches!(state, ffi::SRTS_BROKEN | ffi::SRTS_CLOSING | ffi::SRTS_CLOSED | ffi::SRTS_NONEXIST)
}

/// Appends the next message to `out`; `Ok(false)` when there is none now.
pub fn receive(socket: Socket, out: &mut Vec<u8>) -> Result<bool, Error> {
    // The largest message of live mode (SRTO_PAYLOADSIZE, 1456) and room for an odd one; a longer one would be cut.
    let mut message = [0u8; 2048];
    // SAFETY: libsrt writes as many bytes as it is told at the most.
    let got = unsafe { ffi::srt_recvmsg(socket, message.as_mut_ptr().cast(), message.len() as c_int) };
    match usize::try_from(got) {
        Ok(0) => Err(Error { what: "srt_recvmsg", code: 0, text: "closed".into() }),
        Ok(n) => {
            out.extend_from_slice(&message[..n.min(message.len())]);
            Ok(true)
        }
        Err(_) => match Error::last("srt_recvmsg") {
            e if e.is_empty() => Ok(false),
            e => Err(e),
        },
    }
}

/// What it counts and measures; `None` for a connection that is over. Latency and key are the caller's to fill in.
pub fn numbers(socket: Socket) -> Option<Numbers> {
    /// Releases of libsrt append to the structure, and the one at run time may be newer than the header (Debian 12: 1.5.1, Debian 13: 1.5.4).
    #[repr(C)]
    struct Roomy {
        known: ffi::CBytePerfMon,
        appended: [u8; 1024],
    }
    let mut all = std::mem::MaybeUninit::<Roomy>::zeroed();
    // SAFETY: libsrt fills the structure; all of its fields are numbers, for which zeroes will do.
    let all = unsafe {
        if ffi::srt_bistats(socket, all.as_mut_ptr().cast(), 0, 1) < 0 {
            return None;
        }
        all.assume_init().known
    };
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    let rtt_us = if all.msRTT.is_finite() { (all.msRTT.clamp(0.0, 3_600_000.0) * 1000.0) as u64 } else { 0 };
    Some(Numbers {
        rtt_us,
        buffer_ms: u32::try_from(all.msRcvBuf).unwrap_or(0),
        received: count(all.pktRecvTotal),
        lost: count(all.pktRcvLossTotal.into()),
        // Of the receiver libsrt has no total of these: nothing else clears the interval, so it is one.
        retransmitted: count(all.pktRcvRetrans.into()),
        dropped: count(all.pktRcvDropTotal.into()),
        undecrypted: count(all.pktRcvUndecryptTotal.into()),
        ..Numbers::default()
    })
}

/// Sockets to wait for.
#[derive(Debug, Clone, Copy)]
pub struct Poll(c_int);

impl Poll {
    /// None yet.
    pub fn new() -> Result<Self, Error> {
        // SAFETY: no arguments.
        check("srt_epoll_create", unsafe { ffi::srt_epoll_create() }).map(Self)
    }

    /// Waits for `socket` too.
    pub fn add(self, socket: Socket) -> Result<(), Error> {
        let events = (ffi::SRT_EPOLL_IN | ffi::SRT_EPOLL_ERR) as c_int;
        // SAFETY: the events are read before it returns.
        check("srt_epoll_add_usock", unsafe { ffi::srt_epoll_add_usock(self.0, socket, &raw const events) }).map(drop)
    }

    /// Whether it waits for what `socket` receives, or only for its end.
    pub fn read(self, socket: Socket, reads: bool) {
        let events = if reads { ffi::SRT_EPOLL_IN | ffi::SRT_EPOLL_ERR } else { ffi::SRT_EPOLL_ERR } as c_int;
        // SAFETY: likewise. It fails for a socket that is closed, which is not waited for any more.
        unsafe { ffi::srt_epoll_update_usock(self.0, socket, &raw const events) };
    }

    /// Not for this one any more.
    pub fn remove(self, socket: Socket) {
        // SAFETY: numbers. As above.
        unsafe { ffi::srt_epoll_remove_usock(self.0, socket) };
    }

    /// Sockets at which something happened, within `millis`.
    pub fn wait(self, millis: i64, out: &mut Vec<Socket>) {
        const MOST: usize = 64;
        let mut events = [ffi::SRT_EPOLL_EVENT { fd: 0, events: 0 }; MOST];
        // SAFETY: libsrt writes as many events as there is room for at the most.
        let n = unsafe { ffi::srt_epoll_uwait(self.0, events.as_mut_ptr(), MOST as c_int, millis) };
        out.clear();
        out.extend(events.iter().take(usize::try_from(n).unwrap_or(0)).map(|e| e.fd));
    }
}
