//! A worker that asks a control plane.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::control_plane::ControlPlane;
use super::{publish, refused, runtime, says_no_secret, start, write_private};
use crate::harness::{beside_others, until};

const SECRET: &str = "hunter4hunter4hunter4";

#[test]
fn one_that_hangs_or_talks_nonsense_refuses_its_own_publisher_and_holds_nobody_else_up() {
    let _machine = beside_others();
    let plane = ControlPlane::start();
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    write_private(&secret, SECRET);
    let file = format!("webhook.secret_file={}", secret.display());
    let worker = start(&["--set", &plane.flag(), "--set", &file]);
    let rtmp = worker.rtmp;
    runtime().block_on(async {
        let hung = tokio::spawn(async move { refused(publish(rtmp, "hang-hunter2").await) });
        until("the question that hangs", || (!plane.asked("hang-hunter2").is_empty()).then_some(()));
        let anna = publish(rtmp, "anna-hunter2").await.ok().expect("a yes");
        assert_eq!(refused(publish(rtmp, "deny-hunter2").await), "unpaid since May");
        assert_eq!(refused(publish(rtmp, "nobody").await), "this stream key may not publish");
        let again = "who may publish cannot be looked up at the moment: try again";
        for key in ["garbage-hunter2", "long-hunter2", "fail-hunter2", "move-hunter2"] {
            assert_eq!(refused(publish(rtmp, key).await), again, "{key}");
        }
        let ladder = refused(publish(rtmp, "sport-hunter2").await);
        assert!(ladder.contains("the ladder \"cricket\" of this stream key is not there"), "{ladder}");
        assert!(!hung.is_finished(), "all of these were answered while one was waited for");
        assert_eq!(hung.await.unwrap(), again);
        // A yes is remembered, and so is a no: the one who comes again is not asked about.
        drop(anna);
        let anna = publish(rtmp, "anna-hunter2").await.ok().expect("a yes from memory");
        assert_eq!(plane.asked("anna-hunter2").len(), 1);
        assert_eq!(plane.asked("move-hunter2").len(), 1, "no redirect is followed");
        drop(anna);
    });
    let question = plane.asked("anna-hunter2").remove(0);
    let said = question.json();
    assert_eq!((&said["protocol"], &said["address"], &said["app"]), (&"rtmp".into(), &"127.0.0.1".into(), &"live".into()));
    let time = question.headers["weir-timestamp"].to_str().unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{time}.{}", question.body).as_bytes());
    let hex: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(question.headers["weir-signature"], format!("v1={hex}"));
    let metrics = worker.get("metrics").text();
    for (result, count) in [("allowed", 2), ("denied", 2), ("late", 1), ("garbage", 2), ("status", 2), ("connection", 0)] {
        let line = format!("weir_webhook_requests_total{{result=\"{result}\"}} {count}");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
    let operators = worker.log().into_iter().filter(|l| l.contains("publisher refused") && l.contains("operator")).count();
    assert_eq!(operators, 6, "a ladder that is not there, and five questions without an answer, are the operator's");
    says_no_secret(&worker, &[]);
}

#[test]
fn one_that_goes_and_comes_back_is_asked_again() {
    let _machine = beside_others();
    let plane = ControlPlane::start();
    let (address, flag) = (plane.address, plane.flag());
    let worker = start(&["--set", &flag]);
    let rtmp = worker.rtmp;
    runtime().block_on(async {
        let _anna = publish(rtmp, "anna-hunter2").await.ok().expect("a yes");
        tokio::task::spawn_blocking(move || drop(plane)).await.unwrap();
        assert!(refused(publish(rtmp, "ben-hunter2").await).contains("try again"));
        assert!(refused(publish(rtmp, "carl-hunter2").await).contains("try again"));
        let _again = publish(rtmp, "anna-hunter2").await.ok().expect("a yes from memory");
    });
    let _plane = ControlPlane::start_at(address);
    runtime().block_on(async {
        let _ben = publish(rtmp, "ben-hunter2").await.ok().expect("a yes");
    });
    let said = |text: &str| worker.log().iter().filter(|l| l.contains(text)).count();
    assert_eq!(said("webhook: 127.0.0.1: client error"), 1, "an outage is one line");
    worker.logged("webhook: 127.0.0.1 answers again");
    says_no_secret(&worker, &[]);
}
