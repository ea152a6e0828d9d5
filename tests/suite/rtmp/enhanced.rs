//! Enhanced RTMP's `connect`, and publishers that can be asked to move.

use std::sync::Arc;

use tokio::sync::mpsc;
use weir::ingest::rtmp::Limits;
use weir::ingest::{Line, Packet, Verdict};

use super::{Bench, all};
use crate::raw_rtmp::{VIDEO, video};

/// CapsExMask: Reconnect; ModEx.
const RECONNECT: f64 = 1.0;
const MOD_EX: f64 = 4.0;

#[tokio::test(start_paused = true)]
async fn an_encoder_that_asks_is_told_what_is_taken_and_one_that_does_not_is_left_alone() {
    let bench = Bench::new(Limits::default());
    let (mut publisher, _task) = bench.pipe(64 << 10);
    publisher.connect_enhanced("live", 0.0).await;
    for text in ["fourCcList", "avc1", "mp4a", "videoFourCcInfoMap", "audioFourCcInfoMap", "capsEx"] {
        assert!(publisher.has_heard(text), "{text}");
    }
    assert!(!publisher.has_heard("hvc1"), "it is the encoder's list that is echoed");
    let (mut publisher, _task) = bench.pipe(64 << 10);
    publisher.connect("live").await;
    assert!(!publisher.has_heard("fourCcList") && !publisher.has_heard("capsEx"));
}

#[tokio::test(start_paused = true)]
async fn only_a_publisher_that_can_move_is_asked_to_and_goes_on_until_it_does() {
    for (caps, can) in [(RECONNECT + MOD_EX, true), (MOD_EX, false)] {
        let mut bench = Bench::new(Limits::default());
        let (mut publisher, task) = bench.pipe(64 << 10);
        publisher.connect_enhanced("live", caps).await;
        let bytes = publisher.to.publish("anna");
        publisher.send(&bytes).await;
        let line = Arc::<Line>::default();
        let (packets, received) = mpsc::channel(16);
        bench.requests.recv().await.unwrap().verdict.send(Verdict::Accept(packets, Arc::clone(&line))).unwrap();
        publisher.until("NetStream.Publish.Start").await;
        assert_eq!(line.ask_to_move(Some(&Arc::from("rtmps://b.example/live"))), can);
        if can {
            publisher.until("rtmps://b.example/live").await;
            assert!(publisher.has_heard("NetConnection.Connect.ReconnectRequest") && publisher.has_heard("tcUrl"));
        }
        publisher.message(0, 6, 40, VIDEO, &video(10, true)).await;
        let bytes = publisher.to.goodbye("anna");
        publisher.send(&bytes).await;
        publisher.until_closed().await.unwrap();
        let requests = publisher.heard.windows(16).filter(|w| w == b"ReconnectRequest").count();
        assert_eq!(requests, usize::from(can));
        drop(publisher);
        task.await.unwrap();
        let packets = all(received).await;
        assert!(matches!(packets[..], [Packet::Video { .. }, Packet::Unpublish]), "{packets:?}");
    }
}
