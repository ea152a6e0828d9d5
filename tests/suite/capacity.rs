//! Room: who is taken and who is not, what is told of it, and that it is given back.

use serde_json::Value;

use crate::harness::clip::{Clip, SMALL};
use crate::harness::publisher::Publisher;
use crate::harness::worker::{SMALL_LADDER, Worker};
use crate::harness::{beside_others, until};

/// A worker with an uplink of 7 Mbit/s, of which 5.95 are given away; a source of which nothing is known is counted as 6, or 4 where it is thought to be 720p30.
fn narrow(more: &[&str]) -> Worker {
    let flags = ["--ladder", "none", "--set", "capacity.admission=on", "--set", "capacity.network_mbit=7"];
    Worker::start(&[&flags[..], more].concat())
}

fn capacity(worker: &Worker) -> Value {
    serde_json::from_str(&worker.get("v1/capacity").text()).unwrap()
}

fn phases(worker: &Worker) -> Vec<String> {
    let streams = capacity(worker)["streams"].as_array().cloned().unwrap();
    streams.iter().map(|s| format!("{} {}", s["id"].as_str().unwrap(), s["phase"].as_str().unwrap())).collect()
}

/// The stream's promise is what it takes, and its first segment is published.
fn live(worker: &Worker, id: &str) {
    until("a live stream", || phases(worker).contains(&format!("{id} live")).then_some(()));
}

fn refused(worker: &Worker, clip: &std::path::Path, key: &str) -> String {
    let (status, said) = Publisher::start(clip, worker, key).outcome();
    assert!(!status.success(), "{said}");
    said
}

#[test]
fn who_finds_no_room_is_refused_with_the_reason_and_the_report_said_so() {
    let file = Clip { seconds: 60, ..SMALL }.file();
    let _machine = beside_others();
    let worker = narrow(&[]);
    let before = capacity(&worker);
    assert_eq!((&before["v"], &before["state"], &before["enforced"]), (&1.into(), &"ready".into(), &true.into()));
    assert_eq!(before["accepts"]["1080p30"], 1, "alone it is taken");
    assert_eq!(worker.get("availability").status, 200);

    let anna = Publisher::start(&file, &worker, "anna");
    until("a promise", || (!phases(&worker).is_empty()).then_some(()));
    // What it takes is not known yet, and then it is: there is no room for an unknown one either way.
    let said = refused(&worker, &file, "ben");
    assert!(said.contains("worker is full: the network is taken to"), "{said}");
    live(&worker, "anna");
    let full = capacity(&worker);
    assert_eq!(
        (&full["state"], &full["accepts"]["1080p30"], &full["units"]["scarce"]),
        (&"full".into(), &0.into(), &"network".into())
    );
    assert!(full["seq"].as_u64() > before["seq"].as_u64() && full["boot"] == before["boot"]);
    let used = full["dimensions"]["network"]["used"].as_u64().unwrap();
    assert!((400..1500).contains(&used), "a clip of 600 kbit/s and sound: {used}");
    for path in ["availability", "readyz"] {
        let answer = worker.get(path);
        assert_eq!((answer.status, answer.text().as_str()), (503, "full\n"), "{path}");
    }
    let said = refused(&worker, &file, "ben");
    assert!(said.contains("worker is full: the network is taken to"), "{said}");
    let metrics = worker.get("metrics").text();
    for sample in ["weir_refused_full_total 2", "weir_accepts{profile=\"1080p30\"} 0"] {
        assert!(metrics.contains(sample), "{metrics}");
    }
    anna.interrupt();
    until("the room of who left", || phases(&worker).is_empty().then_some(()));
    let after = capacity(&worker);
    assert_eq!((&after["state"], &after["units"]["used_milli"]), (&"ready".into(), &0.into()));
    assert_eq!(worker.get("readyz").status, 200);
    let ben = Publisher::start(&file, &worker, "ben");
    live(&worker, "ben");
    drop(ben);
    worker.stop();
}

#[test]
fn what_a_stream_really_takes_makes_room_for_the_next() {
    let file = Clip { seconds: 60, ..SMALL }.file();
    let _machine = beside_others();
    let worker = narrow(&["--set", "capacity.assume=720p30"]);
    let publishers: Vec<Publisher> = ["anna", "ben", "carl"]
        .iter()
        .map(|key| {
            let publisher = Publisher::start(&file, &worker, key);
            live(&worker, key);
            publisher
        })
        .collect();
    assert_eq!(phases(&worker), ["anna live", "ben live", "carl live"]);
    // A publisher who comes back has his room still.
    publishers[1].interrupt();
    let again = Publisher::start(&file, &worker, "ben");
    until("ben again", || (worker.stream("ben")?["state"] == "live").then_some(()));
    assert_eq!(phases(&worker), ["anna live", "ben live", "carl live"]);
    drop((publishers, again));
    worker.stop();
}

#[test]
fn a_session_gives_back_what_it_had_however_it_ends() {
    let fine = Clip { seconds: 60, ..SMALL }.file();
    let bad = Clip { seconds: 20, gop: 300, ..SMALL }.file();
    let _machine = beside_others();
    let flags = ["--ladder", SMALL_LADDER, "--set", "capacity.admission=on", "--set", "capacity.cpu_milli=16000"];
    let worker = Worker::start(&[&flags[..], &["--set", "long_gop=refuse", "--set", "end_after=1"]].concat());
    let nothing = |how: &str| until(how, || phases(&worker).is_empty().then_some(()));
    let said = refused(&worker, &bad, "anna");
    assert!(said.contains("key frame"), "{said}");
    nothing("the room of a source that was refused");
    let cut = Publisher::start(&fine, &worker, "anna");
    live(&worker, "anna");
    drop(cut);
    nothing("the room of a publisher that was cut off");
    let mut ended = Publisher::start(&fine, &worker, "anna");
    live(&worker, "anna");
    assert_eq!(worker.delete("anna"), 202);
    ended.outcome();
    nothing("the room of a stream that was ended");
    worker.stop();
}

#[test]
fn small_pictures_cost_little_and_what_encodes_them_is_counted() {
    let file = Clip { seconds: 60, ..SMALL }.file();
    let _machine = beside_others();
    let flags = ["--ladder", SMALL_LADDER, "--set", "capacity.admission=on", "--set", "capacity.cpu_milli=16000"];
    let worker = Worker::start(&flags);
    let publisher = Publisher::start(&file, &worker, "anna");
    live(&worker, "anna");
    let report = capacity(&worker);
    // 920 macroblocks 30 times a second decoded, 27 x 15 encoded.
    let cpu = report["dimensions"]["cpu"]["used"].as_u64().unwrap();
    assert!((60..250).contains(&cpu), "{report:#}");
    let cost = report["streams"][0]["cost_milli"].as_u64().unwrap();
    assert!((10..500).contains(&cost), "of a stream of 1080p30: {report:#}");
    assert_eq!((&report["state"], &report["encoder"]), (&"ready".into(), &"software".into()));
    assert!(report["accepts"]["720p30"].as_u64() > report["accepts"]["1080p30"].as_u64());
    assert!(report["limits"]["cpu_busy_pct"].is_u64(), "{report:#}");
    drop(publisher);
    worker.stop();
}
