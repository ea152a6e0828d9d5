//! A worker with files of keys and of signing keys, and those who guess.

use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use weir::ingest::auth::{SigningKeys, entry};
use weir::secret::Secret;

use super::{publish, refused, runtime, says_no_secret, start, write_private};
use crate::harness::clip::SMALL;
use crate::harness::publisher::Publisher;
use crate::harness::{beside_others, tools, until};

fn keys_file(keys: &[(&str, &str)]) -> String {
    keys.iter().map(|(stream, key)| entry(&stream.parse().unwrap(), &Secret::new(*key))).collect()
}

fn weir_key(arguments: &[&str]) -> String {
    let done = tools::run(Command::new(env!("CARGO_BIN_EXE_weir")).arg("key").args(arguments));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn sign(file: &Path, id: &str, stream: &str, expires: u64) -> String {
    let keys = SigningKeys::read(file).unwrap();
    keys.sign(&id.parse().unwrap(), &stream.parse().unwrap(), expires).unwrap().name.expose().to_owned()
}

#[test]
fn a_signed_key_publishes_its_own_stream_until_its_time_and_is_worth_nothing_elsewhere() {
    let clip = SMALL.file();
    let _machine = beside_others();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("signing.toml");
    write_private(&file, &weir_key(&["hmac", "k1"]));
    let path = file.display().to_string();
    let printed = weir_key(&["sign", "anna", "--expires", "2h", "--id", "k1", "--keys", &path]);
    let (name, passphrase) = printed.trim().split_once("\npassphrase=").expect("a name and a passphrase");
    let worker = start(&["--set", &format!("signed.keys={path}")]);
    let _publisher = Publisher::start(&clip, &worker, name);
    until("the signed stream", || worker.stream("anna").filter(|s| s["state"] == "live"));
    let rtmp = worker.rtmp;
    let later = 4_000_000_000;
    runtime().block_on(async {
        let ben = name.replace("anna?", "ben?");
        let wrong = "the stream key's signature is wrong: copy all of it";
        assert_eq!(refused(publish(rtmp, &ben).await), wrong, "another stream's signature");
        assert_eq!(
            refused(publish(rtmp, &format!("{name}0")).await),
            "the signed stream key is not whole: it needs exp, id and sig, each once; copy all of it"
        );
        assert_eq!(refused(publish(rtmp, "anna").await), "unknown stream key");
        let over = refused(publish(rtmp, &sign(&file, "k1", "anna", 1_000_000_000)).await);
        assert!(over.starts_with("the stream key expired ") && over.ends_with(": get a new one"), "{over}");
        // Another worker's key of the same id, then one that this worker does not have, until it is told of it.
        let other = folder.path().join("other.toml");
        write_private(&other, &(weir_key(&["hmac", "k1"]) + &weir_key(&["hmac", "k2"])));
        assert_eq!(refused(publish(rtmp, &sign(&other, "k1", "carl", later)).await), wrong);
        let rotated = sign(&other, "k2", "carl", later);
        assert_eq!(
            refused(publish(rtmp, &rotated).await),
            "the stream key is signed with k2, which is not in force here: get a new one"
        );
        let second = std::fs::read_to_string(&other).unwrap();
        let second = &second[second.rfind("[[hmac]]").unwrap()..];
        write_private(&file, &format!("{}{second}", std::fs::read_to_string(&file).unwrap()));
        tokio::task::block_in_place(|| worker.logged("signing keys read again"));
        let _carl = publish(rtmp, &rotated).await.ok().expect("a key signed by the new one");
        let _dora = publish(rtmp, &sign(&file, "k1", "dora", later)).await.ok().expect("a key signed by the old one");
    });
    assert!(worker.stream("anna").is_some());
    let signature = name.split("sig=").nth(1).unwrap();
    says_no_secret(&worker, &[signature, passphrase, "sig="]);
}

#[test]
fn a_keys_file_changes_under_running_streams_and_a_broken_one_changes_nothing() {
    let _machine = beside_others();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.toml");
    write_private(&file, &keys_file(&[("anna", "hunter2-anna")]));
    let worker = start(&["--keys", &file.display().to_string()]);
    let rtmp = worker.rtmp;
    let count = |text: &str| worker.log().iter().filter(|l| l.contains(text)).count();
    let times = |text: &str, n| tokio::task::block_in_place(|| until(text, || (count(text) >= n).then_some(())));
    runtime().block_on(async {
        let anna = publish(rtmp, "hunter2-anna").await.ok().expect("the first key");
        assert_eq!(refused(publish(rtmp, "hunter2-ben").await), "unknown stream key");
        // Anna's key goes, and a passphrase comes: her stream that runs goes on.
        let ben = keys_file(&[("ben", "hunter2-ben")]) + "passphrase = 'hunter2hunter2'\n";
        write_private(&file, &ben);
        times("keys file read again", 1);
        let _ben = publish(rtmp, "hunter2-ben").await.ok().expect("the new key");
        assert_eq!(refused(publish(rtmp, "hunter2-anna").await), "unknown stream key");
        let (mut io, mut buffer) = (anna.0.io, [0; 4096]);
        while let Ok(n) = io.try_read(&mut buffer) {
            assert!(n > 0, "the publisher whose key is gone was cut off");
        }
        assert!(worker.stream("anna").unwrap()["publisher"].is_string(), "and her stream has its publisher");
        write_private(&file, "[[key]]\nstream = 'hunter2");
        times("what was read before stays in force", 1);
        let _again = publish(rtmp, "hunter2-ben").await.ok().expect("the key that was read before");
        // At once at a signal, although nothing has changed: said again.
        let pid = Pid::from_raw(i32::try_from(worker.pid()).unwrap()).unwrap();
        kill_process(pid, Signal::HUP).unwrap();
        times("what was read before stays in force", 2);
        write_private(&file, &keys_file(&[("carl", "hunter2-carl")]));
        kill_process(pid, Signal::HUP).unwrap();
        times("keys file read again", 2);
        let _carl = publish(rtmp, "hunter2-carl").await.ok().expect("the newest key");
    });
    assert!(worker.get("metrics").text().contains("weir_keys_reload_failures_total 2"));
    says_no_secret(&worker, &[]);
}

#[test]
fn who_guesses_waits_until_the_operator_lets_him_in_and_streamers_of_his_address_come_back() {
    let _machine = beside_others();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.toml");
    write_private(&file, &keys_file(&[("anna", "hunter2-anna"), ("ben", "hunter2-ben")]));
    let flags = ["--set", "bans.exempt=[]", "--set", "bans.after=3", "--set", "bans.first=600", "--set", "bans.longest=600"];
    let worker = start(&[&["--keys", &file.display().to_string()], flags.as_slice()].concat());
    let (rtmp, admin) = (worker.rtmp, worker.admin);
    let bans = || -> serde_json::Value {
        let url = format!("http://{admin}/v1/bans");
        ureq::get(&url).call().unwrap().body_mut().read_json().unwrap()
    };
    let guess = async |n: usize| refused(publish(rtmp, &format!("hunter3-{n}")).await);
    let banned = "too many wrong stream keys from this address: wait ";
    runtime().block_on(async {
        drop(publish(rtmp, "hunter2-anna").await.ok().expect("a right key"));
        for n in [1, 1, 1, 1, 2, 3] {
            assert_eq!(guess(n).await, "unknown stream key", "{n}");
        }
        assert!(guess(4).await.starts_with(banned));
        assert!(
            refused(publish(rtmp, "hunter2-ben").await).starts_with(banned),
            "a right one, that nobody has used from there"
        );
        let _anna = publish(rtmp, "hunter2-anna").await.ok().expect("the streamer who was there before");
        let listed = tokio::task::block_in_place(bans);
        assert_eq!((&listed["bans"][0]["address"], &listed["bans"][0]["wrong_keys"]), (&"127.0.0.1".into(), &3.into()));
        let lift =
            |address: &str| ureq::delete(&format!("http://{admin}/v1/bans/{address}")).call().map(|a| a.status().as_u16());
        tokio::task::block_in_place(|| {
            assert!(matches!(lift("192.0.2.1"), Err(ureq::Error::StatusCode(404))));
            assert!(matches!(lift("nowhere"), Err(ureq::Error::StatusCode(400))));
            assert_eq!(lift("127.0.0.1").unwrap(), 204);
        });
        assert_eq!(tokio::task::block_in_place(bans)["bans"], serde_json::json!([]));
        let _ben = publish(rtmp, "hunter2-ben").await.ok().expect("nobody is banned any more");
    });
    let metrics = worker.get("metrics").text();
    for line in ["weir_bans 0", "weir_bans_begun_total 1", "weir_publish_judgements_total{result=\"banned\"} 2"] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    says_no_secret(&worker, &[]);
}
