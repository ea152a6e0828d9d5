//! `weir bench gpu` under the driver double: that each number is there and nothing is left behind. What the numbers are says nothing: the double's encoder
//! is x264.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;
use weir::link::wire::{FromCodec, ToCodec};

use crate::codec::{Clip, driver_paths, message, nvidia, start};
use crate::double::{Double, Fault};
use crate::harness::{beside_others, tools};

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

/// One rung of 160x90 below it.
const SOURCE: &str = "320x180";

fn bench(double: &Double) -> Command {
    let mut command = double.command(WEIR);
    command.args(["bench", "gpu", "--quick", "--source", SOURCE]);
    for path in driver_paths(double) {
        command.arg("--path").arg(path);
    }
    command
}

#[test]
fn every_part_is_measured_and_nothing_is_left_behind() {
    let _machine = beside_others();
    let double = Double::start();
    let done = tools::run(bench(&double).arg("--json"));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}: {said}", done.status);
    let table: Value = serde_json::from_slice(&done.stdout).unwrap();
    let mut parts: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for row in table["rows"].as_array().unwrap() {
        parts.entry(row["part"].as_str().unwrap().to_owned()).or_default().push(row.clone());
    }
    let counts: BTreeMap<&str, usize> = parts.iter().map(|(part, rows)| (part.as_str(), rows.len())).collect();
    // presets: two of them by 1 and 4 sessions of two sizes. streams: two ways without MPS by four numbers, two rows for MPS. memory: context, one
    // rung, two of leaks, two of the decoder. ladder: one rung and seven numbers.
    let expected =
        [("device", 12), ("presets", 8), ("streams", 10), ("memory", 6), ("ladder", 8), ("start", 2), ("sandbox", 3)];
    assert_eq!(counts, BTreeMap::from(expected), "{table:#}");
    for row in parts.values().flatten() {
        let (what, note) = (row["what"].as_str().unwrap(), row["note"].as_str().unwrap());
        if row["measured"].is_number() {
            continue;
        }
        let absent = (what.contains("with MPS") && note.contains("nvidia-cuda-mps-control"))
            || (what.contains("refused") && note.contains("apt-get install strace"));
        assert!(absent, "not measured: {row:#}");
    }
    let row = |part: &str, what: &str| {
        let found = parts[part].iter().find(|r| r["what"].as_str().unwrap().contains(what));
        found.unwrap_or_else(|| panic!("no {what} in {part}: {table:#}")).clone()
    };
    // The double is an A10G by its capabilities and clock, so the plan's numbers are those of one.
    let full = row("presets", "P1, 1 x 320x180");
    let (expected, ratio) = (full["expected"].as_f64().unwrap(), full["ratio"].as_f64().unwrap());
    assert!((22_000.0..22_400.0).contains(&expected), "651 pictures of 8160 macroblocks in pictures of 240: {full}");
    assert!((ratio - full["measured"].as_f64().unwrap() / expected).abs() < 1e-9, "{full}");
    assert!(parts["presets"].iter().all(|r| r["measured"].as_f64() > Some(0.0)), "{table:#}");
    assert_eq!(row("streams", "1 in a process, without MPS: in real time")["expected"].as_f64(), Some(2.0));
    assert_eq!(row("ladder", "encode sessions")["measured"].as_f64(), Some(2.0));
    assert!(row("memory", "decoder and a rung")["measured"].as_f64() > Some(0.0));
    for left in parts["memory"].iter().filter(|r| r["what"].as_str().unwrap().starts_with("left")) {
        assert_eq!(left["measured"].as_f64(), Some(0.0), "{left}");
    }
    let walls = row("sandbox", "walls");
    assert_eq!(walls["measured"], walls["expected"], "{walls}");
    assert_eq!(row("sandbox", "inside")["measured"].as_f64(), Some(1.0));
    double.until_clean();
}

#[test]
fn one_part_is_printed_for_people() {
    let double = Double::start();
    let done = tools::run(bench(&double).args(["--only", "device"]));
    let text = String::from_utf8_lossy(&done.stdout);
    let lines: Vec<&str> = text.lines().collect();
    assert!(done.status.success() && lines.len() == 13 && lines[0].starts_with("part"), "{text}");
    assert!(lines[1..].iter().all(|l| l.starts_with("device ")), "{text}");
    assert!(text.contains("550.163.01") && text.contains("P1 P2 P3 P4 P5 P6 P7"), "{text}");
}

#[test]
fn without_a_device_it_ends_as_the_worker_would() {
    let mut double = Double::start();
    double.set(Fault::Devices { count: 0 });
    let done = tools::run(&mut bench(&double));
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(7), "{said}");
    assert!(said.contains("CUDA_ERROR_NO_DEVICE (100)") && done.stdout.is_empty(), "{said}");
}

#[test]
fn a_device_that_somebody_encodes_on_is_left_alone_unless_told_otherwise() {
    let _machine = beside_others();
    let double = Double::start();
    let clip = Clip::make(320, 180, 30, 1, &[]);
    let mut codec = start(&double);
    codec.greet();
    codec.send_raw(&message(&ToCodec::Start { stream: 0, plan: Box::new(nvidia(&clip, &[(160, 90, false)])) }, &[]));
    for unit in &clip.units {
        let about = ToCodec::Video { stream: 0, pts: unit.pts, dts: unit.dts, idr: unit.idr, cut: unit.idr };
        codec.send_raw(&message(&about, &unit.data));
    }
    while !matches!(codec.receive(), Some((FromCodec::Unit { .. }, _))) {}
    let done = tools::run(bench(&double).args(["--only", "device"]));
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(8), "{said}");
    assert!(said.contains("1 encode sessions are open") && said.contains("--force"), "{said}");
    let done = tools::run(bench(&double).args(["--only", "device", "--force"]));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    drop(codec);
    double.until_clean();
}
