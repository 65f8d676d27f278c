//! zstd with a bound.

use std::{cell::RefCell, io};

use zstd::{
    bulk::{Compressor, Decompressor},
    zstd_safe::CParameter,
};

use super::bytes::{Input, put_varint};

/// First byte of what is packed; another format gets another one.
const FORMAT: u8 = 1;
/// Level 1 packs eight-signal readings at over 10 million a second and core; higher ones cost more than they save.
const LEVEL: i32 = 1;
/// Most bytes before packing: a chunk of the most readings with a hundred signals, or a large group of small batches.
pub(crate) const RAW_BYTES_MAX: usize = 32 << 20;

/// Packs bytes, with memory that it keeps.
pub(crate) struct Packer {
    compressor: Compressor<'static>,
    raw: Vec<u8>,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").finish_non_exhaustive()
    }
}

thread_local! {
    /// Making one takes longer than unpacking a small chunk with it.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// What was packed.
pub(crate) fn unpack(packed: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut input = Input::new(packed);
    if input.byte()? != FORMAT {
        return Err("an unknown format");
    }
    let raw_bytes = input.count(RAW_BYTES_MAX)?;
    let raw = decompress(input.take(input.left())?, raw_bytes).map_err(|_| "bytes that zstd does not know")?;
    if raw.len() != raw_bytes {
        return Err("not as many bytes as it says");
    }
    Ok(raw)
}

fn decompress(packed: &[u8], raw_bytes: usize) -> io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|decompressor| match decompressor {
        Some(decompressor) => decompressor.decompress(packed, raw_bytes),
        None => decompressor.insert(Decompressor::new()?).decompress(packed, raw_bytes),
    })
}

// === impl Packer ===

impl Packer {
    pub(crate) fn new() -> io::Result<Packer> {
        let mut compressor = Compressor::new(LEVEL)?;
        compressor.set_parameter(CParameter::ChecksumFlag(true))?;
        Ok(Packer { compressor, raw: Vec::new() })
    }

    /// Packs what `fill` writes.
    pub(crate) fn pack(
        &mut self,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), &'static str>,
    ) -> Result<Vec<u8>, &'static str> {
        self.raw.clear();
        fill(&mut self.raw)?;
        if self.raw.len() > RAW_BYTES_MAX {
            return Err("more bytes than may be packed");
        }
        let mut packed = vec![FORMAT];
        put_varint(&mut packed, self.raw.len() as u64);
        packed.extend(self.compressor.compress(&self.raw).map_err(|_| "zstd failed")?);
        Ok(packed)
    }
}
