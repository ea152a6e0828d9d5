//! Several streams to a codec process (rules.md 23).

use crate::harness::accident::crowd;
use crate::harness::alone;
use crate::harness::clip::{Clip, SMALL};
use crate::harness::worker::{SMALL_LADDER, Worker};

const CLIP: Clip = Clip { seconds: 12, ..SMALL };

fn worker(to_a_process: &str) -> Worker {
    let set = format!("codec.streams_per_codec={to_a_process}");
    Worker::start(&["--ladder", SMALL_LADDER, "--set", &set])
}

#[test]
fn five_streams_of_one_process_lose_two_segments_each_when_it_dies() {
    let _machine = alone();
    crowd(worker("5"), &CLIP, 5, 5);
}

#[test]
fn a_process_for_each_stream_dies_alone() {
    let _machine = alone();
    crowd(worker("1"), &CLIP, 3, 1);
}
