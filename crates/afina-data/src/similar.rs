//! Records that say nearly the same: a signature of each (made anywhere, in parallel), and an index that is asked in
//! the order of the file which earlier record a new one repeats.

mod index;
mod signature;
pub(crate) mod table;
pub(crate) mod words;

pub(crate) use index::{MAX_RECORDS, NearDuplicate, NearDuplicates};
pub(crate) use signature::{Signature, Signer};
