//! What the fuzz targets share: files of a folder made of the input, and a bound on the memory that reading them takes.

mod folder;
mod memory;

pub use folder::{base, files, folder, write};
pub use memory::bounded;
