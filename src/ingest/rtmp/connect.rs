//! What Enhanced RTMP v2 adds to `connect` ("Enhancing NetConnection connect Command", "Reconnect Request"). Pure.
//!
//! rtmp-runtime answers `connect` as RTMP 1.0 has it and does not hand its arguments on. So the bytes are listened to on their way in,
//! until `connect` was heard, and the answer is complemented on its way out, for encoders that asked in these terms only.

use rtmp_runtime::RtmpError;
use rtmp_runtime::amf0::{Amf0Value, Command};
use rtmp_runtime::chunk::{ChunkAssembler, ChunkWriter, Message};
use rtmp_runtime::message::{ProtocolControl, msg_type};

use super::limits::widen;
use super::session::CHUNK_SIZE;
use crate::logic::model::Coding;

/// CapsExMask: moves when it is asked to.
const RECONNECT: u32 = 0x01;

/// CapsExMask: reads ModEx prefixes.
const MOD_EX: u32 = 0x04;

/// FourCcInfoMask: decodes, and forwards.
const CAN_DECODE: u8 = 0x01;
const CAN_FORWARD: u8 = 0x04;

/// Codecs that are announced, by their FourCC, with what is done with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Codecs {
    /// `avc1`, `hvc1`, `av01`.
    pub video: Vec<(&'static str, u8)>,
    /// `mp4a`.
    pub audio: Vec<(&'static str, u8)>,
}

impl Codecs {
    const FULL: u8 = CAN_DECODE | CAN_FORWARD;

    /// Codings that are decoded, so that rungs are made of them, or forwarded, so that viewers can have them as they are; and AAC.
    pub fn of(decoded: impl Fn(Coding) -> bool, forwarded: impl Fn(Coding) -> bool) -> Self {
        let mask = |coding| (u8::from(decoded(coding)) * CAN_DECODE) | (u8::from(forwarded(coding)) * CAN_FORWARD);
        let all = [(Coding::H264, "avc1"), (Coding::Hevc, "hvc1"), (Coding::Av1, "av01")];
        let video = all.map(|(coding, name)| (name, mask(coding))).into_iter().filter(|(_, mask)| *mask != 0).collect();
        Self { video, ..Self::default() }
    }
}

impl Default for Codecs {
    /// H.264 and AAC.
    fn default() -> Self {
        Self { video: vec![("avc1", Self::FULL)], audio: vec![("mp4a", Self::FULL)] }
    }
}

/// Listens for `connect`.
#[derive(Debug)]
pub(super) struct Connect {
    /// Gone when `connect` was heard, or something that cannot be read. Whether that is an error is the session's to say.
    listening: Option<ChunkAssembler>,
    enhanced: bool,
    caps: u32,
}

impl Connect {
    /// Keeps no more than this of messages that are not complete.
    pub(super) fn new(most: u32) -> Self {
        let assembler = ChunkAssembler::new().with_max_in_progress_bytes(widen(most));
        Self { listening: Some(assembler), enhanced: false, caps: 0 }
    }

    /// Bytes behind the handshake, as they come.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        // One by one: the assembler takes a whole batch apart by one chunk size, and encoders change it right before `connect`.
        for byte in bytes {
            let Some(assembler) = &mut self.listening else { return };
            match assembler.push(std::slice::from_ref(byte)) {
                Ok(messages) => messages.iter().for_each(|message| self.message(message)),
                Err(_) => self.listening = None,
            }
        }
    }

    fn message(&mut self, message: &Message) {
        if let Ok(Some(ProtocolControl::SetChunkSize(size))) = ProtocolControl::from_message(message) {
            self.listening.iter_mut().for_each(|assembler| assembler.set_chunk_size(size));
            return;
        }
        let body = match message.message_type_id {
            msg_type::COMMAND_AMF0 => &message.payload[..],
            // A format byte, then AMF0 all the same.
            msg_type::COMMAND_AMF3 => message.payload.get(1..).unwrap_or_default(),
            _ => return,
        };
        self.listening = None;
        // Whatever the first command is, a `connect` behind it is not heard any more: nobody sends it second.
        let Ok(Command { name, arguments, .. }) = Command::parse(body) else { return };
        let (true, Some(Amf0Value::Object(pairs))) = (name == "connect", arguments.first()) else { return };
        for (name, value) in pairs {
            match (name.as_str(), value) {
                ("capsEx", Amf0Value::Number(caps)) => {
                    self.enhanced = true;
                    self.caps = flags(*caps);
                }
                ("fourCcList" | "videoFourCcInfoMap" | "audioFourCcInfoMap", _) => self.enhanced = true,
                _ => {}
            }
        }
    }

    /// Whether the encoder spoke of any of this.
    pub(super) fn is_enhanced(&self) -> bool {
        self.enhanced
    }

    /// Whether it moves when it is asked to.
    pub(super) fn can_reconnect(&self) -> bool {
        self.caps & RECONNECT != 0
    }
}

/// A number of AMF as flags; what is no whole number of 32 bits has none.
fn flags(number: f64) -> u32 {
    // Saturates, and NaN is 0: compared with what it came from, nothing else is taken.
    let whole = number as u32;
    if f64::from(whole) == number { whole } else { 0 }
}

/// The answer to `connect` with what is taken here. What cannot be read goes as it is.
pub(super) fn answer(reply: Vec<u8>, codecs: &Codecs) -> Vec<u8> {
    complemented(&reply, codecs).unwrap_or(reply)
}

fn complemented(reply: &[u8], codecs: &Codecs) -> Option<Vec<u8>> {
    // Control messages before the new chunk size are shorter than the old one: it makes no difference to them.
    let messages = ChunkAssembler::new().with_chunk_size(CHUNK_SIZE).push(reply).ok()?;
    let mut writer = ChunkWriter::new();
    writer.set_chunk_size(CHUNK_SIZE);
    let mut out = Vec::new();
    for mut message in messages {
        if let Some(body) = success(&message).and_then(|mut success| {
            let Some(Amf0Value::Object(properties)) = success.arguments.first_mut() else { return None };
            properties.extend(announced(codecs));
            success.to_body().ok()
        }) {
            message.payload = body;
        }
        out.extend(writer.write(&message).ok()?);
    }
    Some(out)
}

/// The command, if it is the success of `connect`.
fn success(message: &Message) -> Option<Command> {
    let command = (message.message_type_id == msg_type::COMMAND_AMF0).then(|| Command::parse(&message.payload).ok())??;
    let Some(Amf0Value::Object(information)) = command.arguments.get(1) else { return None };
    let succeeded = information.iter().any(|(name, value)| {
        name == "code" && matches!(value, Amf0Value::String(code) if code == "NetConnection.Connect.Success")
    });
    (command.name == "_result" && succeeded).then_some(command)
}

fn announced(codecs: &Codecs) -> Vec<(String, Amf0Value)> {
    let all = codecs.video.iter().chain(&codecs.audio);
    let list = all.map(|(name, _)| Amf0Value::String((*name).to_owned())).collect();
    let map = |codecs: &[(&str, u8)]| {
        Amf0Value::Object(codecs.iter().map(|(name, can)| ((*name).to_owned(), Amf0Value::Number(f64::from(*can)))).collect())
    };
    vec![
        ("fourCcList".to_owned(), Amf0Value::StrictArray(list)),
        ("videoFourCcInfoMap".to_owned(), map(&codecs.video)),
        ("audioFourCcInfoMap".to_owned(), map(&codecs.audio)),
        ("capsEx".to_owned(), Amf0Value::Number(f64::from(RECONNECT | MOD_EX))),
    ]
}

/// Asks a publisher to connect again, to `to` or to where he is: `onStatus` of the connection, that is on message stream 0.
pub(super) fn reconnect_request(to: Option<&str>) -> Result<Vec<u8>, RtmpError> {
    let text = |s: &str| Amf0Value::String(s.to_owned());
    let mut information = vec![
        ("level".to_owned(), text("status")),
        ("code".to_owned(), text("NetConnection.Connect.ReconnectRequest")),
        ("description".to_owned(), text("The server is about to stop.")),
    ];
    information.extend(to.map(|to| ("tcUrl".to_owned(), text(to))));
    let command = Command {
        name: "onStatus".to_owned(),
        transaction_id: 0.0,
        arguments: vec![Amf0Value::Null, Amf0Value::Object(information)],
    };
    let mut writer = ChunkWriter::new();
    writer.set_chunk_size(CHUNK_SIZE);
    writer.write(&Message {
        chunk_stream_id: 3,
        timestamp: 0,
        message_type_id: msg_type::COMMAND_AMF0,
        message_stream_id: 0,
        payload: command.to_body()?,
    })
}

#[cfg(test)]
mod tests {
    use rtmp_runtime::chunk::ChunkAssembler;

    use super::*;

    fn connect(pairs: Vec<(&str, Amf0Value)>) -> Vec<u8> {
        let pairs = pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let command = Command { name: "connect".to_owned(), transaction_id: 1.0, arguments: vec![Amf0Value::Object(pairs)] };
        command.to_body().unwrap()
    }

    /// Chunk size, then this body as a command, cut by that size.
    fn bytes(size: u32, kind: u8, payload: Vec<u8>) -> Vec<u8> {
        let mut writer = ChunkWriter::new();
        let mut out = writer.write(&ProtocolControl::SetChunkSize(size).try_to_message().unwrap()).unwrap();
        writer.set_chunk_size(size);
        let message = Message { chunk_stream_id: 3, timestamp: 0, message_type_id: kind, message_stream_id: 0, payload };
        out.extend(writer.write(&message).unwrap());
        out
    }

    fn heard(bytes: &[u8]) -> (bool, bool) {
        let mut connect = Connect::new(64 << 10);
        connect.hear(bytes);
        (connect.is_enhanced(), connect.can_reconnect())
    }

    fn app() -> (&'static str, Amf0Value) {
        ("app", Amf0Value::String("live".to_owned()))
    }

    #[test]
    fn connect_is_heard_with_a_new_chunk_size_in_front_of_it() {
        let list = Amf0Value::StrictArray(["avc1", "hvc1"].map(|c| Amf0Value::String(c.to_owned())).into());
        let filler = || ("flashVer", Amf0Value::String("x".repeat(300)));
        for size in [1, 60, 128, 4096] {
            let plain = connect(vec![app(), filler()]);
            assert_eq!(heard(&bytes(size, msg_type::COMMAND_AMF0, plain)), (false, false), "{size}");
            let first = connect(vec![app(), filler(), ("fourCcList", list.clone())]);
            assert_eq!(heard(&bytes(size, msg_type::COMMAND_AMF0, first)), (true, false), "{size}");
            let second = connect(vec![app(), filler(), ("capsEx", Amf0Value::Number(7.0))]);
            assert_eq!(heard(&bytes(size, msg_type::COMMAND_AMF0, second.clone())), (true, true), "{size}");
            let amf3 = [&[0][..], &second].concat();
            assert_eq!(heard(&bytes(size, msg_type::COMMAND_AMF3, amf3)), (true, true), "{size}");
        }
    }

    #[test]
    fn only_whole_numbers_are_flags() {
        for (number, can) in [(1.0, true), (2.0, false), (3.0, true), (4_294_967_295.0, true)] {
            let body = connect(vec![app(), ("capsEx", Amf0Value::Number(number))]);
            assert_eq!(heard(&bytes(128, msg_type::COMMAND_AMF0, body)), (true, can), "{number}");
        }
        for number in [-1.0, 1.5, 4_294_967_297.0, f64::NAN, f64::INFINITY] {
            assert_eq!(flags(number), 0, "{number}");
        }
    }

    #[test]
    fn what_is_no_connect_ends_the_listening_and_nothing_else() {
        for bytes in [
            bytes(128, msg_type::COMMAND_AMF0, vec![0xff; 40]),
            bytes(128, msg_type::COMMAND_AMF3, Vec::new()),
            vec![0xff; 4000],
            vec![0x43; 10],
        ] {
            assert_eq!(heard(&bytes), (false, false));
        }
    }

    #[test]
    fn the_answer_says_what_is_taken_and_keeps_all_else() {
        let success = Command {
            name: "_result".to_owned(),
            transaction_id: 1.0,
            arguments: vec![
                Amf0Value::Object(vec![("fmsVer".to_owned(), Amf0Value::String("FMS".to_owned()))]),
                Amf0Value::Object(vec![("code".to_owned(), Amf0Value::String("NetConnection.Connect.Success".to_owned()))]),
            ],
        };
        let mut reply = ChunkWriter::new().write(&ProtocolControl::WindowAckSize(7).to_message()).unwrap();
        reply.extend(bytes(CHUNK_SIZE, msg_type::COMMAND_AMF0, success.to_body().unwrap()));
        let codecs = Codecs::of(|coding| coding != Coding::Av1, |coding| coding == Coding::H264);
        let messages = ChunkAssembler::new().with_chunk_size(CHUNK_SIZE).push(&answer(reply, &codecs)).unwrap();
        assert_eq!(messages.len(), 3);
        assert_eq!(ProtocolControl::from_message(&messages[0]).unwrap(), Some(ProtocolControl::WindowAckSize(7)));
        let Command { arguments, .. } = Command::parse(&messages[2].payload).unwrap();
        let text = |s: &str| Amf0Value::String(s.to_owned());
        let map = |pairs: &[(&str, f64)]| {
            Amf0Value::Object(pairs.iter().map(|(name, n)| ((*name).to_owned(), Amf0Value::Number(*n))).collect())
        };
        assert_eq!(
            arguments[0],
            Amf0Value::Object(vec![
                ("fmsVer".to_owned(), text("FMS")),
                ("fourCcList".to_owned(), Amf0Value::StrictArray(vec![text("avc1"), text("hvc1"), text("mp4a")])),
                ("videoFourCcInfoMap".to_owned(), map(&[("avc1", 5.0), ("hvc1", 1.0)])),
                ("audioFourCcInfoMap".to_owned(), map(&[("mp4a", 5.0)])),
                ("capsEx".to_owned(), Amf0Value::Number(5.0)),
            ])
        );
        assert_eq!(arguments[1], success.arguments[1]);
        assert_eq!(answer(b"no chunks".to_vec(), &codecs), b"no chunks");
    }

    #[test]
    fn a_reconnect_request_is_the_connections_and_names_the_server_if_it_is_another_one() {
        for to in [None, Some("rtmp://b.example/live")] {
            let messages = ChunkAssembler::new().with_chunk_size(CHUNK_SIZE).push(&reconnect_request(to).unwrap()).unwrap();
            assert_eq!(messages[0].message_stream_id, 0);
            let command = Command::parse(&messages[0].payload).unwrap();
            assert_eq!((command.name.as_str(), command.transaction_id), ("onStatus", 0.0));
            let Amf0Value::Object(information) = &command.arguments[1] else { panic!("{command:?}") };
            let said = |name: &str| information.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
            assert_eq!(said("level"), Some(Amf0Value::String("status".to_owned())));
            assert_eq!(said("code"), Some(Amf0Value::String("NetConnection.Connect.ReconnectRequest".to_owned())));
            assert_eq!(said("tcUrl"), to.map(|to| Amf0Value::String(to.to_owned())));
        }
    }
}
