//! A real `weir run` on free loopback ports with a folder of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::{GUARD, until};

/// One rung of 240 lines below the source.
pub const SMALL_LADDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/harness/small.toml");

/// A line of the log and when it came.
type Lines = Arc<(Mutex<Vec<(Instant, String)>>, Condvar)>;

/// The process. Dropped, it is killed; a panic in its log fails the test that has not failed yet.
pub struct Worker {
    child: Child,
    lines: Lines,
    /// Reads its log to the end.
    reader: Option<std::thread::JoinHandle<()>>,
    agent: ureq::Agent,
    pub rtmp: SocketAddr,
    /// Where there is a listener.
    pub srt: Option<SocketAddr>,
    pub http: SocketAddr,
    pub admin: SocketAddr,
    folder: TempDir,
}

/// An answer of its HTTP servers.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Content-Length as the server sent it.
    pub length: Option<u64>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(self) -> String {
        String::from_utf8(self.body).expect("UTF-8")
    }
}

/// Listeners that nobody else has.
pub const FREE_PORTS: [&str; 6] = ["--rtmp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

/// And none where the port is not free by default.
pub const NO_SRT: [&str; 2] = ["--srt", ""];

impl Worker {
    /// With `--open`, x264's fastest sensible preset, and an end one second after an unpublish. Nobody is refused or goes without anything for want of room: other tests run
    /// on the machine, and those that are about room say so by `capacity.admission=on` and `capacity.shed`.
    pub fn start(flags: &[&str]) -> Self {
        Self::start_with(&[&["--open", "--set", "reconnect_grace=1"], flags].concat(), &[])
    }

    /// The same, with SRT as it is by default.
    pub fn start_by_default(flags: &[&str]) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_weir")), flags, &[], true)
    }

    /// With these flags only (and addresses, folders and preset), and these variables in its environment.
    pub fn start_with(flags: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_weir")), flags, environment, false)
    }

    /// The same, with a disk of its own of so many KiB at `disk`, which nobody else sees: a file system in memory, in a mount namespace.
    pub fn start_with_disk(disk: &Path, kib: u32, flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "sh", "-ec"]);
        command.arg(format!("mount -t tmpfs -o size={kib}k weir-test \"$0\"; exec \"$@\""));
        command.arg(disk).arg(env!("CARGO_BIN_EXE_weir"));
        Self::start_by(command, flags, environment, false)
    }

    fn start_by(mut command: Command, flags: &[&str], environment: &[(&str, &str)], srt: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        command.arg("run");
        command.args(FREE_PORTS);
        // Tests of SRT ask for it: one process less for all others.
        if !srt && !flags.contains(&"--srt") {
            command.args(NO_SRT);
        }
        command.arg("--store").arg(format!("folder:{}", folder.path().join("store").display()));
        command.arg("--state-dir").arg(folder.path().join("state")).args(["--set", "software.preset=superfast"]);
        command.args(["--set", "capacity.admission=off", "--set", "capacity.shed=off"]).args(flags);
        // Whoever runs the tests may have settings of his own.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WEIR_")) {
            command.env_remove(name);
        }
        command.envs(environment.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = Lines::default();
        let (log, stderr) = (Arc::clone(&lines), child.stderr.take().unwrap());
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                log.0.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), line));
                log.1.notify_all();
            }
        });
        let agent = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(GUARD)).build().into();
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut worker =
            Self { child, lines, reader: Some(reader), agent, rtmp: nowhere, srt: None, http: nowhere, admin: nowhere, folder };
        let (_, listening) = worker.logged("listening");
        let address = |name: &str| {
            let field = listening.split_whitespace().find_map(|w| w.strip_prefix(name)?.strip_prefix('='));
            field.and_then(|a| a.parse().ok())
        };
        worker.srt = address("srt");
        let address = |name: &str| address(name).unwrap_or_else(|| panic!("no address {name} in {listening:?}"));
        (worker.rtmp, worker.http, worker.admin) = (address("rtmp"), address("http"), address("admin"));
        worker
    }

    /// All files in its store now.
    pub fn stored(&self) -> Vec<PathBuf> {
        let (mut folders, mut files) = (vec![self.folder.path().join("store")], Vec::new());
        while let Some(folder) = folders.pop() {
            // Folders and files may go while they are looked at.
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() { &mut folders } else { &mut files }.push(entry.path());
            }
        }
        files
    }

    /// A folder that lives as long as the worker; its store is `store` in there.
    pub fn scratch(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it logged so far.
    pub fn log(&self) -> Vec<String> {
        let lines = self.lines.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|(_, line)| line.clone()).collect()
    }

    /// Waits for the first line that contains `text`.
    pub fn logged(&self, text: &str) -> (Instant, String) {
        let end = Instant::now() + GUARD;
        let mut lines = self.lines.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = lines.iter().find(|(_, line)| line.contains(text)) {
                return found.clone();
            }
            assert!(Instant::now() < end, "{text:?} is not in the log: {lines:#?}");
            let wait = self.lines.1.wait_timeout(lines, Duration::from_millis(100));
            lines = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Where ffmpeg publishes.
    pub fn publish_url(&self, key: &str) -> String {
        format!("rtmp://{}/live/{key}", self.rtmp)
    }

    /// GET of a path of the public server.
    pub fn get(&self, path: &str) -> Answer {
        self.ask(self.agent.get(format!("http://{}/{path}", self.http)).call(), path)
    }

    /// HEAD likewise.
    pub fn head(&self, path: &str) -> Answer {
        self.ask(self.agent.head(format!("http://{}/{path}", self.http)).call(), path)
    }

    fn ask(&self, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>, path: &str) -> Answer {
        let mut answer = answer.unwrap_or_else(|e| panic!("{path}: {e}"));
        let length = answer.headers().get("content-length").and_then(|l| l.to_str().ok()?.parse().ok());
        let body = answer.body_mut().read_to_vec().unwrap_or_else(|e| panic!("{path}: {e}"));
        Answer { status: answer.status().as_u16(), length, body }
    }

    /// Ends a stream by the admin API.
    pub fn delete(&self, stream: &str) -> u16 {
        let url = format!("http://{}/v1/streams/{stream}", self.admin);
        self.agent.delete(&url).call().unwrap().status().as_u16()
    }

    /// POST of a path of the admin server.
    pub fn post(&self, path: &str) -> u16 {
        self.agent.post(format!("http://{}/{path}", self.admin)).send_empty().unwrap().status().as_u16()
    }

    /// What `/v1/streams` says of a stream.
    pub fn stream(&self, id: &str) -> Option<Value> {
        let answer = self.get(&format!("v1/streams/{id}"));
        (answer.status == 200).then(|| serde_json::from_slice(&answer.body).unwrap())
    }

    /// Waits until the stream is over.
    pub fn over(&self, id: &str) {
        until("the end of the session", || self.stream(id).is_none().then_some(()));
    }

    /// The codec process of a stream, once there is one.
    pub fn codec_pid(&self, id: &str) -> u32 {
        until("a codec process", || u32::try_from(self.stream(id)?["codec_pid"].as_u64()?).ok())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end that it was told before: how it ended, and all that it logged.
    pub fn ended(mut self) -> (ExitStatus, Vec<String>) {
        let status = until("the worker's end", || self.child.try_wait().unwrap());
        // Its last words are on their way through the pipe still.
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        (status, self.log())
    }

    /// Ends it as an operator does, and expects that it ends well.
    pub fn stop(self) {
        self.signal(rustix::process::Signal::TERM);
        let (status, log) = self.ended();
        assert!(status.success(), "{status}: {log:#?}");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.log();
        if std::thread::panicking() {
            eprintln!("the worker's log:\n{}", log.join("\n"));
        } else if let Some(line) = log.iter().find(|l| l.contains("panicked at")) {
            panic!("{line}");
        }
    }
}
