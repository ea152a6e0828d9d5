//! The PROXY protocol, version 2 (HAProxy's `proxy-protocol.txt`, 2.2): the header by which a load balancer says who connected to it.
//!
//! Pure: the caller reads [`FIXED`] bytes, asks how many follow, reads those and has them parsed. A header that lies about its length can so
//! take no byte of what stands behind it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

/// Signature, version and command, family and transport, length.
pub const FIXED: usize = 16;

/// Most bytes behind them. Addresses take 36 at most; the specification reckons with headers of 536 in all (2.2), and those with a client's TLS
/// details and AWS's extensions were seen below 1 KiB.
pub const MAX_REST: usize = 4096;

/// Most TLVs behind the addresses; the specification defines thirteen kinds.
const MAX_TLVS: usize = 64;

/// What every header of version 2 begins with.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// What every header of version 1 begins with.
pub const SIGNATURE_1: [u8; 6] = *b"PROXY ";

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The balancer speaks for itself: a health check.
    Local,
    /// It speaks for somebody, and does not know or say whose address it is.
    Unknown,
    /// It speaks for this client.
    Client(SocketAddr),
}

/// Why a header was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Something else stands where it must be.
    #[error("no PROXY header from an address in proxy_protocol_from")]
    Missing,
    /// A header from an address that must not send one.
    #[error("a PROXY header from an address that is not in proxy_protocol_from")]
    Untrusted,
    /// The text form.
    #[error("a PROXY header of version 1; only version 2 is taken: set the load balancer so")]
    Version1,
    /// The upper four bits of byte 12.
    #[error("a PROXY header of version {0}; only version 2 is taken")]
    Version(u8),
    /// The lower four.
    #[error("PROXY command {0}, which is not defined")]
    Command(u8),
    /// Byte 13: not TCP over IPv4 or IPv6.
    #[error("PROXY address family and transport {0:#04x}; only TCP over IPv4 and IPv6 is taken")]
    Family(u8),
    /// More than [`MAX_REST`].
    #[error("a PROXY header of {bytes} bytes, the limit is {}", MAX_REST + FIXED)]
    TooLong {
        /// With the fixed part.
        bytes: usize,
    },
    /// Fewer bytes than the addresses take, or a TLV that reaches beyond the end.
    #[error("a PROXY header whose parts do not fit its length")]
    CutShort,
    /// More than `MAX_TLVS`.
    #[error("a PROXY header with more than {MAX_TLVS} extensions")]
    TooManyTlvs,
}

/// Whether a header is to be expected from this address, which a socket may show as `::ffff:a.b.c.d`.
pub fn trusts(networks: &[IpNet], peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    networks.iter().any(|network| network.contains(&peer))
}

/// What a header begins with, if these first bytes of a connection are one. Fewer bytes than a signature are judged by themselves.
pub fn begins(bytes: &[u8]) -> Option<Error> {
    let is = |signature: &[u8]| !bytes.is_empty() && bytes.iter().zip(signature).all(|(a, b)| a == b);
    if is(&SIGNATURE) {
        Some(Error::Untrusted)
    } else if is(&SIGNATURE_1) {
        Some(Error::Version1)
    } else {
        None
    }
}

/// How many bytes follow the fixed part.
///
/// # Errors
/// It is none, or not one that is taken.
pub fn rest(fixed: &[u8; FIXED]) -> Result<usize, Error> {
    let (signature, [command, .., high, low]) = (&fixed[..SIGNATURE.len()], [fixed[12], fixed[13], fixed[14], fixed[15]]);
    if fixed.starts_with(&SIGNATURE_1) {
        return Err(Error::Version1);
    }
    if signature != SIGNATURE {
        return Err(Error::Missing);
    }
    if command >> 4 != 2 {
        return Err(Error::Version(command >> 4));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_REST {
        return Err(Error::TooLong { bytes: length + FIXED });
    }
    Ok(length)
}

/// The whole header; `rest` has as many bytes as [`rest`] said.
///
/// # Errors
/// What is wrong with it.
pub fn parse(fixed: &[u8; FIXED], rest: &[u8]) -> Result<Header, Error> {
    match fixed[12] & 0x0f {
        // Of a health check nothing else counts (2.2: "must accept this connection as valid" and use the real endpoints).
        0 => return Ok(Header::Local),
        1 => {}
        command => return Err(Error::Command(command)),
    }
    let (header, tlvs) = match fixed[13] {
        0x00 => return Ok(Header::Unknown),
        // TCP over IPv4: two addresses, two ports.
        0x11 => {
            let &[a, b, c, d, _, _, _, _, high, low, _, _] = rest.get(..12).ok_or(Error::CutShort)? else {
                return Err(Error::CutShort);
            };
            let address = Ipv4Addr::new(a, b, c, d);
            (SocketAddr::from((address, u16::from_be_bytes([high, low]))), &rest[12..])
        }
        // TCP over IPv6.
        0x21 => {
            let addresses = rest.get(..36).ok_or(Error::CutShort)?;
            let mut octets = [0; 16];
            octets.copy_from_slice(&addresses[..16]);
            let port = u16::from_be_bytes([addresses[32], addresses[33]]);
            (SocketAddr::from((Ipv6Addr::from(octets), port)), &rest[36..])
        }
        family => return Err(Error::Family(family)),
    };
    check_tlvs(tlvs)?;
    Ok(Header::Client(header))
}

/// Steps over type, length and value of each. None changes where a client is; a balancer whose extensions do not add up is not believed.
fn check_tlvs(mut bytes: &[u8]) -> Result<(), Error> {
    for _ in 0..MAX_TLVS {
        match bytes {
            [] => return Ok(()),
            [_, high, low, value @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                bytes = value.get(length..).ok_or(Error::CutShort)?;
            }
            _ => return Err(Error::CutShort),
        }
    }
    if bytes.is_empty() { Ok(()) } else { Err(Error::TooManyTlvs) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    /// As a listener reads it: the header, and how many bytes it took.
    fn read(bytes: &[u8]) -> Result<(Header, usize), Error> {
        let fixed = bytes.first_chunk::<FIXED>().ok_or(Error::CutShort)?;
        let length = rest(fixed)?;
        Ok((parse(fixed, bytes.get(FIXED..FIXED + length).ok_or(Error::CutShort)?)?, FIXED + length))
    }

    const V4: &[u8] = &[203, 0, 113, 9, 10, 0, 0, 1, 0xc3, 0x50, 0x07, 0x8f];

    #[test]
    fn a_client_is_read_with_what_stands_behind_left_alone() {
        let mut bytes = header(0x21, 0x11, V4);
        bytes.extend(b"\x03RTMP");
        assert_eq!(read(&bytes), Ok((Header::Client("203.0.113.9:50000".parse().unwrap()), 28)));
        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        v6[32..34].copy_from_slice(&443_u16.to_be_bytes());
        assert_eq!(read(&header(0x21, 0x21, &v6)).unwrap().0, Header::Client("[2001:db8::7]:443".parse().unwrap()));
        let extended = [V4, b"\x04\x00\x02ab\xea\x00\x00"].concat();
        assert_eq!(read(&header(0x21, 0x11, &extended)).unwrap(), (Header::Client("203.0.113.9:50000".parse().unwrap()), 36));
    }

    #[test]
    fn a_balancer_may_speak_for_itself_or_for_somebody_unknown() {
        assert_eq!(read(&header(0x20, 0x00, b"")), Ok((Header::Local, 16)));
        assert_eq!(read(&header(0x20, 0x11, V4)), Ok((Header::Local, 28)));
        assert_eq!(read(&header(0x21, 0x00, b"anything")), Ok((Header::Unknown, 24)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(read(b"PROXY TCP4 203.0.113.9 10.0.0.1 50000 1935\r\n"), Err(Error::Version1));
        assert_eq!(read(&[3; 40]), Err(Error::Missing));
        assert_eq!(read(&header(0x11, 0x11, V4)), Err(Error::Version(1)));
        assert_eq!(read(&header(0x22, 0x11, V4)), Err(Error::Command(2)));
        assert_eq!(read(&header(0x21, 0x12, V4)), Err(Error::Family(0x12)));
        assert_eq!(read(&header(0x21, 0x31, &[0; 216])), Err(Error::Family(0x31)));
        assert_eq!(read(&header(0x21, 0x11, &V4[..11])), Err(Error::CutShort));
        assert_eq!(read(&header(0x21, 0x21, &[0; 35])), Err(Error::CutShort));
        assert_eq!(read(&header(0x21, 0x11, &[V4, b"\x04\x00\x03ab"].concat())), Err(Error::CutShort));
        assert_eq!(read(&header(0x21, 0x11, &[V4, b"\x04\x00"].concat())), Err(Error::CutShort));
        let tlvs = b"\x04\x00\x00".repeat(MAX_TLVS);
        assert!(read(&header(0x21, 0x11, &[V4, &tlvs].concat())).is_ok());
        assert_eq!(read(&header(0x21, 0x11, &[V4, &tlvs, b"\x04\x00\x00"].concat())), Err(Error::TooManyTlvs));
        assert_eq!(read(&header(0x21, 0x11, &[0; 5000])), Err(Error::TooLong { bytes: 5016 }));
    }

    #[test]
    fn networks_contain_addresses_however_a_socket_shows_them() {
        let networks = ["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        for (address, trusted) in
            [("10.1.2.3", true), ("::ffff:10.1.2.3", true), ("11.1.2.3", false), ("2001:db8::1", true), ("2001:db9::1", false)]
        {
            assert_eq!(trusts(&networks, address.parse().unwrap()), trusted, "{address}");
        }
        assert!(!trusts(&[], "10.1.2.3".parse().unwrap()));
    }

    #[test]
    fn the_first_bytes_of_a_connection_tell_a_header() {
        assert_eq!(begins(b""), None);
        assert_eq!(begins(b"\x03\x00"), None);
        assert_eq!(begins(&SIGNATURE[..1]), Some(Error::Untrusted));
        assert_eq!(begins(&header(0x21, 0x11, V4)), Some(Error::Untrusted));
        assert_eq!(begins(b"PROXY TCP4 "), Some(Error::Version1));
        assert_eq!(begins(b"POST / HTTP/1.1"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
            let _ = read(&[&SIGNATURE[..], &bytes].concat());
        }

        #[test]
        fn every_client_comes_back(ip: IpAddr, port: u16, tlvs in proptest::collection::vec((any::<u8>(), 0_u16..40), 0..6)) {
            let mut rest = Vec::new();
            let family = match ip {
                IpAddr::V4(v4) => {
                    rest.extend(v4.octets());
                    rest.extend([127, 0, 0, 1]);
                    0x11
                }
                IpAddr::V6(v6) => {
                    rest.extend(v6.octets());
                    rest.extend(Ipv6Addr::LOCALHOST.octets());
                    0x21
                }
            };
            rest.extend(port.to_be_bytes());
            rest.extend(1935_u16.to_be_bytes());
            for (kind, length) in tlvs {
                rest.push(kind);
                rest.extend(length.to_be_bytes());
                rest.extend(vec![kind; usize::from(length)]);
            }
            let bytes = header(0x21, family, &rest);
            let (got, took) = read(&bytes).unwrap();
            prop_assert_eq!(took, bytes.len());
            prop_assert_eq!(got, Header::Client(SocketAddr::new(ip, port)));
            // Cut anywhere, it is an error, or the whole is waited for.
            for cut in 0..bytes.len() {
                prop_assert!(read(&bytes[..cut]).is_err());
            }
        }
    }
}
