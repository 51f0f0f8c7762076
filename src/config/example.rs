//! `config.example.toml`: the base of this folder and the samples of the collectors, in one file.

use cms_collectors::ALL;

const BASE: &str = include_str!("base.toml");

/// The example configuration, every option in it.
#[must_use]
pub fn example() -> String {
    let mut text = BASE.trim_end().to_owned();
    for registration in ALL {
        text.push_str("\n\n");
        text.push_str(registration.sample.trim());
    }
    text.push('\n');
    text
}
