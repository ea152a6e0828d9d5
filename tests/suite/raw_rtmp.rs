//! An RTMP publisher with full control over its chunk headers: it can do what no encoder does.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Message types (Adobe RTMP 1.0, section 5.4 and 7.1).
pub const SET_CHUNK_SIZE: u8 = 1;
pub const WINDOW_ACK_SIZE: u8 = 5;
pub const AUDIO: u8 = 8;
pub const VIDEO: u8 = 9;
pub const DATA: u8 = 18;
pub const COMMAND: u8 = 20;

/// The decoder configurations, as message bodies.
pub const VIDEO_CONFIG: &[u8] = b"\x17\x00\x00\x00\x00\x01\x64\x00\x1f\xff\xe1\x00\x04\x67\x64\x00\x1f\x01\x00\x02\x68\xee";
pub const AUDIO_CONFIG: &[u8] = b"\xaf\x00\x11\x90";

/// A legacy AVC message with `n` bytes of media.
pub fn video(n: usize, key: bool) -> Vec<u8> {
    let mut body = vec![if key { 0x17 } else { 0x27 }, 1, 0, 0, 0];
    body.resize(5 + n, 0);
    body
}

/// A legacy AAC message with `n` bytes of media.
pub fn audio(n: usize) -> Vec<u8> {
    let mut body = vec![0xaf, 1];
    body.resize(2 + n, 0);
    body
}

pub fn string(s: &str) -> Vec<u8> {
    [&[2], &u16::try_from(s.len()).unwrap().to_be_bytes()[..], s.as_bytes()].concat()
}

pub fn number(n: f64) -> Vec<u8> {
    [&[0][..], &n.to_be_bytes()].concat()
}

pub const NULL: &[u8] = &[5];

pub fn object(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![3];
    for (name, value) in pairs {
        out.extend(&string(name)[1..]);
        out.extend(value);
    }
    out.extend([0, 0, 9]);
    out
}

/// Writes messages as chunks. `time` of a message is absolute in format 0 and a delta in formats 1 and 2; format 3 has none.
#[derive(Clone)]
pub struct Chunker {
    pub size: usize,
}

impl Default for Chunker {
    fn default() -> Self {
        Self { size: 128 }
    }
}

impl Chunker {
    fn basic(format: u8, csid: u32) -> Vec<u8> {
        let top = format << 6;
        match csid {
            0..64 => vec![top | u8::try_from(csid).unwrap()],
            64..320 => vec![top, u8::try_from(csid - 64).unwrap()],
            _ => [&[top | 1], &u16::try_from(csid - 64).unwrap().to_le_bytes()[..]].concat(),
        }
    }

    /// The header of a message's first chunk, claiming `length` bytes.
    pub fn header(format: u8, csid: u32, time: u32, length: usize, kind: u8) -> Vec<u8> {
        let mut out = Self::basic(format, csid);
        if format <= 2 {
            out.extend(&time.min(0xff_ffff).to_be_bytes()[1..]);
        }
        if format <= 1 {
            out.extend(&u32::try_from(length).unwrap().to_be_bytes()[1..]);
            out.push(kind);
        }
        if format == 0 {
            // Commands of the connection belong to message stream 0, all else here to 1.
            out.extend(u32::from(csid > 2 && !(kind == COMMAND && csid == 3)).to_le_bytes());
        }
        if format <= 2 && time >= 0xff_ffff {
            out.extend(time.to_be_bytes());
        }
        out
    }

    /// All chunks of one message, each by itself.
    pub fn chunks(&self, format: u8, csid: u32, time: u32, kind: u8, body: &[u8]) -> Vec<Vec<u8>> {
        let mut parts = body.chunks(self.size);
        let mut first = Self::header(format, csid, time, body.len(), kind);
        first.extend(parts.next().unwrap_or_default());
        let mut out = vec![first];
        for part in parts {
            let mut chunk = Self::basic(3, csid);
            if format <= 2 && time >= 0xff_ffff {
                chunk.extend(time.to_be_bytes());
            }
            chunk.extend(part);
            out.push(chunk);
        }
        out
    }

    /// One message as bytes.
    pub fn message(&self, format: u8, csid: u32, time: u32, kind: u8, body: &[u8]) -> Vec<u8> {
        self.chunks(format, csid, time, kind, body).concat()
    }

    pub fn set_size(&mut self, size: usize) -> Vec<u8> {
        let bytes = self.message(0, 2, 0, SET_CHUNK_SIZE, &u32::try_from(size).unwrap().to_be_bytes());
        self.size = size;
        bytes
    }

    /// A command: on chunk stream 3 for the connection, on 8 for the message stream.
    pub fn command(&self, csid: u32, parts: &[&[u8]]) -> Vec<u8> {
        self.message(0, csid, 0, COMMAND, &parts.concat())
    }

    pub fn connect(&self, app: &str) -> Vec<u8> {
        let about = object(&[
            ("app", string(app)),
            ("type", string("nonprivate")),
            ("flashVer", string("FMLE/3.0 (compatible; raw)")),
            ("tcUrl", string(&format!("rtmp://127.0.0.1/{app}"))),
        ]);
        self.command(3, &[&string("connect"), &number(1.0), &about])
    }

    /// `connect` of an encoder that knows Enhanced RTMP v2, with these extended capabilities.
    pub fn connect_enhanced(&self, app: &str, caps: f64) -> Vec<u8> {
        let codecs = [&b"\x0a\x00\x00\x00\x02"[..], &string("avc1"), &string("hvc1")].concat();
        let about = object(&[
            ("app", string(app)),
            ("tcUrl", string(&format!("rtmp://127.0.0.1/{app}"))),
            ("fourCcList", codecs),
            ("capsEx", number(caps)),
        ]);
        self.command(3, &[&string("connect"), &number(1.0), &about])
    }

    /// What OBS and ffmpeg send to begin, without waiting for the answers.
    pub fn publish(&self, key: &str) -> Vec<u8> {
        let key = string(key);
        [
            self.command(3, &[&string("releaseStream"), &number(2.0), NULL, &key]),
            self.command(3, &[&string("FCPublish"), &number(3.0), NULL, &key]),
            self.command(3, &[&string("createStream"), &number(4.0), NULL]),
            self.command(3, &[&string("_checkbw"), &number(5.0), NULL]),
            self.command(8, &[&string("publish"), &number(6.0), NULL, &key, &string("live")]),
        ]
        .concat()
    }

    /// What they send to end.
    pub fn goodbye(&self, key: &str) -> Vec<u8> {
        [
            self.command(3, &[&string("FCUnpublish"), &number(7.0), NULL, &string(key)]),
            self.command(3, &[&string("deleteStream"), &number(8.0), NULL, &number(1.0)]),
        ]
        .concat()
    }
}

/// C0 and C1; the random part need not be random.
pub fn hello() -> Vec<u8> {
    let mut bytes = vec![3];
    bytes.resize(1537, 0);
    bytes
}

/// A whole session that waits for no answer: the server may find `publish` and media in one read.
pub fn session(chunk_size: usize, key: &str, media: &[Vec<u8>]) -> Vec<u8> {
    let mut to = Chunker::default();
    let mut bytes = hello();
    bytes.extend([0; 1536]);
    bytes.extend(to.set_size(chunk_size));
    bytes.extend(to.connect("live"));
    bytes.extend(to.publish(key));
    for (i, body) in media.iter().enumerate() {
        bytes.extend(to.message(0, 6, 40 * u32::try_from(i).unwrap(), body_kind(body), body));
    }
    bytes
}

fn body_kind(body: &[u8]) -> u8 {
    if body.first() == Some(&0xaf) { AUDIO } else { VIDEO }
}

/// A publisher on some byte stream. What the server said so far is kept.
pub struct Publisher<S> {
    pub io: S,
    pub to: Chunker,
    pub heard: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Publisher<S> {
    pub fn new(io: S) -> Self {
        Self { io, to: Chunker::default(), heard: Vec::new() }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.expect("the server takes bytes");
        // TLS may keep some back.
        self.io.flush().await.expect("the server takes bytes");
    }

    pub async fn message(&mut self, format: u8, csid: u32, time: u32, kind: u8, body: &[u8]) {
        let bytes = self.to.message(format, csid, time, kind, body);
        self.send(&bytes).await;
    }

    pub async fn set_chunk_size(&mut self, size: usize) {
        let bytes = self.to.set_size(size);
        self.send(&bytes).await;
    }

    pub async fn handshake(&mut self) {
        self.send(&hello()).await;
        let mut answer = vec![0; 3073];
        self.io.read_exact(&mut answer).await.expect("S0, S1 and S2");
        self.send(&answer[1..1537]).await;
    }

    /// Handshake, chunk size, `connect`, waiting for its success.
    pub async fn connect(&mut self, app: &str) {
        self.handshake().await;
        self.set_chunk_size(4096).await;
        self.send(&self.to.connect(app)).await;
        self.until("NetConnection.Connect.Success").await;
    }

    /// The same as an encoder that knows Enhanced RTMP v2.
    pub async fn connect_enhanced(&mut self, app: &str, caps: f64) {
        self.handshake().await;
        self.set_chunk_size(4096).await;
        self.send(&self.to.connect_enhanced(app, caps)).await;
        self.until("NetConnection.Connect.Success").await;
    }

    /// Reads until the server has said this.
    pub async fn until(&mut self, text: &str) {
        self.until_any(&[text]).await;
    }

    /// The same with one of these.
    pub async fn until_any(&mut self, texts: &[&str]) {
        while !texts.iter().any(|text| self.has_heard(text)) {
            let mut buffer = [0; 4096];
            match self.io.read(&mut buffer).await {
                Ok(n @ 1..) => self.heard.extend(&buffer[..n]),
                other => panic!("{other:?} before {texts:?}, heard {:?}", String::from_utf8_lossy(&self.heard)),
            }
        }
    }

    pub fn has_heard(&self, text: &str) -> bool {
        self.heard.windows(text.len()).any(|w| w == text.as_bytes())
    }

    /// Reads until the server closes; a reset is an error.
    pub async fn until_closed(&mut self) -> std::io::Result<()> {
        self.io.read_to_end(&mut self.heard).await.map(drop)
    }
}
