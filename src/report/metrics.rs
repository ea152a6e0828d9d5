//! `/metrics` in OpenMetrics text, made anew at each scrape from the sessions' states. Labels carry stream ids, never keys.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Told;
use crate::capacity::Capacity;
use crate::codecs;
use crate::gpu::Seen;
use crate::ingest::auth;
use crate::ingest::rtmp::{Cause, Stats};
use crate::ingest::srt;
use crate::ingest::tls::{Outcome, Tls};
use crate::logic::capacity::Levels;
use crate::logic::replication::{BOUNDS, State, Summary};
use crate::logic::stream::{EncoderClass, Status};
use crate::logic::verdict::Overall;
use crate::replication::Replication;
use crate::spool::Spool;
use crate::store::Store;
use crate::worker::EncoderReport;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfStream {
    pub stream: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRung {
    stream: String,
    rung: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfClass {
    stream: String,
    class: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDevice {
    uuid: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfMeasure {
    stream: String,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReason {
    stream: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOperation {
    operation: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResult {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfCause {
    pub cause: &'static str,
}

/// What the page is made of.
#[derive(Debug)]
pub struct Sources<'a> {
    /// Sessions.
    pub statuses: &'a [Status],
    /// The RTMP listener's counters.
    pub rtmp: &'a Stats,
    /// TLS of the RTMPS listener, where there is one.
    pub tls: Option<&'a Tls>,
    /// Who may publish.
    pub keys: &'a auth::Keys,
    /// The SRT listener's, where there is one.
    pub srt: Option<&'a srt::Stats>,
    /// Requests to it are counted.
    pub store: &'a Store,
    /// Where objects wait on disk.
    pub spool: Option<&'a Spool>,
    /// What can be taken.
    pub capacity: &'a Capacity,
    /// What can still be taken of it.
    pub levels: Levels,
    /// Copies in another region, where some are wanted.
    pub replication: Option<&'a Replication>,
    /// Codec processes that stand ready, where there are any.
    pub codecs: Option<codecs::Store>,
    /// Which encoder, and why.
    pub encoder: &'a EncoderReport,
    /// The GPUs, where there are any.
    pub gpu: Option<&'a Seen>,
    /// Whom the worker tells of itself.
    pub told: &'a Told,
}

/// The whole page.
///
/// # Errors
/// What formatting into a text gives: nothing.
pub fn render(sources: &Sources<'_>) -> Result<String, std::fmt::Error> {
    let &Sources {
        statuses,
        rtmp,
        tls,
        srt,
        keys,
        store,
        spool,
        capacity,
        ref levels,
        replication,
        ref codecs,
        encoder,
        gpu,
        told,
    } = sources;
    let mut registry = Registry::with_prefix("weir");
    streams(&mut registry, statuses);
    health(&mut registry, statuses);
    loudness(&mut registry, statuses);
    classes(&mut registry, statuses);
    rungs(&mut registry, statuses);
    thumbnails(&mut registry, statuses);
    publishing(&mut registry, statuses, spool);
    operations(&mut registry, store);
    if let Some(replication) = replication {
        copies(&mut registry, replication);
    }
    if let Some(codecs) = codecs {
        warm(&mut registry, codecs);
    }
    super::capacity::metrics(&mut registry, capacity, levels.clone());
    told.heartbeats.metrics(&mut registry);
    told.agones.metrics(&mut registry);
    listener(&mut registry, rtmp);
    if let Some(tls) = tls {
        handshakes(&mut registry, tls);
    }
    judgements(&mut registry, keys);
    if let Some(srt) = srt {
        super::srt::listener(&mut registry, srt);
    }
    super::srt::lines(&mut registry, statuses);
    super::gpu::encoder(&mut registry, encoder);
    if let Some(seen) = gpu {
        super::gpu::metrics(&mut registry, seen);
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

pub(super) fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge = Gauge::<i64>::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}

pub(super) fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter = Counter::<u64, AtomicU64>::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}

fn warm(registry: &mut Registry, store: &codecs::Store) {
    gauge(registry, "codec_warm", "Codec processes that stand ready", store.ready as u64);
    gauge(registry, "codec_warm_age_seconds", "For how long the oldest of them has", store.oldest.as_secs());
    counter(registry, "codec_warm_hits", "Streams that found a place in a codec process at once", store.hits);
    counter(registry, "codec_warm_misses", "Streams that waited for a codec process to start", store.misses);
    let taken = Family::<OfDevice, Gauge<f64, AtomicU64>>::default();
    for placed in &store.devices {
        if let Some(budget) = placed.budget.filter(|&b| b > 0) {
            taken.get_or_create(&OfDevice { uuid: placed.device.clone() }).set(placed.taken as f64 / budget as f64);
        }
    }
    registry.register("encoder_budget_ratio", "Share of what a GPU's encoders are planned to do that streams take", taken);
}

fn classes(registry: &mut Registry, statuses: &[Status]) {
    let family = Family::<OfClass, Gauge>::default();
    for s in statuses {
        if let Some(EncoderClass { class, reason, .. }) = s.encoder_class {
            family.get_or_create(&OfClass { stream: s.id.clone(), class: class.as_str(), reason }).set(1);
        }
    }
    registry.register("encoder_class", "How much work NVENC puts into a stream's pictures, and why", family);
}

fn streams(registry: &mut Registry, statuses: &[Status]) {
    let live = statuses.iter().filter(|s| s.publisher.is_some()).count();
    gauge(registry, "streams", "Streams that have a publisher", live as u64);
    gauge(registry, "sessions", "Sessions that are not over", statuses.len() as u64);
    let restarts = Family::<OfStream, Counter>::default();
    let bitrate = Family::<OfStream, Gauge>::default();
    let shed = Family::<OfStream, Gauge>::default();
    for s in statuses {
        let label = OfStream { stream: s.id.clone() };
        restarts.get_or_create(&label).inc_by(s.codec_restarts);
        shed.get_or_create(&label).set(s.shed.depth);
        let bits = s.input.video.as_ref().and_then(|v| v.bitrate).unwrap_or(0);
        bitrate.get_or_create(&label).set(i64::try_from(bits).unwrap_or(i64::MAX));
    }
    registry.register("stream_shed", "What a stream goes without: 0 nothing, 1 slower presets and thumbnails, 2 half of 60 pictures a second too, 3 rungs too", shed);
    registry.register("codec_restarts", "Codec processes of the session that died or hung", restarts);
    registry.register("input_video_bits_per_second", "Measured rate of the source's video", bitrate);
}

fn health(registry: &mut Registry, statuses: &[Status]) {
    let overall = Family::<OfStream, Gauge>::default();
    let slow = Family::<OfStream, Gauge>::default();
    let episodes = Family::<OfStream, Counter>::default();
    let speed = Family::<OfStream, Gauge<f64, AtomicU64>>::default();
    for s in statuses {
        let label = OfStream { stream: s.id.clone() };
        overall.get_or_create(&label).set(match s.health.overall {
            Overall::Good => 0,
            Overall::Degraded => 1,
            Overall::Bad => 2,
        });
        let uplink = &s.measured.uplink;
        slow.get_or_create(&label).set(uplink.slow.into());
        episodes.get_or_create(&label).inc_by(uplink.slow_episodes);
        if let Some(x) = uplink.speed {
            speed.get_or_create(&label).set(x);
        }
    }
    registry.register("stream_health", "0 good, 1 degraded, 2 bad", overall);
    registry.register("uplink_slow", "1 while the publisher's uplink is too slow for its stream", slow);
    registry.register("uplink_slow_episodes", "How often it became too slow", episodes);
    registry.register("uplink_realtime_ratio", "Seconds of media that arrive in a second", speed);
}

fn loudness(registry: &mut Registry, statuses: &[Status]) {
    let lufs = Family::<OfMeasure, Gauge<f64, AtomicU64>>::default();
    let gain = Family::<OfStream, Gauge<f64, AtomicU64>>::default();
    for s in statuses {
        let Some(l) = s.input.audio.as_ref().and_then(|a| a.loudness.as_ref()) else { continue };
        for (kind, value) in [("integrated", l.integrated_lufs), ("short_term", l.short_term_lufs)] {
            if let Some(value) = value {
                lufs.get_or_create(&OfMeasure { stream: s.id.clone(), kind }).set(value);
            }
        }
        if let Some(db) = l.gain_db {
            gain.get_or_create(&OfStream { stream: s.id.clone() }).set(db);
        }
    }
    registry.register("audio_loudness_lufs", "Loudness of the source's audio, by ITU-R BS.1770", lufs);
    registry.register("audio_gain_decibels", "What is added to the audio where its loudness is corrected", gain);
}

fn rungs(registry: &mut Registry, statuses: &[Status]) {
    let segments = Family::<OfRung, Counter>::default();
    let gaps = Family::<OfRung, Counter>::default();
    let speed = Family::<OfRung, Gauge<f64, AtomicU64>>::default();
    for s in statuses {
        for r in &s.rungs {
            let label = OfRung { stream: s.id.clone(), rung: r.name.clone() };
            segments.get_or_create(&label).inc_by(r.segments);
            gaps.get_or_create(&label).inc_by(r.gaps);
            if let Some(x) = r.speed {
                speed.get_or_create(&label).set(x);
            }
        }
    }
    registry.register("segments", "Segments made", segments);
    registry.register("gaps", "Segments that were lost", gaps);
    registry.register("realtime_ratio", "Encoded seconds per second", speed);
}

fn thumbnails(registry: &mut Registry, statuses: &[Status]) {
    let published = Family::<OfStream, Counter>::default();
    let dropped = Family::<OfReason, Counter>::default();
    for s in statuses {
        published.get_or_create(&OfStream { stream: s.id.clone() }).inc_by(s.thumbnail.published);
        for (&reason, &n) in &s.thumbnail.dropped {
            dropped.get_or_create(&OfReason { stream: s.id.clone(), reason }).inc_by(n);
        }
    }
    registry.register("thumbnails_published", "Thumbnails that came to the store", published);
    registry.register("thumbnails_dropped", "Thumbnails that did not, by reason", dropped);
}

fn publishing(registry: &mut Registry, statuses: &[Status], spool: Option<&Spool>) {
    let lag = Family::<OfStream, Gauge<f64, AtomicU64>>::default();
    let exposed = Family::<OfStream, Gauge<f64, AtomicU64>>::default();
    let waiting = Family::<OfStream, Gauge>::default();
    let away = Family::<OfStream, Gauge>::default();
    for s in statuses {
        let label = OfStream { stream: s.id.clone() };
        lag.get_or_create(&label).set(s.publishing.lag_seconds);
        exposed.get_or_create(&label).set(s.publishing.rpo_seconds);
        waiting.get_or_create(&label).set(i64::try_from(s.publishing.waiting_bytes).unwrap_or(i64::MAX));
        away.get_or_create(&label).set(s.publishing.store_away.into());
    }
    registry.register("publish_lag_seconds", "How long the oldest object has waited for the store", lag);
    registry.register("rpo_seconds", "Seconds of video that would be lost if this node died now", exposed);
    registry.register("publish_waiting_bytes", "Bytes that are not durable in the store", waiting);
    registry.register("store_away", "1 while the store does not answer", away);
    if let Some(spool) = spool {
        gauge(registry, "spool_bytes", "Bytes in the spool", spool.bytes());
        gauge(registry, "spool_limit_bytes", "Bytes that the spool may hold", spool.limit());
        gauge(
            registry,
            "spool_oldest_seconds",
            "Age of the oldest object in the spool",
            spool.oldest().map_or(0, |a| a.as_secs()),
        );
    }
}

fn copies(registry: &mut Registry, replication: &Replication) {
    let Summary { histogram, total_millis, failed, untracked, oldest, state, behind } = replication.summary();
    let right = replication.configuration().is_empty();
    gauge(registry, "rtc_config_ok", "1 if the bucket's replication was set up right when the worker started", right.into());
    let text = "Seconds from an object's upload to its copy in the other region, of one segment per stream and minute";
    registry.register("replication_seconds", text, Seconds { counts: histogram, total_millis });
    counter(registry, "replication_failed", "Sampled segments that S3 gave up to copy", failed);
    counter(registry, "replication_untracked", "Sampled segments that no replication rule covers", untracked);
    let text = "Age of the oldest sampled segment that is not copied yet";
    gauge(registry, "replication_oldest_seconds", text, oldest.map_or(0, |o| o.as_secs()));
    let states = Family::<OfState, Gauge>::default();
    for known in [State::Unknown, State::Ok, State::Alarm, State::Breach] {
        states.get_or_create(&OfState { state: known.as_str() }).set((known.as_str() == state).into());
    }
    registry.register("replication_state", "1 for the state that replication is in: alarm at 10 min, breach at 30 min", states);
    let region = Family::<OfStream, Gauge>::default();
    for (stream, age) in behind {
        let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        region.get_or_create(&OfStream { stream: stream.to_string() }).set(seconds);
    }
    let text = "Seconds of video that would be lost at most if this region were gone now, as far as samples tell";
    registry.register("region_rpo_seconds", text, region);
}

/// A histogram whose counts are kept elsewhere.
#[derive(Debug)]
struct Seconds {
    counts: [u64; BOUNDS.len() + 1],
    total_millis: u64,
}

impl EncodeMetric for Seconds {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let bounds = BOUNDS.iter().map(|&b| b as f64).chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.counts).collect();
        let count = self.counts.iter().sum();
        encoder.encode_histogram::<NoLabelSet>(self.total_millis as f64 / 1000.0, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

fn operations(registry: &mut Registry, store: &Store) {
    let Some(tally) = store.tally() else { return };
    let family = Family::<OfOperation, Counter>::default();
    for (operation, result, count) in tally.counts() {
        family.get_or_create(&OfOperation { operation, result }).inc_by(count);
    }
    registry.register("store_operations", "Requests to the bucket, by operation and result", family);
}

fn judgements(registry: &mut Registry, keys: &auth::Keys) {
    let judged = Family::<OfResult, Counter>::default();
    for judgement in auth::Judgement::ALL {
        judged.get_or_create(&OfResult { result: judgement.as_str() }).inc_by(keys.stats().judged(judgement));
    }
    registry.register("publish_judgements", "Stream keys that were looked at, by result", judged);
    gauge(registry, "bans", "Addresses that may not try stream keys at the moment", keys.banned().len() as u64);
    counter(registry, "bans_begun", "Bans so far", keys.stats().bans());
    let (read, broken) = keys.stats().reloads();
    counter(registry, "keys_reloads", "Files of keys that were read again", read);
    counter(registry, "keys_reload_failures", "Files of keys that were broken then, so that the old ones stayed", broken);
    if let Some(count) = keys.count() {
        gauge(registry, "keys", "Keys in the keys file", count as u64);
    }
    if let Some(count) = keys.signing_keys() {
        gauge(registry, "signing_keys", "Signing keys", count as u64);
    }
    if let Some(webhook) = keys.webhook() {
        let asked = Family::<OfResult, Counter>::default();
        for outcome in auth::Outcome::ALL {
            asked.get_or_create(&OfResult { result: outcome.as_str() }).inc_by(webhook.asked(outcome));
        }
        registry.register("webhook_requests", "Questions to the control plane, by result", asked);
        gauge(registry, "webhook_remembered", "Answers of it that are remembered", webhook.remembered() as u64);
    }
}

fn listener(registry: &mut Registry, rtmp: &Stats) {
    gauge(registry, "rtmp_connections_open", "RTMP connections", rtmp.open());
    counter(registry, "rtmp_connections", "RTMP connections so far", rtmp.connections());
    counter(registry, "rtmp_publications", "Publishers accepted so far", rtmp.publications());
    counter(registry, "rtmp_received_bytes", "Bytes from RTMP clients", rtmp.bytes_in());
    let ended = Family::<OfCause, Counter>::default();
    for cause in Cause::ALL {
        ended.get_or_create(&OfCause { cause: cause.as_str() }).inc_by(rtmp.ended(cause));
    }
    registry.register("rtmp_connections_ended", "RTMP connections that ended, by cause", ended);
}

fn handshakes(registry: &mut Registry, tls: &Tls) {
    let (handshakes, reloads) = (Family::<OfResult, Counter>::default(), Family::<OfResult, Counter>::default());
    for outcome in Outcome::ALL {
        handshakes.get_or_create(&OfResult { result: outcome.as_str() }).inc_by(tls.stats().handshakes(outcome));
    }
    for (result, taken) in [("taken", true), ("refused", false)] {
        reloads.get_or_create(&OfResult { result }).inc_by(tls.stats().reloads(taken));
    }
    registry.register("tls_handshakes", "TLS handshakes of RTMPS, by what became of them", handshakes);
    registry.register("tls_certificate_reloads", "New certificates that were found", reloads);
    let expiry = Gauge::<i64>::default();
    expiry.set(tls.pair().until().0.div_euclid(1000));
    registry.register("tls_certificate_expiry_timestamp_seconds", "When the certificate of RTMPS expires, Unix time", expiry);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_worker_has_metrics() {
        let replication = Replication::new(crate::clock::Clock::start(), Vec::new());
        let placed = |device: &str, budget| codecs::Placed { device: device.into(), taken: 30, budget };
        let devices = vec![placed("GPU-0", Some(40)), placed("GPU-1", None)];
        let capacity = crate::capacity::tests::capacity(60_000, true);
        let sources = Sources {
            statuses: &[],
            rtmp: &Stats::default(),
            tls: None,
            keys: &auth::Keys::open(),
            capacity: &capacity,
            levels: capacity.levels(u32::MAX),
            srt: Some(&srt::Stats::default()),
            store: &Store::Memory(Default::default()),
            spool: None,
            replication: Some(&replication),
            codecs: Some(codecs::Store { ready: 2, hits: 3, devices, ..Default::default() }),
            encoder: &EncoderReport::ladder_is_none(),
            gpu: None,
            told: &Told::default(),
        };
        let text = render(&sources).unwrap();
        assert!(text.contains("weir_streams 0") && text.ends_with("# EOF\n"), "{text}");
        assert!(text.contains("weir_encoder_info{encoder=\"none\",reason=\"ladder_none\"} 1"), "{text}");
        let samples = [
            "weir_codec_warm 2",
            "weir_accepts{profile=\"1080p30\"} 8",
            "weir_capacity{dimension=\"network\",of=\"limit\"} 51000",
            "weir_refused_full_total 0",
            "weir_publish_judgements_total{result=\"granted\"} 0",
            "weir_bans 0",
            "weir_srt_connections_ended_total{cause=\"passphrase\"} 0",
            "weir_codec_warm_hits_total 3",
            "weir_encoder_budget_ratio{uuid=\"GPU-0\"} 0.75",
            "weir_replication_seconds_bucket{le=\"900.0\"} 0",
            "weir_replication_state{state=\"unknown\"} 1",
        ];
        assert!(samples.iter().all(|s| text.contains(s)), "{text}");
    }
}
