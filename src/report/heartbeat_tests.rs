use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::{mpsc, oneshot};

use super::*;

const KEY: &str = "0123456789abcdef";

/// What docs/api.md asks of a receiver: the signature, then `boot` and `seq`, then the TTL.
#[derive(Debug, Default)]
struct Table(BTreeMap<String, (String, u64)>);

impl Table {
    /// Whether a report is newer than what is known of its worker, and is taken.
    fn take(&mut self, report: &Value) -> bool {
        let text = |key: &str| report[key].as_str().unwrap().to_owned();
        let new = (text("boot"), report["seq"].as_u64().unwrap());
        let is_newer = self.0.get(&text("worker")).is_none_or(|known| *known < new);
        if is_newer {
            self.0.insert(text("worker"), new);
        }
        is_newer
    }
}

fn is_signed(headers: &HeaderMap, body: &str) -> bool {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).unwrap();
    mac.update(format!("{}.{body}", text("weir-timestamp")).as_bytes());
    let wanted: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
    text("weir-signature") == format!("v1={wanted}")
}

/// A request that has come, and what is to be answered.
type Come = (Value, bool, oneshot::Sender<StatusCode>);

/// A receiver that answers nothing until the test says so.
async fn receiver() -> (String, mpsc::Receiver<Come>) {
    let (sender, requests) = mpsc::channel::<Come>(100);
    let take = |State(sender): State<mpsc::Sender<Come>>, headers: HeaderMap, body: String| async move {
        let (answer, said) = oneshot::channel();
        let _ = sender.send((serde_json::from_str(&body).unwrap(), is_signed(&headers, &body), answer)).await;
        said.await.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    };
    let router = Router::new().route("/reports", post(take)).with_state(sender);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/reports", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, requests)
}

fn settings(url: &str) -> ReportSettings {
    // A deadline that a held request outlives, and pauses that a test can wait for.
    ReportSettings { url: url.into(), interval_ms: 200, deadline_ms: 300, ..ReportSettings::default() }
}

/// Beats until the test ends, with a report like the worker's.
fn begin(url: &str, boot: &'static str) -> Arc<Stats> {
    let heartbeat = Heartbeat::new(&settings(url), Some(KEY.into())).unwrap().unwrap();
    let stats = Arc::<Stats>::default();
    let (counter, shared) = (AtomicU64::new(0), Arc::clone(&stats));
    tokio::spawn(async move {
        let report =
            || json!({ "v": 1, "worker": "w1", "boot": boot, "seq": counter.fetch_add(1, Ordering::Relaxed) }).to_string();
        heartbeat.beat(report, &shared).await;
    });
    stats
}

fn counted(stats: &Stats) -> [u64; 4] {
    Sent::ALL.map(|s| stats.sent[s as usize].load(Ordering::Relaxed))
}

#[tokio::test]
async fn reports_are_signed_and_numbered() {
    let (url, mut requests) = receiver().await;
    let stats = begin(&url, "b1");
    for seq in 0..3 {
        let (report, signed, answer) = requests.recv().await.unwrap();
        assert_eq!((report["seq"].as_u64(), signed, report["v"].as_u64()), (Some(seq), true, Some(1)));
        answer.send(StatusCode::NO_CONTENT).unwrap();
    }
    // The next one is under way, and has no answer yet.
    let _open = requests.recv().await.unwrap();
    assert_eq!(counted(&stats), [3, 0, 0, 0]);
}

/// The first request's answer never comes, the second is refused, the third's connection breaks: the next one is new each time. What was held and is looked at last is old by its number.
#[tokio::test]
async fn a_receiver_that_drops_delays_and_reorders_ends_with_the_newest() {
    let (url, mut requests) = receiver().await;
    let stats = begin(&url, "b1");
    let mut table = Table::default();
    let (held, _, no_answer) = requests.recv().await.unwrap();
    let (second, _, answer) = requests.recv().await.unwrap();
    answer.send(StatusCode::SERVICE_UNAVAILABLE).unwrap();
    let (third, _, answer) = requests.recv().await.unwrap();
    assert!(table.take(&third));
    answer.send(StatusCode::OK).unwrap();
    let seqs = [&held, &second, &third].map(|r| r["seq"].as_u64().unwrap());
    assert_eq!(seqs, [0, 1, 2], "no report is sent twice");
    assert!(!table.take(&second) && !table.take(&held), "late ones are dropped");
    drop(no_answer);
    let (fourth, _, _open) = requests.recv().await.unwrap();
    assert!(table.take(&fourth));
    assert_eq!(counted(&stats), [1, 1, 0, 1]);
    // Another boot counts anew, and its reports are newer than all of the last one's.
    begin(&url, "b2");
    let reborn = loop {
        let (report, _, answer) = requests.recv().await.unwrap();
        let _ = answer.send(StatusCode::OK);
        if report["boot"] == "b2" {
            break report;
        }
    };
    assert_eq!(reborn["seq"], 0);
    assert!(table.take(&reborn) && !table.take(&fourth));
}

#[tokio::test]
async fn nobody_needs_to_listen() {
    let nowhere = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nowhere.local_addr().unwrap();
    drop(nowhere);
    let heartbeat = Heartbeat::new(&settings(&format!("http://{address}/")), Some(KEY.into())).unwrap().unwrap();
    let stats = Arc::<Stats>::default();
    let (made, mut reports) = mpsc::channel(10);
    let shared = Arc::clone(&stats);
    tokio::spawn(async move {
        let report = || {
            let _ = made.try_send(());
            String::new()
        };
        heartbeat.beat(report, &shared).await;
    });
    for _ in 0..3 {
        reports.recv().await.unwrap();
    }
    assert!(counted(&stats)[Sent::Connection as usize] >= 2);
}

#[test]
fn reports_are_never_sent_unsigned_or_in_the_clear_by_mistake() {
    let new = |settings: &ReportSettings, variable: Option<&str>| Heartbeat::new(settings, variable.map(str::to_owned));
    assert!(new(&ReportSettings::default(), None).unwrap().is_none(), "nowhere to send");
    let far = settings("https://scheduler.example/");
    assert!(matches!(new(&far, None), Err(Error::Unsigned)));
    assert!(matches!(new(&far, Some("short")), Err(Error::Unsigned)));
    let clear = new(&settings("http://scheduler.example/"), Some(KEY)).unwrap_err();
    assert!(clear.to_string().contains("would show reports to the network"), "{clear}");
    let file = ReportSettings { secret_file: "/nowhere/secret".into(), ..far };
    assert!(new(&file, Some(KEY)).unwrap_err().to_string().contains("report secret /nowhere/secret"));
}
