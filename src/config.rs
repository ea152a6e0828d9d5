//! One typed configuration: defaults < file < `WEIR_*` environment < flags. An unknown key is an error that names the nearest known one.

mod capacity;
mod report;
mod sources;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use capacity::{Admission, CapacitySettings, Limit};
pub use report::{AgonesSetting, ReportSettings};
pub use sources::{Setting, environment, load, merge};

use crate::ingest::auth::{BanSettings, WebhookSettings};
use crate::ingest::rtmp::Limits;
use crate::ingest::srt::SrtListener;
use crate::ingest::tls;
use crate::logic::encoder_choice::Wanted;
use crate::logic::ladder::Ladder;
use crate::logic::model::{Coding, Region, Replicate};
use crate::logic::pathway::{BadPathway, Pathway, Pathways};
use crate::logic::placement::ClassSetting;
use crate::logic::recipe::DEFAULT_LADDER;
use crate::logic::thumbnail;
use crate::logic::timeline::LongGop;
use crate::store::Endpoint;

/// Version of the configuration's form. A file of a later one is refused; settings that are only added do not change it.
pub const VERSION: u32 = 1;

/// Everything that can be set. Times are whole seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Version of this form, for files that are written by other programs. Default and only one: [`VERSION`].
    pub version: u32,
    /// RTMP listener. Default `127.0.0.1:1935`.
    pub rtmp: SocketAddr,
    /// RTMPS listener. Empty, the default: none.
    pub rtmps: String,
    /// Load balancers in front of both: whoever comes from these networks must begin with a PROXY header of version 2, and nobody else may.
    /// Default none.
    pub proxy_protocol_from: Vec<IpNet>,
    /// SRT listener (UDP). Default `127.0.0.1:8890`; empty: none. Where it is only the default, a worker on which SRT does not work runs without it.
    pub srt: String,
    /// Somebody wrote it down, and it is not the default alone.
    #[serde(skip)]
    pub srt_was_set: bool,
    /// Playback, probes, read-only facts. Default `127.0.0.1:8080`.
    pub http: SocketAddr,
    /// Control. Default `127.0.0.1:8081`.
    pub admin: SocketAddr,
    /// `folder:DIR` or `s3://BUCKET[/PREFIX]`. Default `folder:weir-store`.
    pub store: String,
    /// An S3 server that is not Amazon's. Empty: Amazon's.
    pub s3_endpoint: String,
    /// Ask it path-style (`HOST/BUCKET/KEY`), not by virtual hosts (`BUCKET.HOST/KEY`). Default yes.
    pub s3_path_style: bool,
    /// Run on a store that ignores conditional writes, although two workers could then write one playlist. Default no.
    pub unfenced_store: bool,
    /// `auto`, `nvidia`, `software`, `none`. Default `auto`.
    pub encoder: EncoderChoice,
    /// Name of a built-in ladder (`default`; `none` passes the source through and encodes nothing), or a file.
    pub ladder: String,
    /// Files of further ladders, which a key may ask for by the file's name without `.toml`. Default none.
    pub ladders: Vec<PathBuf>,
    /// File with hashed stream keys. Empty: none; then there must be signed keys, a webhook, or `open`.
    pub keys: String,
    /// `no`, `loopback` or `anywhere`: the stream key is the stream id. Default `no`.
    pub open: Open,
    /// Part of every key. Default `local`.
    pub region: Region,
    /// The address of a server that steers players between pathways. Empty: none.
    pub steering_url: String,
    /// Where players read the time (rules.md 14): an address that answers with an ISO 8601 date. Empty: the worker's own `/time`, or none where there are
    /// pathways.
    pub utc_timing_url: String,
    /// Which tracks' segments lie under a prefix that is copied to the other region: `all`, `top`, `none`. Default `all`.
    pub replicate: Replicate,
    /// Keep every segment for a recording. Default no.
    pub record: bool,
    /// This worker's name. Default: the host's.
    pub worker: String,
    /// Where caches lie (GStreamer's registry). Default `weir-state`.
    pub state_dir: PathBuf,
    /// Length of the live window. Default 30.
    pub window: u32,
    /// Target segment length. Default 2.
    pub segment_target: u32,
    /// What to do with a source whose key frames are far apart: `auto`, `reencode`, `refuse`, `long-segments`.
    pub long_gop: LongGop,
    /// Largest short side that is passed through. Default 1080.
    pub passthrough_short_side: u32,
    /// Highest rate that is passed through, kbit/s. Default 8000.
    pub passthrough_kbps: u32,
    /// The codings that are passed through: `h264`, `hevc`, `av1`. Default H.264 alone.
    pub passthrough_codecs: Vec<Coding>,
    /// A session ends so long after its publisher said goodbye. Default 60.
    pub reconnect_grace: u32,
    /// What viewers see while a publisher is away: `slate`, or `hold`, and their players wait. Default `slate`.
    pub on_pause: OnPause,
    /// And so long after its connection was cut. Default 300.
    pub end_after: u32,
    /// Objects stay so long after they left the window (besides the window and two segments). Default 60.
    pub hold: u32,
    /// The first playlist waits so long for encoders. Default 10.
    pub first_row_wait: u32,
    /// Streams at once, whatever they cost. Default 64.
    pub max_streams: u32,
    /// Publishers are given so long to end when the worker is told to stop. Default 5.
    pub drain: u32,
    /// What becomes of live sessions when the worker is told to stop: `hand-over` leaves their playlists open for another worker, `end` ends them,
    /// `auto` hands over where the store is a bucket. Default `auto`.
    pub on_drain: OnDrain,
    /// Where publishers whose encoders know how are asked to go then: `rtmp://HOST[:PORT]/live` or `rtmps://`. Empty: to come again where they are.
    pub move_to: String,
    /// Certificate of the RTMPS listener.
    pub tls: TlsSettings,
    /// Signed stream keys.
    pub signed: SignedSettings,
    /// The control plane that is asked who may publish.
    pub webhook: WebhookSettings,
    /// Who guesses stream keys.
    pub bans: BanSettings,
    /// Objects on disk until they are durable.
    pub spool: SpoolSettings,
    /// The clip of a pause.
    pub slate: SlateSettings,
    /// Software encoders.
    pub software: Software,
    /// NVIDIA's encoders.
    pub nvidia: Nvidia,
    /// How loud the audio is made.
    pub loudness: LoudnessSettings,
    /// Small pictures of each stream.
    pub thumbnail: ThumbnailSettings,
    /// Codec processes.
    pub codec: Codec,
    /// How the GPUs are watched.
    pub gpu: Gpu,
    /// What the machine is counted to have.
    pub capacity: CapacitySettings,
    /// Whom the worker tells what it can take.
    pub report: ReportSettings,
    /// The RTMP listener's limits.
    pub limits: Limits,
    /// How the SRT listener is.
    pub srt_listener: SrtListener,
    /// CDNs and regions, each with the address of its folder, in the order in which players try them.
    pub pathway: Vec<Pathway>,
}

/// Certificate of the RTMPS listener: PEM files, looked at every five seconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsSettings {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Signed stream keys.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignedSettings {
    /// File of signing keys. Empty: no key is taken for signed.
    pub keys: String,
}

/// The spool's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolSettings {
    /// Folder in which each worker has one of its own name. Empty: segments wait for the store in memory, 64 MiB for each stream.
    pub dir: PathBuf,
    /// MiB that it may hold. Default 20480: ten minutes of 25 streams (286 Mbit/s).
    pub limit_mib: u32,
    /// What happens to a stream when it is full: `live-only` goes on with what fits into memory, `refuse` ends it.
    pub full: SpoolFull,
    /// Sync each object to the disk: it then survives a power cut too. Default no.
    pub sync: bool,
}

/// What happens to a stream when the spool is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpoolFull {
    /// It goes on in memory; what does not fit there becomes a gap.
    #[default]
    LiveOnly,
    /// Its publisher is told, and disconnected.
    Refuse,
}

impl Default for SpoolSettings {
    fn default() -> Self {
        Self { dir: PathBuf::new(), limit_mib: 20_480, full: SpoolFull::LiveOnly, sync: false }
    }
}

/// The clip of a pause.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SlateSettings {
    /// An FLV file with H.264, and AAC if it has sound, of half a second to a minute. Empty: black and silence.
    pub file: PathBuf,
}

/// What viewers see while a publisher is away (rules.md 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnPause {
    /// A clip, so that players go on.
    #[default]
    Slate,
    /// The playlists stand still.
    Hold,
}

/// x264's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Software {
    /// Default `veryfast`.
    pub preset: String,
    /// Threads of each encoder, 1 to 16. Default 1: one per rung is cheapest (14.1 CPU-s against 17.2 with x264's own choice).
    pub threads: u8,
    /// Threads of the decoder, 1 to 16. Default 2.
    pub decoder_threads: u8,
}

/// Settings of NVIDIA's encoders.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nvidia {
    /// `auto`, `dense`, `normal` or `premium`: how much work is put into a picture. Default `dense`.
    pub class: ClassSetting,
    /// Sources that the GPU cannot decode (interlaced, 10-bit, 4:2:2) are decoded on the CPU, not refused. Default no.
    pub allow_cpu_decode: bool,
    /// Files and folders that codec processes may read and write besides those that the driver usually needs. Default none.
    pub paths: Vec<PathBuf>,
}

/// Loudness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoudnessSettings {
    /// LUFS that all audio is brought to, -24 to -14. Default 0: it stays as it is.
    pub target_lufs: i32,
}

impl LoudnessSettings {
    /// In centi-LUFS.
    pub fn target(self) -> Option<i32> {
        (self.target_lufs != 0).then_some(self.target_lufs.saturating_mul(100))
    }
}

/// Small pictures of each stream, for previews and for whoever watches over what is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ThumbnailSettings {
    /// Seconds of media from one to the next, up to 3600. Default 4. 0: none.
    pub every: u32,
    /// The picture's short side, luma samples, 64 to 720. Default 180.
    pub short_side: u32,
    /// Of the JPEG, 1 to 90, on libjpeg's scale. Default 75.
    pub quality: u8,
    /// Seconds for which each is kept under its own time, up to 3600. Default 300. 0: only the latest is there.
    pub keep: u32,
}

impl Default for ThumbnailSettings {
    fn default() -> Self {
        Self { every: 4, short_side: 180, quality: 75, keep: 300 }
    }
}

impl ThumbnailSettings {
    /// As sessions take them.
    pub fn settings(self) -> thumbnail::Settings {
        let seconds = |s: u32| Duration::from_secs(s.into());
        let Self { every, short_side, quality, keep } = self;
        thumbnail::Settings { every: seconds(every), short_side, quality, keep: seconds(keep) }
    }
}

/// Codec processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Codec {
    /// The program. Empty: `weir-codec` beside `weir`.
    pub program: PathBuf,
    /// Processes that stand ready, 0 to 64. Default -1: 1 with x264, and 3 on a GPU, where starting takes seconds.
    pub warm: i32,
    /// Streams that share a process, 1 to 64. Default 1: one that dies costs one stream's rungs.
    pub streams_per_codec: u32,
    /// Seconds that a process is given to start. Default 30: a GPU's driver that is loaded cold takes several.
    pub start_deadline: u32,
    /// Seconds for which encoders may give nothing while media flow, 3 to 60; then the process is ended and a new one started. Default 5.
    pub output_deadline: u32,
    /// Resident memory over which a process is ended, MiB for each stream that it may have. Default 1536: a four-rung 1080p ladder peaks at 610.
    pub memory_mib: u32,
}

impl Codec {
    /// Processes that stand ready.
    pub fn warm(&self, on_gpu: bool) -> usize {
        usize::try_from(self.warm).unwrap_or(if on_gpu { WARM_ON_GPU } else { WARM })
    }
}

/// x264 starts in a few hundred milliseconds; one process spares even those.
const WARM: usize = 1;

/// CUDA, the plugin's probes and a first session take seconds (the probes alone 1.6 s); three streams may begin at once (rules.md 25).
const WARM_ON_GPU: usize = 3;

/// How the GPUs are watched (rules.md 26).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gpu {
    /// Time from one reading of NVML to the next, ms. Default 1000: the driver itself averages over 1/6 s to 1 s.
    pub interval_ms: u32,
    /// A reading that takes longer, ms, counts as a hang. Default 3000.
    pub reading_deadline_ms: u32,
    /// So does a probe of all devices that takes longer, ms. Default 30000: a driver without persistence takes seconds to start each device.
    pub probe_deadline_ms: u32,
}

impl Default for Gpu {
    fn default() -> Self {
        Self { interval_ms: 1000, reading_deadline_ms: 3000, probe_deadline_ms: 30_000 }
    }
}

/// Which encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncoderChoice {
    /// NVENC where there is one, else software.
    #[default]
    Auto,
    /// NVENC or nothing.
    Nvidia,
    /// x264.
    Software,
    /// Sources are passed through only.
    None,
}

impl From<EncoderChoice> for Wanted {
    fn from(choice: EncoderChoice) -> Self {
        match choice {
            EncoderChoice::Auto => Self::Auto,
            EncoderChoice::Nvidia => Self::Nvidia,
            EncoderChoice::Software => Self::Software,
            EncoderChoice::None => Self::None,
        }
    }
}

/// What becomes of live sessions when the worker is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDrain {
    /// By the store: a bucket is shared, a folder is not.
    #[default]
    Auto,
    /// Another worker goes on.
    HandOver,
    /// They end.
    End,
}

/// Is the stream key the stream's id?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Open {
    /// Keys come from the keys file.
    #[default]
    No,
    /// Yes, as long as every listener is on loopback.
    Loopback,
    /// Yes, whoever can reach the listener.
    Anywhere,
}

impl Default for Config {
    fn default() -> Self {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            version: VERSION,
            rtmp: local(1935),
            rtmps: String::new(),
            proxy_protocol_from: Vec::new(),
            srt: local(8890).to_string(),
            srt_was_set: false,
            http: local(8080),
            admin: local(8081),
            store: "folder:weir-store".into(),
            s3_endpoint: String::new(),
            s3_path_style: true,
            unfenced_store: false,
            encoder: EncoderChoice::Auto,
            ladder: "default".into(),
            ladders: Vec::new(),
            keys: String::new(),
            open: Open::No,
            region: "local".parse().expect("a lawful name"),
            steering_url: String::new(),
            utc_timing_url: String::new(),
            replicate: Replicate::All,
            record: false,
            worker: String::new(),
            state_dir: "weir-state".into(),
            window: 30,
            segment_target: 2,
            long_gop: LongGop::Auto,
            passthrough_short_side: 1080,
            passthrough_kbps: 8000,
            passthrough_codecs: vec![Coding::H264],
            reconnect_grace: 60,
            on_pause: OnPause::Slate,
            end_after: 300,
            hold: 60,
            first_row_wait: 10,
            max_streams: 64,
            drain: 5,
            on_drain: OnDrain::Auto,
            move_to: String::new(),
            tls: TlsSettings::default(),
            signed: SignedSettings::default(),
            webhook: WebhookSettings::default(),
            bans: BanSettings::default(),
            spool: SpoolSettings::default(),
            slate: SlateSettings::default(),
            software: Software::default(),
            nvidia: Nvidia::default(),
            loudness: LoudnessSettings::default(),
            thumbnail: ThumbnailSettings::default(),
            codec: Codec::default(),
            gpu: Gpu::default(),
            capacity: CapacitySettings::default(),
            report: ReportSettings::default(),
            limits: Limits::default(),
            srt_listener: SrtListener::default(),
            pathway: Vec::new(),
        }
    }
}

impl Default for Software {
    fn default() -> Self {
        Self { preset: "veryfast".into(), threads: 1, decoder_threads: 2 }
    }
}

impl Default for Codec {
    fn default() -> Self {
        Self {
            program: PathBuf::new(),
            warm: -1,
            streams_per_codec: 1,
            start_deadline: 30,
            output_deadline: 5,
            memory_mib: 1536,
        }
    }
}

/// Why there is no configuration; always the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{}: {source}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Where.
        source: Box<toml::de::Error>,
    },
    /// A key that does not exist.
    #[error("{origin}: unknown setting {key:?}{}", nearest.as_ref().map(|n| format!(", did you mean {n:?}?")).unwrap_or_default())]
    Unknown {
        /// The file, variable or flag.
        origin: String,
        /// As written.
        key: String,
        /// The most similar one.
        nearest: Option<String>,
    },
    /// A value that does not fit.
    #[error("{0}")]
    Value(String),
}

impl Config {
    fn check(&self) -> Result<(), Error> {
        let range = |name: &str, value: u32, low: u32, high: u32| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(Error::Value(format!("{name} is {value}, must be {low} to {high}")))
            }
        };
        range("version", self.version, 1, VERSION)?;
        self.srt_address()?;
        range("window", self.window, 10, 6 * 3600)?;
        if !self.passthrough_codecs.contains(&Coding::H264) {
            return Err(Error::Value("passthrough_codecs lacks h264, which every player decodes".into()));
        }
        range("segment_target", self.segment_target, 1, 10)?;
        range("software.threads", self.software.threads.into(), 1, 16)?;
        range("software.decoder_threads", self.software.decoder_threads.into(), 1, 16)?;
        range("max_streams", self.max_streams, 1, 10_000)?;
        range("spool.limit_mib", self.spool.limit_mib, 1, u32::MAX)?;
        if !(-1..=64).contains(&self.codec.warm) {
            return Err(Error::Value(format!("codec.warm is {}, must be -1 to 64", self.codec.warm)));
        }
        range("codec.start_deadline", self.codec.start_deadline, 1, 300)?;
        range("codec.output_deadline", self.codec.output_deadline, 3, 60)?;
        range("codec.streams_per_codec", self.codec.streams_per_codec, 1, 64)?;
        range("thumbnail.every", self.thumbnail.every, 0, 3600)?;
        range("thumbnail.short_side", self.thumbnail.short_side, 64, 720)?;
        range("thumbnail.quality", self.thumbnail.quality.into(), 1, 90)?;
        range("thumbnail.keep", self.thumbnail.keep, 0, 3600)?;
        range("gpu.interval_ms", self.gpu.interval_ms, 100, 60_000)?;
        range("gpu.reading_deadline_ms", self.gpu.reading_deadline_ms, 100, 60_000)?;
        range("gpu.probe_deadline_ms", self.gpu.probe_deadline_ms, 100, 600_000)?;
        let target = self.loudness.target_lufs;
        if target != 0 && !(-24..=-14).contains(&target) {
            return Err(Error::Value(format!("loudness.target_lufs is {target}, must be 0 or -24 to -14")));
        }
        let known = ["rtmp://", "rtmps://"].iter().any(|scheme| self.move_to.starts_with(scheme));
        if !self.move_to.is_empty() && !known {
            return Err(Error::Value(format!("move_to is {:?}: write rtmp://HOST/live or rtmps://HOST/live", self.move_to)));
        }
        self.rtmps()?;
        self.webhook.check().map_err(Error::Value)?;
        self.bans.check().map_err(Error::Value)?;
        self.capacity.check().map_err(Error::Value)?;
        self.report.check().map_err(Error::Value)?;
        self.pathways().map(drop).map_err(|e| Error::Value(e.to_string()))
    }

    /// The RTMPS listener and its certificate, where there is one.
    ///
    /// # Errors
    /// No address, or an address without certificate and key.
    pub fn rtmps(&self) -> Result<Option<(SocketAddr, tls::Files)>, Error> {
        if self.rtmps.is_empty() {
            return Ok(None);
        }
        let address = self
            .rtmps
            .parse()
            .map_err(|_| Error::Value(format!("rtmps is {:?}, must be ADDRESS:PORT or empty", self.rtmps)))?;
        let TlsSettings { certificate, key } = &self.tls;
        if certificate.as_os_str().is_empty() || key.as_os_str().is_empty() {
            return Err(Error::Value("rtmps needs tls.certificate and tls.key".into()));
        }
        Ok(Some((address, tls::Files { certificate: certificate.clone(), key: key.clone() })))
    }

    /// Where SRT is listened for, if it is.
    ///
    /// # Errors
    /// [`Error::Value`].
    pub fn srt_address(&self) -> Result<Option<SocketAddr>, Error> {
        match self.srt.as_str() {
            "" => Ok(None),
            address => {
                let wrong = |e| Error::Value(format!("srt is {address:?}, must be an address with a port, or empty: {e}"));
                address.parse().map(Some).map_err(wrong)
            }
        }
    }

    /// The S3 server, if it is not Amazon's.
    pub fn s3_endpoint(&self) -> Option<Endpoint> {
        let url = Some(&self.s3_endpoint).filter(|url| !url.is_empty())?.clone();
        Some(Endpoint { url, path_style: self.s3_path_style })
    }

    /// The pathways, checked together.
    ///
    /// # Errors
    /// [`BadPathway`].
    pub fn pathways(&self) -> Result<Pathways, BadPathway> {
        let steering = match self.steering_url.as_str() {
            "" => None,
            url => Some(url.parse()?),
        };
        Pathways::new(self.pathway.clone(), steering)
    }

    /// Somebody can publish, and not everybody by mistake. Not asked by verbs that take no publishers.
    ///
    /// # Errors
    /// [`Error::Value`].
    pub fn check_publishers(&self) -> Result<(), Error> {
        let rtmps = self.rtmps()?.map(|(address, _)| address);
        let srt = self.srt_address()?;
        let loopback = [self.rtmp, self.http, self.admin].into_iter().chain(rtmps).chain(srt).all(|a| a.ip().is_loopback());
        // `keys` beside `open` has always been left alone; who sets up more than that means it.
        let asked = !self.signed.keys.is_empty() || !self.webhook.url.is_empty();
        match (self.open, self.keys.is_empty() && !asked) {
            (Open::Loopback, _) if !loopback => Err(Error::Value(
                "--open lets anybody publish and a listener is not on loopback: write --open=anywhere if that is meant".into(),
            )),
            (Open::Loopback | Open::Anywhere, _) if asked => {
                Err(Error::Value("--open lets anybody publish: signed.keys and webhook.url would not be looked at".into()))
            }
            (Open::No, true) => {
                Err(Error::Value("nobody could publish: give --keys FILE, signed.keys or webhook.url, or --open".into()))
            }
            _ => Ok(()),
        }
    }

    /// The ladder; `None` for `none`.
    ///
    /// # Errors
    /// [`Error`] for an unknown name or a broken file.
    pub fn load_ladder(&self) -> Result<Option<Ladder>, Error> {
        match self.ladder.as_str() {
            "none" => Ok(None),
            "default" => parse_ladder(DEFAULT_LADDER, Path::new("default")).map(Some),
            file => read_ladder(Path::new(file)).map(Some),
        }
    }

    /// The ladders that a key may ask for, by their names; `None` encodes nothing.
    ///
    /// # Errors
    /// [`Error`] for a broken file, or two of one name.
    pub fn load_named_ladders(&self) -> Result<Ladders, Error> {
        let default = parse_ladder(DEFAULT_LADDER, Path::new("default"))?;
        let mut ladders = Ladders::from([("none".to_owned(), None), ("default".to_owned(), Some(default))]);
        for file in &self.ladders {
            let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            if ladders.insert(name.clone(), Some(read_ladder(file)?)).is_some() {
                return Err(Error::Value(format!("ladders: {}: there is a ladder {name} already", file.display())));
            }
        }
        Ok(ladders)
    }
}

/// Ladders by their names; `None` encodes nothing.
pub type Ladders = BTreeMap<String, Option<Ladder>>;

fn read_ladder(file: &Path) -> Result<Ladder, Error> {
    let text = std::fs::read_to_string(file).map_err(|source| Error::Read { file: file.to_owned(), source })?;
    parse_ladder(&text, file)
}

fn parse_ladder(text: &str, file: &Path) -> Result<Ladder, Error> {
    toml::from_str(text).map_err(|e| Error::Syntax { file: file.to_owned(), source: Box::new(e) })
}

#[cfg(test)]
mod tests;
