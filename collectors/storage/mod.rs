//! Sources of what is stored.

pub mod filesystem;
