//! What a NAL unit is to an access unit, of H.264 (ITU-T H.264, table 7-1) and HEVC (ITU-T H.265, table 7-1).

use crate::logic::model::Coding;

/// Its place in an access unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Stands first, and says nothing else.
    Delimiter,
    /// A parameter set, in front of the picture.
    Set,
    /// Something else in front of the picture: SEI, and what is reserved for there.
    Front,
    /// A slice. `first`: of its picture. `key`: of a picture at which decoding can begin.
    Slice {
        /// first_mb_in_slice is 0; first_slice_segment_in_pic_flag.
        first: bool,
        /// IDR; of HEVC any IRAP picture.
        key: bool,
    },
    /// More of a slice (data partitions B and C), or what follows the last one: suffix SEI, and what is reserved for there.
    Behind,
    /// End of sequence or of stream.
    End,
    /// Filler data.
    Filler,
    /// Anything else: it says nothing of where units begin.
    Other,
}

impl Role {
    /// Of a NAL unit without its start code; what follows the first three bytes does not matter.
    pub fn of(coding: Coding, nal: &[u8]) -> Self {
        match (coding, nal) {
            (Coding::Hevc, [first, second, rest @ ..]) => of_hevc(*first, *second, rest.first().copied()),
            (Coding::Hevc, _) | (_, []) => Self::Other,
            (Coding::H264 | Coding::Av1, [first, rest @ ..]) => of_h264(first & 0x1f, rest.first().copied()),
        }
    }

    /// It has something of a picture.
    pub const fn is_slice(self) -> bool {
        matches!(self, Self::Slice { .. })
    }

    /// An access unit begins with it (ITU-T H.264, 7.4.1.2.3 and 7.4.1.2.4; ITU-T H.265, 7.4.2.4.4). `slice`: the one before has a slice; `any`: it has anything.
    pub const fn begins(self, slice: bool, any: bool) -> bool {
        match self {
            Self::Delimiter => any,
            Self::Set | Self::Front | Self::Slice { first: true, .. } => slice,
            _ => false,
        }
    }
}

const fn of_h264(kind: u8, next: Option<u8>) -> Role {
    // first_mb_in_slice is ue(v): 0 is the single bit 1.
    let first = matches!(next, Some(0x80..));
    match kind {
        1 | 2 => Role::Slice { first, key: false },
        5 => Role::Slice { first, key: true },
        3 | 4 => Role::Behind,
        7 | 8 => Role::Set,
        6 | 14..=18 => Role::Front,
        9 => Role::Delimiter,
        10 | 11 => Role::End,
        12 => Role::Filler,
        _ => Role::Other,
    }
}

const fn of_hevc(first: u8, second: u8, third: Option<u8>) -> Role {
    // nuh_layer_id: another view, or an alpha channel. It belongs to the unit that it stands in.
    if first & 1 != 0 || second >> 3 != 0 {
        return Role::Other;
    }
    let begins = matches!(third, Some(0x80..));
    match first >> 1 & 0x3f {
        0..=9 => Role::Slice { first: begins, key: false },
        16..=21 => Role::Slice { first: begins, key: true },
        32..=34 => Role::Set,
        35 => Role::Delimiter,
        36 | 37 => Role::End,
        38 => Role::Filler,
        39 | 41..=44 | 48..=55 => Role::Front,
        40 | 45..=47 | 56..=63 => Role::Behind,
        _ => Role::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_both_has_its_place() {
        let h264 = |kind: u8| Role::of(Coding::H264, &[0x60 | kind, 0x88]);
        assert_eq!(h264(1), Role::Slice { first: true, key: false });
        assert_eq!(h264(5), Role::Slice { first: true, key: true });
        assert_eq!(Role::of(Coding::H264, &[0x41, 0x48]), Role::Slice { first: false, key: false });
        let places = [3, 6, 7, 8, 9, 10, 11, 12, 13, 18, 19].map(h264);
        use Role::*;
        assert_eq!(places, [Behind, Front, Set, Set, Delimiter, End, End, Filler, Other, Front, Other]);
        let hevc = |kind: u8| Role::of(Coding::Hevc, &[kind << 1, 1, 0x80]);
        for kind in [0, 1, 8, 9] {
            assert_eq!(hevc(kind), Slice { first: true, key: false }, "{kind}");
        }
        for kind in 16..=21 {
            assert_eq!(hevc(kind), Slice { first: true, key: true }, "{kind}");
        }
        assert_eq!(Role::of(Coding::Hevc, &[0x26, 1, 0x40]), Slice { first: false, key: true });
        let places = [10, 22, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 45, 48, 56].map(hevc);
        let expected = [Other, Other, Set, Set, Set, Delimiter, End, End, Filler, Front, Behind, Front, Behind, Front, Behind];
        assert_eq!(places, expected);
        assert_eq!(Role::of(Coding::Hevc, &[0x26, 9, 0x80]), Other, "of another layer");
        assert_eq!((Role::of(Coding::Hevc, &[0x26]), Role::of(Coding::H264, &[])), (Other, Other));
    }
}
