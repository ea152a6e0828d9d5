//! The process that callers reach: what it may, and what becomes of callers when it dies.

use std::fs;

use weir::ingest::srt::Cause;

use super::{Bench, Book, Caller, eventually, guarded, ts};
use crate::harness::beside_others;

/// What stands behind the name in `/proc/PID/status`.
fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).map(|v| v.trim().to_owned()).unwrap_or_default()
}

fn maps(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/maps")).unwrap()
}

#[test]
fn it_is_confined_and_the_supervisor_maps_no_libsrt() {
    let _machine = beside_others();
    guarded(async {
        let bench = Bench::new(Book::default()).await;
        let pid = bench.stats.pid().unwrap();
        assert!(maps(pid).contains("libsrt-gnutls.so.1.5"));
        assert!(!maps(std::process::id()).contains("libsrt"));
        // Filtered system calls, no way to privileges, for all of its threads.
        for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            let task: u32 = task.unwrap().file_name().to_str().unwrap().parse().unwrap();
            assert_eq!((status(task, "Seccomp").as_str(), status(task, "NoNewPrivs").as_str()), ("2", "1"), "thread {task}");
        }
        // Standard input and output, our clones of them, the log, and libsrt's epoll: nothing of ours.
        let open: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .map(|fd| fs::read_link(fd.unwrap().path()).unwrap().to_string_lossy().into_owned())
            .collect();
        assert!(
            open.iter().all(|name| ["socket:", "pipe:", "anon_inode:"].iter().any(|kind| name.starts_with(kind))),
            "{open:?}"
        );
        let environment = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
        assert!(!environment.contains("AWS") && !environment.contains("CARGO"), "{environment}");
        bench.stop().await;
        eventually("the process's end", || (!fs::exists(format!("/proc/{pid}")).unwrap()).then_some(())).await;
    });
}

#[test]
fn one_that_dies_is_replaced_and_callers_come_back() {
    let file = ts();
    let _machine = beside_others();
    guarded(async {
        let mut bench = Bench::new(Book::default().with("anna", None)).await;
        let first = Caller::ffmpeg(&file, bench.address, &["-srt_streamid", "anna"]);
        let mut publication = bench.accept().await;
        publication.picture().await;
        let pid = bench.stats.pid().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid as i32).unwrap(), rustix::process::Signal::KILL)
            .unwrap();
        let came = publication.all().await;
        assert!(!came.goodbye, "the session waits for a publisher that was cut");
        drop(first);
        let another = eventually("another process", || bench.stats.pid().filter(|p| *p != pid)).await;
        let again = Caller::ffmpeg(&file, bench.address, &["-srt_streamid", "anna"]);
        bench.accept().await.all().await.is_whole();
        assert!(again.end().await.success());
        assert_eq!((bench.stats.pid(), bench.stats.restarts()), (Some(another), 1));
        assert_eq!(bench.ended(), [(Cause::Finished, 1), (Cause::Process, 1)]);
        bench.stop().await;
    });
}
