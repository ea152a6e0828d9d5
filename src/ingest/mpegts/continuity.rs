//! The continuity counter of one PID (ISO/IEC 13818-1, 2.4.3.3).

/// What a packet with a payload is to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follows {
    /// The next one.
    Yes,
    /// The last one once more, which is lawful once.
    Again,
    /// At least one is missing.
    Hole,
    /// The sender says that the counter begins anew here.
    Anew,
}

/// Remembers the last packet.
#[derive(Debug, Default)]
pub(super) struct Continuity {
    last: Option<(u8, Vec<u8>)>,
    again: bool,
}

impl Continuity {
    /// A packet with counter `count` (0 to 15) and this payload; `anew`: its discontinuity_indicator is set.
    pub fn push(&mut self, count: u8, payload: &[u8], anew: bool) -> Follows {
        let Some((last, before)) = &mut self.last else {
            self.last = Some((count, payload.to_vec()));
            return Follows::Yes;
        };
        if count == *last && !anew && !self.again && before == payload {
            self.again = true;
            return Follows::Again;
        }
        let next = (*last + 1) & 0x0f == count;
        self.again = false;
        *last = count;
        before.clear();
        before.extend_from_slice(payload);
        match (next, anew) {
            (true, _) => Follows::Yes,
            (false, true) => Follows::Anew,
            (false, false) => Follows::Hole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_duplicate_is_lawful_and_a_step_is_one() {
        let mut c = Continuity::default();
        assert_eq!(c.push(14, b"a", false), Follows::Yes);
        assert_eq!(c.push(15, b"b", false), Follows::Yes);
        assert_eq!(c.push(15, b"b", false), Follows::Again);
        assert_eq!(c.push(0, b"c", false), Follows::Yes);
        assert_eq!(c.push(0, b"d", false), Follows::Hole, "the same number, another content: sixteen are missing");
        assert_eq!(c.push(2, b"e", false), Follows::Hole);
        assert_eq!(c.push(9, b"f", true), Follows::Anew);
        assert_eq!(c.push(10, b"g", false), Follows::Yes);
        assert_eq!(c.push(10, b"g", false), Follows::Again);
        assert_eq!(c.push(10, b"g", false), Follows::Hole, "a third one is not lawful");
    }
}
