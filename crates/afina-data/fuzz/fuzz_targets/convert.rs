//! Any record is converted or refused; what is written is valid.
#![no_main]

use afina_data_fuzz::checks::{Case, converting};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(Case { from, piece, data, .. }) = Case::new(input) else { return };
    converting::check(data, from, piece);
});
