//! Sources of what is stored.
//!
//! Owns: what the folders share: names of units, what is left out, what is counted, the history of scans.

mod exclude;
pub mod filesystem;
mod history;
pub mod s3;
mod tally;
mod unit;
