//! Logs of model servers, line by line: files through every kind of rotation, wrapped or not, and the journal.
//!
//! Owns: where lines come from ([`place::Place`]), where reading got to, and [`feed::LogFeed`], which gives the lines
//! to readers.
//! Promises: the checkpoint names the place after the last line handed out, so that a restart loses and repeats
//! nothing that it can avoid (`README.md` says what can be avoided for each kind of rotation); memory and the work of
//! one call are bounded. Refuses: to keep, log or echo a line; what is stored of a log is places and hashes.

mod colours;
pub(crate) mod feed;
mod file;
mod files;
mod identity;
mod joined;
mod journal;
mod names;
mod packed;
pub(crate) mod place;
mod printed;
mod saved;
mod stream;
pub mod surface;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod torture;
#[cfg(test)]
mod turns;
mod wrapper;
