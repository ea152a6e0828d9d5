//! Open bitstream units (5.3): headers, sizes, and one after the other.

use bytes::Bytes;

use super::Av1Error;

/// obu_type (6.2.2).
pub const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
pub const FRAME_HEADER: u8 = 3;
const METADATA: u8 = 5;
pub const FRAME: u8 = 6;

/// metadata_type of `metadata_itut_t35()` (6.7.1).
const ITUT_T35: u8 = 4;

/// One of a temporal unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Obu<'a> {
    /// obu_type, 0 to 15.
    pub kind: u8,
    /// Behind header and size.
    pub payload: &'a [u8],
}

/// All of them; ends behind the first whose length points behind the end. The last may go without its size and reaches to the end then (AV1 in ISOBMFF, 2.4).
pub fn obus(data: &[u8]) -> impl Iterator<Item = Result<Obu<'_>, Av1Error>> {
    let mut rest = data;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let found = split(rest);
        rest = found.map_or(&[], |(_, behind)| behind);
        Some(found.map(|(obu, _)| obu).ok_or(Av1Error::Lengths))
    })
}

/// The first, and what is behind it.
fn split(data: &[u8]) -> Option<(Obu<'_>, &[u8])> {
    let (&head, mut rest) = data.split_first()?;
    // obu_extension_flag
    if head & 4 != 0 {
        rest = rest.split_first()?.1;
    }
    let kind = head >> 3 & 15;
    // obu_has_size_field
    if head & 2 == 0 {
        return Some((Obu { kind, payload: rest }, &[]));
    }
    let (size, rest) = leb128(rest)?;
    let (payload, behind) = rest.split_at_checked(size)?;
    Some((Obu { kind, payload }, behind))
}

/// leb128() (4.10.5), of at most eight bytes.
fn leb128(data: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0u64;
    for (at, byte) in data.iter().take(8).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, data.get(at + 1..)?));
        }
    }
    None
}

/// One OBU with its size.
pub fn written(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind << 3 | 2];
    let mut size = payload.len();
    while size > 0x7f {
        out.push(u8::try_from(size & 0x7f).unwrap_or_default() | 0x80);
        size >>= 7;
    }
    out.push(u8::try_from(size).unwrap_or_default());
    out.extend(payload);
    out
}

/// What `metadata_itut_t35()` holds, from its country code on. Ends where lengths lie.
pub fn metadata(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let found = obus(data).map_while(Result::ok).filter(|obu| obu.kind == METADATA);
    // The type is a leb128 of one byte.
    found.filter_map(|obu| obu.payload.strip_prefix(&[ITUT_T35]))
}

/// The temporal unit without its delimiter, which a sample does not have (AV1 in ISOBMFF, 2.4); the same bytes where it has none.
pub fn without_delimiters(data: &Bytes) -> Bytes {
    // It stands first, and has a size of 0.
    let mut rest = data.clone();
    while let Some((Obu { kind: TEMPORAL_DELIMITER, .. }, behind)) = split(&rest) {
        let at = rest.len() - behind.len();
        rest = rest.slice(at..);
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_several_bytes_are_written_and_read() {
        for size in [0, 1, 127, 128, 300, 70_000] {
            let payload = vec![7; size];
            let data = [written(FRAME, &payload), written(METADATA, &[4, 0xb5])].concat();
            let all: Vec<Obu<'_>> = obus(&data).map(Result::unwrap).collect();
            assert_eq!(all, [Obu { kind: FRAME, payload: &payload }, Obu { kind: METADATA, payload: &[4, 0xb5] }]);
            assert_eq!(metadata(&data).collect::<Vec<_>>(), [&[0xb5][..]]);
        }
        assert!(obus(&[0x32, 0xff, 0xff]).all(|o| o.is_err()), "a size that does not end");
    }

    #[test]
    fn a_sample_has_no_delimiter() {
        let frame = written(FRAME, &[0x10, 1]);
        let unit = Bytes::from([&[0x12, 0][..], &frame].concat());
        assert_eq!(without_delimiters(&unit), frame);
        assert_eq!(without_delimiters(&Bytes::from(frame.clone())), frame);
    }
}
