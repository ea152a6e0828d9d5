//! Arguments. Every flag that a file may set is optional here, so that an absent one does not overwrite the file.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use weir::config::Setting;

/// Live-ingest and transcoding worker.
#[derive(Debug, Parser)]
#[command(name = "weir", disable_version_flag = true)]
pub struct Cli {
    /// Print version, commit and GStreamer.
    #[arg(short = 'V', long)]
    pub version: bool,
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Take publishers and serve what they send.
    Run(Settings),
    /// Read the configuration and say whether it is right.
    Check(Settings),
    /// What this machine can do.
    Probe {
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Read the GPUs and say it in lines of JSON; what `run` and `probe` start a second process for.
    #[command(hide = true)]
    GpuWatch {
        /// Probe, read once, and end.
        #[arg(long)]
        once: bool,
        /// From one reading to the next.
        #[arg(long, value_name = "MS", default_value_t = 1000)]
        interval_ms: u64,
        /// End unless this process is the parent.
        #[arg(long, value_name = "PID")]
        parent: Option<i32>,
    },
    /// Publish the built-in test picture over RTMP: moving pattern, wall clock, a beep and a flash each second.
    Push {
        /// rtmp://HOST[:PORT]/APP/KEY.
        #[arg(long, value_name = "URL", default_value = "rtmp://127.0.0.1:1935/live/demo")]
        to: String,
        /// Width x height, even.
        #[arg(long, value_name = "WxH", default_value = "1280x720")]
        size: String,
        /// Frames per second.
        #[arg(long, default_value_t = 30)]
        fps: u32,
        /// Seconds between key frames.
        #[arg(long, default_value_t = 2.0)]
        gop: f64,
        /// Video rate, kbit/s.
        #[arg(long, default_value_t = 2500)]
        kbps: u32,
        /// Stop after so many seconds.
        #[arg(long)]
        seconds: Option<u64>,
    },
    /// Print the line for the keys file that lets a stream key publish; sign stream keys.
    Key(KeyArguments),
    /// What the bucket must be for playback, recordings and copies in another region.
    #[command(subcommand)]
    Bucket(BucketVerb),
    /// Measure this machine.
    #[command(subcommand)]
    Bench(BenchVerb),
    /// What becomes of a fleet's streams when crowds come and nodes or a region go, in virtual time and by this program's own admission.
    Simulate(crate::simulate::Arguments),
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct KeyArguments {
    /// Stream id.
    #[arg(required = true)]
    pub stream: Option<String>,
    /// The key; read from standard input when it is not given, so that it does not stand in the shell's history.
    pub key: Option<String>,
    #[command(subcommand)]
    pub verb: Option<KeyVerb>,
}

#[derive(Debug, Subcommand)]
pub enum KeyVerb {
    /// Print a signed stream key, and what SRT must be encrypted with.
    Sign {
        /// Stream id.
        stream: String,
        /// For how long it is good: 90m, 2h, 7d, or seconds.
        #[arg(long, value_name = "TIME")]
        expires: String,
        /// Which signing key.
        #[arg(long, value_name = "ID")]
        id: String,
        /// File of signing keys [one key, from WEIR_SIGNING_KEY].
        #[arg(long, value_name = "FILE")]
        keys: Option<PathBuf>,
    },
    /// Print an entry for the file of signing keys, with a new key.
    Hmac {
        /// Its id.
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum BenchVerb {
    /// Measure a GPU with the streams' own pipelines, beside what was planned with. Takes some ten minutes of the whole device.
    Gpu(crate::bench::Arguments),
}

#[derive(Debug, Subcommand)]
pub enum BucketVerb {
    /// Try permissions and conditional writes, and compare the bucket's configuration; exit code 6 if a line is wrong.
    Check {
        #[command(flatten)]
        settings: Settings,
        /// Origins whose pages play the streams; may be given several times.
        #[arg(long, value_name = "ORIGIN", default_value = "*")]
        origin: Vec<String>,
        /// Live streams of this region, for the reminder of the quota: a third of 1,500.
        #[arg(long, default_value_t = 500)]
        streams: u32,
        /// What one stream's replicated tracks come to, kbit/s: 6 + 3 + 1.5 + 0.8 Mbit/s and audio.
        #[arg(long, default_value_t = 11_400)]
        kbps: u32,
    },
    /// Set versioning, replication, lifecycle and CORS; rules whose names do not begin with `weir-` stay.
    Apply {
        #[command(flatten)]
        settings: Settings,
        /// Origins whose pages play the streams; may be given several times.
        #[arg(long, value_name = "ORIGIN", default_value = "*")]
        origin: Vec<String>,
        /// The other region's bucket: arn:aws:s3:::NAME. What is set already need not be given again.
        #[arg(long, value_name = "ARN")]
        destination_bucket: Option<String>,
        /// The role that S3 copies with.
        #[arg(long, value_name = "ARN")]
        role: Option<String>,
        /// Only say what would change.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Configuration: file, then `WEIR_*`, then these.
#[derive(Debug, Args)]
pub struct Settings {
    /// TOML file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// RTMP listener [127.0.0.1:1935].
    #[arg(long, value_name = "ADDR")]
    rtmp: Option<String>,
    /// RTMPS listener; needs tls.certificate and tls.key [none].
    #[arg(long, value_name = "ADDR")]
    rtmps: Option<String>,
    /// SRT listener [127.0.0.1:8890]; empty: none.
    #[arg(long, value_name = "ADDR")]
    srt: Option<String>,
    /// Playback, probes, read-only facts [127.0.0.1:8080].
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Control [127.0.0.1:8081].
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// folder:DIR or s3://BUCKET[/PREFIX] [folder:weir-store].
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    /// An S3 server that is not Amazon's.
    #[arg(long, value_name = "URL")]
    s3_endpoint: Option<String>,
    /// auto, nvidia, software or none.
    #[arg(long)]
    encoder: Option<String>,
    /// A built-in ladder (default, none) or a file.
    #[arg(long, value_name = "NAME|FILE")]
    ladder: Option<String>,
    /// File with hashed stream keys.
    #[arg(long, value_name = "FILE")]
    keys: Option<String>,
    /// The stream key is the stream id; with `=anywhere` on any listener.
    #[arg(long, value_name = "WHERE", num_args = 0..=1, require_equals = true, default_missing_value = "loopback")]
    open: Option<String>,
    /// Region in every key [local].
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    /// This worker's name [host name].
    #[arg(long, value_name = "NAME")]
    worker: Option<String>,
    /// Where caches lie [weir-state].
    #[arg(long, value_name = "DIR")]
    state_dir: Option<String>,
    /// Folder in which objects wait on disk until they are durable in the store [none: in memory].
    #[arg(long, value_name = "DIR")]
    spool: Option<String>,
    /// Any other setting of the file: `--set reconnect_grace=5`, `--set limits.idle_ms=3000`.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Settings {
    /// The flags that were given.
    pub fn flags(&self) -> Result<Vec<Setting>, String> {
        let named = [
            ("rtmp", &self.rtmp),
            ("rtmps", &self.rtmps),
            ("srt", &self.srt),
            ("http", &self.http),
            ("admin", &self.admin),
            ("store", &self.store),
            ("s3_endpoint", &self.s3_endpoint),
            ("encoder", &self.encoder),
            ("ladder", &self.ladder),
            ("keys", &self.keys),
            ("open", &self.open),
            ("region", &self.region),
            ("worker", &self.worker),
            ("state_dir", &self.state_dir),
            ("spool.dir", &self.spool),
        ];
        let mut out: Vec<Setting> = named
            .into_iter()
            .filter_map(|(key, text)| {
                let origin = format!("--{}", key.split('.').next().unwrap_or(key).replace('_', "-"));
                Some(Setting { origin, key: key.into(), text: text.clone()? })
            })
            .collect();
        for pair in &self.set {
            let (key, text) = pair.split_once('=').ok_or_else(|| format!("--set {pair}: write KEY=VALUE"))?;
            out.push(Setting { origin: "--set".into(), key: key.into(), text: text.into() });
        }
        Ok(out)
    }
}
