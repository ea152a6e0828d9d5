//! `weir`: arguments, configuration, logging, signals, exit codes. Everything else is the library's.

mod bench;
mod bucket_verbs;
mod cli;
#[path = "gpu/driver/mod.rs"]
mod driver;
mod machine;
mod probe;
mod run;
mod simulate;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use cli::{BenchVerb, Cli, Verb};

/// Exit codes; 1 is left to what nobody foresaw.
pub(crate) mod exit {
    /// Configuration or arguments.
    pub const CONFIGURATION: u8 = 2;
    /// A listener's port.
    pub const PORT: u8 = 3;
    /// The store.
    pub const STORE: u8 = 4;
    /// Streams were not written to their end before the drain deadline.
    pub const DRAIN: u8 = 5;
    /// The bucket is not what it must be.
    pub const BUCKET: u8 = 6;
    /// The encoder that was asked for cannot be had.
    pub const ENCODER: u8 = 7;
    /// Somebody encodes on the device that was to be measured.
    pub const BUSY: u8 = 8;
}

/// An error and the exit code that it means.
#[derive(Debug)]
pub(crate) struct Fatal {
    pub code: u8,
    pub error: anyhow::Error,
}

impl Fatal {
    pub fn new(code: u8, error: impl Into<anyhow::Error>) -> Self {
        Self { code, error: error.into() }
    }
}

fn start_logging(level: &str) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("WEIR_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    // mpeg2ts-reader warns of each broken packet. What is wrong in a stream is counted, and said once.
    let filter = match "mpeg2ts_reader=off".parse() {
        Ok(quiet) => filter.add_directive(quiet),
        Err(_) => filter,
    };
    // Colours are for people: in a file or a collector their escape codes stand between a field's name and its value.
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    // The default timer writes UTC.
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).with_target(false).init();
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.version {
        println!("{}", run::version());
        return ExitCode::SUCCESS;
    }
    start_logging("info");
    let outcome = match cli.verb {
        Some(Verb::Run(arguments)) => run::run(&arguments),
        Some(Verb::Check(arguments)) => run::check(&arguments),
        Some(Verb::Probe { json }) => probe::probe(json),
        Some(Verb::GpuWatch { once, interval_ms, parent }) => {
            let options = driver::Options { once, interval: Duration::from_millis(interval_ms), parent };
            driver::watch(options).map_err(|e| Fatal::new(1, e))
        }
        Some(Verb::Push { to, size, fps, gop, kbps, seconds }) => run::push(&to, &size, fps, gop, kbps, seconds),
        Some(Verb::Key(arguments)) => run::key(arguments),
        Some(Verb::Bench(BenchVerb::Gpu(arguments))) => bench::gpu(&arguments),
        Some(Verb::Simulate(arguments)) => simulate::simulate(&arguments),
        Some(Verb::Bucket(verb)) => bucket_verbs::bucket_verb(verb),
        None => {
            eprintln!("weir: say what to do: run, check, probe, push, key, bucket, bench, simulate (or --help)");
            return ExitCode::from(exit::CONFIGURATION);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Fatal { code, error }) => {
            eprintln!("weir: {error:#}");
            ExitCode::from(code)
        }
    }
}
