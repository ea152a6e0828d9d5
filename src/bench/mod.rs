//! `weir bench gpu`: what a GPU really does with the streams' own pipelines, beside what was planned with (`logic::bench`). `docs/gpu-day.md` says what
//! each number decides.

mod clip;
mod codec;
mod encoders;
mod gauge;
mod lifetimes;
mod streams;

use std::cell::OnceCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use weir::config::{self, EncoderChoice};
use weir::gpu;
use weir::link::process::Options;
use weir::link::wire::Encoder;
use weir::logic::bench::{self, Machine, Part, Row};
use weir::logic::gpu::{Device, Load, Survey};
use weir::logic::ladder::{self, Ladder, Rung, Size, Source};
use weir::logic::model::FrameRate;
use weir::logic::recipe::{self, Class};
use weir::report::http::VERSION;

use crate::{Fatal, exit, probe, run};
use clip::Clip;
use codec::Setting;
use gauge::Gauge;

/// Frames per second of the source.
const FPS: u32 = 30;

/// From one reading of NVML to the next: a sixth of a second is the shortest time over which the driver averages.
const READINGS: Duration = Duration::from_millis(200);

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// For programs.
    #[arg(long)]
    json: bool,
    /// Fewer combinations, and a second for each.
    #[arg(long)]
    quick: bool,
    /// Only these parts: device, presets, streams, memory, ladder, start, sandbox.
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    only: Vec<Part>,
    /// Seconds of each measurement, 1 to 600; the ladder has six times as many [5, with --quick 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: Option<u64>,
    /// Measure although somebody encodes on the device: the numbers are then those of what is left, and his streams suffer.
    #[arg(long)]
    force: bool,
    /// The device, by NVML's number [the first that encodes].
    #[arg(long, value_name = "N")]
    device: Option<u32>,
    /// Streams at full load, 1 to 64 [25, with --quick 2].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    streams: Option<u16>,
    /// Picture of the generated source.
    #[arg(long, value_name = "WxH", default_value = "1920x1080")]
    source: String,
    /// As nvidia.class: dense, normal or premium; of streams, memory, ladder, start and sandbox.
    #[arg(long, value_name = "CLASS", default_value = "dense", value_parser = class)]
    class: Class,
    /// What the driver needs besides its usual files, as nvidia.paths; may be given several times.
    #[arg(long, value_name = "PATH")]
    path: Vec<PathBuf>,
}

/// What the parts share.
struct Bench {
    setting: Setting,
    survey: Survey,
    device: Device,
    machine: Machine,
    gauge: Gauge,
    source: Size,
    rungs: Vec<Rung>,
    quick: bool,
    each: Duration,
    streams: u16,
    /// The class's preset.
    preset: u8,
    /// Made when it is first needed: that takes as long as it plays.
    clip: OnceCell<Result<Arc<Clip>, String>>,
    rows: Vec<Row>,
}

/// `weir bench gpu`.
pub fn gpu(arguments: &Arguments) -> Result<(), Fatal> {
    let wrong = |text: String| Fatal::new(exit::CONFIGURATION, anyhow!(text));
    let (source, rungs) = ladder_below(&arguments.source).map_err(wrong)?;
    let internal = |e: String| Fatal::new(1, anyhow!(e));
    let options =
        gpu::Options { interval: READINGS, ..gpu::Options::new(&config::Gpu::default()).map_err(|e| Fatal::new(1, e))? };
    let program = run::codec_program(None);
    // Writes GStreamer's registry too, for all processes that follow.
    let (report, survey) = probe::encoder(EncoderChoice::Nvidia, &options, &program, None)?;
    let survey = survey.ok_or_else(|| internal("the GPUs were not looked at".into()))?;
    let usable = |d: &&Device| report.devices.contains(&d.uuid) && arguments.device.is_none_or(|n| n == d.index);
    let device = survey.probe.devices.iter().find(usable).cloned();
    let device = device.ok_or_else(|| wrong("there is no such device that encodes: see weir probe".into()))?;
    let load = survey.reading.of(&device.uuid);
    refuse_beside_others(load, arguments.force)?;
    let machine = Machine::new(&device, load);
    let gauge = Gauge::start(options, survey.clone(), &device.uuid).map_err(|e| Fatal::new(1, e))?;
    let setting = Setting {
        options: Options {
            program,
            registry: None,
            memory_limit: u64::MAX,
            start_deadline: codec::DEADLINE,
            gpu: true,
            device_paths: arguments.path.clone(),
        },
        device: device.uuid.clone(),
        environment: Vec::new(),
        encoder: Encoder::Nvidia { class: arguments.class, allow_cpu_decode: false },
    };
    let seconds = arguments.seconds.unwrap_or(if arguments.quick { 1 } else { 5 });
    let mut bench = Bench {
        setting,
        survey,
        device,
        machine,
        gauge,
        source,
        rungs,
        quick: arguments.quick,
        each: Duration::from_secs(seconds),
        streams: arguments.streams.unwrap_or(if arguments.quick { 2 } else { 25 }),
        preset: arguments.class.preset(),
        clip: OnceCell::new(),
        rows: Vec::new(),
    };
    let wanted = |part: Part| arguments.only.is_empty() || arguments.only.contains(&part);
    for part in Part::ALL.into_iter().filter(|p| wanted(*p)) {
        tracing::info!("measuring: {part}");
        match part {
            Part::Device => bench.what_it_is(),
            Part::Presets => encoders::presets(&mut bench),
            Part::Streams => streams::sharing(&mut bench),
            Part::Memory => lifetimes::memory(&mut bench),
            Part::Ladder => streams::full_load(&mut bench),
            Part::Start => lifetimes::start(&mut bench),
            Part::Sandbox => lifetimes::sandbox(&mut bench),
        }
    }
    bench.print(arguments.json)
}

fn class(name: &str) -> Result<Class, String> {
    serde_json::from_value(name.into()).map_err(|_| "it is dense, normal or premium".into())
}

/// Somebody's streams must not stutter because somebody else measures.
fn refuse_beside_others(load: Option<&Load>, force: bool) -> Result<(), Fatal> {
    let sessions = load.and_then(|l| l.sessions).unwrap_or(0);
    if sessions == 0 || force {
        return Ok(());
    }
    let text = format!("{sessions} encode sessions are open on this device: drain its worker first, or say --force");
    Err(Fatal::new(exit::BUSY, anyhow!(text)))
}

/// The size of the source, and the default ladder's rungs below it.
fn ladder_below(source: &str) -> Result<(Size, Vec<Rung>), String> {
    let sides = source.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    let (width, height): (u32, u32) = sides.ok_or_else(|| format!("--source {source}: write WIDTHxHEIGHT"))?;
    // NVENC's largest H.264 picture on Ampere.
    const MAX_SIDE: u32 = 4096;
    if width.max(height) > MAX_SIDE || !width.is_multiple_of(2) || !height.is_multiple_of(2) {
        return Err(format!("--source {source}: two even numbers up to {MAX_SIDE}"));
    }
    let ladder: Ladder = toml::from_str(recipe::DEFAULT_LADDER).map_err(|e| e.to_string())?;
    let about = Source { width, height, fps: FrameRate::whole(FPS), bitrate: None };
    let rungs = ladder::plan(&about, &ladder, true, recipe::NVIDIA_SMALLEST);
    if rungs.is_empty() {
        return Err(format!("--source {source}: no rung below it is large enough for the encoder"));
    }
    Ok((Size { width, height }, rungs))
}

impl Bench {
    fn add(&mut self, row: Row) {
        tracing::info!(
            "{}: {}: {}",
            row.part,
            row.what,
            row.measured.map_or_else(|| row.note.clone(), |m| format!("{m:.2} {}", row.unit))
        );
        self.rows.push(row);
    }

    /// A source of two key frame intervals; of one with `--quick`.
    fn clip(&self) -> Result<Arc<Clip>, String> {
        let seconds = if self.quick { 2 } else { 4 };
        let make = || Clip::make(&self.setting.options.program, self.source, seconds).map(Arc::new);
        self.clip.get_or_init(make).clone()
    }

    /// The sources of every expectation that follows.
    fn what_it_is(&mut self) {
        let row = |what: &str, unit, measured: Option<f64>| {
            Row::of(Part::Device, what, unit, measured.ok_or_else(|| "the driver does not say".to_owned()))
        };
        let a10g = |n: f64| self.device.name.contains("A10G").then_some(n);
        let (device, probe) = (&self.device, &self.survey.probe);
        let load = self.survey.reading.of(&device.uuid);
        let driver = probe.driver.clone().unwrap_or_default();
        let major = driver.split('.').next().and_then(|n| n.parse().ok());
        let encoder = device.encoder.as_ref();
        let decoder = device.decoder.as_ref();
        let presets = encoder.map(|e| e.presets.iter().map(|p| format!("P{p}")).collect::<Vec<_>>().join(" "));
        let api = probe.encode_api.map(|v| format!("NVENC interface {v}")).unwrap_or_default();
        let legacy = encoder.is_some_and(|e| e.legacy_presets);
        let rows = [
            row("driver", "version", major).note(format!("{driver}, {api}")),
            row("compute capability", "", Some(f64::from(device.compute.major) + f64::from(device.compute.minor) / 10.0))
                .expect(a10g(8.6))
                .note(&device.name),
            row("NVENC engines", "engines", encoder.map(|e| e.engines.into())).expect(a10g(1.0)),
            row("NVDEC engines", "engines", decoder.map(|d| d.engines.into())).expect(a10g(2.0)),
            row("video clock, highest", "MHz", self.machine.clock_mhz.map(f64::from)).expect(a10g(1500.0)),
            row("memory", "MiB", Some(mib(device.memory))).expect(a10g(23_028.0)),
            row("memory in use before", "MiB", load.and_then(|l| l.memory_used).map(mib)),
            row("presets", "of P1 to P7", encoder.map(|e| e.presets.len() as f64))
                .expect(Some(7.0))
                .note(presets.unwrap_or_default()),
            row("presets of before P1 to P7", "0 or 1", encoder.map(|_| u32::from(legacy).into()))
                .note("gone from driver 590 on"),
            row("B-frames at the most", "frames", encoder.map(|e| e.b_frames.into())).expect(a10g(4.0)),
            row("smallest picture, width", "samples", encoder.map(|e| e.width.0.into())).expect(a10g(145.0)),
            row("smallest picture, height", "samples", encoder.map(|e| e.height.0.into())).expect(a10g(49.0)),
        ];
        rows.into_iter().for_each(|r| self.add(r));
    }

    fn print(&self, json: bool) -> Result<(), Fatal> {
        if !json {
            print!("{}", bench::text(&self.rows));
            return Ok(());
        }
        let body = serde_json::json!({
            "version": VERSION,
            "device": self.device,
            "driver": self.survey.probe.driver,
            "cores": cores(),
            "source": self.source.to_string(),
            "streams": self.streams,
            "rows": self.rows,
        });
        println!("{}", serde_json::to_string_pretty(&body).map_err(|e| Fatal::new(1, e))?);
        Ok(())
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
