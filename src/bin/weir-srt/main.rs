//! `weir-srt`: takes SRT callers for the supervisor. The only program here that is linked to libsrt.
//!
//! It is started by the supervisor with one end of a Unix socket pair as its standard input and a bound UDP socket as its standard output, and speaks
//! [`weir::ingest::srt::wire`] on the pair. It knows no stream keys but those that callers show it, each caller's passphrase, and nothing of media: bytes go to the
//! supervisor as they came. Standard error is its log.
//!
//! Exit status: 0 when the supervisor closed the link, 2 when it sent what this version cannot read, 1 when libsrt does not listen.

mod callers;
mod libsrt;
mod link;
mod listener;
mod questions;

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use weir::ingest::srt::PARENT_VARIABLE;
use weir::link::sandbox;

/// One line for the log.
pub(crate) fn log(line: &str) {
    // The log is all that is left to tell about a failure to log.
    let _ = writeln!(std::io::stderr(), "weir-srt: {line}");
}

/// Closes what the supervisor was itself started with and did not mark close-on-exec.
fn close_inherited() {
    // SAFETY: nothing in this process owns a descriptor above 2 yet: main has opened none and no other thread runs.
    let closed = unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    if closed != 0 {
        log(&format!("inherited descriptors stay open: {}", std::io::Error::last_os_error()));
    }
}

fn main() -> ExitCode {
    let parent = match std::env::var(PARENT_VARIABLE).map(|p| p.parse()) {
        Ok(Ok(parent)) => parent,
        _ => {
            log("this program is started by weir");
            return ExitCode::from(2);
        }
    };
    if let Err(e) = sandbox::die_with_parent(Some(parent)) {
        log(&e);
        return ExitCode::FAILURE;
    }
    close_inherited();
    let given = (std::io::stdin().as_fd().try_clone_to_owned(), std::io::stdout().as_fd().try_clone_to_owned());
    let (Ok(pair), Ok(udp)) = given else {
        log("standard input or output is not open");
        return ExitCode::from(2);
    };
    match link::serve(UnixStream::from(pair), udp) {
        Ok(()) => ExitCode::SUCCESS,
        Err(link::LinkError::Listen(e)) => {
            log(&e.to_string());
            ExitCode::FAILURE
        }
        Err(e) => {
            log(&e.to_string());
            ExitCode::from(2)
        }
    }
}
