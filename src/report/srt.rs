//! SRT's part of `/metrics`: the listener, and each publisher's line.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::metrics::{OfCause, OfStream, counter, gauge};
use crate::ingest::srt::{Cause, Stats};
use crate::logic::stream::Status;

pub(super) fn listener(registry: &mut Registry, srt: &Stats) {
    gauge(registry, "srt_connections_open", "SRT connections", srt.connected());
    counter(registry, "srt_calls", "SRT callers that were asked about so far", srt.calls());
    counter(registry, "srt_received_bytes", "Bytes of media from SRT callers", srt.bytes());
    counter(registry, "srt_process_restarts", "SRT processes that were started in place of another", srt.restarts());
    gauge(registry, "srt_process_up", "1 while the SRT process listens", srt.pid().is_some().into());
    let ended = Family::<OfCause, Counter>::default();
    for cause in Cause::ALL {
        ended.get_or_create(&OfCause { cause: cause.as_str() }).inc_by(srt.ended(cause));
    }
    registry.register("srt_connections_ended", "SRT calls that were refused or ended, by cause", ended);
}

/// Counters are of one connection: a publisher that comes back begins anew, as its process counts.
pub(super) fn lines(registry: &mut Registry, statuses: &[Status]) {
    type Reals = Family<OfStream, Gauge<f64, AtomicU64>>;
    type Counts = Family<OfStream, Counter>;
    let (rtt, latency, buffer, loss) = (Reals::default(), Reals::default(), Reals::default(), Reals::default());
    let (packets, lost, again) = (Counts::default(), Counts::default(), Counts::default());
    let (dropped, undecrypted, holes) = (Counts::default(), Counts::default(), Counts::default());
    for s in statuses {
        let Some(n) = &s.input.srt else { continue };
        let label = OfStream { stream: s.id.clone() };
        rtt.get_or_create(&label).set(n.rtt_ms / 1000.0);
        latency.get_or_create(&label).set(f64::from(n.latency_ms) / 1000.0);
        buffer.get_or_create(&label).set(f64::from(n.buffer_ms) / 1000.0);
        loss.get_or_create(&label).set(n.loss_percent / 100.0);
        let counts = [
            (&packets, n.packets),
            (&lost, n.lost),
            (&again, n.retransmitted),
            (&dropped, n.dropped),
            (&undecrypted, n.undecrypted),
            (&holes, n.ts_holes),
        ];
        for (family, value) in counts {
            family.get_or_create(&label).inc_by(value);
        }
    }
    registry.register("srt_rtt_seconds", "Round trip to the publisher", rtt);
    registry.register("srt_latency_seconds", "Latency that both sides agreed on", latency);
    registry.register("srt_buffer_seconds", "Media that wait for their time in the receiver", buffer);
    registry.register("srt_loss_ratio", "Lost packets of the last half minute against those that should have come", loss);
    registry.register("srt_packets", "Packets of the connection that came", packets);
    registry.register("srt_packets_lost", "Packets of the connection that were missing when a later one came", lost);
    registry.register("srt_packets_retransmitted", "Retransmitted packets of the connection that came", again);
    registry.register("srt_packets_dropped", "Packets of the connection that were given up", dropped);
    registry.register("srt_packets_undecrypted", "Packets of the connection that could not be decrypted", undecrypted);
    registry.register("srt_ts_holes", "Holes in the continuity of the connection's MPEG-TS packets", holes);
}
