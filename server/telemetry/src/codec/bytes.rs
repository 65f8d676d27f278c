//! Numbers as bytes, and back from bytes that nobody vouches for.

/// Bytes that are read from front to back.
pub(crate) struct Input<'a>(&'a [u8]);

/// Appends a number, seven bits a byte, lowest first.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(low_byte(number) | 0x80);
        number >>= 7;
    }
    out.push(low_byte(number));
}

/// Appends a number with its sign in the lowest bit, so that small ones are short whatever their sign.
pub(crate) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_varint(out, zigzag(number));
}

/// A signed number with its sign in the lowest bit.
pub(crate) fn zigzag(number: i64) -> u64 {
    (number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned()
}

/// The number of which this is the zigzag.
pub(crate) fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

fn low_byte(number: u64) -> u8 {
    number.to_le_bytes()[0]
}

// === impl Input ===

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Input<'a> {
        Input(bytes)
    }

    pub(crate) fn left(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("it ends early")?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or("it ends early")?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, &'static str> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, &'static str> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a number that is too long")
    }

    pub(crate) fn signed(&mut self) -> Result<i64, &'static str> {
        self.varint().map(unzigzag)
    }

    /// How many of something follow: no more than `max`.
    pub(crate) fn count(&mut self, max: usize) -> Result<usize, &'static str> {
        let count = usize::try_from(self.varint()?).map_err(|_| "a count that is too large")?;
        if count > max {
            return Err("a count that is too large");
        }
        Ok(count)
    }

    /// Nothing may follow.
    pub(crate) fn end(&self) -> Result<(), &'static str> {
        if self.0.is_empty() { Ok(()) } else { Err("something follows its end") }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(number: u64, signed: i64) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            put_signed(&mut bytes, signed);
            let mut input = Input::new(&bytes);
            prop_assert_eq!(input.varint(), Ok(number));
            prop_assert_eq!(input.signed(), Ok(signed));
            prop_assert_eq!(input.end(), Ok(()));
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let check = |bytes: &[u8], expected| assert_eq!(Input::new(bytes).varint(), expected, "{bytes:?}");
        check(&[], Err("it ends early"));
        check(&[0x80], Err("it ends early"));
        check(&[0xff; 10], Err("a number that is too long"));
        check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], Ok(u64::MAX));
    }
}
