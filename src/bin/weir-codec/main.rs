//! `weir-codec`: decodes, scales and encodes live streams for the supervisor. The only program here that names GStreamer.
//!
//! It is started by the supervisor with one end of a Unix socket pair as its standard input, reads [`weir::link::wire`] messages from it
//! and answers on it. It knows no stream keys, no object names, no playlists, and not why a rung exists. Standard error is its log.
//!
//! Exit status: 0 when the supervisor closed the link, 3 when its GPU does not encode, 2 when the supervisor sent what this version cannot read (or bad arguments), 1 when GStreamer
//! does not start.

mod beat;
mod bench;
mod device;
mod downmix;
mod inventory;
mod leveller;
mod link;
mod meter;
mod picture;
mod pipeline;
mod sample_clock;
mod sound;
mod tap;
mod thumbnail;
mod ticks;

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use weir::link::sandbox;

/// Arguments. Without any, the link is served on standard input.
#[derive(Debug, Parser)]
#[command(name = "weir-codec", version)]
struct Arguments {
    /// Print what GStreamer offers here as JSON, and exit.
    #[arg(long)]
    inventory: bool,
    /// Exit unless this process is the parent: closes the gap between fork and the request to die with the parent.
    #[arg(long, value_name = "PID", env = "WEIR_CODEC_PARENT")]
    parent: Option<i32>,
    /// What streams are going to be encoded by. `nvidia`: on the device that CUDA_VISIBLE_DEVICES leaves; it is tried before the link is served.
    #[arg(long, value_enum, default_value_t = Encoders::Software)]
    encoder: Encoders,
    /// With `--encoder nvidia`: what the driver needs besides its usual files. May be given several times.
    #[arg(long, value_name = "PATH")]
    device_path: Vec<PathBuf>,
    /// Enter the sandbox, try what it forbids, print the outcome as JSON, and exit.
    #[arg(long, hide = true)]
    sandbox_check: bool,
    /// With `--encoder nvidia`: measure the encoder, by jobs in lines of JSON on standard input.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(flatten)]
    picture: picture::Options,
}

/// Which encoders a process is made ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Encoders {
    /// x264.
    Software,
    /// NVENC.
    Nvidia,
}

/// Exit status of a process that cannot encode on its device.
const UNABLE: u8 = 3;

/// One line for the log.
pub(crate) fn log(line: &str) {
    // The log is all that is left to tell about a failure to log.
    let _ = writeln!(std::io::stderr(), "weir-codec: {line}");
}

/// Closes what the supervisor was itself started with and did not mark close-on-exec: a listener there would be open to whoever takes a decoder over.
fn close_inherited() {
    // SAFETY: nothing in this process owns a descriptor above 2 yet: main has opened none and no other thread runs.
    let closed = unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    if closed != 0 {
        log(&format!("inherited descriptors stay open: {}", std::io::Error::last_os_error()));
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A person may start the others from a shell, and then nobody has to die with anybody.
    let linked = !arguments.inventory && !arguments.picture.picture && !arguments.sandbox_check && !arguments.bench;
    if (linked || arguments.parent.is_some())
        && let Err(e) = sandbox::die_with_parent(arguments.parent)
    {
        log(&e);
        return ExitCode::FAILURE;
    }
    if linked {
        close_inherited();
    }
    let on_gpu = arguments.encoder == Encoders::Nvidia;
    if on_gpu {
        // Before there are threads: a rule of this kind holds for the one that asks, and those that it starts.
        sandbox::confine_files(&arguments.device_path, log);
    }
    if let Err(e) = gstreamer::init() {
        log(&format!("GStreamer does not start: {e}"));
        return ExitCode::FAILURE;
    }
    if arguments.inventory {
        return print(&inventory::take());
    }
    inventory::load(on_gpu);
    // Before the rest of the sandbox: the driver may start a program to make its devices.
    let device = if on_gpu { device::try_out() } else { Ok(()) };
    sandbox::enter(sandbox::Keeps { opening: on_gpu, memory: (!on_gpu).then_some(sandbox::CODEC_MEMORY) }, log);
    if arguments.sandbox_check {
        return print(&sandbox::check());
    }
    if arguments.picture.picture {
        return match picture::run(&arguments.picture) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                log(&e);
                ExitCode::FAILURE
            }
        };
    }
    if arguments.bench {
        return match device.and_then(|()| bench::serve()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                log(&e);
                ExitCode::from(UNABLE)
            }
        };
    }
    let socket = match std::io::stdin().as_fd().try_clone_to_owned() {
        Ok(fd) => UnixStream::from(fd),
        Err(e) => {
            log(&format!("standard input is no link: {e}"));
            return ExitCode::from(2);
        }
    };
    if let Err(reason) = device {
        link::refuse(&socket, reason);
        return ExitCode::from(UNABLE);
    }
    match link::serve(socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            log(&e.to_string());
            ExitCode::from(2)
        }
    }
}

fn print(answer: &impl serde::Serialize) -> ExitCode {
    let text = serde_json::to_string_pretty(answer).unwrap_or_default();
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
