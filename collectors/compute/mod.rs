//! Sources of what instances do and draw.

pub mod host;
pub mod power;
pub mod prometheus;
