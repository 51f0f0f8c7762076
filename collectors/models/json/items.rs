//! A message of many objects: an array, one object, or one object a line.

use memchr::memchr_iter;

use super::{Broken, Json};

/// Reads every object of a message with `read`, and gives what it says to `keep` once the object is known to be
/// whole. Returns how many lines were no JSON.
///
/// # Errors
/// When an array is broken: then nobody knows what the rest of it is. What `keep` was given is to be dropped.
pub(crate) fn items<'a, T>(
    text: &'a [u8],
    mut read: impl FnMut(&mut Json<'a>) -> Result<T, Broken>,
    mut keep: impl FnMut(T),
) -> Result<u64, Broken> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut json = Json::new(text);
    if text.trim_ascii_start().first() == Some(&b'[') {
        json.array(|json| {
            keep(read(json)?);
            Ok(())
        })?;
        return if json.is_at_end() {
            Ok(0)
        } else {
            Err(Broken::Syntax)
        };
    }
    // One object may go over several lines; of several objects only the first is stepped over twice.
    if json.skip().is_ok() && json.is_at_end() {
        keep(read(&mut Json::new(text))?);
        return Ok(0);
    }
    let mut wrong = 0;
    let mut start = 0;
    for end in memchr_iter(b'\n', text).chain([text.len()]) {
        let line = text.get(start..end).unwrap_or_default();
        start = end + 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let mut json = Json::new(line);
        match read(&mut json) {
            Ok(item) if json.is_at_end() => keep(item),
            _ => wrong += 1,
        }
    }
    Ok(wrong)
}
