//! What logs hold: records of container runtimes, and files of the journal.

use cms_collectors::logs::{lines_in, messages_in};

/// Longest line that is handed out.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Records in any wrapper: a line is never longer than its records and has no end of a line, no colour begins in it.
pub(super) fn records(data: &[u8]) {
    let mut bytes = 0;
    lines_in(data, &mut |line| {
        assert!(line.len() <= LINE_BYTES_MAX);
        bytes += line.len();
    });
    // An escape in JSON is never shorter than what it stands for.
    assert!(bytes <= data.len());
}

/// A file of the journal: reading ends, whatever its chains say.
pub(super) fn journal(data: &[u8]) {
    let mut count = 0_u64;
    messages_in(data, "a.service", &mut |_, line| {
        assert!(line.len() <= LINE_BYTES_MAX);
        count += 1;
    });
    assert!(count <= 50_000);
}
