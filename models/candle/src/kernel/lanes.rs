//! Arrays of lanes, which the compiler keeps in registers.

/// Lanes of the widest register.
pub(super) const LANES: usize = 16;

/// Values side by side.
pub(super) type Lanes<const N: usize> = [f32; N];

/// `a * b + c`, in one rounding where that is one instruction.
#[inline(always)]
pub(super) fn mul_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// `sum + a * b`, lane by lane.
#[inline(always)]
pub(super) fn accumulate<const FUSED: bool, const N: usize>(sum: &mut Lanes<N>, a: &Lanes<N>, b: &Lanes<N>) {
    for lane in 0..N {
        sum[lane] = mul_add::<FUSED>(a[lane], b[lane], sum[lane]);
    }
}

/// Consecutive values.
#[inline(always)]
pub(super) fn load<const N: usize>(values: &[f32], at: usize) -> Lanes<N> {
    let mut lanes = [0.0; N];
    lanes.copy_from_slice(&values[at..at + N]);
    lanes
}

/// The sum of all lanes, in pairs.
#[inline(always)]
pub(super) fn sum(lanes: &Lanes<LANES>) -> f32 {
    let mut lanes = *lanes;
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}
