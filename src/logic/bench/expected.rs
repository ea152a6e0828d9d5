//! What was planned with before there was a device to measure: NVIDIA's published tables, scaled to the device's clock and engines, and a few numbers
//! that others saw.

use crate::logic::gpu::{Device, Load, Version};
use crate::logic::ladder::Rung;
use crate::logic::placement;

/// Macroblocks of 1920x1080, rounded up: the picture of NVIDIA's tables.
const TABLE_MACROBLOCKS: f64 = 8160.0;

/// One row of NVIDIA's tables, per engine.
struct Published {
    compute: (u32, u32),
    /// Frames per second of 1080p by H.264 P1, P3, P5, P7: of low latency CBR and high quality VBR the lower one (NVENC application note, SDK 13.0).
    encode: [f64; 4],
    /// Video clock of that device, MHz.
    encode_clock: f64,
    /// H.264, 8 bits, 4:2:0 (NVDEC application note, SDK 13.0).
    decode: f64,
    /// Video clock of that device, MHz.
    decode_clock: f64,
}

/// Turing (T4), Ampere GA10x (A10G), Ada (L4). Devices of other kinds have no expectation.
const PUBLISHED: [Published; 3] = [
    Published {
        compute: (7, 5),
        encode: [833.0, 600.0, 264.0, 207.0],
        encode_clock: 1950.0,
        decode: 771.0,
        decode_clock: 1860.0,
    },
    Published {
        compute: (8, 6),
        encode: [846.0, 613.0, 266.0, 213.0],
        encode_clock: 1950.0,
        decode: 748.0,
        decode_clock: 1665.0,
    },
    Published {
        compute: (8, 9),
        encode: [885.0, 647.0, 283.0, 211.0],
        encode_clock: 2415.0,
        decode: 903.0,
        decode_clock: 2160.0,
    },
];

/// What of a device decides what it can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// CUDA's compute capability.
    pub compute: Version,
    /// NVENC engines.
    pub encoders: u32,
    /// NVDEC engines.
    pub decoders: u32,
    /// Highest clock of both, MHz.
    pub clock_mhz: Option<u32>,
}

/// Macroblocks of 16 x 16 luma samples of a picture.
pub fn macroblocks(width: u32, height: u32) -> u32 {
    width.div_ceil(16).saturating_mul(height.div_ceil(16))
}

impl Machine {
    /// As the probe and NVML say.
    pub fn new(device: &Device, load: Option<&Load>) -> Self {
        Self {
            compute: device.compute,
            encoders: device.encoder.as_ref().map_or(1, |e| e.engines.max(1)),
            decoders: device.decoder.as_ref().map_or(1, |d| d.engines.max(1)),
            clock_mhz: load.and_then(|l| l.video_clock_max_mhz),
        }
    }

    fn published(&self) -> Option<&'static Published> {
        PUBLISHED.iter().find(|p| p.compute == (self.compute.major, self.compute.minor))
    }

    /// Pictures of this size per second, of `sessions` together, by preset 1 to 7. A session never has more than one engine.
    pub fn encoded_fps(&self, preset: u8, width: u32, height: u32, sessions: u32) -> Option<f64> {
        let published = self.published()?;
        let [p1, p3, p5, p7] = published.encode;
        // P2, P4 and P6 are not published: the geometric mean of their neighbours.
        let table = match preset {
            1 => p1,
            2 => (p1 * p3).sqrt(),
            3 => p3,
            4 => (p3 * p5).sqrt(),
            5 => p5,
            6 => (p5 * p7).sqrt(),
            7 => p7,
            _ => return None,
        };
        let engines = f64::from(self.encoders.min(sessions.max(1)));
        let of_size = TABLE_MACROBLOCKS / f64::from(macroblocks(width, height).max(1));
        Some(table * f64::from(self.clock_mhz?) / published.encode_clock * engines * of_size)
    }

    /// Macroblocks per second that all encoders together encode by a preset, 1 to 7.
    pub fn throughput(&self, preset: u8) -> Option<f64> {
        Some(self.encoded_fps(preset, 1920, 1080, u32::MAX)? * TABLE_MACROBLOCKS)
    }

    /// Pictures of this size per second that all decoders together decode.
    pub fn decoded_fps(&self, width: u32, height: u32) -> Option<f64> {
        let published = self.published()?;
        let of_size = TABLE_MACROBLOCKS / f64::from(macroblocks(width, height).max(1));
        Some(published.decode * f64::from(self.clock_mhz?) / published.decode_clock * f64::from(self.decoders) * of_size)
    }

    /// How many streams of these rungs the encoders can do by a preset.
    pub fn streams(&self, preset: u8, rungs: &[Rung]) -> Option<f64> {
        let full = self.throughput(preset)?;
        let load = placement::load(rungs);
        (load > 0).then(|| full / load as f64)
    }
}

/// A CUDA context, MiB: 150 to 300 by what others saw of processes with and without a shared one.
pub const fn context_mib() -> f64 {
    225.0
}

/// A decoder of 1080p, MiB: 10 to 22 surfaces of 3.1 MB each.
pub const fn decoder_mib() -> f64 {
    50.0
}

/// One more encode session, MiB (keylase/nvidia-patch issue 201: about 55 MB).
pub const fn session_mib() -> f64 {
    55.0
}

/// A stream of three or four rungs in a context that is there already, MiB: 250 to 350 were planned with.
pub const fn stream_mib() -> f64 {
    300.0
}

/// Processor cores that a stream may use if so many are to share a machine of so many cores.
pub fn cpu_budget(cores: usize, streams: u16) -> Option<f64> {
    (streams > 0).then(|| cores as f64 / f64::from(streams))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::model::FrameRate;

    /// As `nvidia-smi` shows one in an EC2 instance.
    const A10G: Machine = Machine { compute: Version { major: 8, minor: 6 }, encoders: 1, decoders: 2, clock_mhz: Some(1500) };

    fn rung(width: u32, height: u32) -> Rung {
        let fps = FrameRate::whole(30);
        Rung { name: "r".parse().unwrap(), width, height, fps, halved: false, kbps: 1, max_kbps: 1 }
    }

    fn round(n: Option<f64>) -> i64 {
        n.unwrap().round() as i64
    }

    #[test]
    fn the_tables_are_scaled_to_the_clock() {
        let fps = |preset| round(A10G.encoded_fps(preset, 1920, 1080, 16));
        assert_eq!([1, 2, 3, 4, 5, 6, 7].map(fps), [651, 554, 472, 311, 205, 183, 164]);
        assert_eq!(round(A10G.decoded_fps(1920, 1080)), 1348, "two engines");
    }

    #[test]
    fn cost_is_in_macroblocks_and_a_session_has_one_engine() {
        // 3600 macroblocks
        assert_eq!(round(A10G.encoded_fps(1, 1280, 720, 1)), 1475);
        let two = Machine { encoders: 2, ..A10G };
        assert_eq!(two.encoded_fps(1, 1280, 720, 1), A10G.encoded_fps(1, 1280, 720, 1));
        assert_eq!(round(two.encoded_fps(1, 1280, 720, 4)), 2950);
    }

    #[test]
    fn twenty_five_ladders_below_a_source_fit_by_p1_only() {
        let ladder = [rung(1280, 720), rung(854, 480), rung(640, 360)];
        let streams = |preset| A10G.streams(preset, &ladder).unwrap();
        assert!((28.0..29.5).contains(&streams(1)), "{}", streams(1));
        assert!(streams(2) < 25.0 && streams(3) < 21.0, "{} {}", streams(2), streams(3));
        assert_eq!(A10G.streams(1, &[]), None);
    }

    #[test]
    fn nothing_is_expected_of_a_device_that_is_not_known() {
        let hopper = Machine { compute: Version { major: 9, minor: 0 }, ..A10G };
        assert_eq!(hopper.encoded_fps(1, 1920, 1080, 1), None);
        assert_eq!(Machine { clock_mhz: None, ..A10G }.decoded_fps(1920, 1080), None);
        assert_eq!(A10G.encoded_fps(8, 1920, 1080, 1), None);
        assert_eq!(cpu_budget(8, 25), Some(0.32));
        assert_eq!(cpu_budget(8, 0), None);
    }
}
