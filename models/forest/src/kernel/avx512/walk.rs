//! The way through trees, read off masks of their splits.
//!
//! Bit `p` of a tree's mask says whether the split at place `p` goes right; the root is at place 1, so the next place is
//! `2 p` plus that bit. Trees of depth 6 have masks of 64 bits, shallower ones share them.

#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m128i, __m256i, __m512, __m512i, _mm_cvtsi32_si128, _mm_loadu_si128, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm512_add_epi32, _mm512_add_ps, _mm512_broadcast_f32x8, _mm512_cvtepu8_epi32, _mm512_cvtepu16_epi32,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_blend_ps, _mm512_mullo_epi32, _mm512_permutex2var_epi32,
    _mm512_permutex2var_ps, _mm512_permutexvar_ps, _mm512_rorv_epi32, _mm512_set1_epi32, _mm512_setr_epi32,
    _mm512_setzero_ps, _mm512_srl_epi32, _mm512_srlv_epi32, _mm512_storeu_ps, _mm512_storeu_si512,
    _mm512_ternarylogic_epi32, _mm512_test_epi32_mask,
};

use super::Avx512;

/// Lanes of a register: rows, or trees, that are walked together.
pub(crate) const LANES: usize = 16;

/// Masks of [`LANES`] rows for one vector of splits.
pub(super) type Masks = [u64; LANES];

/// Adds a leaf to each sum: that of the tree at `position` in the vector of splits whose masks these are.
/// `leaves` are that tree's, `2^DEPTH` of them.
#[inline]
pub(super) fn add_rows<const DEPTH: usize>(
    _cpu: Avx512,
    masks: &[Masks],
    position: usize,
    leaves: &[f32],
    sums: &mut [[f32; LANES]],
) {
    // SAFETY: `_cpu` proves the CPU features.
    unsafe { add_rows_proven::<DEPTH>(masks, position, leaves, sums) }
}

/// Where the leaves of [`LANES`] trees of a row stand among all leaves of these trees.
/// `masks` are those of the trees' vectors of splits, `2^DEPTH / 4` of them.
#[inline]
pub(super) fn leaf_indices<const DEPTH: usize>(_cpu: Avx512, masks: &[u64]) -> [u32; LANES] {
    // SAFETY: `_cpu` proves the CPU features.
    unsafe { leaf_indices_proven::<DEPTH>(masks) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn add_rows_proven<const DEPTH: usize>(masks: &[Masks], position: usize, leaves: &[f32], sums: &mut [[f32; LANES]]) {
    let tables = tables::<DEPTH>(leaves);
    let is_high = (position << DEPTH) & 32 != 0;
    let shift = _mm_cvtsi32_si128(i32::try_from((position << DEPTH) & 31).unwrap_or(0));
    for (masks, sums) in masks.iter().zip(sums) {
        let [low, high] = halves(masks);
        let places = match DEPTH {
            6 => places::<DEPTH>(low, high),
            5 => places::<DEPTH>(if is_high { high } else { low }, high),
            _ => places::<DEPTH>(_mm512_srl_epi32(if is_high { high } else { low }, shift), high),
        };
        let leaves = look_up::<DEPTH>(tables, places);
        // SAFETY: the reference is to 16 floats, both times.
        unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), _mm512_add_ps(_mm512_loadu_ps(sums.as_ptr()), leaves)) };
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn leaf_indices_proven<const DEPTH: usize>(masks: &[u64]) -> [u32; LANES] {
    const EXPECTED: &str = "the caller gives a mask for each vector of splits";
    let places = match DEPTH {
        6 => {
            let [low, high] = halves(masks.first_chunk().expect(EXPECTED));
            places::<6>(low, high)
        }
        5 => {
            let masks: &[u64; 8] = masks.first_chunk().expect(EXPECTED);
            // SAFETY: the reference is to 64 bytes.
            let masks = unsafe { _mm512_loadu_si512(masks.as_ptr().cast::<__m512i>()) };
            places::<5>(masks, masks)
        }
        4 => {
            let masks: &[u64; 4] = masks.first_chunk().expect(EXPECTED);
            // SAFETY: the reference is to 32 bytes.
            let masks = unsafe { _mm256_loadu_si256(masks.as_ptr().cast::<__m256i>()) };
            let masks = _mm512_cvtepu16_epi32(masks);
            places::<4>(masks, masks)
        }
        _ => {
            let masks: &[u64; 2] = masks.first_chunk().expect(EXPECTED);
            // SAFETY: the reference is to 16 bytes.
            let masks = unsafe { _mm_loadu_si128(masks.as_ptr().cast::<__m128i>()) };
            let masks = _mm512_cvtepu8_epi32(masks);
            places::<3>(masks, masks)
        }
    };
    // Place `2^DEPTH` is the first leaf of the first tree, so that tree `n` starts at `(n - 1) 2^DEPTH`.
    let trees = _mm512_setr_epi32(-1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14);
    let starts = _mm512_mullo_epi32(trees, _mm512_set1_epi32(1 << DEPTH));
    let mut indices = [0; LANES];
    // SAFETY: the reference is to 64 bytes.
    unsafe { _mm512_storeu_si512(indices.as_mut_ptr().cast::<__m512i>(), _mm512_add_epi32(places, starts)) };
    indices
}

/// Low and high halves of masks.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves(masks: &Masks) -> [__m512i; 2] {
    let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    let odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    // SAFETY: the reference is to 128 bytes, of which each load takes one half.
    let (first, second) = unsafe {
        let masks = masks.as_ptr().cast::<__m512i>();
        (_mm512_loadu_si512(masks), _mm512_loadu_si512(masks.add(1)))
    };
    [_mm512_permutex2var_epi32(first, even, second), _mm512_permutex2var_epi32(first, odd, second)]
}

/// Places of leaves, `2^DEPTH` to `2^(DEPTH + 1) - 1`.
#[inline]
#[target_feature(enable = "avx512f")]
fn places<const DEPTH: usize>(low: __m512i, high: __m512i) -> __m512i {
    /// `a | (b & c)`.
    const OR_AND: i32 = 0xf8;
    let one = _mm512_set1_epi32(1);
    let mut places = one;
    for level in 0..DEPTH {
        // At the sixth level places are 32 to 63: rotating by them is rotating by them less 32.
        let masks = if level < 5 { _mm512_srlv_epi32(low, places) } else { _mm512_rorv_epi32(high, places) };
        places = _mm512_ternarylogic_epi32::<OR_AND>(_mm512_add_epi32(places, places), masks, one);
    }
    places
}

/// All leaves of a tree, in registers.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn tables<const DEPTH: usize>(leaves: &[f32]) -> [__m512; 4] {
    let mut tables = [_mm512_setzero_ps(); 4];
    let (registers, rest) = leaves.as_chunks::<16>();
    for (table, leaves) in tables.iter_mut().zip(registers) {
        // SAFETY: the reference is to 16 floats.
        *table = unsafe { _mm512_loadu_ps(leaves.as_ptr()) };
    }
    if let Some(leaves) = rest.first_chunk::<8>() {
        // Places of depth 3 are 8 to 15: both halves of the register hold the leaves.
        // SAFETY: the reference is to 8 floats.
        tables[0] = _mm512_broadcast_f32x8(unsafe { _mm256_loadu_ps(leaves.as_ptr()) });
    }
    tables
}

/// Leaves at places. The permutations look at as many low bits of a place as they need.
#[inline]
#[target_feature(enable = "avx512f")]
fn look_up<const DEPTH: usize>([first, second, third, fourth]: [__m512; 4], places: __m512i) -> __m512 {
    match DEPTH {
        6 => {
            let low = _mm512_permutex2var_ps(first, places, second);
            let high = _mm512_permutex2var_ps(third, places, fourth);
            _mm512_mask_blend_ps(_mm512_test_epi32_mask(places, _mm512_set1_epi32(32)), low, high)
        }
        5 => _mm512_permutex2var_ps(first, places, second),
        _ => _mm512_permutexvar_ps(places, first),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The safe twin: the leaf of the tree at `position` that a mask leads to.
    fn leaf<const DEPTH: usize>(mask: u64, position: usize) -> usize {
        let mask = mask >> (position << DEPTH);
        let mut place = 1;
        for _ in 0..DEPTH {
            place = 2 * place + (mask >> place & 1) as usize;
        }
        place - (1 << DEPTH)
    }

    fn check<const DEPTH: usize>(masks: &[Masks; 2]) {
        let Some(cpu) = Avx512::detect() else { return };
        let leaves: Vec<f32> = (0..1_u16 << DEPTH).map(f32::from).collect();
        for position in 0..64 >> DEPTH {
            let mut sums = [[0.5; LANES]; 2];
            add_rows::<DEPTH>(cpu, masks, position, &leaves, &mut sums);
            let expected = masks.map(|masks| masks.map(|mask| 0.5 + leaves[leaf::<DEPTH>(mask, position)]));
            assert_eq!(sums, expected);
        }
        let indices = leaf_indices::<DEPTH>(cpu, &masks[0]);
        let each = 64 >> DEPTH;
        let expected: Vec<usize> =
            (0..LANES).map(|tree| (tree << DEPTH) + leaf::<DEPTH>(masks[0][tree / each], tree % each)).collect();
        assert_eq!(indices.map(|index| index as usize).to_vec(), expected);
    }

    proptest! {
        #[test]
        fn leaves_are_those_of_the_safe_walk(masks: [[u64; LANES]; 2]) {
            check::<3>(&masks);
            check::<4>(&masks);
            check::<5>(&masks);
            check::<6>(&masks);
        }
    }
}
