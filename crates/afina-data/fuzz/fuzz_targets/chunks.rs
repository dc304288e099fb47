//! A long file is read the same wherever its chunks are cut, and on any number of threads. Slow: 300 kB an input.
#![no_main]

use afina_data_fuzz::checks::{Case, reading};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(Case { options, piece, data, .. }) = Case::new(input) else { return };
    reading::check_chunks(data, &options, piece * 97);
});
