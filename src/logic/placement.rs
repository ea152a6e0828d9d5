//! On which of a machine's GPUs a stream is encoded, and with how much work. Pure.
//!
//! NVENC's own answer to "how much is left" is always 100 % on Linux, so the work that was placed is counted, in macroblocks per second (its
//! throughput is close to proportional to them), and the engines of a device are its weight.

mod class;

pub use class::{Choice, ClassSetting, Why, choose_class, cost};

use super::bench::Machine;
use super::gpu::{Probe, Reading};
use super::ladder::Rung;
use super::recipe::Class;

/// Of what NVIDIA's tables promise, so much is planned with, percent: rules.md 27.
const PLANNED_PERCENT: f64 = 90.0;

/// A GPU as far as placing streams goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// By what CUDA_VISIBLE_DEVICES names it: its UUID, or its index.
    pub name: String,
    /// NVENC engines; a device without any takes no stream.
    pub engines: u32,
    /// What streams may take of all engines together, macroblocks per second of the dense class ([`cost`]). `None` where no table tells what this device can do.
    pub budget: Option<u64>,
    /// It works: not lost, not excluded.
    pub usable: bool,
    /// A process on it failed a moment ago: it is taken when there is no other.
    pub doubted: bool,
}

/// The devices of these UUIDs as they are now. One whose engines are not known has one; a lost one is not usable.
pub fn devices(uuids: &[String], probe: &Probe, reading: &Reading) -> Vec<Device> {
    let of = |uuid: &String| {
        let device = probe.devices.iter().find(|d| d.uuid == *uuid);
        let caps = device.and_then(|d| d.encoder.as_ref());
        Device {
            name: uuid.clone(),
            engines: caps.map_or(1, |c| c.engines.max(1)),
            budget: device.and_then(|d| budget(&Machine::new(d, reading.of(uuid)))),
            usable: !reading.is_lost(uuid),
            doubted: false,
        }
    };
    uuids.iter().map(of).collect()
}

/// What streams may take of a machine's encoders: the table x clock x engines x 0.90, macroblocks per second at the dense class's preset.
fn budget(machine: &Machine) -> Option<u64> {
    let all = machine.throughput(Class::Dense.preset())?;
    // Of a device that is known some millions; a float that is no such number is 0.
    Some((all * PLANNED_PERCENT / 100.0) as u64)
}

/// What a stream asks of encoders: macroblocks of 16 x 16 luma samples per second, over all of its rungs.
pub fn load(rungs: &[Rung]) -> u64 {
    let of = |r: &Rung| {
        let macroblocks = u64::from(r.width.div_ceil(16)) * u64::from(r.height.div_ceil(16));
        macroblocks.saturating_mul(r.fps.milli()) / 1000
    };
    rungs.iter().map(of).fold(0, u64::saturating_add)
}

/// The index of the device that is not doubted and has the least work for each of its engines, `placed` being what each has already, in the unit of [`cost`]. Of equal
/// ones the first. A doubted one when all are. `None` when no device is usable.
pub fn choose(devices: &[Device], placed: &[u64]) -> Option<usize> {
    let share = |i: usize, engines: u32| {
        // Thousandths, so that one macroblock of two engines still counts.
        placed.get(i).copied().unwrap_or(0).saturating_mul(1000) / u64::from(engines)
    };
    let usable = devices.iter().enumerate().filter(|(_, d)| d.usable && d.engines > 0);
    usable.min_by_key(|(i, d)| (d.doubted, share(*i, d.engines), *i)).map(|(i, _)| i)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::model::FrameRate;
    use proptest::prelude::*;

    fn device(engines: u32, usable: bool) -> Device {
        Device { name: "GPU-0".into(), engines, budget: None, usable, doubted: false }
    }

    #[test]
    fn a_rung_costs_its_macroblocks() {
        let rung = |width, height, fps| Rung {
            name: format!("{height}p").parse().unwrap(),
            width,
            height,
            fps: FrameRate::whole(fps),
            halved: false,
            kbps: 1,
            max_kbps: 1,
        };
        // 80 x 45, 54 x 30 (854 rounds up), 40 x 23
        assert_eq!(load(&[rung(1280, 720, 30), rung(854, 480, 30), rung(640, 360, 30)]), (3600 + 1620 + 920) * 30);
        assert_eq!(load(&[]), 0);
    }

    #[test]
    fn a_doubted_device_is_chosen_when_all_are() {
        let doubted = Device { doubted: true, ..device(1, true) };
        assert_eq!(choose(&[doubted.clone(), device(1, true)], &[0, 10]), Some(1));
        assert_eq!(choose(&[doubted.clone(), doubted.clone()], &[10, 0]), Some(1));
        assert_eq!(choose(&[doubted, device(1, false)], &[0, 0]), Some(0));
    }

    #[test]
    fn the_least_loaded_device_is_chosen_and_engines_weigh() {
        let two = [device(1, true), device(1, true)];
        assert_eq!(choose(&two, &[0, 0]), Some(0));
        assert_eq!(choose(&two, &[10, 9]), Some(1));
        assert_eq!(choose(&[device(1, true), device(2, true)], &[10, 19]), Some(1));
        assert_eq!(choose(&[device(1, true), device(2, true)], &[10, 21]), Some(0));
    }

    #[test]
    fn a_lost_device_or_one_without_an_encoder_takes_no_stream() {
        assert_eq!(choose(&[device(1, false), device(1, true)], &[0, 1_000_000]), Some(1));
        assert_eq!(choose(&[device(0, true)], &[0]), None);
        assert_eq!(choose(&[], &[]), None);
    }

    proptest! {
        /// Equal streams over any devices: none gets two more for each engine than another.
        #[test]
        fn work_spreads_by_engines(engines in proptest::collection::vec(1u32..4, 1..6), streams in 1usize..100) {
            let devices: Vec<_> = engines.iter().map(|&n| device(n, true)).collect();
            let mut placed = vec![0; devices.len()];
            for _ in 0..streams {
                let device = choose(&devices, &placed).unwrap();
                placed[device] += 1000;
            }
            let shares: Vec<_> = placed.iter().zip(&engines).map(|(p, &e)| p / u64::from(e)).collect();
            prop_assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1000);
        }
    }
}
