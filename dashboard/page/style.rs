//! The one style sheet, and its hash for the content security policy: no other style can be slipped in.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, PreEscaped, html};

const SHEET: &str = include_str!("style.css");

/// The sheet as an element.
pub(super) fn element() -> Markup {
    html! { style { (PreEscaped(SHEET)) } }
}

/// The sheet as a source of the policy's `style-src`.
pub(crate) fn source() -> String {
    let hash = digest::digest(&digest::SHA256, SHEET.as_bytes());
    format!("'sha256-{}'", STANDARD.encode(hash))
}
