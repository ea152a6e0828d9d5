//! Lines that lose packets.

use super::relay::Relay;
use super::{Bench, Book, Caller, guarded, ts};
use crate::harness::beside_others;

/// At an RTT of 40 ms and a latency of 500 ms SRT mends both, and no TS packet is missing.
#[test]
fn two_and_five_percent_of_loss_are_mended() {
    let file = ts();
    let _machine = beside_others();
    guarded(async {
        let mut bench = Bench::new(Book::default().with("two", None).with("five", None)).await;
        let lines = [("two", Relay::new(bench.address, 20, 7)), ("five", Relay::new(bench.address, 50, 11))];
        let callers = lines
            .each_ref()
            .map(|(key, relay)| Caller::ffmpeg(&file, relay.address, &["-srt_streamid", key, "-latency", "500000"]));
        let mut came = Vec::new();
        for _ in &callers {
            came.push(tokio::spawn(bench.accept().await.all()));
        }
        for publication in came {
            let came = publication.await.unwrap();
            println!("{came:?}");
            // SRT says goodbye once, and nothing mends that: on these lines it may be lost.
            came.has_all();
            let n = came.numbers;
            assert!(n.lost > 5 && n.retransmitted > 5 && n.latency_ms == 500, "{n:?}");
            assert!((40_000..200_000).contains(&n.rtt_us), "{n:?}");
        }
        drop(callers);
        bench.stop().await;
    });
}
