//! Players in a real browser, by `tests/players/play.mjs`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::worker::Worker;
use super::{manifest, tools, until};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/players")
}

static INSTALLING: Mutex<()> = Mutex::new(());

/// The players' packages, by the lock file. From npm's cache where they are in it.
pub fn install() {
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if folder().join("node_modules/.package-lock.json").exists() {
        return;
    }
    let done = tools::run(Command::new("npm").current_dir(folder()).args([
        "ci",
        "--prefer-offline",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
    ]));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "npm ci in tests/players needs the npm registry or its cache: {said}");
}

/// One run of `play.mjs` over some players, one after the other.
pub struct Play {
    child: std::process::Child,
}

impl Play {
    pub fn start(worker: &Worker, stream: &str, players: &str, options: &[&str]) -> Self {
        Self::of(worker, &manifest::index_path(stream), &manifest::mpd_path(stream), players, options)
    }

    /// Of a multivariant playlist and an MPD.
    pub fn of(worker: &Worker, hls: &str, dash: &str, players: &str, options: &[&str]) -> Self {
        let chromium = std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".into());
        if let Err(e) = std::fs::metadata(&chromium) {
            tools::missing("chromium", &e);
        }
        let child = Command::new("node")
            .current_dir(folder())
            .args(["play.mjs", "--base", &format!("http://{}", worker.http), "--players", players])
            .args(["--hls", &format!("/{hls}"), "--dash", &format!("/{dash}")])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| tools::missing("node", &e));
        Self { child }
    }

    /// What each player did; all must be content. `play.mjs` has deadlines of its own for everything that it waits for.
    pub fn finish(self) -> Vec<Value> {
        let done = self.child.wait_with_output().unwrap();
        let (out, said) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        let results: Vec<Value> =
            out.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l} {said}"))).collect();
        for r in &results {
            println!(
                "{}: {} of {} s played, {} of {} frames, dropped {}, latency {}, ended {}, {} levels {}",
                r["player"].as_str().unwrap_or("?"),
                r["played_s"],
                r["wall_s"],
                r["frames"],
                r["frames_due"],
                r["dropped"],
                r["latency"],
                r["ended"],
                r["levels"].as_array().map_or(0, Vec::len),
                r["reasons"],
            );
        }
        let content = results.iter().all(|r| r["ok"] == true);
        assert!(done.status.success() && content, "{}: {said}\n{out}", done.status);
        results
    }
}

/// Waits until so many segments are made.
pub fn segments(worker: &Worker, stream: &str, at_least: u64) {
    until("segments", || (worker.stream(stream)?["segments"].as_u64()? >= at_least).then_some(()));
}

/// Each player has gone through so many levels.
pub fn went_through(results: &[Value], levels: usize) {
    for r in results {
        assert_eq!(r["levels"].as_array().unwrap().len(), levels, "{r}");
    }
}

/// Each player that played a stream of 30 pictures a second to its end has shown its last picture.
pub fn saw_the_end(results: &[Value], worker: &Worker, stream: &str) {
    let variants = manifest::variants(worker, stream).unwrap();
    let media = manifest::media(worker, &variants[0]);
    assert!(media.ended && variants[0].name == "src");
    // Number 0 was at time 0, which the source rung's segments count from.
    let last = media.segments.last().unwrap();
    let start: u64 = last.path.rsplit('/').next().unwrap().trim_end_matches(".m4s").parse().unwrap();
    let pictures = (start * 100 / 9 + last.micros) * 30 / 1_000_000;
    for r in results {
        let last = r["last_counter"].as_u64().unwrap();
        println!("{}: picture {last} of {pictures} was the last", r["player"]);
        // A picture is looked at each 120 ms, which are four of them.
        assert!((pictures - 8..pictures).contains(&last), "{}: picture {last} of {pictures} was the last", r["player"]);
    }
}
