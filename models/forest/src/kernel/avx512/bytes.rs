//! Masks of splits from 8-bit ranks.

#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m512i, _mm512_cmpge_epu8_mask, _mm512_cmple_epu8_mask, _mm512_load_si512, _mm512_mask_blend_epi8,
    _mm512_mask_cmpeq_epi8_mask, _mm512_permutex2var_epi8, _mm512_permutexvar_epi8, _mm512_set1_epi8, _mm512_sub_epi8,
};

use super::{
    Avx512, Vbmi,
    packed::{Rank, Row, Splits},
};
use crate::kernel::Kernel;

// === impl Rank ===

impl Rank for u8 {
    type Cpu = Vbmi;

    const KERNEL: Kernel = Kernel::Bytes;
    const MISSING: u8 = u8::MAX;
    const REGISTER: usize = 64;

    fn avx512(cpu: Vbmi) -> Avx512 {
        cpu.avx512()
    }

    fn masks_of_row<const WIDTH: usize>(
        _cpu: Vbmi,
        splits: &[Splits<u8>],
        defaults: &[u64],
        row: &Row<u8, WIDTH>,
        is_complete: bool,
        masks: &mut [u64],
    ) {
        // SAFETY: `_cpu` proves the CPU features.
        unsafe {
            if is_complete {
                masks_of_row::<WIDTH, true>(splits, defaults, row, masks);
            } else {
                masks_of_row::<WIDTH, false>(splits, defaults, row, masks);
            }
        }
    }

    fn masks_of_rows<const WIDTH: usize>(
        _cpu: Vbmi,
        splits: &Splits<u8>,
        defaults: u64,
        rows: &[Row<u8, WIDTH>],
        masks: &mut [u64],
    ) {
        // SAFETY: `_cpu` proves the CPU features.
        unsafe { masks_of_rows::<WIDTH>(splits, defaults, rows, masks) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn masks_of_row<const WIDTH: usize, const IS_COMPLETE: bool>(
    splits: &[Splits<u8>],
    defaults: &[u64],
    row: &Row<u8, WIDTH>,
    masks: &mut [u64],
) {
    let row = registers(row);
    let missing = _mm512_set1_epi8(-1);
    for ((splits, defaults), mask) in splits.iter().zip(defaults).zip(masks) {
        let ranks = look_up::<WIDTH>(row, load(&splits.slots));
        *mask = _mm512_cmpge_epu8_mask(ranks, load(&splits.ranks));
        if !IS_COMPLETE {
            *mask &= !_mm512_mask_cmpeq_epi8_mask(*defaults, ranks, missing);
        }
    }
}

/// A rank goes right if it is in `from..=255`, or in `from..=254` where a missing value (255) goes left:
/// if its distance from `from`, modulo 256, is at most that of the range's end.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn masks_of_rows<const WIDTH: usize>(splits: &Splits<u8>, defaults: u64, rows: &[Row<u8, WIDTH>], masks: &mut [u64]) {
    let slots = load(&splits.slots);
    let from = load(&splits.ranks);
    let end = _mm512_mask_blend_epi8(defaults, _mm512_set1_epi8(-1), _mm512_set1_epi8(-2));
    let distance = _mm512_sub_epi8(end, from);
    for (row, mask) in rows.iter().zip(masks) {
        let ranks = look_up::<WIDTH>(registers(row), slots);
        *mask = _mm512_cmple_epu8_mask(_mm512_sub_epi8(ranks, from), distance);
    }
}

/// The ranks of a row; the second register is the first again where one is enough.
#[inline]
#[target_feature(enable = "avx512f")]
fn registers<const WIDTH: usize>(row: &Row<u8, WIDTH>) -> [__m512i; 2] {
    let registers = row.0.as_chunks::<64>().0;
    // SAFETY: each reference is to 64 bytes, and rows are aligned to 64.
    unsafe {
        let load = |register: usize| _mm512_load_si512(registers[register].as_ptr().cast::<__m512i>());
        [load(0), load(WIDTH / 64 - 1)]
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn look_up<const WIDTH: usize>([first, second]: [__m512i; 2], slots: __m512i) -> __m512i {
    if WIDTH == 64 { _mm512_permutexvar_epi8(slots, first) } else { _mm512_permutex2var_epi8(first, slots, second) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: the reference is to 64 bytes; `Splits` aligns both of its arrays to 64.
    unsafe { _mm512_load_si512(bytes.as_ptr().cast::<__m512i>()) }
}
