//! The checks, each with its limit and its sentence.

use std::time::Duration;

use super::{Code, Finding, Milli, Observed, Severity, Video};
use crate::cmaf::video::{Chroma, Picture};
use crate::logic::allowance::{self, Standing};
use crate::logic::model::Coding;
use crate::logic::obstacle::{MAX_GOP, MAX_LEVEL, Obstacle};
use crate::logic::pace;
use crate::logic::srt;
use crate::logic::time::MediaTime;

/// A key frame interval may exceed the target by so much: encoders count frames, and a scene cut shifts them.
const GOP_SLACK: MediaTime = MediaTime::from_millis(600);

/// Fewer frames a second, in thousandths, look like a slide show: films have 24, and 20 leaves room for a camera in the dark.
const LOW_FPS: u64 = 20_000;

/// Less than so many of a hundred nominal frames arrive: frames are missing, whatever the rounding.
const FRAMES_PERCENT: u64 = 90;

/// EBU R 128's absolute gate: nothing below counts as sound. Hundredths of a LUFS.
const SILENCE: i32 = -7000;

/// Audio that came and stayed away for so long has stopped; shorter holes are gaps.
const AUDIO_STOPPED: Duration = Duration::from_secs(2);

/// Uplink speed, in thousandths, under which players at their usual 6 s behind stall within a minute.
const UPLINK_BAD: u64 = 900;

/// A declared number is believed when it is right to so many percent: encoders declare the average they aim at.
const DECLARED_PERCENT: u64 = 50;

const KEYFRAMES: &str = "Settings > Output > Streaming > Keyframe Interval: 2 s";
const BITRATE: &str = "Settings > Output > Streaming > Bitrate";
const CODEC: &str = "Settings > Output > Streaming > Video Encoder: one of H.264";
const PROFILE: &str = "Settings > Output > Streaming > Profile: high";
const COLOUR: &str = "Settings > Advanced > Video > Color Format: NV12";
const OUTPUT_SIZE: &str = "Settings > Video > Output (Scaled) Resolution";
const FPS: &str = "Settings > Video > Common FPS Values";
const AUDIO: &str = "Audio Mixer, and Settings > Audio > Global Audio Devices";
const RATE: &str = "Settings > Audio > Sample Rate";
const LATENCY: &str = "Settings > Stream > Server: add ?latency=MICROSECONDS behind the srt:// address";
const X264: &str = "Settings > Output > Streaming > x264 Options: remove open-gop and intra-refresh";

pub(super) fn all(o: &Observed) -> Vec<Finding> {
    let mut out = Vec::new();
    if o.live {
        if let Some(video) = &o.video {
            out.extend(gop(o, video));
            out.extend(open_gop(video));
            out.extend(bitrate(o, video));
            out.extend(format(o, video));
            out.extend(frames(video));
            out.extend(declared(o, video));
        }
        out.extend(audio(o));
        out.extend(o.allowance.map(allowance));
        out.extend(line(o));
        out.extend(o.srt.map(line_loss));
        out.extend(encoders(o));
    }
    out.push(store(o));
    out
}

fn finding(code: Code, severity: Severity, text: impl Into<String>) -> Finding {
    Finding { code, severity, text: text.into(), setting: None, measured: None, limit: None, unit: None }
}

impl Finding {
    fn at(self, measured: i64, limit: i64, unit: &'static str) -> Self {
        Self { measured: Some(Milli(measured)), limit: Some(Milli(limit)), unit: Some(unit), ..self }
    }

    /// The setting helps where something is wrong.
    fn set(self, setting: &'static str) -> Self {
        let setting = (self.severity > Severity::Ok).then_some(setting);
        Self { setting, ..self }
    }
}

/// `n` thousandths with one digit behind the point.
fn tenths(n: u64) -> String {
    let tenths = n.saturating_add(50) / 100;
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What becomes of a source that is not passed through.
fn instead(o: &Observed) -> &'static str {
    match (o.can_encode, o.no_room) {
        (true, None) => "the source is encoded anew meanwhile",
        (true, Some(_)) => "until then viewers get smaller pictures, because this worker has no room to encode the source anew",
        (false, _) => "it cannot be encoded anew here",
    }
}

fn gop(o: &Observed, video: &Video) -> Option<Finding> {
    let limit = (o.target + GOP_SLACK).millis();
    let Some(gop) = video.gop else {
        // The first GOP is not over yet, and already longer than may be.
        let unseen = o.obstacle == Some(Obstacle::Gop);
        let text = || match o.no_room {
            Some(_) => format!("{}; {}", Obstacle::Gop, instead(o)),
            None => Obstacle::Gop.to_string(),
        };
        return unseen.then(|| finding(Code::LongGop, Severity::Warning, text()).set(KEYFRAMES));
    };
    let millis = gop.millis().max(0);
    let length = tenths(millis.unsigned_abs());
    let target = tenths(o.target.millis().max(0).unsigned_abs());
    let target = target.trim_end_matches(".0");
    let (severity, text) = if millis <= limit {
        (Severity::Ok, format!("key frames every {length} s"))
    } else if gop <= MAX_GOP {
        (Severity::Notice, format!("keyframe interval {length} s: set {target} s in OBS, so that viewers see it sooner"))
    } else if o.passthrough {
        (Severity::Warning, format!("keyframe interval {length} s: set {target} s in OBS"))
    } else {
        (Severity::Warning, format!("keyframe interval {length} s: set {target} s in OBS; {}", instead(o)))
    };
    Some(finding(Code::LongGop, severity, text).at(millis, limit, "s").set(KEYFRAMES))
}

fn open_gop(video: &Video) -> Option<Finding> {
    (video.open_gops > 0).then(|| {
        let text =
            "key frames that refer back (open GOP or intra refresh): nobody can begin at them, switch that off in the encoder";
        finding(Code::OpenGop, Severity::Warning, text).at(milli(video.open_gops), 0, "key frames").set(X264)
    })
}

fn bitrate(o: &Observed, video: &Video) -> Option<Finding> {
    let bits = video.bitrate?;
    let limit = o.bitrate_limit;
    let measured = format!("{} kbit/s", bits / 1000);
    let kept_out = matches!(o.obstacle, Some(Obstacle::Bitrate { .. }));
    let (severity, text) = if bits > limit || kept_out {
        let then = if kept_out { format!("; {}", instead(o)) } else { String::new() };
        (Severity::Warning, format!("{measured} is a lot for viewers: set at most {} kbit/s in OBS{then}", limit / 1000))
    } else {
        (Severity::Ok, format!("{measured} of video"))
    };
    Some(finding(Code::HighBitrate, severity, text).at(milli(bits), milli(limit), "bit/s").set(BITRATE))
}

/// All that the connection brings, against what the key allows.
fn allowance(standing: Standing) -> Finding {
    let Standing { measured, limit } = standing;
    let (is, most) = (measured / 1000, limit / 1000);
    let (severity, text) = if measured > limit {
        let span = allowance::SPAN.as_secs();
        let text = format!(
            "{is} kbit/s in all, this stream key allows {most}: set less in OBS; much more than that for {span} s ends the stream"
        );
        (Severity::Warning, text)
    } else {
        (Severity::Ok, format!("{is} of {most} kbit/s that this stream key allows"))
    };
    finding(Code::OverAllowance, severity, text).at(milli(measured), milli(limit), "bit/s").set(BITRATE)
}

fn milli(n: u64) -> i64 {
    signed(n).saturating_mul(1000)
}

/// What the parameter sets say. The first of these that browsers do not play, in the order of [`crate::logic::obstacle`], and the shape.
fn format(o: &Observed, video: &Video) -> Vec<Finding> {
    let mut out = Vec::new();
    let Some(picture) = video.picture else { return out };
    let unplayable = unplayable(o);
    if picture.interlaced {
        let text = format!("interlaced video: send progressive pictures; {}", instead(o));
        out.push(finding(Code::Interlaced, unplayable, text));
    }
    if picture.depth > 8 {
        let text = format!("{}-bit video is not played by browsers: set NV12 in OBS; {}", picture.depth, instead(o));
        out.push(finding(Code::TenBit, unplayable, text).at(i64::from(picture.depth) * 1000, 8000, "bit").set(COLOUR));
    }
    if picture.chroma != Chroma::Quarter {
        let text = format!("{} video is not played by browsers: set NV12 in OBS; {}", picture.chroma.as_str(), instead(o));
        out.push(finding(Code::Chroma, unplayable, text).set(COLOUR));
    }
    out.extend(if picture.coding == Coding::H264 { profile(o, &picture) } else { newer(o, &picture) });
    let (width, height) = video.size;
    if width.min(height) > o.short_side_limit {
        let text = format!("{width}x{height} is larger than {}p: {}", o.short_side_limit, instead(o));
        let (side, limit) = (i64::from(width.min(height)), i64::from(o.short_side_limit));
        out.push(finding(Code::TooLarge, Severity::Notice, text).at(side * 1000, limit * 1000, "lines").set(OUTPUT_SIZE));
    }
    if !picture.is_square() {
        let (w, h) = picture.sar;
        let text = format!("samples are not square ({w}:{h}): shown as {width}x{height}, which some players do not heed");
        out.push(finding(Code::NonSquare, Severity::Notice, text));
    }
    out
}

/// Of H.264.
fn profile(o: &Observed, picture: &Picture) -> Option<Finding> {
    let level = format!("{}.{}", picture.level / 10, picture.level % 10);
    let name = format!("H.264 {} {level}", picture.profile_name().unwrap_or("of an unknown profile"));
    if picture.level > MAX_LEVEL {
        // Many play it, so it passes where nobody encodes.
        let text = format!("{name} is not played everywhere: send fewer pixels or frames, up to level 4.2; {}", instead(o));
        let found = finding(Code::NotPlayableProfile, Severity::Warning, text).set(OUTPUT_SIZE);
        return Some(found.at(i64::from(picture.level) * 100, i64::from(MAX_LEVEL) * 100, "level"));
    }
    if matches!(picture.profile, 66 | 77 | 100) {
        return Some(finding(Code::NotPlayableProfile, Severity::Ok, name));
    }
    // With more bits or colours that is the reason, and said.
    (picture.depth == 8 && picture.chroma == Chroma::Quarter).then(|| {
        let text = format!("{name} is not played by browsers: set the profile high in OBS; {}", instead(o));
        finding(Code::NotPlayableProfile, unplayable(o), text).set(PROFILE)
    })
}

/// Of HEVC and AV1, which not every browser plays.
fn newer(o: &Observed, picture: &Picture) -> Option<Finding> {
    let name = format!("{} {}", picture.coding.as_str(), picture.profile_name().unwrap_or("of an unknown profile"));
    if o.decided && o.passthrough {
        return Some(finding(Code::NotPlayableProfile, Severity::Ok, format!("{name}, passed through beside H.264")));
    }
    let text = format!("{name} is not played by every browser: H.264 is; {}", instead(o));
    let severity = if o.can_encode { Severity::Notice } else { Severity::Bad };
    Some(finding(Code::NotPlayableProfile, severity, text).set(CODEC))
}

/// How much pictures matter that browsers do not play.
fn unplayable(o: &Observed) -> Severity {
    if o.can_encode { Severity::Warning } else { Severity::Bad }
}

fn frames(video: &Video) -> Vec<Finding> {
    let mut out = Vec::new();
    let Some(fps) = video.fps else { return out };
    let nominal = video.nominal_fps;
    let (is, told) = (tenths(fps), tenths(nominal));
    if fps < LOW_FPS {
        let text = format!("{is} frames per second: movement is not smooth");
        out.push(finding(Code::LowFps, Severity::Notice, text).at(signed(fps), signed(LOW_FPS), "fps").set(FPS));
    } else {
        out.push(finding(Code::LowFps, Severity::Ok, format!("{is} frames per second")).at(
            signed(fps),
            signed(LOW_FPS),
            "fps",
        ));
    }
    if video.is_variable == Some(true) {
        out.push(finding(Code::VariableFps, Severity::Notice, "frames come unevenly: set a constant frame rate").set(FPS));
    }
    let least = nominal.saturating_mul(FRAMES_PERCENT) / 100;
    if fps < least {
        let text =
            format!("{is} of {told} frames per second arrive: the encoder drops some, for want of a faster computer or line");
        out.push(finding(Code::FramesMissing, Severity::Notice, text).at(signed(fps), signed(least), "fps").set(FPS));
    }
    out
}

/// `onMetaData` against what is measured: BANDWIDTH of the source rung is made of it (rules.md 9).
fn declared(o: &Observed, video: &Video) -> Option<Finding> {
    let (told, bits) = (o.declared.video_bitrate?, video.bitrate?);
    let most = told.saturating_mul(100 + DECLARED_PERCENT) / 100;
    (bits > most).then(|| {
        let text = format!("{} kbit/s of video where the encoder declares {}", bits / 1000, told / 1000);
        finding(Code::DeclaredOtherwise, Severity::Notice, text).at(milli(bits), milli(most), "bit/s").set(BITRATE)
    })
}

fn audio(o: &Observed) -> Vec<Finding> {
    let mut out = Vec::new();
    let ok = match o.audio.away {
        None if o.decided && o.video.is_some() => {
            let text = "no audio: silence is sent in its place";
            out.push(finding(Code::NoAudio, Severity::Notice, text).set(AUDIO));
            return out;
        }
        None => return out,
        // An audio-only stream ends with its audio.
        Some(away) if away > AUDIO_STOPPED && o.video.is_some() && o.decided => {
            let text = format!("audio stopped {} s ago: silence is sent in its place", away.as_secs());
            let (measured, limit) = (signed(millis(away)), signed(millis(AUDIO_STOPPED)));
            out.push(finding(Code::NoAudio, Severity::Warning, text).at(measured, limit, "s").set(AUDIO));
            return out;
        }
        Some(_) => finding(Code::NoAudio, Severity::Ok, "audio arrives"),
    };
    out.push(ok);
    if o.audio.gaps > 0 {
        let text = format!("audio was away {} times for over half a second: silence was sent in its place", o.audio.gaps);
        out.push(finding(Code::AudioGaps, Severity::Warning, text).at(milli(o.audio.gaps), 0, "gaps"));
    }
    if let Some((ppm, stretched)) = o.audio.drift {
        let (off, side) = super::drift(ppm);
        let (severity, done) = match stretched {
            true => (Severity::Notice, "it is resampled and encoded again"),
            false => (Severity::Warning, "a frame is left out or silent each time that it is 60 ms off"),
        };
        let advice = "set the same sample rate in the sound device, the system and OBS, or let OBS resample";
        let text = format!("audio runs {off} % {side} against its timestamps: {done}; {advice}");
        out.push(finding(Code::AudioDrift, severity, text).at(i64::from(ppm) * 1000, 0, "ppm").set(RATE));
    }
    if let Some(loudness) = o.audio.loudness {
        let silent = loudness <= SILENCE;
        let tenths = i64::from(loudness) * 10;
        let text = if silent { "audio is silent: is the microphone muted?" } else { "audio can be heard" };
        let severity = if silent { Severity::Warning } else { Severity::Ok };
        out.push(finding(Code::SilentAudio, severity, text).at(tenths, i64::from(SILENCE) * 10, "LUFS").set(AUDIO));
    }
    out
}

fn line(o: &Observed) -> Vec<Finding> {
    let mut out = Vec::new();
    if let Some(speed) = o.uplink {
        let shown = format!("{}.{:02}", speed / 1000, speed % 1000 / 10);
        let (severity, text) = if o.uplink_is_slow {
            let severity = if speed < UPLINK_BAD { Severity::Bad } else { Severity::Warning };
            let bits = o.video.as_ref().and_then(|v| v.bitrate).unwrap_or(0);
            // Four fifths of what gets through leave room for other traffic.
            let fits = u128::from(bits).saturating_mul(speed.into()).saturating_mul(8) / 10_000 / 1000;
            let advice =
                if fits > 0 { format!("set at most {fits} kbit/s in OBS, or use a cable") } else { "use a cable".into() };
            (severity, format!("the upload is too slow, video arrives at {shown} of real time: {advice}"))
        } else {
            (Severity::Ok, format!("media arrive at {shown} of real time"))
        };
        out.push(
            finding(Code::UplinkTooSlow, severity, text).at(signed(speed), signed(pace::SLOW), "x real time").set(BITRATE),
        );
    }
    if o.clock_jumps > 0 {
        let text = format!("the publisher's clock jumped {} times: the stream went on where it was", o.clock_jumps);
        out.push(finding(Code::ClockJumps, Severity::Notice, text).at(milli(o.clock_jumps), 0, "jumps"));
    }
    if o.worker_is_slow {
        let text =
            "this server does not take the stream as fast as it comes, and slows the publisher down: it has too much to do";
        out.push(finding(Code::WorkerBehind, Severity::Bad, text));
    }
    out
}

/// SRT mends loss for as long as its latency lets it.
fn line_loss(line: srt::Line) -> Finding {
    let (percent, limit) = (tenths(line.loss.saturating_mul(100)), signed(srt::LOSS.saturating_mul(100)));
    let advice = match line.latency_advice() {
        Some(ms) => format!("set the latency to at least {ms} ms in the encoder"),
        None => "use a cable, or a lower bitrate".into(),
    };
    let (severity, text) = if line.dropped > 0 {
        let text = format!(
            "{percent} % of the packets are lost on the way, and {} came too late in the last half minute: {advice}",
            line.dropped
        );
        (Severity::Warning, text)
    } else if line.is_lossy() {
        (Severity::Notice, format!("{percent} % of the packets are lost on the way and sent again: {advice}"))
    } else {
        (Severity::Ok, format!("{percent} % of the packets are lost on the way"))
    };
    let found = finding(Code::LineLoss, severity, text).at(signed(line.loss.saturating_mul(100)), limit, "%");
    if line.latency_advice().is_some() { found.set(LATENCY) } else { found }
}

fn encoders(o: &Observed) -> Vec<Finding> {
    let mut out = Vec::new();
    if let Some(lag) = o.encoder_lag {
        let text =
            format!("the encoders are {} s behind and do not catch up: this server has too much to do", tenths(millis(lag)));
        out.push(finding(Code::EncoderBehind, Severity::Bad, text).at(signed(millis(lag)), signed(millis(pace::ENCODER)), "s"));
    }
    if o.encoders_lost > 0 {
        let text = format!("the codec process was lost {} times and was replaced", o.encoders_lost);
        out.push(finding(Code::EncoderLost, Severity::Warning, text).at(milli(o.encoders_lost), 0, "times"));
    }
    if o.saving.is_some() {
        let text = format!("the server is busy: viewers get the stream {}", o.saving.words());
        out.push(finding(Code::Shed, Severity::Warning, text));
    }
    out
}

fn store(o: &Observed) -> Finding {
    if o.store_away {
        let text = "the store does not answer: viewers wait, and what is sent is kept for it";
        return finding(Code::StoreBehind, Severity::Bad, text);
    }
    match o.store_lag {
        Some(lag) => {
            let text = format!("the store is slow, segments wait {} s for it: viewers are behind", tenths(millis(lag)));
            finding(Code::StoreBehind, Severity::Warning, text).at(signed(millis(lag)), signed(millis(pace::STORE)), "s")
        }
        None => finding(Code::StoreBehind, Severity::Ok, "the store keeps up"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_that_is_mended_is_a_notice_and_what_came_too_late_a_warning() {
        let numbers = srt::Numbers { rtt_us: 100_000, latency_ms: 250, ..Default::default() };
        let of = |loss, dropped| line_loss(srt::Line { numbers, loss, dropped });
        let fine = of(20, 0);
        assert_eq!(
            (fine.severity, fine.text.as_str(), fine.setting),
            (Severity::Ok, "2.0 % of the packets are lost on the way", None)
        );
        let mended = of(31, 0);
        assert_eq!((mended.severity, mended.measured, mended.limit), (Severity::Notice, Some(Milli(3100)), Some(Milli(2000))));
        assert!(mended.text.ends_with(
            "3.1 % of the packets are lost on the way and sent again: set the latency to at least 400 ms in the encoder"
        ));
        assert_eq!(mended.setting, Some(LATENCY));
        let late = of(31, 4);
        assert!(late.severity == Severity::Warning && late.text.contains("4 came too late"), "{}", late.text);
        let enough = srt::Line { numbers: srt::Numbers { latency_ms: 500, ..numbers }, loss: 31, dropped: 0 };
        assert!(line_loss(enough).text.ends_with("use a cable, or a lower bitrate"));
    }
}
