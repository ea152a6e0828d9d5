//! One connection: drives rtmp-runtime's `ServerSession` over any byte stream. Knows messages and deadlines, not sockets or places.
//!
//! The order matters in one point: events are looked at *before* the reply made with them is written. The reply to `publish` holds
//! `NetStream.Publish.Start`, and a refused publisher must never see that. An error takes with it the events of its read, at most 16 KiB
//! of media before what was broken.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use rtmp_runtime::RtmpError;
use rtmp_runtime::amf0::{Amf0Value, Command};
use rtmp_runtime::chunk::{ChunkWriter, Message};
use rtmp_runtime::handshake::{HANDSHAKE_PACKET_LEN, RTMP_VERSION};
use rtmp_runtime::message::{ProtocolControl, msg_type};
use rtmp_runtime::server::{ServerConfig, ServerEvent, ServerSession};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use super::connect::Connect;
use super::error::{APP, Deadline, Error};
use super::limits::widen;
use super::{Server, connect, metadata};
use crate::ingest::auth::Name;
use crate::ingest::queue::Queue;
use crate::ingest::{Packet, Protocol, Refusal, Request, Verdict, flv, proxy, tls};

/// Bytes per read: 16 ms of 8 Mbit/s, and one TLS record.
const READ: usize = 16 << 10;

/// Chunk size of what we write; the one that `ServerConfig` announces by default.
pub(super) const CHUNK_SIZE: u32 = 4096;

/// C0, C1 and C2 (RTMP 1.0, section 5.2).
const HANDSHAKE: usize = 1 + 2 * HANDSHAKE_PACKET_LEN;

/// How a connection ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The publisher said FCUnpublish or deleteStream.
    Unpublished,
    /// Closed before `publish`, after at least one byte.
    Left,
    /// Closed without a byte, as health probes do.
    Probed,
}

/// Runs the connection until it ends, then tells the publisher why if there is something to tell.
pub(super) async fn run<S>(server: &Server, io: S, peer: SocketAddr, protocol: Protocol) -> Result<End, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config =
        ServerConfig::default().with_chunk_size(CHUNK_SIZE).with_max_in_progress_bytes(server.limits.max_in_progress());
    let connect = Connect::new(server.limits.bytes_before_publish);
    let (rtmp, buffer) = (ServerSession::new(config), vec![0; READ]);
    let mut session =
        Session { server, io, peer, protocol, rtmp, buffer, connect, stream: None, pictures: flv::Pictures::default() };
    let outcome = session.drive().await;
    let told = match (&outcome, session.stream) {
        (Ok(End::Unpublished), _) => {
            session.see_off().await;
            false
        }
        (Err(error), Some(stream)) => match error.refusal() {
            Some(refusal) => session.tell(stream, &refusal).await,
            None => false,
        },
        _ => false,
    };
    if told {
        session.goodbye().await;
    }
    outcome
}

struct Session<'a, S> {
    server: &'a Server,
    io: S,
    peer: SocketAddr,
    protocol: Protocol,
    rtmp: ServerSession,
    buffer: Vec<u8>,
    /// What the publisher said of himself in `connect`.
    connect: Connect,
    /// The message stream of `publish`, once it has been asked for.
    stream: Option<u32>,
    pictures: flv::Pictures,
}

/// What came with `publish` in one read.
struct Accepted {
    queue: Queue,
    /// Events behind it, media among them.
    rest: std::vec::IntoIter<ServerEvent>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<'_, S> {
    async fn drive(&mut self) -> Result<End, Error> {
        let Accepted { queue, rest } = match self.set_up().await {
            Ok(Ok(accepted)) => accepted,
            Ok(Err(end)) => return Ok(end),
            // A reset is how many strangers leave.
            Err(Error::Io(_)) => return Ok(End::Left),
            Err(error) => return Err(error),
        };
        let _publishing = self.server.stats.published();
        self.publish(queue, rest).await
    }

    /// Everything up to an accepted `publish`.
    async fn set_up(&mut self) -> Result<Result<Accepted, End>, Error> {
        let deadline = Instant::now() + self.server.limits.setup();
        let limit = self.server.limits.bytes_before_publish;
        let limit_bytes = widen(limit);
        let mut seen = 0;
        loop {
            if seen >= limit_bytes {
                return Err(Error::NoPublish { limit });
            }
            // The handshake by itself: its reply must not share the fate of the reply to a refused `publish`.
            let most = if seen < HANDSHAKE { HANDSHAKE } else { limit_bytes } - seen;
            let n = self.read(most, deadline, Deadline::Setup).await?;
            if n == 0 {
                return Ok(Err(if seen == 0 { End::Probed } else { End::Left }));
            }
            // The session would wait for all of C1 before it looks; HTTP and TLS need not keep a place that long.
            if seen == 0 && self.buffer[0] != RTMP_VERSION {
                return Err(stranger(&self.buffer[..n]));
            }
            // Handshake and messages never share a read.
            if seen >= HANDSHAKE {
                self.connect.hear(&self.buffer[..n]);
            }
            seen += n;
            let (mut reply, events) = self.rtmp.handle_data(&self.buffer[..n])?;
            if events.iter().any(|event| matches!(event, ServerEvent::Connected { .. })) && self.connect.is_enhanced() {
                reply = connect::answer(reply, &self.server.codecs);
            }
            let mut events = events.into_iter();
            while let Some(event) = events.next() {
                match event {
                    ServerEvent::Publish { app, stream_key, stream_id } => {
                        self.stream = Some(stream_id);
                        let queue = self.ask(app, &stream_key).await?;
                        if self.connect.can_reconnect() {
                            queue.line().can_move();
                        }
                        // Before the media behind it: they may have to wait for the worker.
                        self.write(&reply).await?;
                        return Ok(Ok(Accepted { queue, rest: events }));
                    }
                    ServerEvent::Eof => return Ok(Err(End::Left)),
                    _ => {}
                }
            }
            self.write(&reply).await?;
        }
    }

    /// Asks the worker about one publisher.
    async fn ask(&self, mut app: String, stream_key: &str) -> Result<Queue, Error> {
        // OBS keeps a slash that the streamer typed behind the application.
        app.truncate(app.trim_end_matches('/').len());
        if app != APP {
            return Err(Error::WrongApp { app: app.chars().take(40).collect() });
        }
        let Name { key, token, signed } = Name::parse(stream_key)?;
        if key.expose().is_empty() {
            return Err(Error::NoKey);
        }
        if self.server.shutdown.is_cancelled() {
            return Err(Error::ShuttingDown);
        }
        let (verdict, answer) = oneshot::channel();
        let request = Request { protocol: self.protocol, peer: self.peer, app, key, token, signed, verdict };
        let asked = async {
            self.server.requests.send(request).await.map_err(|_| Error::ShuttingDown)?;
            answer.await.map_err(|_| Error::ShuttingDown)
        };
        match timeout(self.server.limits.verdict(), asked).await {
            Err(_) => Err(Error::Deadline(Deadline::Verdict)),
            Ok(Err(error)) => Err(error),
            Ok(Ok(Verdict::Refuse(refusal))) => Err(Error::Refused(refusal)),
            Ok(Ok(Verdict::Accept(sender, line))) => Ok(Queue::new(sender, line, self.server.limits.queued_bytes)),
        }
    }

    /// Everything after it.
    async fn publish(&mut self, mut queue: Queue, mut events: std::vec::IntoIter<ServerEvent>) -> Result<End, Error> {
        let mut idle = Instant::now() + self.server.limits.idle();
        let line = Arc::clone(queue.line());
        let mut asked = false;
        loop {
            let mut media = false;
            for event in events {
                match event {
                    ServerEvent::Media { flv } => {
                        media = true;
                        if let Some(packet) = self.packet(flv)? {
                            queue.send(packet).await?;
                        }
                    }
                    ServerEvent::Eof => {
                        queue.send(Packet::Unpublish).await?;
                        return Ok(End::Unpublished);
                    }
                    // A second connect resets the session's state, and a second publish may follow it.
                    ServerEvent::Connected { .. } | ServerEvent::Publish { .. } => return Err(Error::SecondStream),
                    _ => {}
                }
            }
            // Set after the waiting above: time in which the worker made us wait is not the publisher's silence.
            if media {
                idle = Instant::now() + self.server.limits.idle();
            }
            let n = loop {
                let to = tokio::select! {
                    () = queue.closed() => return Err(queue.left().into()),
                    read = self.read(READ, idle, Deadline::Idle) => break read?,
                    to = line.asked_to_move(), if !asked => to,
                };
                // He goes on here until he is ready: the next key frame as a rule.
                asked = true;
                let request = connect::reconnect_request(to.as_deref())?;
                self.write(&request).await?;
            };
            queue.count_bytes(n);
            if n == 0 {
                return Err(Error::Cut);
            }
            let (reply, next) = self.rtmp.handle_data(&self.buffer[..n]).map_err(|error| match error {
                // While publishing only createStream and publish are out of order.
                RtmpError::UnexpectedState { .. } => Error::SecondStream,
                other => Error::Protocol(other),
            })?;
            self.write(&reply).await?;
            events = next.into_iter();
        }
    }

    /// One media message as a packet; `None` for what holds no media.
    fn packet(&mut self, flv: Vec<u8>) -> Result<Option<Packet>, Error> {
        let Some(Tag { kind, time, body }) = tag(flv) else { return Ok(None) };
        let limit = self.server.limits.message_bytes;
        if body.len() > widen(limit) {
            return Err(Error::TooLong { time, bytes: body.len(), limit });
        }
        let named = |source| match source {
            flv::Error::Unsupported { .. } => Error::Codec(source),
            source => Error::Media { time, source },
        };
        Ok(match kind {
            msg_type::VIDEO => self.pictures.packet(flv::video(&body).map_err(named)?, time),
            msg_type::AUDIO => match flv::audio(&body).map_err(named)? {
                flv::Audio::Config(config) => Some(Packet::AudioConfig(config)),
                flv::Audio::Frame(data) => Some(Packet::Audio { time, data }),
                flv::Audio::Nothing => None,
            },
            msg_type::DATA_AMF0 => metadata::parse(time, &body),
            _ => None,
        })
    }

    /// Reads at most `most` bytes (and [`READ`]); 0 is the end. Safe to cancel.
    async fn read(&mut self, most: usize, until: Instant, deadline: Deadline) -> Result<usize, Error> {
        let most = most.min(self.buffer.len());
        let read = self.io.read(&mut self.buffer[..most]);
        let n = match timeout_at(until, read).await.map_err(|_| Error::Deadline(deadline))? {
            // Closed without TLS's own goodbye (RFC 8446, 6.1). RTMP has one: without it either end is a cut.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => 0,
            read => read?,
        };
        self.server.stats.count_bytes(n);
        Ok(n)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        let write = async {
            self.io.write_all(bytes).await?;
            self.io.flush().await
        };
        timeout(self.server.limits.write(), write).await.map_err(|_| Error::Deadline(Deadline::Write))??;
        Ok(())
    }

    /// Sends a refusal; `false` if it could not leave.
    async fn tell(&mut self, stream: u32, refusal: &Refusal) -> bool {
        match status(stream, refusal) {
            Ok(bytes) => self.write(&bytes).await.is_ok(),
            Err(_) => false,
        }
    }

    /// Lets the publisher close first, who has said that he stops. GStreamer's rtmp2sink takes it for a failure if we do while it is still saying so.
    async fn see_off(&mut self) {
        let until = Instant::now() + self.server.limits.goodbye();
        while let Ok(Ok(1..)) = timeout_at(until, self.io.read(&mut self.buffer)).await {}
        // At the least TLS's goodbye, and what is still on its way; whoever has closed does not mind.
        let _ = timeout(self.server.limits.write(), self.io.shutdown()).await;
    }

    /// Ends our direction and waits until the publisher has closed his, so that our last words are read before a reset could take them.
    async fn goodbye(&mut self) {
        let until = Instant::now() + self.server.limits.goodbye();
        if !matches!(timeout_at(until, self.io.shutdown()).await, Ok(Ok(()))) {
            return;
        }
        while let Ok(Ok(1..)) = timeout_at(until, self.io.read(&mut self.buffer)).await {}
    }
}

/// An FLV tag: message type, RTMP time, message body.
struct Tag {
    kind: u8,
    time: u32,
    body: Bytes,
}

/// Takes apart what rtmp-runtime made of a message: an FLV file header before the first one, a tag header of 11 bytes, the body and the
/// tag's size (Adobe FLV 10.1, annex E.2 to E.4.1). `None` if it is not that.
fn tag(flv: Vec<u8>) -> Option<Tag> {
    let mut bytes = Bytes::from(flv);
    if bytes.starts_with(b"FLV") {
        bytes = bytes.slice(13.min(bytes.len())..);
    }
    let &[kind, _, _, _, t2, t1, t0, t3, ..] = bytes.as_ref() else { return None };
    let end = bytes.len().checked_sub(4).filter(|&end| end >= 11)?;
    Some(Tag { kind, time: u32::from_be_bytes([t3, t2, t1, t0]), body: bytes.slice(11..end) })
}

/// The same, for who feeds it strange bytes: message type, time, body.
#[cfg(any(test, fuzzing))]
pub(crate) fn tag_body(flv: Vec<u8>) -> Option<(u8, u32, Bytes)> {
    tag(flv).map(|tag| (tag.kind, tag.time, tag.body))
}

/// Who does not begin with C0, by what he begins with.
fn stranger(bytes: &[u8]) -> Error {
    match (proxy::begins(bytes), bytes) {
        (Some(error), _) => Error::Proxy(error),
        (None, [tls::HANDSHAKE_RECORD, ..]) => Error::UnaskedTls,
        _ => Error::Protocol(RtmpError::Malformed { what: "version in C0" }),
    }
}

/// `onStatus` with level error (RTMP 1.0, section 7.2.2) by a writer of its own: it begins with a full header and needs no state of the
/// session's. The chunk size goes before it, because the reply that announced one may have been withheld.
fn status(stream: u32, refusal: &Refusal) -> Result<Vec<u8>, RtmpError> {
    let text = |s: &str| Amf0Value::String(s.to_owned());
    let information = vec![
        ("level".to_owned(), text("error")),
        ("code".to_owned(), text(refusal.code)),
        ("description".to_owned(), text(&refusal.reason)),
    ];
    let command = Command {
        name: "onStatus".to_owned(),
        transaction_id: 0.0,
        arguments: vec![Amf0Value::Null, Amf0Value::Object(information)],
    };
    let mut writer = ChunkWriter::new();
    let mut bytes = writer.write(&ProtocolControl::SetChunkSize(CHUNK_SIZE).try_to_message()?)?;
    writer.set_chunk_size(CHUNK_SIZE);
    bytes.extend(writer.write(&Message {
        chunk_stream_id: 5,
        timestamp: 0,
        message_type_id: msg_type::COMMAND_AMF0,
        message_stream_id: stream,
        payload: command.to_body()?,
    })?);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_behind_a_file_header_and_broken_ones_are_none() {
        let plain = b"\x09\x00\x00\x02\x00\x00\x28\x01\x00\x00\x00ab\x00\x00\x00\x0d";
        let first = [&b"FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00"[..], plain].concat();
        for flv in [plain.to_vec(), first] {
            let tag = tag(flv).unwrap();
            assert_eq!((tag.kind, tag.time, tag.body.as_ref()), (9, 0x0100_0028, &b"ab"[..]));
        }
        for cut in 0..15 {
            assert!(tag(plain[..cut].to_vec()).is_none(), "{cut}");
        }
        assert!(tag(b"FLV".to_vec()).is_none());
    }
}
