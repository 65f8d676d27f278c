//! A walk over a JPEG's markers: sizes, colours, EXIF, the number of scans, and whether the file is whole.

use crate::{Format, ImageError, limits::corrupt};

/// What the markers say.
#[derive(Debug)]
pub(super) struct Header<'a> {
    pub(super) width: u16,
    pub(super) height: u16,
    pub(super) progressive: bool,
    /// The components' names: one, three or four.
    pub(super) components: Vec<u8>,
    /// How often each is sampled across and down in a unit, 1 to 4.
    pub(super) sampling: Vec<(u8, u8)>,
    pub(super) jfif: bool,
    pub(super) adobe: Option<Adobe>,
    pub(super) exif: Option<&'a [u8]>,
    pub(super) scans: usize,
    /// Bytes of all scans.
    pub(super) coded: usize,
    /// Where the marker stands that ends the picture.
    pub(super) end: usize,
}

/// Adobe's marker.
#[derive(Debug)]
pub(super) struct Adobe {
    /// Where its name begins in the file.
    pub(super) position: usize,
    pub(super) transform: u8,
}

const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const SOI: u8 = 0xd8;
const DHT: u8 = 0xc4;
const JPG: u8 = 0xc8;
const DAC: u8 = 0xcc;
const TEM: u8 = 0x01;

// === impl Header ===

impl<'a> Header<'a> {
    /// Walks from the first marker to the end of the picture. What follows is not looked at: cameras put previews and
    /// videos there.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, ImageError> {
        let mut walk = Walk { bytes, position: 2 };
        let mut frame: Option<Self> = None;
        let (mut jfif, mut adobe, mut exif) = (false, None, None);
        let end = loop {
            let marker = walk.marker()?;
            match marker {
                EOI => break walk.position - 2,
                SOI => return Err(corrupt(Format::Jpeg, "a second picture begins within the first")),
                TEM | 0xd0..=0xd7 => continue,
                _ => {}
            }
            let start = walk.position + 2;
            let segment = walk.segment()?;
            match marker {
                DHT => {}
                JPG => return Err(unsupported("a reserved frame type")),
                DAC => return Err(unsupported("arithmetic coding")),
                0xc0..=0xcf if frame.is_some() => {
                    return Err(corrupt(Format::Jpeg, "it has two frame headers"));
                }
                0xc0..=0xcf => frame = Some(Self::frame(marker, segment)?),
                SOS => {
                    let Some(frame) = &mut frame else {
                        return Err(corrupt(Format::Jpeg, "a scan comes before the frame header"));
                    };
                    frame.scans += 1;
                    frame.coded += walk.entropy_coded();
                }
                0xe0 if segment.starts_with(b"JFIF\0") => jfif = true,
                0xe1 if segment.starts_with(b"Exif\0\0") => {
                    exif.get_or_insert(segment);
                }
                0xee if segment.starts_with(b"Adobe") => {
                    // A second one would reach the decoder: the first could be hidden, not both.
                    if adobe.is_some() {
                        return Err(corrupt(Format::Jpeg, "it has two Adobe markers"));
                    }
                    let transform = *segment.get(11).ok_or_else(|| corrupt(Format::Jpeg, "a short Adobe marker"))?;
                    adobe = Some(Adobe { position: start, transform });
                }
                _ => {}
            }
        };
        match frame {
            Some(frame) if frame.scans > 0 => Ok(Self { jfif, adobe, exif, end, ..frame }),
            _ => Err(corrupt(Format::Jpeg, "it ends before the picture begins")),
        }
    }

    fn frame(marker: u8, segment: &[u8]) -> Result<Self, ImageError> {
        match marker {
            0xc0..=0xc2 => {}
            0xc3 | 0xcb => return Err(unsupported("lossless coding")),
            0xc9 | 0xca => return Err(unsupported("arithmetic coding")),
            _ => return Err(unsupported("hierarchical coding")),
        }
        let short = || corrupt(Format::Jpeg, "a short frame header");
        let [precision, h1, h0, w1, w0, count, ref components @ ..] = *segment else { return Err(short()) };
        if precision != 8 {
            return Err(ImageError::Unsupported {
                format: Format::Jpeg,
                found: format!("{precision} bits a component"),
                expected: "8",
            });
        }
        if !matches!(count, 1 | 3 | 4) {
            return Err(ImageError::Unsupported {
                format: Format::Jpeg,
                found: format!("{count} components"),
                expected: "1, 3 or 4",
            });
        }
        if components.len() != usize::from(count) * 3 {
            return Err(short());
        }
        let sampling: Vec<(u8, u8)> = components.chunks_exact(3).map(|of| (of[1] >> 4, of[1] & 15)).collect();
        if sampling.iter().any(|(h, v)| !(1..=4).contains(h) || !(1..=4).contains(v)) {
            return Err(corrupt(Format::Jpeg, "a component is sampled other than 1 to 4 times"));
        }
        Ok(Self {
            width: u16::from_be_bytes([w1, w0]),
            height: u16::from_be_bytes([h1, h0]),
            progressive: marker == 0xc2,
            components: components.chunks_exact(3).map(|of| of[0]).collect(),
            sampling,
            jfif: false,
            adobe: None,
            exif: None,
            scans: 0,
            coded: 0,
            end: 0,
        })
    }

    pub(super) fn sampling_max(&self) -> (u8, u8) {
        self.sampling.iter().fold((1, 1), |(across, down), (h, v)| (across.max(*h), down.max(*v)))
    }
}

struct Walk<'a> {
    bytes: &'a [u8],
    position: usize,
}

// === impl Walk ===

impl<'a> Walk<'a> {
    /// The next marker, which may follow any number of filling bytes.
    fn marker(&mut self) -> Result<u8, ImageError> {
        if self.next()? != 0xff {
            return Err(corrupt(Format::Jpeg, format!("no marker at byte {}", self.position - 1)));
        }
        loop {
            match self.next()? {
                0xff => {}
                0 => return Err(corrupt(Format::Jpeg, format!("no marker at byte {}", self.position - 1))),
                marker => return Ok(marker),
            }
        }
    }

    fn segment(&mut self) -> Result<&'a [u8], ImageError> {
        let length = usize::from(u16::from_be_bytes([self.next()?, self.next()?]));
        let Some(length) = length.checked_sub(2) else {
            return Err(corrupt(Format::Jpeg, "a marker without a length"));
        };
        let segment = self.bytes.get(self.position..self.position + length).ok_or(TRUNCATED)?;
        self.position += length;
        Ok(segment)
    }

    /// Skips to the next marker that is neither a restart nor a stuffed byte, and says how far that is.
    fn entropy_coded(&mut self) -> usize {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let ends = |at: &usize| !matches!(rest.get(at + 1), Some(0 | 0xd0..=0xd7 | 0xff));
        let length = memchr::memchr_iter(0xff, rest).find(ends).unwrap_or(rest.len());
        self.position += length;
        length
    }

    fn next(&mut self) -> Result<u8, ImageError> {
        let byte = *self.bytes.get(self.position).ok_or(TRUNCATED)?;
        self.position += 1;
        Ok(byte)
    }
}

pub(super) const TRUNCATED: ImageError = ImageError::Truncated { format: Format::Jpeg };

fn unsupported(found: &str) -> ImageError {
    ImageError::Unsupported {
        format: Format::Jpeg,
        found: found.to_owned(),
        expected: "baseline or progressive Huffman coding",
    }
}
