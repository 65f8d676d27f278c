//! The EXIF orientation: how a stored picture is to be turned for viewing.

/// How stored pixels are turned: the picture is mirrored along the stored axes, then transposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Orientation {
    /// Stored columns run from right to left.
    pub mirror_x: bool,
    /// Stored rows run from bottom to top.
    pub mirror_y: bool,
    /// Stored rows are the picture's columns.
    pub transpose: bool,
}

const ORIENTATION: u16 = 0x0112;
const SHORT: u16 = 3;
const LONG: u16 = 4;

// === impl Orientation ===

impl Orientation {
    /// By EXIF's number, 1 to 8; any other number means upright.
    #[must_use]
    pub fn from_exif_value(value: u32) -> Self {
        let (mirror_x, mirror_y, transpose) = match value {
            2 => (true, false, false),
            3 => (true, true, false),
            4 => (false, true, false),
            5 => (false, false, true),
            6 => (false, true, true),
            7 => (true, true, true),
            8 => (true, false, true),
            _ => (false, false, false),
        };
        Self { mirror_x, mirror_y, transpose }
    }

    /// From a TIFF structure, with or without `Exif\0\0` before it. What cannot be read means upright, as in Pillow.
    #[must_use]
    pub fn from_exif(exif: &[u8]) -> Self {
        let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
        Tiff::open(tiff).and_then(|tiff| tiff.orientation()).map_or_else(Self::default, Self::from_exif_value)
    }

    /// The size of a stored picture once it is turned.
    pub(crate) fn turned(self, (width, height): (usize, usize)) -> (usize, usize) {
        if self.transpose { (height, width) } else { (width, height) }
    }
}

struct Tiff<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

// === impl Tiff ===

impl<'a> Tiff<'a> {
    fn open(bytes: &'a [u8]) -> Option<Self> {
        let big_endian = match bytes.get(..4)? {
            b"MM\0*" => true,
            b"II*\0" => false,
            _ => return None,
        };
        Some(Self { bytes, big_endian })
    }

    fn u16(&self, at: usize) -> Option<u16> {
        let bytes = self.bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// Looks at the first directory alone, which is where the main picture's orientation stands: at most 65,535
    /// entries, none of which leads anywhere.
    fn orientation(&self) -> Option<u32> {
        let directory = self.u32(4)? as usize;
        let entries = usize::from(self.u16(directory)?);
        for entry in 0..entries {
            let at = directory.checked_add(2 + entry * 12)?;
            if self.u16(at)? != ORIENTATION {
                continue;
            }
            return match (self.u16(at + 2)?, self.u32(at + 4)?) {
                (SHORT, 1) => self.u16(at + 8).map(u32::from),
                (LONG, 1) => self.u32(at + 8),
                _ => None,
            };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exif(big_endian: bool, kind: u16, count: u32, value: u16) -> Vec<u8> {
        let short = |value: u16| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
        let long = |value: u32| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
        let mut bytes = if big_endian { b"MM\0*".to_vec() } else { b"II*\0".to_vec() };
        bytes.extend(long(8));
        bytes.extend(short(2));
        for (tag, kind, count, value) in [(0x0100, SHORT, 1, 7), (ORIENTATION, kind, count, value)] {
            bytes.extend(short(tag));
            bytes.extend(short(kind));
            bytes.extend(long(count));
            bytes.extend(short(value));
            bytes.extend([0, 0]);
        }
        bytes
    }

    #[test]
    fn the_tag_is_found_in_either_byte_order() {
        for value in 0..=9 {
            for big_endian in [false, true] {
                let bytes = exif(big_endian, SHORT, 1, value);
                let expected = Orientation::from_exif_value(u32::from(value));
                assert_eq!(Orientation::from_exif(&bytes), expected);
                assert_eq!(Orientation::from_exif(&[b"Exif\0\0", &bytes[..]].concat()), expected);
            }
        }
    }

    #[test]
    fn what_cannot_be_read_means_upright() {
        let whole = exif(false, SHORT, 1, 6);
        for end in 0..whole.len() - 4 {
            assert_eq!(Orientation::from_exif(&whole[..end]), Orientation::default(), "cut at {end}");
        }
        let upright = |bytes: Vec<u8>| assert_eq!(Orientation::from_exif(&bytes), Orientation::default());
        upright(exif(false, 2, 1, 6));
        upright(exif(false, SHORT, 2, 6));
        let mut far = whole.clone();
        far[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        upright(far);
        let mut many = whole;
        many[8..10].copy_from_slice(&u16::MAX.to_le_bytes());
        assert_eq!(Orientation::from_exif(&many), Orientation::from_exif_value(6));
    }
}
