//! For tests: numbers that look random and are not, and the definitions in f64.

/// Of both signs, most below one.
pub(crate) fn numbers(count: usize, seed: u32) -> Vec<f32> {
    (0..count as u32)
        .map(|i| {
            let mut x = (i.wrapping_mul(0x9E37_79B9) ^ seed.wrapping_mul(0x85EB_CA6B)).wrapping_add(seed);
            x = (x ^ (x >> 15)).wrapping_mul(0x2C1B_3C6D);
            x = (x ^ (x >> 12)).wrapping_mul(0x297A_2D39);
            ((x ^ (x >> 15)) as f32 / u32::MAX as f32 - 0.5) * 2.0
        })
        .collect()
}

pub(crate) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// `x · weightᵀ`: `[tokens, columns]` and `[rows, columns]` to `[tokens, rows]`.
pub(crate) fn product(x: &[f64], weight: &[f64], columns: usize) -> Vec<f64> {
    x.chunks_exact(columns)
        .flat_map(|x| weight.chunks_exact(columns).map(move |row| row.iter().zip(x).map(|(a, b)| a * b).sum::<f64>()))
        .collect()
}

pub(crate) fn transposed(values: &[f64], columns: usize) -> Vec<f64> {
    (0..columns).flat_map(|column| values.chunks_exact(columns).map(move |row| row[column])).collect()
}

/// Every number within `tolerance` of what is expected, relative to the largest of these.
pub(crate) fn assert_close(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().fold(1e-30f64, |size, value| size.max(value.abs()));
    for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let difference = (f64::from(found) - expected).abs();
        assert!(difference <= tolerance * size, "{what}[{index}]: {found}, expected {expected} (largest {size})");
    }
}

/// The same on one thread and on three.
pub(crate) fn on_any_threads<T: PartialEq + std::fmt::Debug + Send>(work: impl Fn() -> T + Sync) -> T {
    let on = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(&work);
    let (one, three) = (on(1), on(3));
    assert!(one == three, "the result depends on the number of threads");
    one
}
