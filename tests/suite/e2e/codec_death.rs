//! The codec process dies in the middle of a stream: the transcoded rungs lose a little, the source rung and the publisher nothing. (One that hangs is
//! among the long tests.)

use rustix::process::Signal;

use crate::harness::accident::{SEGMENT, hurt, survived};
use crate::harness::clip::{Clip, LADDER};

#[test]
fn a_killed_codec_process_costs_its_rungs_two_segments_at_most() {
    let clip = Clip { seconds: 12, ..LADDER };
    let seen = hurt(&clip, Signal::KILL, "codec process lost: process ended");
    survived(&clip, &seen, 2 * SEGMENT);
}
