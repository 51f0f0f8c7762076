//! Why a device refuses, in words.

use super::Refusal;

/// What a refusal says, and its numbers for whoever looks them up.
#[must_use]
pub fn refusal_words(refusal: Refusal) -> String {
    let Refusal { class, code } = refusal;
    let said = match code {
        2 => "it is not configured for this",
        3 => "it is busy with its configuration",
        9 => "the type of a value is wrong",
        16 | 27 => "reading is not allowed",
        25 => "it is out of room for objects",
        29 => "it declines the request",
        30 => "it timed out within",
        31 => "it has no such object",
        32 => "the object has no such property",
        36 => "this service is not supported",
        42 => "the array has no such element",
        43 => "no more subscriptions are possible",
        44 => "the property does not report changes",
        45 => "this function is not supported",
        47 => "the type of a value is not supported",
        50 => "the property is no array",
        _ => return format!("error class {class}, code {code}"),
    };
    format!("{said} (error class {class}, code {code})")
}

/// What a rejected request means.
#[must_use]
pub fn reject_words(reason: u8) -> String {
    let said = match reason {
        1 => "its buffer is too small",
        2 => "parameters contradict each other",
        3 => "a parameter has the wrong type",
        4 => "a tag is invalid",
        5 => "a parameter is missing",
        6 => "a parameter is out of range",
        7 => "there are too many arguments",
        8 => "a choice is unknown",
        9 => "it does not know the service",
        10 => "the encoding is invalid",
        _ => return format!("rejected with reason {reason}"),
    };
    format!("{said} (rejected with reason {reason})")
}

/// What an aborted exchange means.
#[must_use]
pub fn abort_words(reason: u8) -> String {
    let said = match reason {
        1 => "its buffer is too small",
        2 => "the exchange is not in that state",
        3 => "something more urgent came in between",
        4 => "the reply does not fit into one message and it sends no segments",
        5 | 6 => "its security does not allow it",
        7 => "the window of segments is out of range",
        8 => "it took too long",
        9 => "it is out of resources",
        10 => "it timed out while it sent",
        11 => "the message is too long",
        _ => return format!("aborted with reason {reason}"),
    };
    format!("{said} (aborted with reason {reason})")
}
