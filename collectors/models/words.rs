//! Words and numbers that several kinds of server say alike.

use cms_spec::decimal::Decimal;
use cms_spec::payload::v1::Complexity;
use jiff::Timestamp;

use super::request::Word;

/// Seconds since 1970.
pub(crate) fn instant(seconds: Decimal) -> Option<Timestamp> {
    let at = Timestamp::from_nanosecond(seconds.nano()).ok()?;
    // A clock that was never set is no time.
    (at > Timestamp::UNIX_EPOCH).then_some(at)
}

/// Whether somebody tagged it as routine or as a task for a large model.
pub(crate) fn complexity(text: &[u8]) -> Option<Complexity> {
    let is = |word: &str| text.eq_ignore_ascii_case(word.as_bytes());
    if is("routine") {
        Some(Complexity::Routine)
    } else if is("frontier") {
        Some(Complexity::Frontier)
    } else {
        None
    }
}

/// A path of an API, without its query.
pub(crate) fn path(text: &[u8]) -> Option<Word> {
    let path = text.split(|byte| b"?#".contains(byte)).next()?;
    Word::new(path).filter(|_| path.starts_with(b"/"))
}
