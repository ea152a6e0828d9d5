//! NAL units, each behind its 4-byte length, and their payloads: what H.264 and HEVC share (ISO/IEC 14496-15, 4.3.3; ITU-T H.264, 7.3.1). Pure and bounded.

/// Takes emulation prevention bytes out.
pub fn unescaped(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut zeros = 0;
    for &byte in body {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

/// The NAL units of an access unit; empty ones are left out. `None` when a length points behind the end, or for no bytes at all: nothing is believed of a
/// unit whose end is not there.
pub fn units(data: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let mut rest = data;
    while !rest.is_empty() {
        rest = split(rest)?.1;
    }
    rest = data;
    let next = move || {
        let (unit, behind) = split(rest)?;
        rest = behind;
        Some(unit)
    };
    (!data.is_empty()).then(|| std::iter::from_fn(next).filter(|unit| !unit.is_empty()))
}

/// The first NAL unit and what is behind it.
fn split(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, behind) = data.split_first_chunk::<4>()?;
    behind.split_at_checked(u32::from_be_bytes(*length) as usize)
}

/// The first `sei_message()` of an SEI payload (7.3.2.3.1): its type, its bytes, and what is behind it. `None` at the end, or when it promises more than there is.
pub fn message(rbsp: &[u8]) -> Option<(usize, &[u8], &[u8])> {
    let (kind, behind) = coded(rbsp)?;
    let (size, behind) = coded(behind)?;
    let (payload, behind) = behind.split_at_checked(size)?;
    Some((kind, payload, behind))
}

/// A number in the form of payloadType and payloadSize: 255 for each 0xff, then the rest.
fn coded(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let full = bytes.iter().take_while(|b| **b == 0xff).count();
    let last = bytes.get(full)?;
    Some((full * 255 + usize::from(*last), bytes.get(full + 1..)?))
}
