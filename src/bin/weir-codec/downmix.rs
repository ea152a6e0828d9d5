//! More than two channels to two (ITU-R BS.775, table 2). Pure.

/// -3 dB: half the energy.
const HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;

/// What one channel gives to left and right, by its bit in GStreamer's channel mask (`GstAudioChannelPosition`). The low frequency effects give nothing:
/// they repeat what stands in the others, and small loudspeakers do not have them.
fn shares(bit: u32) -> (f32, f32) {
    match bit {
        // front left and right; left and right of centre
        0 | 6 => (1.0, 0.0),
        1 | 7 => (0.0, 1.0),
        // front centre
        2 => (HALF, HALF),
        // rear and side
        4 | 10 => (HALF, 0.0),
        5 | 11 => (0.0, HALF),
        // rear centre: one half of each side's surround
        8 => (0.5, 0.5),
        _ => (0.0, 0.0),
    }
}

/// A row of factors for each of the two channels that come out. `None` when the mask does not name `channels`, or none of them would be heard.
pub fn matrix(channels: u32, mask: u64) -> Option<[Vec<f32>; 2]> {
    if mask.count_ones() != channels {
        return None;
    }
    let shares: Vec<_> = (0..64).filter(|bit| mask >> bit & 1 == 1).map(shares).collect();
    let heard = shares.iter().any(|s| *s != (0.0, 0.0));
    heard.then(|| [shares.iter().map(|s| s.0).collect(), shares.iter().map(|s| s.1).collect()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surround_is_mixed_as_the_recommendation_says() {
        // FL FR FC LFE RL RR
        let [left, right] = matrix(6, 0b11_1111).unwrap();
        assert_eq!(left, [1.0, 0.0, HALF, 0.0, HALF, 0.0]);
        assert_eq!(right, [0.0, 1.0, HALF, 0.0, 0.0, HALF]);
        // with sides in place of rears
        assert_eq!(matrix(6, 0b1100_0000_1111).unwrap()[0], left);
    }

    #[test]
    fn channels_without_a_place_are_left_to_gstreamer() {
        assert_eq!(matrix(6, 0), None);
        assert_eq!(matrix(5, 0b11_1111), None);
        assert_eq!(matrix(1, 1 << 20), None);
    }
}
