//! What BACnet/IP looks like on the wire.
//!
//! Owns: reading what devices send, and writing the few questions that we ask. Frames and requests are
//! written by the codecs of bacnet-rs; what devices answer is read here, because those codecs panic on
//! integers longer than eight bytes, read text in one character set only, and take a value of several
//! parts for none. Promises: no bytes panic, nothing is read past its end, and nesting, length and number
//! are bounded. Refuses: sockets, time, and every service that changes a device: there is no code here
//! that could write one.

mod answers;
mod frame;
mod object;
mod reasons;
mod requests;
mod segments;
mod tags;
mod value;

pub use answers::{
    Announcement, Answer, Notification, Refusal, announcement, notification, properties, property,
};
pub use frame::{Frame, Heard, Peer, Reach, Remote, broadcast, hear, register, unicast};
pub use object::{INSTANCE_MAX, Kind, ObjectId};
pub use reasons::{abort_words, refusal_words, reject_words};
pub use requests::{Property, Service, cov, properties_of, property_of, who_is};
pub use segments::{Assembly, Step};
pub use tags::{Element, Elements, Tag};
pub use value::{Bits, Value};

/// Bytes that are no BACnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They end in the middle of something.
    #[error("the message ends too early")]
    Short,
    /// A length that its type cannot have.
    #[error("a value has a length that its type cannot have")]
    Length,
    /// Another tag than the one that must stand there.
    #[error("another tag stands where one is due")]
    Tag,
    /// Values within values within values.
    #[error("values are nested too deeply")]
    Depth,
    /// More than a reply can sensibly hold.
    #[error("it holds more than we take")]
    Many,
    /// A service or a message that we do not know.
    #[error("it is of a kind that we do not read")]
    Unknown,
}
