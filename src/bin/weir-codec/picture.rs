//! The built-in test picture as a live FLV stream on standard output, for `weir push`.
//!
//! Time is the frame number over the rate, and begins with a full second of the wall clock; so the flash, the beep and the clocks in the picture
//! all turn at the same instant.

mod draw;
mod sound;

use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gstreamer::prelude::*;
use gstreamer::{self as gst, ClockTime, MessageType};
use gstreamer_app::AppSrc;
use gstreamer_video::VideoInfo;
use weir::logic::recipe;

use draw::{Canvas, Planes};

/// What to draw.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Write the test picture and its sound to standard output as FLV, in real time.
    #[arg(long)]
    pub picture: bool,
    /// Size of the picture: two even numbers.
    #[arg(long, value_name = "WxH", default_value = "1280x720")]
    size: Size,
    /// Frames per second.
    #[arg(long, value_name = "N", default_value_t = 30)]
    fps: u32,
    /// Seconds from one key frame to the next.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    gop: f64,
    /// Video rate in kilobits per second.
    #[arg(long, value_name = "N", default_value_t = 2500)]
    kbps: u32,
    /// Stop after so many seconds; without it, never.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
}

/// `WIDTHxHEIGHT` in luma samples.
#[derive(Debug, Clone, Copy)]
struct Size {
    width: u32,
    height: u32,
}

impl FromStr for Size {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let sides = s.split_once('x').and_then(|(w, h)| Some(Self { width: w.parse().ok()?, height: h.parse().ok()? }));
        sides.ok_or_else(|| format!("{s:?} is not of the form 1280x720"))
    }
}

/// Behind by more than this (the reader does not read), pictures are left out instead of sent late.
const MAX_LATE: Duration = Duration::from_secs(1);

/// Draws and encodes until the end or until nobody reads.
///
/// # Errors
/// One sentence for the log.
pub fn run(options: &Options) -> Result<(), String> {
    let Size { width, height } = options.size;
    let fps = options.fps;
    // A float only to read the argument; recipe::picture checks the range, and the conversion saturates.
    let key_interval = (options.gop * f64::from(fps)).round() as u32;
    let text = recipe::picture(&recipe::Picture { width, height, fps, key_interval, kbps: options.kbps });
    let text = text.map_err(|e| e.to_string())?;
    let built = gst::parse::launch_full(&text, None, gst::ParseFlags::FATAL_ERRORS);
    let built = built.map_err(|e| format!("the pipeline cannot be built here: {e}"))?;
    let pipeline: gst::Pipeline = built.downcast().map_err(|_| "the text is no pipeline")?;
    let painter = Painter::new(&pipeline, width, height, fps)?;
    let bus = pipeline.bus().ok_or("the pipeline has no bus")?;
    pipeline.set_state(gst::State::Playing).map_err(|e| e.to_string())?;
    let (start, start_millis) = next_full_second();
    std::thread::scope(|scope| {
        scope.spawn(|| painter.show(start, start_millis, options.seconds));
        scope.spawn(|| painter.play(start, options.seconds));
        let end = bus.timed_pop_filtered(ClockTime::NONE, &[MessageType::Eos, MessageType::Error]);
        // Wakes both threads if they wait for room.
        let _ = pipeline.set_state(gst::State::Null);
        match end {
            Some(message) if message.type_() == MessageType::Error => Err(crate::pipeline::describe(&message)),
            _ => Ok(()),
        }
    })
}

/// The next full second of the wall clock.
fn next_full_second() -> (Instant, u64) {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let start = Duration::from_secs(unix.as_secs() + 1);
    (Instant::now() + (start - unix), start.as_secs() * 1000)
}

/// Sleeps until `due`; how far it lies in the past already otherwise.
fn wait_for(due: Instant) -> Duration {
    let now = Instant::now();
    match due.checked_duration_since(now) {
        Some(early) => {
            std::thread::sleep(early);
            Duration::ZERO
        }
        None => now - due,
    }
}

/// Feeds pictures and sound, each from a thread of its own: the muxer takes them by their times, so that either may have to wait for the other
/// at any moment.
struct Painter {
    pictures: AppSrc,
    sound: AppSrc,
    canvas: Canvas,
    fps: u64,
    /// Layout of a picture in memory, bytes.
    size: usize,
    u_from: usize,
    v_from: usize,
    y_stride: usize,
    c_stride: usize,
}

impl Painter {
    fn new(pipeline: &gst::Pipeline, width: u32, height: u32, fps: u32) -> Result<Self, String> {
        let source = |name: &str| {
            let element = pipeline.by_name(name).and_then(|e| e.downcast::<AppSrc>().ok());
            element.ok_or_else(|| format!("the pipeline has no {name}"))
        };
        let side = |n: u32| i32::try_from(n).map_err(|_| format!("{n} is too large"));
        let caps = gst::Caps::builder("video/x-raw")
            .field("format", "I420")
            .field("width", side(width)?)
            .field("height", side(height)?)
            .field("framerate", gst::Fraction::new(side(fps)?, 1))
            .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
            .field("interlace-mode", "progressive")
            .field("colorimetry", "bt709")
            .field("chroma-site", "mpeg2")
            .build();
        let info = VideoInfo::from_caps(&caps).map_err(|e| e.to_string())?;
        let (pictures, sound) = (source("pictures")?, source("sound")?);
        pictures.set_caps(Some(&caps));
        let channels = i32::try_from(sound::CHANNELS).map_err(|e| e.to_string())?;
        let rate = i32::try_from(sound::RATE).map_err(|e| e.to_string())?;
        sound.set_caps(Some(
            &gst::Caps::builder("audio/x-raw")
                .field("format", "F32LE")
                .field("layout", "interleaved")
                .field("rate", rate)
                .field("channels", channels)
                .field("channel-mask", gst::Bitmask::new(3))
                .build(),
        ));
        let canvas = Canvas::new(width as usize, height as usize, fps);
        let (&[_, u_from, v_from, ..], &[y_stride, c_stride, ..]) = (info.offset(), info.stride()) else {
            return Err("I420 without three planes".into());
        };
        let stride = |s: i32| usize::try_from(s).map_err(|e| e.to_string());
        let (y_stride, c_stride) = (stride(y_stride)?, stride(c_stride)?);
        Ok(Self { pictures, sound, canvas, fps: u64::from(fps), size: info.size(), u_from, v_from, y_stride, c_stride })
    }

    /// One picture at a time when it is due.
    fn show(&self, start: Instant, start_millis: u64, seconds: Option<u64>) {
        let end = seconds.map_or(u64::MAX, |s| s.saturating_mul(self.fps));
        let mut frame = 0;
        while frame < end {
            let late = wait_for(start + Duration::from_nanos(self.nanos(frame)));
            if late > MAX_LATE {
                frame += u64::try_from(late.as_millis()).unwrap_or(0) * self.fps / 1000;
                continue;
            }
            if self.pictures.push_buffer(self.picture(frame, start_millis + self.nanos(frame) / 1_000_000)).is_err() {
                return;
            }
            frame += 1;
        }
        // Here and above: a pipeline that takes no more has said why on its bus.
        let _ = self.pictures.end_of_stream();
    }

    /// One AAC frame's worth of sound at a time. Never leaves any out: a hole in the sound is worse than a delay.
    fn play(&self, start: Instant, seconds: Option<u64>) {
        let end = seconds.map_or(u64::MAX, |s| s.saturating_mul(sound::RATE));
        let mut sample = 0;
        while sample < end {
            wait_for(start + Duration::from_nanos(sample * 1_000_000_000 / sound::RATE));
            if self.sound.push_buffer(beep(sample)).is_err() {
                return;
            }
            sample += sound::FRAME;
        }
        let _ = self.sound.end_of_stream();
    }

    /// Stream time of a picture.
    fn nanos(&self, frame: u64) -> u64 {
        frame * 1_000_000_000 / self.fps
    }

    fn picture(&self, frame: u64, unix_millis: u64) -> gst::Buffer {
        let mut samples = vec![0; self.size];
        let (y, chroma) = samples.split_at_mut(self.u_from);
        let (u, v) = chroma.split_at_mut(self.v_from - self.u_from);
        let mut planes = Planes { y, u, v, y_stride: self.y_stride, c_stride: self.c_stride };
        self.canvas.draw(frame, unix_millis, &mut planes);
        let begin = self.nanos(frame);
        timed(samples, begin, self.nanos(frame + 1) - begin)
    }
}

fn beep(sample: u64) -> gst::Buffer {
    let nanos = |n: u64| n * 1_000_000_000 / sound::RATE;
    timed(sound::frame(sample + sound::PRIMING), nanos(sample), nanos(sample + sound::FRAME) - nanos(sample))
}

fn timed(data: Vec<u8>, pts: u64, duration: u64) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_mut_slice(data);
    let fields = buffer.make_mut();
    fields.set_pts(ClockTime::from_nseconds(pts));
    fields.set_duration(ClockTime::from_nseconds(duration));
    buffer
}
