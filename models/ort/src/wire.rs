//! Protobuf as it lies in a file, read in place: just enough to look into an ONNX file without building it.

/// Where reading failed, in bytes from the file's beginning, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WireError {
    pub(crate) offset: usize,
    pub(crate) problem: &'static str,
}

/// One field of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field<'f> {
    pub(crate) number: u64,
    pub(crate) value: Value<'f>,
}

/// A field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'f> {
    Varint(u64),
    /// Text, bytes, a message or packed numbers.
    Bytes(Message<'f>),
    /// Four or eight bytes, of which nobody here asks.
    Fixed,
}

/// Bytes of a file and where in it they begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message<'f> {
    pub(crate) bytes: &'f [u8],
    pub(crate) offset: usize,
}

/// The fields of a message; ends after the first error.
pub(crate) struct Fields<'f> {
    rest: Message<'f>,
}

// === impl Message ===

impl<'f> Message<'f> {
    /// A whole file.
    pub(crate) fn new(bytes: &'f [u8]) -> Message<'f> {
        Message { bytes, offset: 0 }
    }

    pub(crate) fn fields(self) -> Fields<'f> {
        Fields { rest: self }
    }

    /// All numbers of a packed field.
    pub(crate) fn varints(mut self) -> Result<Vec<u64>, WireError> {
        let mut numbers = Vec::new();
        while !self.bytes.is_empty() {
            numbers.push(self.varint()?);
        }
        Ok(numbers)
    }

    pub(crate) fn error(self, problem: &'static str) -> WireError {
        WireError { offset: self.offset, problem }
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let mut number = 0;
        for (index, byte) in self.bytes.iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7f).checked_shl(7 * u32::try_from(index).unwrap_or(u32::MAX)).unwrap_or(0);
            if byte & 0x80 == 0 {
                self.take(index + 1)?;
                return Ok(number);
            }
        }
        Err(self.error("expected a number of at most ten bytes"))
    }

    fn take(&mut self, count: usize) -> Result<Message<'f>, WireError> {
        let Some((taken, rest)) = self.bytes.split_at_checked(count) else {
            return Err(self.error("the file ends in the middle of a value"));
        };
        let taken = Message { bytes: taken, offset: self.offset };
        *self = Message { bytes: rest, offset: self.offset + count };
        Ok(taken)
    }
}

// === impl Fields ===

impl<'f> Fields<'f> {
    fn field(&mut self) -> Result<Field<'f>, WireError> {
        let start = self.rest;
        let tag = self.rest.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.rest.varint()?),
            1 => self.rest.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = usize::try_from(self.rest.varint()?).unwrap_or(usize::MAX);
                Value::Bytes(self.rest.take(length)?)
            }
            5 => self.rest.take(4).map(|_| Value::Fixed)?,
            _ => return Err(start.error("expected a field of a protobuf message")),
        };
        if tag >> 3 == 0 {
            return Err(start.error("expected a field of a protobuf message"));
        }
        Ok(Field { number: tag >> 3, value })
    }
}

impl<'f> Iterator for Fields<'f> {
    type Item = Result<Field<'f>, WireError>;

    fn next(&mut self) -> Option<Result<Field<'f>, WireError>> {
        if self.rest.bytes.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest.bytes = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8]) -> Result<Vec<(u64, bool)>, WireError> {
        let fields = Message::new(bytes).fields();
        fields.map(|field| field.map(|field| (field.number, matches!(field.value, Value::Bytes(_))))).collect()
    }

    #[test]
    fn fields_come_in_order() {
        assert_eq!(fields(&[]), Ok(vec![]));
        assert_eq!(fields(&[0x08, 0x96, 0x01, 0x12, 0x02, 0xff, 0xff]), Ok(vec![(1, false), (2, true)]));
        assert_eq!(fields(&[0x0d, 0, 0, 0, 0, 0x09, 0, 0, 0, 0, 0, 0, 0, 0]), Ok(vec![(1, false), (1, false)]));
    }

    #[test]
    fn what_is_no_message_is_told_with_its_place() {
        let check = |bytes: &[u8], offset: usize| {
            assert_eq!(fields(bytes).expect_err("no message").offset, offset, "{bytes:?}");
        };
        check(&[0x08], 1);
        check(&[0x12, 0x05, 1, 2], 2);
        check(&[0x08, 1, 0x0b], 2);
        check(&[0x00, 0x00], 0);
        check(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], 1);
        check(&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], 11);
    }

    #[test]
    fn packed_numbers_are_told_apart() {
        assert_eq!(Message::new(&[0x01, 0x96, 0x01]).varints(), Ok(vec![1, 150]));
        assert!(Message::new(&[0x96]).varints().is_err());
    }
}
