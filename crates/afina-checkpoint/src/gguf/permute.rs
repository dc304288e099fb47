//! The order of the rows of q_proj and k_proj.
//!
//! Hugging Face rotates the first half of a head against the second, ggml's Llama rotates neighbours: row `j` and
//! `j + head_dim / 2` of a head in Hugging Face are rows `2j` and `2j + 1` in GGUF.

/// Rows of `[heads · head_dim, columns]` from Hugging Face's order into GGUF's: of numbers, or of bytes.
///
/// # Panics
/// If the values are not as many.
pub(crate) fn permute<T: Copy>(values: &[T], heads: usize, head_dim: usize) -> Vec<T> {
    reorder(values, heads, head_dim, |half, row| {
        let (j, second) = (row / 2, row % 2);
        j + second * half
    })
}

/// Rows of `[heads · head_dim, columns]` from GGUF's order into Hugging Face's.
///
/// # Panics
/// If the values are not as many.
pub(crate) fn unpermute<T: Copy>(values: &[T], heads: usize, head_dim: usize) -> Vec<T> {
    reorder(values, heads, head_dim, |half, row| if row < half { 2 * row } else { 2 * (row - half) + 1 })
}

/// `from(half, row)` is the source row of `row`, inside a head.
fn reorder<T: Copy>(values: &[T], heads: usize, head_dim: usize, from: impl Fn(usize, usize) -> usize) -> Vec<T> {
    let rows = heads * head_dim;
    assert!(rows > 0 && values.len().is_multiple_of(rows), "whole rows are needed");
    let columns = values.len() / rows;
    let mut out = Vec::with_capacity(values.len());
    for row in 0..rows {
        let source = row / head_dim * head_dim + from(head_dim / 2, row % head_dim);
        out.extend_from_slice(&values[source * columns..(source + 1) * columns]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_become_neighbours_and_back() {
        // Two heads of 4, one column: rows named by their Hugging Face number.
        let hf: Vec<f32> = (0..8).map(|row| row as f32).collect();
        let gguf = permute(&hf, 2, 4);
        assert_eq!(gguf, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
        assert_eq!(unpermute(&gguf, 2, 4), hf);
    }
}
