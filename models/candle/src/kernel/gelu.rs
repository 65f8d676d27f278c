//! GELU, the exact one: x times the normal distribution's integral up to x.

use super::lanes::mul_add;

/// The error function as a quotient of polynomials, good to 2e-7 of float32's own; as in Eigen's `erf`.
pub(super) const NUMERATOR: [f32; 7] =
    [-2.726_142_3e-10, 2.770_681_5e-8, -2.101_024e-6, -5.692_506_4e-5, -7.349_906_3e-4, -2.954_6e-3, -1.609_603_3e-2];
pub(super) const DENOMINATOR: [f32; 5] =
    [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2];
/// Beyond this the error function is 1 in float32.
pub(super) const ERF_ONE_FROM: f32 = 4.0;

/// GELU of one value.
#[inline(always)]
pub(super) fn gelu<const FUSED: bool>(x: f32) -> f32 {
    let z = (x * std::f32::consts::FRAC_1_SQRT_2).clamp(-ERF_ONE_FROM, ERF_ONE_FROM);
    let square = z * z;
    let numerator = polynomial::<FUSED, 7>(&NUMERATOR, square);
    let denominator = polynomial::<FUSED, 5>(&DENOMINATOR, square);
    let half = 0.5 * x;
    mul_add::<FUSED>(half, z * numerator / denominator, half)
}

#[inline(always)]
fn polynomial<const FUSED: bool, const N: usize>(coefficients: &[f32; N], x: f32) -> f32 {
    coefficients[1..].iter().fold(coefficients[0], |sum, coefficient| mul_add::<FUSED>(sum, x, *coefficient))
}
