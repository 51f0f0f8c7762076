//! Sources of what was documented.

pub mod baseline;
