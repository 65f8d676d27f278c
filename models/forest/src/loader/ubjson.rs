//! Universal Binary JSON as XGBoost writes it, and nothing it does not need.
//!
//! Every length is checked against the bytes that are left before it is believed, typed lists of values without bytes
//! are refused, and nesting is bounded: no file makes this allocate, recurse or loop beyond its own size.

use std::fmt;

use serde::{
    Deserializer,
    de::{self, DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor, value::BorrowedStrDeserializer},
    forward_to_deserialize_any,
};

use super::{Problem, document};
use crate::limits::NESTING_MAX;

/// Reads a document, or the part of one that `T` asks for.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut reader = Reader::new(bytes);
    let document = document(&mut reader, &mut Reader::new(bytes))?;
    if reader.offset != bytes.len() {
        let problem = "bytes after the end of the document";
        return Err(Problem::malformed(format!("byte {}", reader.offset), problem));
    }
    Ok(document)
}

/// What is wrong, with the byte where it was seen when the reader saw it.
#[derive(Debug)]
struct Error(String);

/// A place in the file.
struct Reader<'de> {
    bytes: &'de [u8],
    offset: usize,
    nesting: usize,
}

/// A value whose marker has been read.
struct Marked<'reader, 'de> {
    reader: &'reader mut Reader<'de>,
    marker: u8,
}

/// Items of a list or an object.
struct Items<'reader, 'de> {
    reader: &'reader mut Reader<'de>,
    /// The marker all values share, if the container states one.
    marker: Option<u8>,
    /// Items still to come, if the container states a number.
    count: Option<usize>,
    /// What ends a container without a count.
    end: u8,
}

// === impl Error ===

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Error {
        Error(message.to_string())
    }
}

// === impl Reader ===

impl<'de> Reader<'de> {
    fn new(bytes: &'de [u8]) -> Reader<'de> {
        Reader { bytes, offset: 0, nesting: 0 }
    }

    fn error(&self, problem: impl fmt::Display) -> Error {
        Error(format!("{problem} at byte {}", self.offset))
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.offset
    }

    fn take(&mut self, count: usize) -> Result<&'de [u8], Error> {
        if count > self.left() {
            return Err(self.error(format_args!("expected {count} more bytes, {} are left", self.left())));
        }
        let bytes = &self.bytes[self.offset..self.offset + count];
        self.offset += count;
        Ok(bytes)
    }

    fn array<const COUNT: usize>(&mut self) -> Result<[u8; COUNT], Error> {
        let mut array = [0; COUNT];
        array.copy_from_slice(self.take(COUNT)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, Error> {
        Ok(self.array::<1>()?[0])
    }

    /// The next byte, left where it is.
    fn peek(&self) -> Result<u8, Error> {
        self.bytes.get(self.offset).copied().ok_or_else(|| self.error("the file ends too early"))
    }

    /// The next marker, past any number of no-ops.
    fn marker(&mut self) -> Result<u8, Error> {
        loop {
            let marker = self.byte()?;
            if marker != b'N' {
                return Ok(marker);
            }
        }
    }

    fn integer(&mut self, marker: u8) -> Result<i64, Error> {
        Ok(match marker {
            b'i' => i64::from(i8::from_be_bytes(self.array()?)),
            b'U' => i64::from(self.byte()?),
            b'I' => i64::from(i16::from_be_bytes(self.array()?)),
            b'l' => i64::from(i32::from_be_bytes(self.array()?)),
            b'L' => i64::from_be_bytes(self.array()?),
            _ => return Err(self.error(format_args!("marker 0x{marker:02x} is not that of an integer"))),
        })
    }

    /// A number of things of at least one byte each.
    fn length(&mut self) -> Result<usize, Error> {
        let marker = self.marker()?;
        let length = self.integer(marker)?;
        usize::try_from(length)
            .ok()
            .filter(|length| *length <= self.left())
            .ok_or_else(|| self.error(format_args!("length {length} with {} bytes left", self.left())))
    }

    fn text(&mut self) -> Result<&'de str, Error> {
        let length = self.length()?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| self.error("text that is not UTF-8 ends"))
    }

    /// Opens a container after its bracket.
    fn items(&mut self, end: u8) -> Result<Items<'_, 'de>, Error> {
        let marker = if self.peek()? == b'$' {
            self.offset += 1;
            let marker = self.byte()?;
            if !b"iUIlLdDCS".contains(&marker) {
                return Err(self.error(format_args!("a container of values 0x{marker:02x} is not supported")));
            }
            if self.peek()? != b'#' {
                return Err(self.error("expected `#`: a typed container states its length"));
            }
            Some(marker)
        } else {
            None
        };
        let count = if self.peek()? == b'#' {
            self.offset += 1;
            Some(self.length()?)
        } else {
            None
        };
        Ok(Items { reader: self, marker, count, end })
    }

    fn value<V: Visitor<'de>>(&mut self, marker: u8, visitor: V) -> Result<V::Value, Error> {
        match marker {
            b'Z' => visitor.visit_unit(),
            b'T' => visitor.visit_bool(true),
            b'F' => visitor.visit_bool(false),
            b'U' => visitor.visit_u8(self.byte()?),
            b'i' | b'I' | b'l' | b'L' => visitor.visit_i64(self.integer(marker)?),
            b'd' => visitor.visit_f32(f32::from_be_bytes(self.array()?)),
            b'D' => visitor.visit_f64(f64::from_be_bytes(self.array()?)),
            b'C' => visitor.visit_char(char::from(self.byte()?)),
            b'S' => visitor.visit_borrowed_str(self.text()?),
            b'[' | b'{' => {
                if self.nesting == NESTING_MAX {
                    return Err(self.error(format_args!("nested deeper than {NESTING_MAX}")));
                }
                self.nesting += 1;
                let value = if marker == b'[' {
                    let mut items = self.items(b']')?;
                    let value = visitor.visit_seq(&mut items)?;
                    items.finish()?;
                    value
                } else {
                    let mut items = self.items(b'}')?;
                    let value = visitor.visit_map(&mut items)?;
                    items.finish()?;
                    value
                };
                self.nesting -= 1;
                Ok(value)
            }
            _ => Err(self.error(format_args!("marker 0x{marker:02x} is not one of a value"))),
        }
    }
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let marker = self.marker()?;
        self.value(marker, visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

// === impl Marked ===

impl<'de> Deserializer<'de> for Marked<'_, 'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.reader.value(self.marker, visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

// === impl Items ===

impl<'de> Items<'_, 'de> {
    /// Whether another item follows; takes the end bracket.
    fn more(&mut self) -> Result<bool, Error> {
        match &mut self.count {
            Some(0) => Ok(false),
            Some(count) => {
                *count -= 1;
                Ok(true)
            }
            None => {
                while self.reader.peek()? == b'N' {
                    self.reader.offset += 1;
                }
                if self.reader.peek()? != self.end {
                    return Ok(true);
                }
                self.reader.offset += 1;
                self.count = Some(0);
                Ok(false)
            }
        }
    }

    fn next<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        match self.marker {
            Some(marker) => seed.deserialize(Marked { reader: self.reader, marker }),
            None => seed.deserialize(&mut *self.reader),
        }
    }

    /// Fails when the visitor stopped before the container's end.
    fn finish(mut self) -> Result<(), Error> {
        if self.more()? {
            return Err(self.reader.error("more items than expected"));
        }
        Ok(())
    }
}

impl<'de> SeqAccess<'de> for &mut Items<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if self.more()? { self.next(seed).map(Some) } else { Ok(None) }
    }

    fn size_hint(&self) -> Option<usize> {
        self.count
    }
}

impl<'de> MapAccess<'de> for &mut Items<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if !self.more()? {
            return Ok(None);
        }
        let key = self.reader.text()?;
        seed.deserialize(BorrowedStrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        self.next(seed)
    }
}
