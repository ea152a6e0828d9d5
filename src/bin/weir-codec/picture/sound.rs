//! The test sound: a tenth of a second of 1 kHz at the beginning of each second of the stream. Pure.

/// Samples per second of each channel.
pub const RATE: u64 = 48_000;
/// Channels, interleaved.
pub const CHANNELS: usize = 2;
/// Samples of each channel in one buffer: one AAC frame.
pub const FRAME: u64 = 1024;
/// Samples that the encoder puts in front of the sound and FLV cannot tell the decoder to leave out (measured with avenc_aac and ffmpeg: a tone at
/// 0 is heard 1024 samples later). The sound is fed that much ahead of its time.
pub const PRIMING: u64 = 1024;
/// Samples in a tone: a tenth of a second, as long as the flash.
const TONE: u64 = RATE / 10;
/// Samples in one period of 1 kHz.
const PERIOD: u64 = RATE / 1000;
/// A quarter of full scale (-12 dB).
const AMPLITUDE: f32 = 0.25;

/// Little-endian 32-bit float samples (what avenc_aac takes) of one buffer that begins at sample number `from`.
pub fn frame(from: u64) -> Vec<u8> {
    let sample = |n: u64| {
        if n % RATE >= TONE {
            return 0.0;
        }
        let turn = (n % PERIOD) as f32 / PERIOD as f32;
        AMPLITUDE * (turn * std::f32::consts::TAU).sin()
    };
    (from..from + FRAME).flat_map(|n| [sample(n); CHANNELS]).flat_map(f32::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tone_begins_with_each_second() {
        let loud = |from: u64| frame(from).iter().any(|&b| b != 0);
        assert!(loud(0) && loud(RATE - FRAME + 8) && loud(3 * RATE));
        assert!(!loud(TONE) && !loud(RATE - FRAME));
        assert_eq!(frame(0).len(), 8192);
    }
}
