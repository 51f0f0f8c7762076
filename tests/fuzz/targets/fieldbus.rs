//! What devices of building automation send.

use std::net::{Ipv4Addr, SocketAddrV4};

use cms_collectors::thermal::bacnet::wire::{
    Elements, Frame, INSTANCE_MAX, Value, announcement, hear, notification, properties, property,
};

const FROM: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 47808);

/// A datagram: what is heard comes from where it says, and its content is no worse than any other.
pub(super) fn bacnet(data: &[u8]) {
    let Ok(heard) = hear(data, FROM) else { return };
    assert!(!heard.from.to_string().is_empty());
    match heard.frame {
        Frame::Apdu(apdu) => {
            // It is written again in a form that is heard again.
            let again = cms_collectors::thermal::bacnet::wire::unicast(&heard.from, false, &apdu);
            assert!(again.len() >= 6);
        }
        Frame::Result(_) | Frame::Unreachable { .. } | Frame::Routing => {}
    }
}

/// The content of an answer, by each of its readers.
pub(super) fn bacnet_answers(data: &[u8]) {
    if let Ok(answer) = property(data) {
        numbers(&answer.outcome.unwrap_or_default());
    }
    for answer in properties(data).unwrap_or_default() {
        numbers(&answer.outcome.unwrap_or_default());
    }
    if let Ok(said) = announcement(data) {
        assert!(said.device <= INSTANCE_MAX + 1);
    }
    if let Ok(change) = notification(data) {
        assert!(change.values.len() <= data.len());
    }
    let mut elements = Elements::new(data);
    let mut read = 0;
    while !elements.is_empty() && elements.read().is_ok() {
        read += 1;
    }
    assert!(read <= data.len());
}

/// Whatever is read can be looked at.
fn numbers(values: &[Value]) {
    for value in values {
        assert!(
            value
                .number()
                .is_none_or(|number| number.is_nan() || number <= f64::MAX || number.is_infinite())
        );
    }
}
