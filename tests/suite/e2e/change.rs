//! Sources whose parameter sets change while their publisher stays, as when a streamer rotates a phone or a switch in front of the encoder changes over.

use std::sync::Arc;

use crate::harness::beside_others;
use crate::harness::clip::{Clip, SMALL};
use crate::harness::flv::Sets;
use crate::harness::runs;
use crate::harness::worker::{SMALL_LADDER, Worker};

/// rules.md 1, 2, 5 and 7.
#[test]
fn another_size_within_one_connection_is_a_discontinuity_and_nothing_else() {
    const CLIPS: [Clip; 2] = [Clip { seconds: 4, ..SMALL }, Clip { width: 480, height: 270, seconds: 4, ..SMALL }];
    let _machine = beside_others();
    let worker = Arc::new(Worker::start(&["--ladder", SMALL_LADDER]));
    std::thread::scope(|scope| {
        for (stream, sets) in [("anna", Sets::Header), ("bert", Sets::InBand)] {
            let worker = &worker;
            scope.spawn(move || runs::over_one_connection(worker, stream, ["src", "240p"], &CLIPS, sets));
        }
    });
    Arc::into_inner(worker).expect("the watches are over").stop();
}
