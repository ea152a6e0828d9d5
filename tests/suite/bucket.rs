//! `weir bucket check` and `weir bucket apply` against a server that shares no code with the SDK.

use std::process::{Command, Output};

use crate::harness::clip::SMALL;
use crate::harness::publisher::Publisher;
use crate::harness::s3_server::{BUCKET, CREDENTIALS, Server};
use crate::harness::worker::{SMALL_LADDER, Worker};
use crate::harness::{beside_others, until};

const COPY: &str = "weir-test-copy";
const ROLE: &str = "arn:aws:iam::000000000000:role/copies";

fn weir(server: &Server, arguments: &[&str]) -> Output {
    let (store, endpoint) = (format!("s3://{BUCKET}/tv"), format!("http://{}", server.address));
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.arg("bucket").args(arguments).args(["--store", &store, "--s3-endpoint", &endpoint]).envs(CREDENTIALS);
    command.output().unwrap()
}

/// Exit code, and lines of the table or of the changes.
fn lines(server: &Server, arguments: &[&str]) -> (Option<i32>, Vec<String>) {
    let done = weir(server, arguments);
    let text = String::from_utf8(done.stdout).unwrap();
    println!("{text}{}", String::from_utf8_lossy(&done.stderr));
    (done.status.code(), text.lines().map(str::to_owned).collect())
}

fn wrong(lines: &[String]) -> Vec<String> {
    let line = |l: &String| Some(l.strip_prefix("WRONG ")?.trim().to_owned());
    lines.iter().filter_map(line).collect()
}

fn apply(server: &Server, more: &[&str]) -> (Option<i32>, Vec<String>) {
    let destination = format!("arn:aws:s3:::{COPY}");
    lines(server, &[&["apply", "--destination-bucket", &destination, "--role", ROLE], more].concat())
}

/// A bucket, and one for its copies.
fn server() -> Server {
    let server = Server::start();
    server.put(&format!("/{COPY}"), "");
    server.put(&format!("/{COPY}?versioning"), VERSIONED);
    server
}

const VERSIONED: &str = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";

#[test]
fn a_new_bucket_is_wrong_by_name_until_it_is_set_up() {
    let server = server();
    let (code, found) = lines(&server, &["check"]);
    assert_eq!(code, Some(6));
    for line in ["versioning", "replication of tv/ckpt/", "lifecycle: tv/seg/rw/", "lifecycle: half uploads", "CORS"] {
        assert!(wrong(&found).iter().any(|w| w.starts_with(line)), "{line}: {found:#?}");
    }
    assert!(found.iter().any(|l| l.contains("-> weir bucket apply")), "a fix for each line");
    assert!(found.iter().any(|l| l.starts_with("ok") && l.contains("conditional writes")));
    assert!(found.iter().any(|l| l.contains("\"s3:ListBucket\"")), "the policy is printed");
    assert!(found.iter().any(|l| l.starts_with("note") && l.contains("5.7 Gbit/s")), "the quota is remembered");

    let (code, said) = lines(&server, &["apply"]);
    assert_eq!((code, said), (Some(2), Vec::new()), "nobody but the operator knows where to copy to");
    let (code, dry) = apply(&server, &["--dry-run"]);
    assert_eq!(code, Some(0));
    assert!(dry.iter().any(|l| l == "+ versioning: Enabled") && dry.iter().any(|l| l.contains("weir-tv-seg-rk")), "{dry:#?}");
    assert_eq!(wrong(&lines(&server, &["check"]).1), wrong(&found), "a dry run changes nothing");

    let (code, done) = apply(&server, &[]);
    assert_eq!(code, Some(0));
    assert_eq!(done.len(), dry.len());
    let (code, now) = lines(&server, &["check"]);
    assert_eq!((code, wrong(&now)), (Some(0), Vec::new()), "{now:#?}");
    // What is set needs no telling again.
    assert_eq!(lines(&server, &["apply"]), (Some(0), vec!["nothing to change".to_owned()]));
    assert!(server.keys("").is_empty(), "the trial leaves nothing behind");
}

#[test]
fn each_part_that_is_broken_is_named_and_mended_and_others_rules_stay() {
    let server = server();
    let foreign = "<LifecycleConfiguration><Rule><ID>accounts</ID><Filter><Prefix>bills/</Prefix></Filter><Status>Enabled</Status>\
        <Expiration><Days>400</Days></Expiration></Rule></LifecycleConfiguration>";
    server.put(&format!("/{BUCKET}?lifecycle"), foreign);
    assert_eq!(apply(&server, &[]).0, Some(0));
    let lifecycle = || server.get(&format!("/{BUCKET}?lifecycle"));
    assert!(lifecycle().contains("accounts") && lifecycle().contains("weir-tv-seg-rw"), "{}", lifecycle());

    let text = server.get(&format!("/{BUCKET}?replication"));
    let broken = text.replacen("<ReplicaModifications><Status>Enabled", "<ReplicaModifications><Status>Disabled", 1);
    assert_ne!(broken, text);
    server.put(&format!("/{BUCKET}?replication"), &broken);
    server.delete(&format!("/{BUCKET}?cors"));
    server.put(
        &format!("/{BUCKET}?lifecycle"),
        &lifecycle().replacen("<ID>weir-tv-live</ID>", "<ID>weir-gone</ID>", 1).replacen(
            "<Prefix>tv/live/</Prefix>",
            "<Prefix>tv/rec/</Prefix>",
            1,
        ),
    );
    let (code, found) = lines(&server, &["check"]);
    assert_eq!(code, Some(6));
    let wrong_now = wrong(&found);
    assert_eq!(wrong_now.len(), 3, "{wrong_now:#?}");
    for line in ["replication of tv/seg/rk/", "lifecycle: old versions in tv/live/ go", "CORS"] {
        assert!(wrong_now.iter().any(|w| w.starts_with(line)), "{line}: {wrong_now:#?}");
    }
    assert_eq!(apply(&server, &[]).0, Some(0));
    assert_eq!(lines(&server, &["check"]).0, Some(0));
    assert!(lifecycle().contains("accounts"), "{}", lifecycle());
}

#[test]
fn a_worker_looks_at_the_bucket_and_follows_copies() {
    let file = SMALL.file();
    let _machine = beside_others();
    let server = server();
    let (store, endpoint) = (format!("store=s3://{BUCKET}/tv"), server.endpoint());
    let flags = ["--open", "--ladder", SMALL_LADDER, "--set", "reconnect_grace=1", "--set", &store, "--set", &endpoint];
    let worker = Worker::start_with(&flags, &CREDENTIALS);
    worker.logged("bucket: versioning: off");
    let about = |worker: &Worker| serde_json::from_str::<serde_json::Value>(&worker.get("v1/worker").text()).unwrap();
    assert!(about(&worker)["replication"]["configuration"].as_array().unwrap().len() >= 5);
    assert!(worker.get("metrics").text().contains("weir_rtc_config_ok 0\n"));
    worker.stop();

    assert_eq!(apply(&server, &[]).0, Some(0));
    let worker = Worker::start_with(&flags, &CREDENTIALS);
    let publisher = Publisher::start(&file, &worker, "anna");
    let copies = until("a sample that is copied", || {
        let copies = about(&worker)["replication"].clone();
        (copies["samples"].as_u64()? > 0).then_some(copies)
    });
    assert_eq!((copies["state"].as_str(), copies["untracked"].as_u64()), (Some("ok"), Some(0)), "{copies}");
    assert!(copies["rpo_seconds"].as_u64().is_some_and(|s| s < 120), "{copies}");
    let metrics = worker.get("metrics").text();
    for line in ["weir_rtc_config_ok 1", "weir_replication_seconds_count 1", "weir_replication_state{state=\"ok\"} 1"] {
        assert!(metrics.contains(&format!("{line}\n")), "{line}: {metrics}");
    }
    publisher.finish();
    worker.over("anna");
    // What the worker calls copied is there.
    let copied = server.get(&format!("/{COPY}?list-type=2&prefix=tv/seg/rw/"));
    assert!(copied.contains(".m4s</Key>") && !server.get(&format!("/{COPY}?list-type=2&prefix=tv/live/")).contains("<Key>"));
    worker.stop();
}
