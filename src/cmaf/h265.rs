//! What we read of HEVC (ITU-T H.265): the decoder configuration record, and what an access unit's NAL units are. Pure and bounded; everything comes from a
//! stranger, so every failure is a typed error.

mod record;
mod scan;
mod sets;

use super::bits::BadBits;
use super::video::BadSize;

pub use record::{first_record, picture, read_record, renewed, without_sets};
pub use scan::scan;
#[cfg(test)]
pub(crate) use sets::tests;

/// NAL unit types (table 7-1).
const RADL_N: u8 = 6;
const RASL_R: u8 = 9;
const BLA_W_LP: u8 = 16;
const IDR_W_RADL: u8 = 19;
const IDR_N_LP: u8 = 20;
const CRA: u8 = 21;
const VPS: u8 = 32;
const SPS: u8 = 33;
const PPS: u8 = 34;
const PREFIX_SEI: u8 = 39;

/// Why a decoder configuration record or an access unit cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HevcError {
    /// The record is no valid HEVCDecoderConfigurationRecord.
    #[error("HEVC decoder configuration record: {0}")]
    Record(String),
    /// A parameter set is broken.
    #[error("HEVC parameter set: {0}")]
    Set(#[from] BadBits),
    /// What nobody here takes apart.
    #[error("{0} HEVC is not supported")]
    Unsupported(&'static str),
    /// Larger or smaller than anything that a level allows in practice.
    #[error(transparent)]
    Size(#[from] BadSize),
    /// The NAL unit lengths do not add up to the access unit.
    #[error("NAL unit lengths do not fit the access unit")]
    Lengths,
}

/// The type of a NAL unit of the base layer; those of other layers (a second view, an alpha channel) are no part of the picture that is shown.
fn kind(nal: &[u8]) -> Option<u8> {
    let [first, second, ..] = nal else { return None };
    let layer = (first & 1) << 5 | second >> 3;
    (layer == 0).then_some(first >> 1 & 0x3f)
}
