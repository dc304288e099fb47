//! Any bytes are read without a panic, and what is reported is true of the file.
#![no_main]

use afina_data_fuzz::checks::{Case, reading};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(Case { options, piece, data, .. }) = Case::new(input) else { return };
    reading::check(data, &options);
    match piece % 4 {
        1 => reading::check_reports(data, &options),
        2 => reading::check_overlap(data, &options),
        _ => reading::check_pieces(data, &options, piece),
    }
});
