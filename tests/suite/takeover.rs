//! Two workers on one bucket: one dies, or is frozen, and the other goes on with the same playlists.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::clip::{Clip, SMALL};
use crate::harness::players::{self, Play};
use crate::harness::publisher::Publisher;
use crate::harness::recording::Recording;
use crate::harness::s3_server::{BUCKET, CREDENTIALS, Server};
use crate::harness::track::Track;
use crate::harness::watch::{Seen, Watch};
use crate::harness::worker::{SMALL_LADDER, Worker};
use crate::harness::{alone, beside_others, until};

fn worker(server: &Server, name: &str) -> Worker {
    let (store, endpoint) = (format!("store=s3://{BUCKET}"), server.endpoint());
    let flags = ["--open", "--ladder", SMALL_LADDER, "--worker", name, "--set", "reconnect_grace=1", "--set", "record=true"];
    Worker::start_with(&[&flags[..], &["--set", &store, "--set", &endpoint]].concat(), &CREDENTIALS)
}

/// Numbers behind a DISCONTINUITY, of each track.
fn breaks(seen: &Seen) -> Vec<(String, Vec<u64>)> {
    let of = |name: &str| seen.listed.iter().filter(|((t, _), s)| t == name && s.discontinuity).map(|((_, n), _)| *n).collect();
    seen.tracks.keys().map(|name| (name.clone(), of(name))).collect()
}

/// Every track goes on at the same number behind the one discontinuity, and nothing is missing.
fn went_on(seen: &Seen, at_least: u64) -> u64 {
    let breaks = breaks(seen);
    let at = breaks[0].1.first().copied().expect("a discontinuity");
    assert!(at >= at_least);
    for (track, numbers) in &breaks {
        assert_eq!(numbers, &[at], "{track}: {breaks:?}");
        let media = &seen.tracks[track];
        let all: Vec<u64> = seen.listed.keys().filter(|(t, _)| t == track).map(|(_, n)| *n).collect();
        assert!(all.windows(2).all(|n| n[1] == n[0] + 1), "{track}: {all:?}");
        assert!(media.gaps().is_empty(), "{track}: {:?}", media.gaps());
        Track::of(seen, track).check();
    }
    let mpd = seen.mpd.as_ref().unwrap();
    // The first writer's may have left the window by now.
    let first_is_listed = seen.tracks.values().all(|t| t.sequence < at);
    assert_eq!(mpd.periods.len(), if first_is_listed { 2 } else { 1 }, "a Period for each writer");
    at
}

#[test]
fn a_killed_worker_is_followed_by_another_and_players_play_on() {
    let clip = Clip { seconds: 40, ..SMALL };
    let file = clip.file();
    players::install();
    let _machine = alone();
    let server = Server::start();
    let (a, b) = (worker(&server, "a"), Arc::new(worker(&server, "b")));
    // Whoever watches does it by the other worker, or by the bucket: the addresses are the same.
    let watch = Watch::start(&b, "anna");
    let mut publisher = Publisher::start(&file, &a, "anna");
    players::segments(&a, "anna", 4);
    let play = |player| Play::start(&b, "anna", player, &["--live", "--seconds", "14", "--resets", "1", "--absence", "6"]);
    let plays = ["hls.js", "dash.js"].map(play);
    players::segments(&a, "anna", 8);
    let killed = Instant::now();
    drop(a);
    publisher.outcome();
    // OBS waits so long before it connects again.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let publisher = Publisher::start(&file, &b, "anna");
    let behind = until("the other worker's first segment", || {
        b.get("live/local/anna/src.m3u8").text().contains("#EXT-X-DISCONTINUITY\n").then(|| killed.elapsed())
    });
    println!("{behind:?} from the kill to the next playable segment");
    let results: Vec<_> = plays.into_iter().flat_map(Play::finish).collect();
    publisher.finish();
    let seen = watch.finish_sliding();
    players::went_through(&results, 2);
    went_on(&seen, 6);
    b.over("anna");
    let recording = Recording::of(&server, "anna");
    let there: BTreeSet<String> = server.keys("seg/").into_iter().collect();
    recording.holds(&server, &there);
    assert_eq!(recording.discontinuities("src").len(), 1);
    Arc::into_inner(b).unwrap().stop();
}

#[test]
fn a_worker_that_was_frozen_is_fenced_when_it_wakes() {
    let clip = Clip { seconds: 14, ..SMALL };
    let file = clip.file();
    let _machine = beside_others();
    let server = Server::start();
    let (a, b) = (worker(&server, "a"), Arc::new(worker(&server, "b")));
    let watch = Watch::start(&b, "anna");
    let mut first = Publisher::start(&file, &a, "anna");
    players::segments(&a, "anna", 3);
    let frozen = Pid::from_raw(a.pid().try_into().unwrap()).unwrap();
    kill_process(frozen, Signal::STOP).unwrap();
    let second = Publisher::start(&file, &b, "anna");
    players::segments(&b, "anna", 2);
    kill_process(frozen, Signal::CONT).unwrap();
    // It has a publisher still, and segments that it never named.
    a.logged("the stream was taken over by epoch 2");
    let (status, _) = first.outcome();
    assert!(!status.success(), "the fenced worker's publisher is disconnected");
    until("the end of the fenced session", || a.stream("anna").is_none().then_some(()));
    second.finish();
    let seen = watch.finish();
    went_on(&seen, 2);
    a.stop();
    Arc::into_inner(b).unwrap().stop();
}

#[test]
fn a_worker_that_stops_leaves_its_streams_to_the_others() {
    let (short, long) = (Clip { seconds: 10, ..SMALL }.file(), Clip { seconds: 34, ..SMALL }.file());
    players::install();
    let _machine = beside_others();
    let moto = Server::moto();
    Arc::into_inner(handed_over(&short, &moto)).unwrap().stop();
    let server = Server::start();
    // Long enough for both levels without going back: a dash.js that has a whole recording in its buffer ignores a switch, and of what hls.js
    // begins with, nobody knows the level.
    let b = handed_over(&long, &server);
    let recording = Recording::of(&server, "anna");
    recording.holds(&server, &server.keys("seg/").into_iter().collect());
    assert!(recording.tracks.values().all(|t| t.gaps().is_empty()));
    let (hls, dash) = (format!("{}index.m3u8", recording.folder), format!("{}manifest.mpd", recording.folder));
    let options = ["--vod", "--seconds", "5", "--resets", "1"];
    let results = Play::of(&b, &hls, &dash, "hls.js,dash.js,shaka-dash", &options).finish();
    players::went_through(&results, 2);
    Arc::into_inner(b).unwrap().stop();
}

fn handed_over(file: &std::path::Path, server: &Server) -> Arc<Worker> {
    let (a, b) = (worker(server, "a"), Arc::new(worker(server, "b")));
    let watch = Watch::start(&b, "anna");
    let mut first = Publisher::start(file, &a, "anna");
    players::segments(&a, "anna", 2);
    a.stop();
    first.outcome();
    Publisher::start(file, &b, "anna").finish();
    let seen = watch.finish();
    went_on(&seen, 2);
    b.over("anna");
    b
}

#[test]
fn a_session_that_nobody_goes_on_with_is_ended_by_another_worker() {
    let file = SMALL.file();
    let _machine = beside_others();
    let server = Server::start();
    let a = worker(&server, "a");
    let mut publisher = Publisher::start(&file, &a, "anna");
    players::segments(&a, "anna", 2);
    until("a playlist", || (a.get("live/local/anna/audio.m3u8").status == 200).then_some(()));
    drop(a);
    publisher.outcome();
    let (store, endpoint) = (format!("store=s3://{BUCKET}"), server.endpoint());
    let flags = ["--open", "--ladder", "none", "--set", "end_after=2", "--set", &store, "--set", &endpoint];
    let b = Worker::start_with(&flags, &CREDENTIALS);
    b.logged("ending an abandoned session");
    until("the end in all manifests", || {
        let ended = |path: &str, sign: &str| b.get(&format!("live/local/anna/{path}")).text().contains(sign);
        let all = [("src.m3u8", "#EXT-X-ENDLIST"), ("240p.m3u8", "#EXT-X-ENDLIST"), ("audio.m3u8", "#EXT-X-ENDLIST")];
        (all.iter().all(|(path, sign)| ended(path, sign)) && ended("manifest.mpd", "type=\"static\"")).then_some(())
    });
    until("the end in state.json", || {
        let (_, _, body) = server.object("ckpt/local/anna/state.json")?;
        String::from_utf8(body).unwrap().contains("\"phase\":\"ended\"").then_some(())
    });
    b.stop();
}
