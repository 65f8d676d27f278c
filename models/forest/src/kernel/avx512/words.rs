//! Masks of splits from 16-bit ranks: two registers for the 64 slots of a vector of splits.

#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m512i, __mmask32, _mm512_cmpge_epu16_mask, _mm512_cmple_epu16_mask, _mm512_load_si512, _mm512_mask_blend_epi16,
    _mm512_mask_cmpeq_epi16_mask, _mm512_permutex2var_epi16, _mm512_permutexvar_epi16, _mm512_set1_epi16,
    _mm512_sub_epi16,
};

use super::{
    Avx512,
    packed::{Rank, Row, Splits},
};
use crate::kernel::Kernel;

// === impl Rank ===

impl Rank for u16 {
    type Cpu = Avx512;

    const KERNEL: Kernel = Kernel::Words;
    const MISSING: u16 = u16::MAX;
    const REGISTER: usize = 32;

    fn avx512(cpu: Avx512) -> Avx512 {
        cpu
    }

    fn masks_of_row<const WIDTH: usize>(
        _cpu: Avx512,
        splits: &[Splits<u16>],
        defaults: &[u64],
        row: &Row<u16, WIDTH>,
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
        _cpu: Avx512,
        splits: &Splits<u16>,
        defaults: u64,
        rows: &[Row<u16, WIDTH>],
        masks: &mut [u64],
    ) {
        // SAFETY: `_cpu` proves the CPU features.
        unsafe { masks_of_rows::<WIDTH>(splits, defaults, rows, masks) }
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn masks_of_row<const WIDTH: usize, const IS_COMPLETE: bool>(
    splits: &[Splits<u16>],
    defaults: &[u64],
    row: &Row<u16, WIDTH>,
    masks: &mut [u64],
) {
    let row = registers(row);
    let missing = _mm512_set1_epi16(-1);
    for ((splits, defaults), mask) in splits.iter().zip(defaults).zip(masks) {
        let [low, high] = load(&splits.slots).map(|slots| look_up::<WIDTH>(row, slots));
        let [low_from, high_from] = load(&splits.ranks);
        *mask = join(_mm512_cmpge_epu16_mask(low, low_from), _mm512_cmpge_epu16_mask(high, high_from));
        if !IS_COMPLETE {
            let [low_defaults, high_defaults] = split(*defaults);
            *mask &= !join(
                _mm512_mask_cmpeq_epi16_mask(low_defaults, low, missing),
                _mm512_mask_cmpeq_epi16_mask(high_defaults, high, missing),
            );
        }
    }
}

/// As for 8 bits: a rank goes right if its distance from the lowest one that does, modulo 65,536,
/// is at most that of the highest.
#[target_feature(enable = "avx512f,avx512bw")]
fn masks_of_rows<const WIDTH: usize>(splits: &Splits<u16>, defaults: u64, rows: &[Row<u16, WIDTH>], masks: &mut [u64]) {
    let [low_slots, high_slots] = load(&splits.slots);
    let [low_from, high_from] = load(&splits.ranks);
    let [low_distance, high_distance] = {
        let (all, but_missing) = (_mm512_set1_epi16(-1), _mm512_set1_epi16(-2));
        let [low, high] = split(defaults).map(|defaults| _mm512_mask_blend_epi16(defaults, all, but_missing));
        [_mm512_sub_epi16(low, low_from), _mm512_sub_epi16(high, high_from)]
    };
    for (row, mask) in rows.iter().zip(masks) {
        let row = registers(row);
        let low = _mm512_sub_epi16(look_up::<WIDTH>(row, low_slots), low_from);
        let high = _mm512_sub_epi16(look_up::<WIDTH>(row, high_slots), high_from);
        *mask = join(_mm512_cmple_epu16_mask(low, low_distance), _mm512_cmple_epu16_mask(high, high_distance));
    }
}

/// The ranks of a row; the second register is the first again where one is enough.
#[inline]
#[target_feature(enable = "avx512f")]
fn registers<const WIDTH: usize>(row: &Row<u16, WIDTH>) -> [__m512i; 2] {
    let registers = row.0.as_chunks::<32>().0;
    // SAFETY: each reference is to 64 bytes, and rows are aligned to 64.
    unsafe {
        let load = |register: usize| _mm512_load_si512(registers[register].as_ptr().cast::<__m512i>());
        [load(0), load(WIDTH / 32 - 1)]
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn look_up<const WIDTH: usize>([first, second]: [__m512i; 2], slots: __m512i) -> __m512i {
    if WIDTH == 32 { _mm512_permutexvar_epi16(slots, first) } else { _mm512_permutex2var_epi16(first, slots, second) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(words: &[u16; 64]) -> [__m512i; 2] {
    // SAFETY: the reference is to 128 bytes, of which each load takes one half; `Splits` aligns both arrays to 64.
    unsafe {
        let words = words.as_ptr().cast::<__m512i>();
        [_mm512_load_si512(words), _mm512_load_si512(words.add(1))]
    }
}

fn join(low: __mmask32, high: __mmask32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
fn split(mask: u64) -> [__mmask32; 2] {
    [mask as u32, (mask >> 32) as u32]
}
