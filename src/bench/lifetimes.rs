//! What a codec process takes and gives back, how long it needs to begin, and what it is refused.

use std::io::ErrorKind;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use weir::link::bench::Job;
use weir::link::wire::{FromCodec, Plan, ToCodec};
use weir::logic::bench::{Part, Row, context_mib, decoder_mib, median, refused, session_mib};
use weir::logic::recipe;

use super::clip::Clip;
use super::codec::{Codec, DEADLINE, Measuring};
use super::streams::plan;
use super::{Bench, FPS, mib};

/// Pictures of each rung after which a stream has all the memory that it is going to have: above the decoder's delay and the encoders' pools.
const PICTURES: u32 = 30;

/// Device memory step by step: an empty context, a decoder, each rung, and what is left after many starts and stops.
pub fn memory(bench: &mut Bench) {
    let mut rows = Vec::new();
    let outcome = memory_rows(bench, &mut rows);
    rows.into_iter().for_each(|r| bench.add(r));
    if let Err(reason) = outcome {
        bench.add(Row::missing(Part::Memory, "the rest of this part", "MiB", reason));
    }
}

fn memory_rows(bench: &Bench, rows: &mut Vec<Row>) -> Result<(), String> {
    let row = |what: String, mib: f64| Row::new(Part::Memory, what, "MiB", mib);
    let clip = bench.clip()?;
    let nothing = bench.gauge.memory()?;
    let more = |than: u64| -> Result<f64, String> { Ok(mib(bench.gauge.memory()?) - mib(than)) };
    let mut codec = Codec::start(bench.setting.command())?;
    codec.greet()?;
    rows.push(row("a process that stands ready: its context".into(), more(nothing)?).expect(Some(context_mib())));
    let ready = bench.gauge.memory()?;
    let whole = plan(bench, &clip);
    let mut before = ready;
    let mut first = None;
    for count in 1..=whole.rungs.len() {
        let plan = Plan { rungs: whole.rungs[..count].to_vec(), ..whole.clone() };
        let rung = &whole.rungs[count - 1];
        let stream = u32::try_from(count).map_err(|e| e.to_string())?;
        begin(&mut codec, stream, &plan, &clip)?;
        let more = more(before)?;
        before = bench.gauge.memory()?;
        stop(&mut codec, stream)?;
        let what = format!("{}a rung of {}x{}", if count == 1 { "decoder and " } else { "" }, rung.width, rung.height);
        let expected = session_mib() + if count == 1 { decoder_mib() } else { 0.0 };
        first.get_or_insert((more, rung.width, rung.height));
        rows.push(row(what, more).expect(Some(expected)));
    }
    let cycles: u32 = if bench.quick { 5 } else { 100 };
    let stopped = bench.gauge.memory()?;
    for cycle in 0..cycles {
        begin(&mut codec, 1000 + cycle, &whole, &clip)?;
        stop(&mut codec, 1000 + cycle)?;
    }
    rows.push(
        row(format!("left after {cycles} starts and stops in one process"), more(stopped)?).expect(Some(0.0)).note("a leak"),
    );
    drop(codec);
    rows.push(row("left after the process's end".into(), more(nothing)?).expect(Some(0.0)).note("a leak of the driver's"));
    let (with_decoder, width, height) = first.ok_or("the ladder has no rungs")?;
    let alone = encoder_alone(bench, nothing, width, height)?;
    let what = format!("an encoder of {width}x{height} in a context, without decoder");
    rows.push(row(what, alone).expect(Some(context_mib() + session_mib())));
    rows.push(row("decoder: the difference".into(), with_decoder + context(rows) - alone).expect(Some(decoder_mib())));
    Ok(())
}

/// What the context was measured to take.
fn context(rows: &[Row]) -> f64 {
    rows.first().and_then(|r| r.measured).unwrap_or(0.0)
}

/// The most that is in use while one encoder works, less what was before and the pictures that it is given.
fn encoder_alone(bench: &Bench, nothing: u64, width: u32, height: u32) -> Result<f64, String> {
    let mut measuring = Measuring::start(&bench.setting)?;
    let time = bench.each.max(Duration::from_secs(1));
    let job = Job { preset: 1, sessions: 1, width, height, millis: u32::try_from(time.as_millis()).unwrap_or(u32::MAX) };
    let working = std::thread::scope(|scope| {
        let job = scope.spawn(|| measuring.run(job));
        let mut most: Option<u64> = None;
        while !job.is_finished() {
            most = most.max(bench.gauge.over(super::READINGS).memory);
        }
        job.join().map_err(|_| "the measuring thread panicked".to_owned())?.map(|_| most)
    })?;
    // NV12: a byte for each luma sample, and half as many for chroma.
    let given = recipe::BENCH_PICTURES * u64::from(width) * u64::from(height) * 3 / 2;
    Ok(mib(working.ok_or("NVML does not say how much memory is in use")?) - mib(nothing) - mib(given))
}

/// Starts a stream, feeds it as fast as it takes it, and waits until each rung has given some pictures; the time to the first picture of all rungs.
fn begin(codec: &mut Codec, stream: u32, plan: &Plan, clip: &Clip) -> Result<Duration, String> {
    let started = Instant::now();
    codec.send(&ToCodec::Start { stream, plan: Box::new(plan.clone()) }, &[])?;
    for (n, (data, idr)) in (0_i64..).zip(clip.units.iter().take(2 * PICTURES as usize)) {
        let pts = n * 90_000 / i64::from(FPS);
        codec.send(&ToCodec::Video { stream, pts, dts: pts, idr: *idr, cut: *idr }, data)?;
    }
    let mut given = vec![0_u32; plan.rungs.len()];
    let mut first = None;
    while given.iter().any(|&n| n < PICTURES) {
        match codec.receive()? {
            (FromCodec::Unit { rung, .. }, _) => {
                let count = given.get_mut(usize::from(rung)).ok_or("a picture of a rung that was not asked for")?;
                *count += 1;
                if first.is_none() && given.iter().all(|&n| n > 0) {
                    first = Some(started.elapsed());
                }
            }
            (FromCodec::Failed { reason, .. }, _) => return Err(reason),
            _ => {}
        }
    }
    first.ok_or_else(|| "no first picture".into())
}

fn stop(codec: &mut Codec, stream: u32) -> Result<(), String> {
    codec.send(&ToCodec::Stop { stream }, &[])?;
    loop {
        match codec.receive()?.0 {
            FromCodec::Ended { stream: ended } if ended == stream => return Ok(()),
            FromCodec::Failed { reason, .. } => return Err(reason),
            _ => {}
        }
    }
}

/// From the start of a process to where it could take a stream, and from there to the first picture of every rung.
pub fn start(bench: &mut Bench) {
    const TIMES: usize = 3;
    let once = |clip: &Clip| -> Result<(f64, f64), String> {
        let mut codec = Codec::start(bench.setting.command())?;
        let ready = codec.greet()?;
        let first = begin(&mut codec, 0, &plan(bench, clip), clip)?;
        Ok((ready.as_secs_f64(), first.as_secs_f64()))
    };
    let times = bench.clip().and_then(|clip| (0..TIMES).map(|_| once(&clip)).collect::<Result<Vec<_>, _>>());
    let of = |which: fn(&(f64, f64)) -> f64| {
        times
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|t| median(t.iter().map(which).collect()).ok_or_else(|| "nothing measured".into()))
    };
    let all = |which: fn(&(f64, f64)) -> f64| {
        let seconds = |t: &Vec<(f64, f64)>| t.iter().map(|t| format!("{:.2}", which(t))).collect::<Vec<_>>().join(", ");
        times.as_ref().map(seconds).unwrap_or_default()
    };
    let rows = [
        Row::of(Part::Start, "a codec process until it is ready", "s", of(|t| t.0)).note(all(|t| t.0)),
        Row::of(Part::Start, "its first picture of every rung", "s", of(|t| t.1)).note(all(|t| t.1)),
    ];
    rows.into_iter().for_each(|r| bench.add(r));
}

/// That a process encodes inside its walls, that the walls hold, and what the driver bumped into.
pub fn sandbox(bench: &mut Bench) {
    let walls = walls(bench);
    let expected = walls.as_ref().ok().map(|w| w.1);
    let note = walls.as_ref().map(|w| w.2.clone()).unwrap_or_default();
    bench.add(Row::of(Part::Sandbox, "walls that hold", "checks", walls.map(|w| w.0)).expect(expected).note(note));
    let clip = bench.clip();
    let inside = clip.as_ref().map_err(Clone::clone).and_then(|clip| {
        let mut codec = Codec::start(bench.setting.command())?;
        codec.greet()?;
        begin(&mut codec, 0, &plan(bench, clip), clip).map(|_| bench.rungs.len() as f64)
    });
    bench.add(Row::of(Part::Sandbox, "rungs that are encoded inside", "rungs", inside).expect(Some(bench.rungs.len() as f64)));
    let bumped = clip.and_then(|clip| traced(bench, &clip));
    let list = bumped.as_ref().map(|b| b.join(", ")).unwrap_or_default();
    let row = Row::of(Part::Sandbox, "calls that were refused", "different calls", bumped.map(|b| b.len() as f64));
    bench.add(row.note(list));
}

/// How many walls hold, how many there are, and which do not.
fn walls(bench: &Bench) -> Result<(f64, f64, String), String> {
    let mut command = bench.setting.command();
    let done =
        command.arg("--sandbox-check").stdin(Stdio::null()).stderr(Stdio::inherit()).output().map_err(|e| e.to_string())?;
    let said: serde_json::Value = serde_json::from_slice(&done.stdout).map_err(|e| format!("{}: {e}", done.status))?;
    let checks = said.as_object().into_iter().flatten().filter_map(|(_, of)| of.as_object()).flatten();
    let (mut hold, mut all, mut broken) = (0.0, 0.0, Vec::new());
    for (name, holds) in checks {
        all += 1.0;
        if holds.as_bool() == Some(true) {
            hold += 1.0;
        } else {
            broken.push(name.clone());
        }
    }
    let note = if broken.is_empty() { String::new() } else { format!("not: {}", broken.join(", ")) };
    Ok((hold, all, note))
}

/// A stream under strace: what its process was refused.
fn traced(bench: &Bench, clip: &Clip) -> Result<Vec<String>, String> {
    const STRACE: &str = "strace";
    match Command::new(STRACE).arg("-V").stdin(Stdio::null()).stdout(Stdio::null()).status() {
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => return Err("strace is not here: apt-get install strace".into()),
        Err(e) => return Err(format!("{STRACE}: {e}")),
    }
    let file = std::env::temp_dir().join(format!("weir-bench-{}.strace", std::process::id()));
    let wrapper = ["-f", "-qq", "-Z", "-e", "trace=%file,%network,%process,ioctl", "-o"];
    let wrapper: Vec<_> = wrapper.into_iter().map(Into::into).chain([file.clone().into_os_string(), "--".into()]).collect();
    let streamed = Codec::start(bench.setting.command_under(&STRACE.into(), &wrapper)).and_then(|mut codec| {
        codec.greet()?;
        begin(&mut codec, 0, &plan(bench, clip), clip)?;
        codec.finish()
    });
    let trace = std::fs::read(&file).map_err(|e| format!("{STRACE} wrote nothing: {e}"));
    // It is a file in the folder for such; what cannot be removed stays there.
    let _ = std::fs::remove_file(&file);
    streamed.map_err(|e| format!("under {STRACE}, which makes all slow (deadline {} s): {e}", DEADLINE.as_secs()))?;
    Ok(refused(&String::from_utf8_lossy(&trace?)))
}
