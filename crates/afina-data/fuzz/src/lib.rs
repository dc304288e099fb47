//! What the fuzz targets check: the same as the tests of `afina-data`.

#[path = "../../tests/checks/mod.rs"]
pub mod checks;
