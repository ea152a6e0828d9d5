//! What this machine can do: GStreamer by the codec process, GPUs by the watcher process, and the encoder that follows. `weir probe` prints it, `weir run`
//! starts with it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use weir::config::{self, EncoderChoice};
use weir::gpu;
use weir::link::environment;
use weir::link::wire::{Element, Inventory};
use weir::logic::encoder_choice::{self, Elements, Wanted};
use weir::logic::gpu::Survey;
use weir::logic::recipe::Decoders;
use weir::report::gpu as report;
use weir::report::http::VERSION;
use weir::worker::EncoderReport;

use crate::{Fatal, exit, run};

/// GStreamer's first look at all its plugins takes 1 to 5 s, more on a busy machine; a driver that hangs would hold it for ever.
const INVENTORY_DEADLINE: Duration = Duration::from_secs(60);

/// Asks `weir-codec` what is there. It also writes GStreamer's registry, once, for all processes that follow. With `without_gpus` it looks at no device: a
/// driver that hangs would hang it too.
pub fn inventory(program: &Path, registry: Option<&PathBuf>, without_gpus: bool) -> Result<Inventory, String> {
    let mut command = Command::new(program);
    command.arg("--inventory").env_clear().envs(environment::allowed());
    if let Some(registry) = registry {
        command.env("GST_REGISTRY", registry);
    }
    if without_gpus {
        command.env("CUDA_VISIBLE_DEVICES", "-1");
    }
    let output = output(command, program)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let hint = missing_library(&said).map(|p| format!(" (Debian package {p})")).unwrap_or_default();
        return Err(format!("{} ended with {}: {said}{hint}", program.display(), output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| format!("{}: {e}", program.display()))
}

fn output(mut command: Command, program: &Path) -> Result<Output, String> {
    let child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => format!("{} is not there: build it with the feature gst", program.display()),
            _ => format!("{}: {e}", program.display()),
        })?;
    let pid = rustix::process::Pid::from_child(&child);
    let (sender, answer) = channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match answer.recv_timeout(INVENTORY_DEADLINE) {
        Ok(output) => output.map_err(|e| format!("{}: {e}", program.display())),
        Err(_) => {
            // It is a child that nobody has waited for, so the number is still its.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            let seconds = INVENTORY_DEADLINE.as_secs();
            Err(format!("{} gave no inventory within {seconds} s: a plugin of GStreamer hangs", program.display()))
        }
    }
}

/// The Debian package of a shared library that the loader did not find.
fn missing_library(said: &str) -> Option<&'static str> {
    [
        ("libgstreamer-1.0", "libgstreamer1.0-0"),
        ("libgstapp-1.0", "libgstreamer-plugins-base1.0-0"),
        ("libgstvideo-1.0", "libgstreamer-plugins-base1.0-0"),
        ("libgstbase-1.0", "libgstreamer1.0-0"),
    ]
    .into_iter()
    .find(|(library, _)| said.contains(library))
    .map(|(_, package)| package)
}

/// What of an inventory decides about the encoder.
fn elements(inventory: &Inventory, role: &str) -> Elements {
    let of_role = || inventory.elements.iter().filter(|e| e.role == role);
    let missing = of_role().filter(|e| !e.present).map(|e| format!("{} ({})", e.name, e.package)).collect();
    let lacking = of_role().filter(|e| e.present && !e.missing_properties.is_empty());
    Elements {
        has_pipelines: of_role().next().is_some(),
        missing,
        lacking: lacking.map(|e| format!("{} lacks {}", e.name, e.missing_properties.join(", "))).collect(),
    }
}

/// The codings beside H.264 whose decoders of a family are there with all that their templates set.
fn decoders(inventory: &Inventory, family: &str) -> Decoders {
    let has = |coding: &str| {
        let elements = elements(inventory, &format!("{family}-{coding}"));
        elements.has_pipelines && elements.missing.is_empty() && elements.lacking.is_empty()
    };
    Decoders { hevc: has("hevc"), av1: has("av1") }
}

fn choose(
    wanted: Wanted,
    survey: &Result<Survey, String>,
    inventory: &Result<Inventory, String>,
) -> Result<EncoderReport, encoder_choice::Refused> {
    let known = inventory.as_ref().map_err(Clone::clone).map(|i| encoder_choice::Inventory {
        gstreamer: i.gstreamer.clone(),
        nvidia: elements(i, "nvidia"),
        software: elements(i, "software"),
    });
    let choice = encoder_choice::choose(wanted, survey, &known)?;
    let inventory = inventory.as_ref().ok();
    let decoders = |family: &str| inventory.map(|i| decoders(i, family)).unwrap_or_default();
    Ok(EncoderReport {
        cpu_decoders: decoders("software"),
        device_decoders: decoders("nvidia"),
        ..EncoderReport::new(choice, inventory.map(|i| i.gstreamer.clone()))
    })
}

/// The encoder of `weir run`, and what was found of GPUs.
pub fn encoder(
    choice: EncoderChoice,
    options: &gpu::Options,
    program: &Path,
    registry: Option<&PathBuf>,
) -> Result<(EncoderReport, Option<Survey>), Fatal> {
    let survey = match choice {
        EncoderChoice::Auto | EncoderChoice::Nvidia => gpu::survey(options).map_err(|e| e.to_string()),
        EncoderChoice::Software | EncoderChoice::None => Err("no GPU was asked for".into()),
    };
    let inventory = inventory(program, registry, survey.is_err());
    let report = choose(choice.into(), &survey, &inventory).map_err(|e| Fatal::new(exit::ENCODER, e))?;
    Ok((report, survey.ok()))
}

/// `weir probe`.
pub fn probe(json: bool) -> Result<(), Fatal> {
    let options = gpu::Options::new(&config::Gpu::default()).map_err(|e| Fatal::new(1, e))?;
    let survey = gpu::survey(&options).map_err(|e| e.to_string());
    let found = inventory(&run::codec_program(None), None, survey.is_err());
    let encoder = choose(Wanted::Auto, &survey, &found).map_err(|e| Fatal::new(exit::ENCODER, e))?;
    if json {
        let body = serde_json::json!({
            "version": VERSION,
            "encoder": encoder.name,
            "encoder_code": encoder.code,
            "reason": encoder.reason,
            "error": found.as_ref().err(),
            "inventory": found.as_ref().ok(),
            "gpu": survey.as_ref().ok(),
            "gpu_error": survey.as_ref().err(),
        });
        println!("{}", serde_json::to_string_pretty(&body).map_err(|e| Fatal::new(1, e))?);
        return Ok(());
    }
    println!("weir {VERSION}");
    match &found {
        Err(e) => println!("codec process: {e}"),
        Ok(inventory) => print_inventory(inventory, survey.as_ref().is_ok_and(|s| !s.probe.devices.is_empty())),
    }
    match &survey {
        Err(e) => println!("GPUs: {e}"),
        Ok(survey) => print!("{}", report::text(survey)),
    }
    println!("encoder: {} ({})", encoder.name, encoder.reason);
    Ok(())
}

fn print_inventory(inventory: &Inventory, has_devices: bool) {
    println!("GStreamer {}", inventory.gstreamer);
    for e in &inventory.elements {
        println!("  {:<16} {:<13} {}", e.name, e.role, state(e, has_devices));
    }
}

/// What there is to say of an element. GStreamer makes those of NVIDIA's for the devices that it finds, whatever is installed.
fn state(e: &Element, has_devices: bool) -> String {
    match (e.present, e.missing_properties.is_empty()) {
        (true, true) => "present".into(),
        (true, false) => format!("lacks {}", e.missing_properties.join(", ")),
        (false, _) if e.role.starts_with("nvidia") && !has_devices => "absent without a GPU".into(),
        (false, _) => format!("missing: apt-get install {}", e.package),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_advised_where_they_would_help() {
        let element = |role: &str, present, missing_properties: &[&str]| Element {
            name: "x".into(),
            present,
            missing_properties: missing_properties.iter().map(|&p| p.to_owned()).collect(),
            package: "p".into(),
            role: role.into(),
        };
        for role in ["software", "software-hevc", "nvidia", "nvidia-av1"] {
            assert_eq!(state(&element(role, false, &[]), true), "missing: apt-get install p");
            assert_eq!(state(&element(role, true, &["a", "b"]), false), "lacks a, b");
            assert_eq!(state(&element(role, true, &[]), false), "present");
        }
        assert_eq!(state(&element("software-hevc", false, &[]), false), "missing: apt-get install p");
        for role in ["nvidia", "nvidia-hevc"] {
            assert_eq!(state(&element(role, false, &[]), false), "absent without a GPU");
        }
    }
}
