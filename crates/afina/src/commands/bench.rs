//! `afina bench`: figures on this machine.

mod rows;
pub mod train;
pub mod validate;
