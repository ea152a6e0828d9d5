//! The DASH manifest (ISO/IEC 23009-1, here by section of the fifth edition).
//!
//! Decides the text only, from the same snapshot as the HLS playlists. Presentation times never move: a segment's
//! `Period@start + (t - @presentationTimeOffset) / @timescale` stays what it was, live and after the end, whatever has left the window.
//!
//! How it tells the date: `@availabilityStartTime` is the wall clock of media time 0 and never moves, and a Period's `@start` is the date of its first row, to the
//! tick that of the HLS playlists. Within a Period time runs as the media does, which is all that DASH can say; the HLS dates of its later rows
//! follow the wall clock instead. Once a row's would be over 500 ms off the Period's, that row begins a new Period (rules.md 11): without a discontinuity of HLS where
//! the clocks only drift. Where the publisher's clock is slow, half a second is empty between the two; where it is fast, the first one's `@duration` leaves out
//! the half second that there is too much of.
//!
//! That is why the static MPD keeps each Period's `@start` and `@presentationTimeOffset` as they were, and why its
//! `@mediaPresentationDuration` counts from media time 0. Tried in Chromium with a window that had moved, for who was playing and
//! for who came after the end: shaka 5.2.12 and dash.js 5.2.1 play to the end this way, newcomers from the first segment that is
//! left. With both attributes moved forward to that segment, a shaka that was playing ended one segment early; with `Period@duration`
//! instead of `@mediaPresentationDuration` it did not end. A dash.js that is playing reads nothing of a static MPD but that it is
//! static, so the last segments stand in a live one before (`stream::shelf`).

use super::xml::{Attributes, Writer};
use super::{bandwidths, comment};
use crate::cmaf::events;
use crate::cmaf::video;
use crate::logic::language::Language;
use crate::logic::model::{AudioFormat, Coding, FrameRate, Keys, ObjectKey, TrackName, VideoFormat};
use crate::logic::pathway::{Pathway, Pathways};
use crate::logic::playlist::{Era, Format, Init, Placed, Row, Slot, Snapshot};
use crate::logic::services::{Service, Services};
use crate::logic::time::{MediaTime, UnixMillis};

/// What the configuration adds to every MPD.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MpdOptions {
    /// Where a player reads the time (`urn:mpeg:dash:utc:http-iso:2014`): an address that answers with an ISO 8601 date. Without it
    /// a player trusts its own clock.
    pub utc_timing_url: Option<String>,
    /// `@suggestedPresentationDelay`: how far behind the wall clock players begin. Default: four target durations, three as
    /// HLS players hold back (RFC 8216bis, 4.4.3.8) and one for the segment that is just being made. Never more than the window.
    pub suggested_presentation_delay: Option<MediaTime>,
    /// CDNs of the own region, as MPD-level BaseURLs, and the steering server. A BaseURL stands for the same layout at another address, so a pathway
    /// of another region, whose segments have other names, has no place here: that region has its own MPD.
    pub pathways: Pathways,
}

/// The MPD, to be written at [`Keys::mpd`]; `now` becomes `@publishTime`, `mark` is unique per write.
///
/// `None` while no segment is there: a Period must hold something to play (5.3.2.1), so the MPD of before (or none) stays.
pub fn mpd(snapshot: &Snapshot, keys: &Keys, now: UnixMillis, options: &MpdOptions, mark: &str) -> Option<String> {
    let mut periods = periods(snapshot, &keys.mpd());
    if periods.is_empty() {
        return None;
    }
    if snapshot.recorded {
        join(&mut periods);
    }
    let end = match snapshot.recorded {
        true => periods.last().map(|p| p.start + p.length()),
        false => snapshot.rows.last().map(|r| r.end + snapshot.eras.last().map_or(MediaTime::ZERO, |era| era.shift)),
    };
    let end = end.unwrap_or_default();
    let mut xml = Writer::new(&format!("weir {}", comment(mark)));
    xml.open("MPD", &root(snapshot, end, now, options));
    locations(&mut xml, keys, &options.pathways);
    for (i, period) in periods.iter().enumerate() {
        // The last Period of a live MPD is open: nobody knows its end yet.
        let closed = snapshot.ended || i + 1 < periods.len();
        write_period(&mut xml, snapshot, period, closed);
    }
    if let Some(url) = options.utc_timing_url.as_ref().filter(|_| !snapshot.ended) {
        let scheme = "urn:mpeg:dash:utc:http-iso:2014";
        xml.empty("UTCTiming", &Attributes::new().with("schemeIdUri", scheme).with("value", url));
    }
    xml.close();
    Some(xml.finish())
}

/// BaseURL with `@serviceLocation` (5.6) for each pathway, then ContentSteering (ETSI TS 103 998, 6).
fn locations(xml: &mut Writer, keys: &Keys, pathways: &Pathways) {
    let own: Vec<&Pathway> = pathways.list.iter().filter(|p| p.is_of(keys.region())).collect();
    let mpd = keys.mpd();
    let folder = mpd.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
    for pathway in &own {
        // Addresses of segments are relative to the MPD's folder, here as if it lay beside `seg/`.
        let base = pathway.segment_base_url.as_ref().unwrap_or(&pathway.base_url);
        let attributes = Attributes::new().with("serviceLocation", &pathway.id);
        xml.text("BaseURL", &attributes, &format!("{base}{folder}/"));
    }
    if let (Some(url), Some(first)) = (&pathways.steering_url, own.first()) {
        let attributes = Attributes::new().with("defaultServiceLocation", &first.id).with("queryBeforeStart", "false");
        xml.text("ContentSteering", &attributes, url.as_str());
    }
}

/// Attributes of MPD (5.3.1.2), all those of rules.md 14. What only tells how an MPD is renewed goes when it is not renewed any more.
fn root(snapshot: &Snapshot, end: MediaTime, now: UnixMillis, options: &MpdOptions) -> Attributes {
    let target = MediaTime::from_secs(i64::from(snapshot.target_duration));
    let delay = options.suggested_presentation_delay.unwrap_or(MediaTime(target.0 * 4));
    let live = |value: MediaTime| (!snapshot.ended).then(|| duration(value));
    Attributes::new()
        .with("xmlns", "urn:mpeg:dash:schema:mpd:2011")
        .with("id", &snapshot.session)
        .with("profiles", "urn:mpeg:dash:profile:isoff-live:2011")
        .with("type", if snapshot.ended { "static" } else { "dynamic" })
        .maybe("availabilityStartTime", (!snapshot.recorded).then_some(snapshot.anchor))
        .with("publishTime", now)
        .maybe("minimumUpdatePeriod", live(target))
        .maybe("timeShiftBufferDepth", live(snapshot.window))
        .maybe("suggestedPresentationDelay", live(delay.min(snapshot.window)))
        .maybe("mediaPresentationDuration", snapshot.ended.then(|| duration(end)))
        // No S@d may exceed it (5.3.9.6). Segments round to the target duration at most, so half a second more holds them all;
        // audio ends up to one frame behind the cut.
        .with("maxSegmentDuration", duration(target + MediaTime::from_millis(500)))
        .with("minBufferTime", duration(target))
}

/// The rows of one era, as far as they can be played.
struct Period<'a> {
    era: u32,
    /// `@start`.
    start: MediaTime,
    /// The media time that plays there: `@presentationTimeOffset`.
    from: MediaTime,
    /// The media time at which it ends.
    until: MediaTime,
    representations: Vec<Representation<'a>>,
}

/// What one track has in one era.
struct Representation<'a> {
    name: &'a TrackName,
    bandwidth: u64,
    init: &'a Init,
    /// `initialization` and the folder of `media`, relative to the MPD.
    init_uri: String,
    base: String,
    segments: Vec<&'a Placed>,
}

impl Period<'_> {
    fn length(&self) -> MediaTime {
        self.until - self.from
    }
}

/// One behind the other from 0, without the holes in which nobody published: a recording's time is playing time.
fn join(periods: &mut [Period<'_>]) {
    let mut start = MediaTime::ZERO;
    for period in periods {
        period.start = start;
        start = start + period.length();
    }
}

/// One Period per era (rules.md 7); an era in which everything was lost is left out.
fn periods<'a>(snapshot: &'a Snapshot, mpd: &ObjectKey) -> Vec<Period<'a>> {
    let rates = bandwidths(&snapshot.tracks);
    let mut periods = Vec::new();
    for &Era { number: era, start: from, shift } in &snapshot.eras {
        let rows: Vec<&Row> = snapshot.rows.iter().filter(|r| r.era == era).collect();
        let Some(end) = rows.last().map(|r| r.end) else { continue };
        let representations: Vec<_> = snapshot
            .tracks
            .iter()
            .zip(&rates)
            .enumerate()
            .filter_map(|(track, (facts, &bandwidth))| representation(&facts.name, bandwidth, track, &rows, mpd))
            .collect();
        if !representations.is_empty() {
            periods.push(Period { era, start: from + shift, from, until: end, representations });
        }
    }
    // Dates that were ahead of the wall clock came nearer to it: what is too much of the Period before is not played.
    for i in 1..periods.len() {
        let room = periods[i].start - periods[i - 1].start;
        periods[i - 1].until = periods[i - 1].until.min(periods[i - 1].from + room);
    }
    periods
}

/// `None` when the track has nothing of its own in these rows: lost, or it names a lower rung's segments meanwhile, which HLS can say
/// and a template can not (rules.md 1).
///
/// One Representation has one init segment and one template (5.3.9.4). Rules.md 5 promises that neither changes within an era; if one did,
/// the newest counts and the segments before it are holes, since a player would decode them with the wrong parameter sets.
fn representation<'a>(
    name: &'a TrackName,
    bandwidth: u64,
    track: usize,
    rows: &[&'a Row],
    mpd: &ObjectKey,
) -> Option<Representation<'a>> {
    let own: Vec<(String, &'a Placed)> = rows
        .iter()
        .filter_map(|row| match row.slots.get(track) {
            Some(Slot::Media(placed)) => Some((folder(placed, name, mpd)?, placed)),
            _ => None,
        })
        .collect();
    let (base, init) = own.last().map(|(base, placed)| (base.clone(), placed.init.as_ref()))?;
    let segments = own.iter().filter(|(b, p)| *b == base && p.init.key == init.key).map(|&(_, p)| p).collect();
    Some(Representation { name, bandwidth, init, init_uri: init.key.relative_to(mpd), base, segments })
}

/// What stands in front of `{track}/{time}.m4s` in the address of a segment; it differs from epoch to epoch.
/// `None` for a segment that lies elsewhere or that an unsigned `S@t` and `S@d` can not name.
fn folder(placed: &Placed, name: &TrackName, mpd: &ObjectKey) -> Option<String> {
    let address = placed.key.relative_to(mpd);
    let base = address.strip_suffix(&format!("{name}/{}.m4s", placed.start))?;
    (base.ends_with('/') && placed.start >= 0 && placed.duration > 0).then(|| base.to_owned())
}

fn write_period(xml: &mut Writer, snapshot: &Snapshot, period: &Period, closed: bool) {
    let length = closed.then(|| distance(period.start, period.start + period.length()));
    let start = duration(period.start);
    xml.open("Period", &Attributes::new().with("id", period.era).with("start", start).maybe("duration", length));
    let video: Vec<_> = period
        .representations
        .iter()
        .filter_map(|r| match &r.init.format {
            Format::Video(format) => Some((r, format)),
            Format::Audio(_) => None,
        })
        .collect();
    // Players switch within a set only, and not from one coding to another: a set for each, in the order of their best rungs. Audio is 2.
    let mut codings: Vec<Coding> = Vec::new();
    video.iter().map(|(_, f)| f.coding()).for_each(|c| {
        if !codings.contains(&c) {
            codings.push(c)
        }
    });
    for (id, coding) in [1, 3, 4].into_iter().zip(codings) {
        let own: Vec<_> = video.iter().filter(|(_, f)| f.coding() == coding).copied().collect();
        video_set(xml, id, &own, &snapshot.captions, period.from);
    }
    let alone = !snapshot.tracks.iter().any(|t| matches!(t.format, Format::Video(_)));
    for r in &period.representations {
        if let Format::Audio(format) = &r.init.format {
            audio_set(xml, r, format, alone, period.from);
        }
    }
    xml.close();
}

/// Attributes that every AdaptationSet has (5.3.3.2): all tracks are cut at the same times and each segment begins with an IDR.
fn adaptation_set(id: u32, content: &str) -> Attributes {
    Attributes::new()
        .with("id", id)
        .with("contentType", content)
        .with("mimeType", format!("{content}/mp4"))
        .with("segmentAlignment", "true")
        .with("startWithSAP", 1)
}

fn role(xml: &mut Writer) {
    xml.empty("Role", &Attributes::new().with("schemeIdUri", "urn:mpeg:dash:role:2011").with("value", "main"));
}

/// InbandEventStream (5.10.3.3): its segments may have timed metadata. Said from the first MPD on, because a player asks once, and a Representation without a
/// message is lawful.
fn messages(xml: &mut Writer) {
    xml.empty("InbandEventStream", &Attributes::new().with("schemeIdUri", events::SCHEME));
}

/// Accessibility (5.8.4.3) for closed captions in the video, one element for each kind (SCTE 214-1). Nobody has told their languages.
fn captions(xml: &mut Writer, services: &Services) {
    let line_21 = services.iter().filter(|s| matches!(s, Service::Line21(_))).map(|s| format!("{s}=und"));
    let digital = services.iter().filter_map(|s| match s {
        Service::Digital(n) => Some(format!("{n}=lang:und")),
        Service::Line21(_) => None,
    });
    let kinds = [("608", line_21.collect::<Vec<_>>()), ("708", digital.collect())];
    for (kind, services) in kinds.into_iter().filter(|(_, services)| !services.is_empty()) {
        let scheme = format!("urn:scte:dash:cc:cea-{kind}:2015");
        xml.empty("Accessibility", &Attributes::new().with("schemeIdUri", scheme).with("value", services.join(";")));
    }
}

fn video_set(xml: &mut Writer, id: u32, rungs: &[(&Representation, &VideoFormat)], services: &Services, start: MediaTime) {
    let fastest = rungs.iter().map(|(_, f)| f.fps).max_by_key(|fps| fps.milli());
    // 5.3.7.2: without @sar these count square samples.
    let sizes: Vec<(u32, u32)> = rungs.iter().map(|(_, f)| video::displayed(f)).collect();
    let set = adaptation_set(id, "video")
        .maybe("maxWidth", sizes.iter().map(|s| s.0).max())
        .maybe("maxHeight", sizes.iter().map(|s| s.1).max())
        .maybe("maxFrameRate", fastest.and_then(frame_rate));
    xml.open("AdaptationSet", &set);
    messages(xml);
    captions(xml, services);
    role(xml);
    for ((r, format), (width, height)) in rungs.iter().zip(sizes) {
        let attributes = common(r).with("width", width).with("height", height).maybe("frameRate", frame_rate(format.fps));
        xml.open("Representation", &attributes);
        template(xml, r, start);
        xml.close();
    }
    xml.close();
}

/// `alone`: the stream has no video, so its messages are here.
fn audio_set(xml: &mut Writer, r: &Representation, format: &AudioFormat, alone: bool, start: MediaTime) {
    let language = format.language.as_ref().map_or("und", Language::tag);
    xml.open("AdaptationSet", &adaptation_set(2, "audio").with("lang", language));
    let scheme = "urn:mpeg:mpegB:cicp:ChannelConfiguration";
    let channels = Attributes::new().with("schemeIdUri", scheme).with("value", channel_configuration(format.channels));
    xml.empty("AudioChannelConfiguration", &channels);
    if alone {
        messages(xml);
    }
    role(xml);
    xml.open("Representation", &common(r).with("audioSamplingRate", format.rate.hz()));
    template(xml, r, start);
    xml.close();
    xml.close();
}

fn common(r: &Representation) -> Attributes {
    Attributes::new().with("id", r.name).with("bandwidth", r.bandwidth).with("codecs", r.init.format.codec())
}

/// ISO/IEC 23091-3 (CICP), table 8: the layouts that AAC's `channelConfiguration` 1 to 7 also names, and 11 for 6.1.
fn channel_configuration(channels: u8) -> u8 {
    match channels {
        7 => 11,
        8 => 7,
        n => n,
    }
}

/// `@frameRate` (5.3.7.2): `30` or `30000/1001`. `None` when the rate is unknown.
fn frame_rate(fps: FrameRate) -> Option<String> {
    match fps {
        FrameRate { num: 0, .. } | FrameRate { den: 0, .. } => None,
        FrameRate { num, den: 1 } => Some(num.to_string()),
        FrameRate { num, den } => Some(format!("{num}/{den}")),
    }
}

/// SegmentTemplate and its SegmentTimeline (5.3.9.4, 5.3.9.6); objects are named by start time, so a hole renames nothing (rules.md 4).
fn template(xml: &mut Writer, r: &Representation, start: MediaTime) {
    let scale = r.init.format.timescale();
    let attributes = Attributes::new()
        .with("timescale", scale.hz())
        .with("presentationTimeOffset", start.in_scale(scale).max(0))
        .with("initialization", &r.init_uri)
        .with("media", format!("{}$RepresentationID$/$Time$.m4s", r.base));
    xml.open("SegmentTemplate", &attributes);
    xml.open("SegmentTimeline", &Attributes::new());
    for run in runs(&r.segments) {
        let s = Attributes::new().maybe("t", run.t).with("d", run.d).maybe("r", (run.repeats > 0).then_some(run.repeats));
        xml.empty("S", &s);
    }
    xml.close();
    xml.close();
}

/// One `S`: `t` is left out where it follows from the one before.
struct Run {
    t: Option<i64>,
    d: i64,
    repeats: u64,
}

fn runs(segments: &[&Placed]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut end = None;
    for segment in segments {
        let follows = end == Some(segment.start);
        match runs.last_mut() {
            Some(run) if follows && run.d == segment.duration => run.repeats += 1,
            _ => runs.push(Run { t: (!follows).then_some(segment.start), d: segment.duration, repeats: 0 }),
        }
        end = segment.start.checked_add(segment.duration);
    }
    runs
}

/// `xs:duration` in seconds, to the microsecond, never negative.
fn duration(t: MediaTime) -> String {
    micro_duration(micros(t))
}

/// From one point to another, each rounded as [`duration`] rounds it: a Period ends exactly where the next one is said to begin.
fn distance(from: MediaTime, to: MediaTime) -> String {
    micro_duration(micros(to).saturating_sub(micros(from)))
}

/// Microseconds, rounded half up.
fn micros(t: MediaTime) -> u64 {
    u64::try_from((i128::from(t.0.max(0)) * 200 + 9) / 18).unwrap_or(u64::MAX)
}

fn micro_duration(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    format!("PT{}S", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_exact_and_short() {
        assert_eq!(duration(MediaTime::from_secs(2)), "PT2S");
        assert_eq!(duration(MediaTime::from_secs(100)), "PT100S");
        assert_eq!(duration(MediaTime::ZERO), "PT0S");
        assert_eq!(duration(MediaTime(3003)), "PT0.033367S");
        assert_eq!(duration(MediaTime::from_millis(2500)), "PT2.5S");
    }

    #[test]
    fn a_period_ends_where_the_next_begins_whatever_is_rounded() {
        // 44.4 us and 88.8 us
        let (a, b) = (MediaTime(4), MediaTime(8));
        assert_eq!(
            (duration(a), duration(b), duration(b - a)),
            ("PT0.000044S".into(), "PT0.000089S".into(), "PT0.000044S".into())
        );
        assert_eq!(distance(a, b), "PT0.000045S");
    }

    #[test]
    fn seven_one_is_layout_seven_and_six_one_is_eleven() {
        assert_eq!([1, 2, 6, 7, 8].map(channel_configuration), [1, 2, 6, 11, 7]);
    }
}
