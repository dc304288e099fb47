//! What holds of a data file, whatever its bytes: files changed at random. `fuzz` goes on with the same checks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use afina_data::{Format, Method, Profile};

mod checks;
#[path = "../src/testing/random.rs"]
mod random;

use checks::{Case, converting, fixing, options, reading};
use random::{Random, mutate};

/// Good and bad records of every sort.
fn seeds() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let seeds: Vec<_> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(seeds.len() > 10 && seeds.iter().all(|seed| seed.len() < 2000));
    seeds
}

/// Hands out the seeds, each changed `times` times, and then noise; with each a number that counts up. Says which one
/// it was that failed.
fn each_file(random_state: u64, times: usize, noise: usize, check: impl Fn(&[u8], usize)) {
    let mut random = Random(random_state);
    let seeds = seeds();
    let mut round = 0;
    let mut next = |data: &[u8]| {
        let held = catch_unwind(AssertUnwindSafe(|| check(data, round)));
        assert!(held.is_ok(), "file {round}: {:?}", String::from_utf8_lossy(data));
        round += 1;
    };
    for _ in 0..times {
        seeds.iter().for_each(|seed| next(&mutate(seed, &mut random)));
    }
    for _ in 0..noise {
        let data: Vec<u8> = (0..random.below(60)).map(|_| random.below(256) as u8).collect();
        next(&data);
    }
}

#[test]
fn any_bytes_give_diagnostics_at_places_in_the_file() {
    each_file(1, 300, 2000, |data, round| {
        // Neighbours are different seeds: this goes through methods and profiles for each of them.
        let options = options(round / 18);
        reading::check(data, &options);
        match round % 8 {
            0 => reading::check_overlap(data, &options),
            1 => reading::check_pieces(data, &options, 1 + round % 37),
            2 => reading::check_reports(data, &options),
            _ => {}
        }
    });
}

#[test]
fn long_files_are_read_the_same_however_they_are_cut() {
    each_file(2, 1, 2, |data, round| reading::check_chunks(data, &options(round), 1 + round * 97));
}

#[test]
fn any_file_is_mended_once_and_loses_nothing_by_safe_fixes() {
    each_file(3, 300, 1000, |data, round| {
        let (options, unsafe_fixes) = (options(round / 36), round / 18 % 2 == 0);
        fixing::check(data, &options, unsafe_fixes);
        if round % 8 == 0 {
            fixing::check_pieces(data, &options, unsafe_fixes, 1 + round % 37);
        }
    });
}

#[test]
fn the_seeds_are_mended_for_every_purpose() {
    for seed in seeds() {
        for index in 0..24 {
            fixing::check(&seed, &options(index), index < 12);
        }
    }
}

#[test]
fn any_bytes_are_converted_or_refused_and_what_is_written_is_valid() {
    let written = std::cell::Cell::new(0);
    each_file(4, 200, 200, |data, round| {
        let from = (round % 3 == 0).then(|| Format::ALL[round / 54 % Format::ALL.len()]);
        written.set(written.get() + converting::check(data, from, 1 + round % 37));
    });
    assert!(written.get() > 1000, "{}: the test must see good records too", written.get());
}

#[test]
fn the_first_two_bytes_of_the_fuzzer_say_what_is_done() {
    let case = Case::new(b"Bb{}").unwrap();
    assert_eq!((case.options.method, case.options.profile), (Method::Dpo, Profile::Azure));
    assert_eq!((case.unsafe_fixes, case.from, case.piece, case.data), (true, None, 2, &b"{}"[..]));
    assert!((0..=255).all(|byte| Case::new(&[byte, 255 - byte]).is_some()) && Case::new(b"A").is_none());
}
