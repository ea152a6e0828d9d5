//! The messages between the supervisor and the SRT process. Frames are [`crate::link::wire`]'s, bounded more tightly.
//!
//! Passphrases are payloads, so that no message with one in it is ever printed.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::link::wire::{self, WireError};
use crate::logic::srt::Numbers;

/// Raised with every change of a message; both sides refuse any other.
pub const VERSION: u16 = 1;

/// Most bytes of media in a frame: 49 SRT packets of 1,316 bytes (seven of MPEG-TS) come to 64,484.
pub const MAX_DATA: usize = 64 << 10;

/// Longest frame: media, or a question with 512 bytes of stream id, and its header.
pub const MAX_FRAME: usize = MAX_DATA + 1024;

/// Longest passphrase (SRTO_PASSPHRASE: 10 to 79 bytes).
pub const PASSPHRASE: std::ops::RangeInclusive<usize> = 10..=79;

/// Bytes of one caller that may be under way or wait in the supervisor: 1.3 s of 6.6 Mbit/s. A caller without credit is not read; no other notices.
pub const WINDOW: u32 = 1 << 20;

/// What a frame costs of the window beside its media, so that the window bounds the number of frames too.
pub const OVERHEAD: u32 = 256;

/// Most frames of one caller that the window lets be under way.
pub const MAX_FRAMES: usize = (WINDOW / OVERHEAD) as usize;

/// What a frame with so many bytes of media costs of the window.
pub fn cost(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX).saturating_add(OVERHEAD)
}

/// How the listener is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Latency, ms; a caller that asks for more gets more.
    pub latency_ms: u32,
    /// After so much silence a caller is gone, ms.
    pub peer_idle_ms: u32,
    /// Length of the AES key that is asked for, bytes; 0: the caller says.
    pub key_length: u8,
    /// Bytes of private memory that the process may have.
    pub memory: u64,
}

/// From the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToSrt {
    /// First message.
    Hello {
        /// [`VERSION`].
        version: u16,
        /// What to be.
        listener: Listener,
    },
    /// The answer to a question: this caller may connect. Payload: the passphrase that it must have; empty: none.
    Admit {
        /// The caller.
        caller: u32,
        /// Latency for this one in place of the listener's, ms.
        latency_ms: Option<u32>,
    },
    /// The answer to a question: it may not.
    Reject {
        /// The caller.
        caller: u32,
        /// For `srt_setrejectreason`: 1000 to 2999.
        code: u16,
    },
    /// So many bytes more of its media may be sent.
    Credit {
        /// The caller.
        caller: u32,
        /// As [`cost`] counts.
        bytes: u32,
    },
    /// End its connection.
    Close {
        /// The caller.
        caller: u32,
    },
}

/// From the SRT process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromSrt {
    /// First message: it listens.
    Hello {
        /// [`VERSION`].
        version: u16,
        /// libsrt's, 0x010501.
        libsrt: u32,
    },
    /// In place of it: it cannot, and ends.
    Unable {
        /// For the log.
        reason: String,
    },
    /// Somebody calls. To be answered within [`super::ANSWER_DEADLINE`]; payload: the stream id as it came.
    Question {
        /// A number of its own for ever.
        caller: u32,
        /// Where from.
        peer: SocketAddr,
    },
    /// An admitted caller is connected.
    Connected {
        /// The caller.
        caller: u32,
        /// Its libsrt, 0x010501; 0 if it does not say.
        version: u32,
        /// Latency that both agreed on, ms.
        latency_ms: u32,
        /// Bytes of the key, 0 in the clear.
        key_length: u8,
    },
    /// An admitted caller did not become one: it has another passphrase, or left.
    Failed {
        /// The caller.
        caller: u32,
    },
    /// Its media, in order.
    Data {
        /// The caller.
        caller: u32,
    },
    /// What its connection measures; once a second.
    Numbers {
        /// The caller.
        caller: u32,
        /// The numbers.
        numbers: Numbers,
    },
    /// Its connection is over; nothing follows of it.
    Ended {
        /// The caller.
        caller: u32,
        /// It closed the connection, and was not just silent.
        goodbye: bool,
    },
    /// It lives; once a second.
    Alive {
        /// Callers that were refused without a question, because their address asked too often, since the beginning.
        unasked: u64,
    },
}

/// Appends one frame.
///
/// # Errors
/// [`WireError::Length`] when it is over [`MAX_FRAME`].
pub fn encode<M: Serialize>(message: &M, payload: &[u8], out: &mut BytesMut) -> Result<(), WireError> {
    let before = out.len();
    wire::encode(message, payload, out)?;
    let length = out.len() - before - 4;
    if length > MAX_FRAME {
        out.truncate(before);
        return Err(WireError::Length(length));
    }
    Ok(())
}

/// Takes one whole frame from the front; `Ok(None)` when more bytes are needed.
///
/// # Errors
/// [`WireError`] when the bytes can be no frame; nothing after them can be trusted.
pub fn decode<M: DeserializeOwned>(input: &mut BytesMut) -> Result<Option<(M, Bytes)>, WireError> {
    wire::decode_within(input, MAX_FRAME)
}

#[cfg(test)]
mod tests {
    use bytes::BufMut as _;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_come_back_as_they_were_sent_at_every_split_point() {
        let mut whole = BytesMut::new();
        let question = FromSrt::Question { caller: 7, peer: "[2001:db8::1]:9000".parse().unwrap() };
        encode(&question, b"#!::r=live/anna", &mut whole).unwrap();
        for at in 0..whole.len() {
            let mut input = BytesMut::from(&whole[..at]);
            assert!(decode::<FromSrt>(&mut input).unwrap().is_none());
            input.extend_from_slice(&whole[at..]);
            let (back, payload) = decode::<FromSrt>(&mut input).unwrap().unwrap();
            assert_eq!((back, &payload[..]), (question.clone(), &b"#!::r=live/anna"[..]));
        }
    }

    #[test]
    fn a_frame_of_media_fits_and_a_longer_one_is_refused_on_both_sides() {
        let data = FromSrt::Data { caller: u32::MAX };
        let mut frame = BytesMut::new();
        encode(&data, &vec![7; MAX_DATA], &mut frame).unwrap();
        assert_eq!(decode::<FromSrt>(&mut frame).unwrap().unwrap().1.len(), MAX_DATA);
        assert!(matches!(encode(&data, &vec![7; MAX_FRAME], &mut frame), Err(WireError::Length(_))));
        assert!(frame.is_empty());
        let mut input = BytesMut::from(&(u32::try_from(MAX_FRAME).unwrap() + 1).to_be_bytes()[..]);
        assert!(matches!(decode::<FromSrt>(&mut input), Err(WireError::Length(_))));
    }

    proptest! {
        #[test]
        fn garbage_is_a_message_or_refused(kind in 0u8..12, rest in proptest::collection::vec(any::<u8>(), 0..100)) {
            let header = [&[kind][..], &rest].concat();
            let mut frame = BytesMut::new();
            frame.put_u32(2 + header.len() as u32);
            frame.put_u16(header.len() as u16);
            frame.put_slice(&header);
            let _ = decode::<FromSrt>(&mut frame.clone());
            let _ = decode::<ToSrt>(&mut frame);
        }
    }
}
