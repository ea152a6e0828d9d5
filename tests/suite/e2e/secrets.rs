//! Stream keys and cloud credentials exist in the supervisor only (rules.md 26), which on the other hand has nothing of GStreamer in it.

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::process::Command;

use rustix::io::{FdFlags, fcntl_setfd};

use crate::harness::clip::SMALL;
use crate::harness::publisher::Publisher;
use crate::harness::worker::{SMALL_LADDER, Worker};
use crate::harness::{beside_others, tools, until};

/// Processes whose parent is this one.
fn children(parent: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    // proc(5): the parent is the second field behind the name, which stands in parentheses.
    let parent_of = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    pids.filter(|pid| parent_of(pid) == Some(parent)).collect()
}

/// The process has entered its sandbox, which it does before it reads from its link (proc(5): a filter is mode 2).
fn is_shut_in(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|l| l.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
}

#[test]
fn a_codec_process_sees_no_secret_and_none_of_the_supervisors_sockets() {
    let file = SMALL.file();
    let _machine = beside_others();
    let environment = [
        ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ("AWS_SESSION_TOKEN", "hunter3"),
        ("WEIR_HOLD", "61"),
        ("HTTPS_PROXY", "http://hunter4"),
    ];
    // Whoever starts the supervisor may be careless with his own descriptors.
    let left_open = TcpListener::bind("127.0.0.1:0").unwrap();
    fcntl_setfd(&left_open, FdFlags::empty()).unwrap();
    let worker = Worker::start_with(&["--open", "--ladder", SMALL_LADDER], &environment);
    fcntl_setfd(&left_open, FdFlags::CLOEXEC).unwrap();
    let _publisher = Publisher::start(&file, &worker, "anna");
    let busy = worker.codec_pid("anna");
    // The next one stands ready; it was started while a publisher's socket was open.
    let ready = |all: &Vec<u32>| all.len() == 2 && all.iter().all(|pid| is_shut_in(*pid));
    let all = until("a warm process", || Some(children(worker.pid())).filter(ready));
    assert!(all.contains(&busy));
    let supervisor: Vec<String> = descriptors(worker.pid()).into_iter().map(|(_, to)| to).collect();
    let inherited = fs::read_link(format!("/proc/self/fd/{}", left_open.as_raw_fd())).unwrap().display().to_string();
    assert!(supervisor.contains(&inherited), "the supervisor was given {inherited}");
    assert!(
        supervisor.iter().filter(|to| to.starts_with("socket:")).any(|to| !is_unnamed_unix(to)),
        "listeners and publishers: {supervisor:?}"
    );
    for pid in all {
        let environ = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
        // Names only: what a failed test prints is read by many.
        let names = |found: &dyn Fn(&str) -> bool| {
            environ.split('\0').filter(|v| found(v)).filter_map(|v| v.split('=').next()).collect::<Vec<_>>()
        };
        assert!(names(&|v| v.contains("hunter")).is_empty(), "{:?}", names(&|v| v.contains("hunter")));
        assert_eq!(names(&|v| v.starts_with("WEIR_") || v.starts_with("AWS_")), ["WEIR_CODEC_PARENT"]);
        let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(!arguments.contains("hunter") && !arguments.contains("anna"), "{arguments:?}");
        // Pipes, GStreamer's poll objects and the link. A listener's or a publisher's socket is no unnamed Unix socket, which has no address that
        // anybody could connect to.
        let own = |to: &str| match to.starts_with("socket:") {
            true => is_unnamed_unix(to) && !supervisor.iter().any(|s| s == to),
            false => ["pipe:", "/dev/null", "anon_inode:"].iter().any(|k| to.starts_with(k)),
        };
        // A process that has only just begun has not closed what it inherited.
        let open =
            until("descriptors of its own only", || Some(descriptors(pid)).filter(|open| open.iter().all(|(_, to)| own(to))));
        assert!(open.iter().any(|(number, to)| *number == 0 && to.starts_with("socket:")), "the link is descriptor 0");
    }
}

/// Open descriptors of a process and what they are.
fn descriptors(pid: u32) -> Vec<(u32, String)> {
    let mut open = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let path = entry.unwrap().path();
        let number: u32 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        // One that was closed since is none.
        open.extend(fs::read_link(&path).map(|to| (number, to.display().to_string())));
    }
    open.sort();
    open
}

/// A Unix socket without a path: one end of a pair. GStreamer's poll objects are made of them.
fn is_unnamed_unix(socket: &str) -> bool {
    let inode = socket.trim_start_matches("socket:[").trim_end_matches(']');
    // proc(5): the inode is the seventh field, the path the eighth.
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    table.lines().map(|l| l.split_whitespace().collect::<Vec<_>>()).any(|f| f.len() == 7 && f[6] == inode)
}

/// DT_NEEDED entries of an executable.
fn needed(path: &str) -> Vec<String> {
    let done = tools::run(Command::new("readelf").args(["--dynamic", "--wide", path]));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let text = String::from_utf8(done.stdout).unwrap();
    let name = |line: &str| Some(line.split_once("(NEEDED)")?.1.split_once('[')?.1.trim_end_matches(']').to_owned());
    text.lines().filter_map(name).collect()
}

#[test]
fn the_supervisor_links_neither_gstreamer_nor_a_driver() {
    let foreign = |n: &String| {
        ["gst", "glib", "gobject", "cuda", "nvidia", "nvcuvid", "x264", "avcodec", "srt"].iter().any(|f| n.contains(f))
    };
    let supervisor = needed(env!("CARGO_BIN_EXE_weir"));
    assert!(supervisor.iter().any(|n| n.starts_with("libc.so")), "{supervisor:?}");
    assert!(!supervisor.iter().any(foreign), "{supervisor:?}");
    let codec = needed(env!("CARGO_BIN_EXE_weir-codec"));
    assert!(codec.iter().any(|n| n.contains("gstreamer")), "{codec:?}");
    assert!(!codec.iter().any(|n| n.contains("cuda") || n.contains("nvidia")), "{codec:?}");
}
