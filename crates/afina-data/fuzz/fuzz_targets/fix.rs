//! Any bytes are mended once and for all; safe fixes lose nothing.
#![no_main]

use afina_data_fuzz::checks::{Case, fixing};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(Case { options, unsafe_fixes, piece, data, .. }) = Case::new(input) else { return };
    fixing::check(data, &options, unsafe_fixes);
    if piece % 4 == 0 {
        fixing::check_pieces(data, &options, unsafe_fixes, piece);
    }
});
