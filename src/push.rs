//! `weir push`: the built-in test picture, published over RTMP as OBS would.
//!
//! `weir-codec --picture` draws and encodes; this reads its FLV and sends the tags. Knows nothing of what becomes of them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use rtmp_runtime::RtmpError;
use rtmp_runtime::amf0::{Amf0Value, Command as Amf0Command};
use rtmp_runtime::chunk::{ChunkWriter, Message};
use rtmp_runtime::client::{ClientConfig, ClientEvent, ClientSession};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::secret::Secret;

/// From the first packet to `NetStream.Publish.Start`. OBS gives up after a comparable time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// One write to the server: above any stall that a stream survives (the far end lets its receive buffer fill).
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// Chunk size, bytes: what OBS and ffmpeg use; few headers and no long messages in front of others.
const CHUNK_SIZE: u32 = 4096;

/// Chunk streams of our own messages; [`ClientSession`] has 2 to 5.
const METADATA_CHUNKS: u32 = 6;
const GOODBYE_CHUNKS: u32 = 7;

/// RTMP message types (Adobe's specification, 7.1): AMF0 data and AMF0 command.
const DATA: u8 = 18;
const COMMAND: u8 = 20;

/// Largest FLV tag that is taken from the codec process: a key frame of the largest test picture has less than 2 MiB.
const MAX_TAG: usize = 8 << 20;

/// What to push, where to, and by which program.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to.
    pub target: Target,
    /// The `weir-codec` program.
    pub codec: PathBuf,
    /// Width of the picture in luma samples, even, 128 to 4096.
    pub width: u32,
    /// Height likewise, 72 to 4096.
    pub height: u32,
    /// Frames per second, 1 to 120.
    pub fps: u32,
    /// Seconds from one key frame to the next.
    pub gop: f64,
    /// Video rate in kilobits per second, 50 to 50000.
    pub kbps: u32,
    /// Stop after so many seconds; `None`: never.
    pub seconds: Option<u64>,
}

impl Options {
    /// 1280x720 with 30 frames per second, a key frame every 2 s, 2500 kbit/s, without end.
    pub fn new(target: Target, codec: impl Into<PathBuf>) -> Self {
        Self { target, codec: codec.into(), width: 1280, height: 720, fps: 30, gop: 2.0, kbps: 2500, seconds: None }
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut arguments = vec![
            "--picture".into(),
            format!("--size={}x{}", self.width, self.height),
            format!("--fps={}", self.fps),
            format!("--gop={}", self.gop),
            format!("--kbps={}", self.kbps),
            format!("--parent={}", std::process::id()),
        ];
        arguments.extend(self.seconds.map(|s| format!("--seconds={s}")));
        arguments.into_iter().map(OsString::from).collect()
    }
}

/// `rtmp://host[:port]/app/key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Name or address, without brackets.
    pub host: String,
    /// 1935 unless the URL has one.
    pub port: u16,
    /// RTMP application.
    pub app: String,
    /// Stream key, with `?token=...` if the URL has one.
    pub key: Secret,
}

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`Error::Url`] with what is missing; never with the key.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let rest = url.strip_prefix("rtmp://").ok_or(Error::Url("it must begin with rtmp://"))?;
        let (authority, path) = rest.split_once('/').ok_or(Error::Url("it has no application and key"))?;
        let (app, key) = path.split_once('/').ok_or(Error::Url("it has no stream key"))?;
        let bracketed = authority.strip_prefix('[').and_then(|a| a.split_once(']'));
        let (host, port) = match bracketed {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => authority.rsplit_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Ok(1935), str::parse).map_err(|_| Error::Url("its port is no port"))?;
        if host.is_empty() || app.is_empty() || key.is_empty() {
            return Err(Error::Url("host, application and stream key must not be empty"));
        }
        Ok(Self { host: host.into(), port, app: app.into(), key: Secret::new(key) })
    }

    /// What the `connect` command calls `tcUrl`: everything but the key.
    fn tc_url(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("rtmp://{host}:{}/{}", self.port, self.app)
    }
}

/// Why a push ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is not of the form `rtmp://host[:port]/app/key`.
    #[error("not an RTMP URL: {0}")]
    Url(&'static str),
    /// `weir-codec` cannot be started.
    #[error("cannot start {program}: {cause}")]
    Start {
        /// The path that was tried.
        program: String,
        /// Why.
        cause: std::io::Error,
    },
    /// No connection.
    #[error("cannot connect to {host}:{port}: {cause}")]
    Connect {
        /// Host of the URL.
        host: String,
        /// Port of the URL.
        port: u16,
        /// Why.
        cause: std::io::Error,
    },
    /// The server said no.
    #[error("the server refused: {code} {description}")]
    Refused {
        /// NetStream or NetConnection status code.
        code: String,
        /// The server's words.
        description: String,
    },
    /// The server did not answer, or did not read, in time.
    #[error("the server does not {0}")]
    Silent(&'static str),
    /// The server ended the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The connection broke.
    #[error("connection: {0}")]
    Io(#[from] std::io::Error),
    /// The server's bytes are not RTMP.
    #[error("RTMP: {0}")]
    Rtmp(#[from] RtmpError),
    /// The codec process wrote something that is not FLV.
    #[error("weir-codec wrote no FLV: {0}")]
    Flv(&'static str),
    /// The codec process failed; its own words are on standard error.
    #[error("weir-codec ended with {0}")]
    Picture(ExitStatus),
}

/// Publishes until the picture's end, an error, or until the future is dropped (which ends the codec process too).
///
/// # Errors
/// See [`Error`]; every variant ends the push.
pub async fn run(options: Options) -> Result<(), Error> {
    let mut connection =
        timeout(CONNECT_TIMEOUT, Connection::publish(&options.target)).await.map_err(|_| Error::Silent("answer"))??;
    // Started only now: its clock begins to run at once.
    let mut child = start(&options)?;
    let mut flv = child.stdout.take().ok_or(Error::Flv("it has no output"))?;
    let mut tags = Tags::default();
    let mut from_server = vec![0; 4096];
    loop {
        tokio::select! {
            read = flv.read_buf(&mut tags.input) => {
                if read? == 0 {
                    break;
                }
                while let Some(tag) = tags.next()? {
                    connection.send(&tag).await?;
                }
            }
            read = connection.socket.read(&mut from_server) => {
                let count = read?;
                connection.heard(&from_server[..count]).await?;
            }
        }
    }
    connection.goodbye().await?;
    let status = child.wait().await?;
    if status.success() { Ok(()) } else { Err(Error::Picture(status)) }
}

fn start(options: &Options) -> Result<Child, Error> {
    let mut command = Command::new(&options.codec);
    command.args(options.arguments()).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    command.spawn().map_err(|cause| Error::Start { program: options.codec.display().to_string(), cause })
}

/// A connection that publishes.
struct Connection {
    socket: TcpStream,
    session: ClientSession,
    /// For messages that [`ClientSession`] has no words for. Chunk streams of their own, so that the two writers' headers do not mix.
    writer: ChunkWriter,
    stream_id: u32,
    key: Secret,
}

impl Connection {
    async fn publish(target: &Target) -> Result<Self, Error> {
        let connect = TcpStream::connect((target.host.as_str(), target.port)).await;
        let socket = connect.map_err(|cause| Error::Connect { host: target.host.clone(), port: target.port, cause })?;
        socket.set_nodelay(true)?;
        let mut config = ClientConfig::default();
        config.chunk_size = CHUNK_SIZE;
        config.app.clone_from(&target.app);
        config.stream_key = target.key.expose().into();
        config.tc_url = Some(target.tc_url());
        let mut writer = ChunkWriter::new();
        writer.set_chunk_size(CHUNK_SIZE);
        let session = ClientSession::new(config);
        let mut connection = Self { socket, session, writer, stream_id: 1, key: target.key.clone() };
        let hello = connection.session.start();
        connection.write(&hello).await?;
        let mut chunk = vec![0; 4096];
        while !connection.session.is_publishing() {
            let count = connection.socket.read(&mut chunk).await?;
            connection.heard(&chunk[..count]).await?;
        }
        Ok(connection)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let written = timeout(WRITE_TIMEOUT, self.socket.write_all(bytes)).await;
        Ok(written.map_err(|_| Error::Silent("read"))??)
    }

    /// Answers what the server sent; nothing means that it has closed.
    async fn heard(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() {
            return Err(Error::Closed);
        }
        let (reply, events) = self.session.handle_data(bytes)?;
        for event in events {
            match event {
                // An error without a code answers one of the courtesies before createStream (releaseStream, FCPublish), which need no answer.
                ClientEvent::Error { code, description } if !code.is_empty() => {
                    return Err(Error::Refused { code, description });
                }
                ClientEvent::StreamCreated { stream_id } => self.stream_id = stream_id,
                ClientEvent::Closed => return Err(Error::Closed),
                _ => {}
            }
        }
        if reply.is_empty() { Ok(()) } else { self.write(&reply).await }
    }

    async fn send(&mut self, tag: &Tag) -> Result<(), Error> {
        let bytes = match tag.kind {
            8 => self.session.send_audio(tag.time, &tag.body)?,
            9 => self.session.send_video(tag.time, &tag.body)?,
            // AMF0 string `@setDataFrame`, as every publisher puts it in front of onMetaData
            18 => self.own(METADATA_CHUNKS, DATA, self.stream_id, &[b"\x02\x00\x0d@setDataFrame", &tag.body[..]].concat())?,
            _ => return Ok(()),
        };
        self.write(&bytes).await
    }

    fn own(&mut self, chunks: u32, kind: u8, stream_id: u32, payload: &[u8]) -> Result<Vec<u8>, RtmpError> {
        self.writer.write(&Message {
            chunk_stream_id: chunks,
            timestamp: 0,
            message_type_id: kind,
            message_stream_id: stream_id,
            payload: payload.to_vec(),
        })
    }

    /// The commands by which OBS ends a stream, so that the server need not wait for it to come back.
    async fn goodbye(&mut self) -> Result<(), Error> {
        let key = Amf0Value::String(self.key.expose().into());
        let stream = Amf0Value::Number(f64::from(self.stream_id));
        let mut bytes = Vec::new();
        for (name, argument) in [("FCUnpublish", key), ("deleteStream", stream)] {
            let arguments = vec![Amf0Value::Null, argument];
            let body = Amf0Command { name: name.into(), transaction_id: 0.0, arguments }.to_body()?;
            bytes.extend(self.own(GOODBYE_CHUNKS, COMMAND, 0, &body)?);
        }
        self.write(&bytes).await?;
        Ok(self.socket.shutdown().await?)
    }
}

/// One FLV tag (Adobe's FLV specification 10.1, E.4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tag {
    /// 8 audio, 9 video, 18 script data.
    kind: u8,
    /// Milliseconds.
    time: u32,
    body: Bytes,
}

/// An FLV file that arrives in pieces.
#[derive(Debug, Default)]
struct Tags {
    input: BytesMut,
    begun: bool,
}

impl Tags {
    /// Takes the next whole tag; `None` when more bytes are needed.
    fn next(&mut self) -> Result<Option<Tag>, Error> {
        // File header and the first PreviousTagSize.
        const FILE_HEADER: usize = 9 + 4;
        const TAG_HEADER: usize = 11;
        if !self.begun {
            if self.input.len() < FILE_HEADER {
                return Ok(None);
            }
            if !self.input.starts_with(b"FLV\x01") {
                return Err(Error::Flv("it does not begin as FLV does"));
            }
            self.input.advance(FILE_HEADER);
            self.begun = true;
        }
        let Some(&[kind, s0, s1, s2, t0, t1, t2, t3, ..]) = self.input.first_chunk::<TAG_HEADER>() else { return Ok(None) };
        let size = u32::from_be_bytes([0, s0, s1, s2]) as usize;
        if size > MAX_TAG {
            return Err(Error::Flv("a tag is too large"));
        }
        if self.input.len() < TAG_HEADER + size + 4 {
            return Ok(None);
        }
        self.input.advance(TAG_HEADER);
        let body = self.input.split_to(size).freeze();
        self.input.advance(4);
        Ok(Some(Tag { kind: kind & 0x1f, time: u32::from_be_bytes([t3, t0, t1, t2]), body }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_and_the_key_stays_hidden() {
        let target = Target::parse("rtmp://live.example.org/app/key?token=x").unwrap();
        assert_eq!((target.host.as_str(), target.port, target.app.as_str()), ("live.example.org", 1935, "app"));
        assert_eq!(target.key.expose(), "key?token=x");
        assert!(!format!("{target:?}").contains("token"));
        assert_eq!(target.tc_url(), "rtmp://live.example.org:1935/app");
        let target = Target::parse("rtmp://[::1]:1936/app/key").unwrap();
        assert_eq!((target.host.as_str(), target.port), ("::1", 1936));
        assert_eq!(target.tc_url(), "rtmp://[::1]:1936/app");
        for bad in ["http://a/b/c", "rtmp://a", "rtmp://a/b", "rtmp://a/b/", "rtmp:///b/c", "rtmp://a:x/b/c"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_are_found_at_every_split_point() {
        let mut flv = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
        flv.extend([9, 0, 0, 3, 0x34, 0x56, 0x78, 0x12, 0, 0, 0, 1, 2, 3, 0, 0, 0, 14]);
        let expected = Tag { kind: 9, time: 0x1234_5678, body: Bytes::from_static(&[1, 2, 3]) };
        for at in 0..flv.len() {
            let mut tags = Tags::default();
            tags.input.extend_from_slice(&flv[..at]);
            assert_eq!(tags.next().unwrap(), None);
            tags.input.extend_from_slice(&flv[at..]);
            assert_eq!(tags.next().unwrap().as_ref(), Some(&expected));
            assert!(tags.input.is_empty());
        }
        let mut tags = Tags { input: BytesMut::from(&[0; 20][..]), begun: false };
        assert!(matches!(tags.next(), Err(Error::Flv(_))));
    }
}
