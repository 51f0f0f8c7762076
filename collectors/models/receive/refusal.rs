//! Every way in which a message is not taken, with what its sender is told.

/// Seconds after which a sender may come again: a tick and a bit.
pub(super) const RETRY_SECONDS: u32 = 5;

/// A message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Of HTTP.
    pub(crate) status: u16,
    /// The code of gRPC.
    pub(crate) grpc: u8,
    /// What `status` counts it as: "3 messages that were …".
    pub(crate) kind: &'static str,
    /// What the sender is told: what is wrong and what to do.
    pub(crate) text: &'static str,
    /// Whether the same message is welcome later.
    pub(crate) may_repeat: bool,
}

impl Refusal {
    /// A message that must not be repeated as it is.
    pub(crate) const fn of_message(
        status: u16,
        grpc: u8,
        kind: &'static str,
        text: &'static str,
    ) -> Self {
        Self {
            status,
            grpc,
            kind,
            text,
            may_repeat: false,
        }
    }

    /// A message that is welcome later.
    const fn of_moment(status: u16, kind: &'static str, text: &'static str) -> Self {
        Self {
            status,
            grpc: UNAVAILABLE,
            kind,
            text,
            may_repeat: true,
        }
    }
}

/// Codes of gRPC.
pub(crate) const INVALID_ARGUMENT: u8 = 3;
const PERMISSION_DENIED: u8 = 7;
const RESOURCE_EXHAUSTED: u8 = 8;
pub(crate) const UNIMPLEMENTED: u8 = 12;
const UNAVAILABLE: u8 = 14;
const UNAUTHENTICATED: u8 = 16;
const CANCELLED: u8 = 1;

pub(super) const FULL: Refusal = Refusal::of_moment(
    503,
    "sent while the queue was full",
    "the queue is full until what is in it is on disk; send it again",
);
pub(super) const NOT_STORED: Refusal = Refusal::of_moment(
    503,
    "not on disk in time",
    "it could not be written to disk in time; send it again, it is counted once",
);
pub(super) const NO_ROOM: Refusal = Refusal::of_moment(
    429,
    "sent while others took all memory",
    "too many messages at once; send it again",
);
pub(super) const TOO_LONG: Refusal = Refusal::of_message(
    413,
    RESOURCE_EXHAUSTED,
    "longer than 16 MiB",
    "a message has at most 16 MiB, also when it is unpacked; send smaller batches",
);
pub(super) const TOO_MANY: Refusal = Refusal::of_message(
    413,
    RESOURCE_EXHAUSTED,
    "of more than 16,384 requests",
    "a message tells of at most 16,384 requests; send smaller batches",
);
pub(super) const TOO_SLOW: Refusal = Refusal::of_message(
    408,
    CANCELLED,
    "not there in time",
    "the message did not arrive within 30 seconds",
);
pub(super) const CUT_OFF: Refusal = Refusal::of_message(
    400,
    CANCELLED,
    "cut off",
    "the message ended before its end",
);
pub(super) const NOT_PACKED: Refusal = Refusal::of_message(
    400,
    INVALID_ARGUMENT,
    "not the gzip that they say",
    "the message says that it is gzip and is not",
);
pub(super) const PACKED_OTHERWISE: Refusal = Refusal::of_message(
    415,
    UNIMPLEMENTED,
    "compressed otherwise than with gzip",
    "send it plain or as gzip",
);
pub(super) const NO_TOKEN: Refusal = Refusal::of_message(
    401,
    UNAUTHENTICATED,
    "without the right token",
    "show the token of this source as Authorization: Bearer TOKEN",
);
pub(super) const BROWSER: Refusal = Refusal::of_message(
    403,
    PERMISSION_DENIED,
    "sent by a browser",
    "this address is for servers, not for pages in a browser",
);
pub(super) const NOT_POSTED: Refusal =
    Refusal::of_message(405, UNIMPLEMENTED, "no POST", "messages are sent with POST");
pub(super) const NO_CALL: Refusal = Refusal::of_message(
    400,
    INVALID_ARGUMENT,
    "no call of gRPC",
    "a call has exactly one message, with its length before it",
);
pub(super) const UNREAD: Refusal =
    Refusal::of_moment(503, "not read", "it could not be read now; send it again");

/// Nothing is received at this path.
pub(crate) const fn not_here(text: &'static str) -> Refusal {
    Refusal::of_message(404, UNIMPLEMENTED, "sent to another path", text)
}

/// The path is right, the media type is not.
pub(crate) const fn other_media(text: &'static str) -> Refusal {
    Refusal::of_message(415, UNIMPLEMENTED, "of another media type", text)
}

/// The message is not in the format that it says.
pub(crate) const fn malformed(text: &'static str) -> Refusal {
    Refusal::of_message(400, INVALID_ARGUMENT, "malformed", text)
}
