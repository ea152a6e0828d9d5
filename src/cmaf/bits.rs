//! Bits of a header that came from a stranger, most significant first. Reading beyond the end is a typed error, never a panic.

/// The bits end, or a number in them is longer than any that is lawful.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is cut short or out of range")]
pub struct BadBits(pub &'static str);

/// Where reading has come to.
#[derive(Debug, Clone)]
pub struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits that are read.
    at: usize,
}

impl<'a> Bits<'a> {
    /// From the first bit of these bytes on; emulation prevention is out of them already.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// One bit.
    ///
    /// # Errors
    /// [`BadBits`] at the end.
    pub fn flag(&mut self, what: &'static str) -> Result<bool, BadBits> {
        let byte = self.bytes.get(self.at / 8).ok_or(BadBits(what))?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Ok(bit == 1)
    }

    /// An unsigned number of 0 to 32 bits.
    ///
    /// # Errors
    /// [`BadBits`] at the end, or for more than 32 bits.
    pub fn number(&mut self, bits: u32, what: &'static str) -> Result<u32, BadBits> {
        if bits > 32 {
            return Err(BadBits(what));
        }
        let mut value = 0u64;
        for _ in 0..bits {
            value = value << 1 | u64::from(self.flag(what)?);
        }
        u32::try_from(value).map_err(|_| BadBits(what))
    }

    /// The same where 8 bits at the most are asked for.
    ///
    /// # Errors
    /// As [`Bits::number`].
    pub fn byte(&mut self, bits: u32, what: &'static str) -> Result<u8, BadBits> {
        u8::try_from(self.number(bits, what)?).map_err(|_| BadBits(what))
    }

    /// ue(v) (ITU-T H.265, 9.2), which is also AV1's uvlc() (4.10.3) below its largest value.
    ///
    /// # Errors
    /// [`BadBits`] at the end, or for a number above 2^32 - 2.
    pub fn golomb(&mut self, what: &'static str) -> Result<u32, BadBits> {
        let mut zeros = 0;
        while !self.flag(what)? {
            zeros += 1;
            if zeros > 31 {
                return Err(BadBits(what));
            }
        }
        let rest = self.number(zeros, what)?;
        ((1u32 << zeros) - 1).checked_add(rest).ok_or(BadBits(what))
    }

    /// Likewise, of at most `max`.
    ///
    /// # Errors
    /// [`BadBits`] also for a larger one.
    pub fn golomb_to(&mut self, max: u32, what: &'static str) -> Result<u32, BadBits> {
        Some(self.golomb(what)?).filter(|&n| n <= max).ok_or(BadBits(what))
    }

    /// Steps over these.
    ///
    /// # Errors
    /// [`BadBits`] when there are fewer.
    pub fn skip(&mut self, bits: usize, what: &'static str) -> Result<(), BadBits> {
        let to = self.at.checked_add(bits).filter(|&to| to <= self.bytes.len() * 8).ok_or(BadBits(what))?;
        self.at = to;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_read_from_the_top() {
        // 1 | 010 | 00110 | 1111111, the first three as ue(v): 0, 1, 5
        let mut bits = Bits::new(&[0b1010_0011, 0b0111_1111]);
        assert_eq!([0, 1, 5].map(|_| bits.golomb("n").unwrap()), [0, 1, 5]);
        assert_eq!(bits.number(7, "n"), Ok(127));
        assert_eq!(bits.flag("end"), Err(BadBits("end")));
        assert_eq!(Bits::new(&[0xff; 4]).number(32, "n"), Ok(u32::MAX));
        assert!(Bits::new(&[0; 16]).golomb("n").is_err());
        assert!(Bits::new(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]).golomb("n").is_ok());
        assert_eq!(Bits::new(&[0b0011_0000]).golomb_to(4, "n"), Err(BadBits("n")));
        assert!(Bits::new(&[0]).skip(9, "n").is_err());
    }

    proptest! {
        #[test]
        fn strange_bits_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..40), reads in prop::collection::vec(0u32..40, 0..40)) {
            let mut bits = Bits::new(&bytes);
            for n in reads {
                let _ = bits.number(n, "n");
                let _ = bits.golomb("n");
                let _ = bits.skip(n as usize, "n");
            }
        }
    }
}
