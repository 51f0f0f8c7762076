//! Frames: what a datagram carries, where it comes from and where it goes to.
//!
//! A device is told apart by the address of its datagrams and, behind a router, by its network and its
//! address there.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use bacnet_rs::app::Apdu;
use bacnet_rs::network::{NetworkAddress, NetworkMessageType, Npdu};

use super::Malformed;

/// First byte of every datagram.
const BACNET_IP: u8 = 0x81;
/// Functions of the virtual link layer.
const RESULT: u8 = 0x00;
const FORWARDED: u8 = 0x04;
const REGISTER: u8 = 0x05;
const DISTRIBUTE: u8 = 0x09;
const UNICAST: u8 = 0x0A;
const BROADCAST: u8 = 0x0B;

/// Everybody, wherever they are.
const ALL_NETWORKS: u16 = 0xFFFF;

/// The longest address of a device on any kind of network.
pub(super) const MAC_BYTES_MAX: usize = 18;

/// A device that can be spoken to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Where its datagrams go: its own address, or its router's.
    pub address: SocketAddrV4,
    /// Its place behind that router.
    pub remote: Option<Remote>,
}

/// A place on another network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Remote {
    /// The network's number.
    pub network: u16,
    /// The device's address there.
    pub mac: Vec<u8>,
}

/// How far a broadcast goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To the local network, and where its routers pass it on.
    Local,
    /// To the broadcast device where we are registered, which passes it on.
    Distributed,
}

/// A datagram that was received.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Who said it.
    pub from: Peer,
    /// What it says.
    pub frame: Frame,
}

/// What a datagram says.
#[derive(Clone, Debug)]
pub enum Frame {
    /// The broadcast device's answer to a registration or a broadcast; zero is well.
    Result(u16),
    /// A message of the application layer.
    Apdu(Apdu),
    /// A router does not reach a network.
    Unreachable {
        /// The network's number.
        network: u16,
        /// Why, by its number in the standard.
        reason: u8,
    },
    /// What routers tell each other.
    Routing,
}

impl Peer {
    /// A device with an address of its own.
    #[must_use]
    pub const fn at(address: SocketAddrV4) -> Self {
        Self {
            address,
            remote: None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.remote {
            None => write!(f, "{}", self.address),
            Some(remote) => {
                write!(
                    f,
                    "{} on network {} behind {}",
                    Mac(&remote.mac),
                    remote.network,
                    self.address
                )
            }
        }
    }
}

/// An address on another network, as people write it: a number where it is one byte.
struct Mac<'a>(&'a [u8]);

impl fmt::Display for Mac<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [station] = self.0 {
            return write!(f, "station {station}");
        }
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A message to one device.
#[must_use]
pub fn unicast(peer: &Peer, expects_reply: bool, apdu: &Apdu) -> Vec<u8> {
    let mut npdu = Npdu::new();
    npdu.control.expecting_reply = expects_reply;
    if let Some(remote) = &peer.remote {
        npdu.set_destination(NetworkAddress::new(remote.network, remote.mac.clone()));
        npdu.hop_count = Some(u8::MAX);
    }
    framed(UNICAST, &[npdu.encode(), apdu.encode()].concat())
}

/// A message to everybody.
#[must_use]
pub fn broadcast(reach: Reach, apdu: &Apdu) -> Vec<u8> {
    let function = match reach {
        Reach::Local => BROADCAST,
        Reach::Distributed => DISTRIBUTE,
    };
    let npdu = Npdu::global_broadcast().encode();
    framed(function, &[npdu, apdu.encode()].concat())
}

/// The request to be told of broadcasts for so many seconds.
#[must_use]
pub fn register(seconds: u16) -> Vec<u8> {
    framed(REGISTER, &seconds.to_be_bytes())
}

/// Reads a datagram.
///
/// # Errors
/// When it is none of BACnet/IP, or not for us.
pub fn hear(bytes: &[u8], from: SocketAddrV4) -> Result<Heard, Malformed> {
    let &[kind, function, high, low, ref rest @ ..] = bytes else {
        return Err(Malformed::Short);
    };
    if kind != BACNET_IP {
        return Err(Malformed::Unknown);
    }
    if usize::from(u16::from_be_bytes([high, low])) != bytes.len() {
        return Err(Malformed::Length);
    }
    match function {
        RESULT => {
            let code: [u8; 2] = rest.try_into().map_err(|_| Malformed::Length)?;
            Ok(Heard {
                from: Peer::at(from),
                frame: Frame::Result(u16::from_be_bytes(code)),
            })
        }
        UNICAST | BROADCAST => message(rest, from),
        FORWARDED => {
            let &[a, b, c, d, high, low, ref rest @ ..] = rest else {
                return Err(Malformed::Short);
            };
            let port = u16::from_be_bytes([high, low]);
            message(rest, SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port))
        }
        _ => Err(Malformed::Unknown),
    }
}

fn message(bytes: &[u8], from: SocketAddrV4) -> Result<Heard, Malformed> {
    let (npdu, taken) = Npdu::decode(bytes).map_err(|_| Malformed::Short)?;
    let rest = bytes.get(taken..).unwrap_or_default();
    if npdu
        .destination
        .is_some_and(|to| to.network != ALL_NETWORKS)
    {
        return Err(Malformed::Unknown);
    }
    let remote = npdu.source.map(|source| Remote {
        network: source.network,
        mac: source.address,
    });
    if remote
        .as_ref()
        .is_some_and(|remote| remote.mac.is_empty() || remote.mac.len() > MAC_BYTES_MAX)
    {
        return Err(Malformed::Length);
    }
    let frame = if npdu.control.network_message {
        routing(rest)?
    } else {
        Frame::Apdu(Apdu::decode(rest).map_err(|_| Malformed::Unknown)?)
    };
    Ok(Heard {
        from: Peer {
            address: from,
            remote,
        },
        frame,
    })
}

fn routing(bytes: &[u8]) -> Result<Frame, Malformed> {
    const REJECT: u8 = NetworkMessageType::RejectMessageToNetwork as u8;
    match bytes {
        [REJECT, reason, high, low, ..] => Ok(Frame::Unreachable {
            network: u16::from_be_bytes([*high, *low]),
            reason: *reason,
        }),
        [REJECT, ..] | [] => Err(Malformed::Short),
        _ => Ok(Frame::Routing),
    }
}

fn framed(function: u8, content: &[u8]) -> Vec<u8> {
    // What we send is at most one request, which is shorter than a datagram.
    let length = u16::try_from(content.len() + 4).unwrap_or(u16::MAX);
    let mut bytes = vec![BACNET_IP, function];
    bytes.extend(length.to_be_bytes());
    bytes.extend(content);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 7), 47808);

    fn ack() -> Apdu {
        Apdu::SimpleAck {
            invoke_id: 9,
            service_choice: 5,
        }
    }

    #[test]
    fn what_is_sent_through_a_router_says_where_to() {
        let peer = Peer {
            address: FROM,
            remote: Some(Remote {
                network: 2001,
                mac: vec![12],
            }),
        };
        let bytes = unicast(&peer, true, &ack());
        assert_eq!(
            bytes,
            [
                0x81, 0x0A, 0, 14, 1, 0x24, 0x07, 0xD1, 1, 12, 255, 0x20, 9, 5
            ]
        );
        assert_eq!(
            peer.to_string(),
            "station 12 on network 2001 behind 10.0.0.7:47808"
        );
        assert_eq!(hear(&bytes, FROM).unwrap_err(), Malformed::Unknown);
    }

    #[test]
    fn what_comes_through_routers_says_where_from() {
        let bytes = [
            0x81, 0x04, 0, 19, 192, 168, 1, 9, 0xBA, 0xC0, 1, 0x08, 0x07, 0xD1, 1, 12, 0x20, 9, 5,
        ];
        let heard = hear(&bytes, FROM).unwrap();
        assert_eq!(heard.from.address.to_string(), "192.168.1.9:47808");
        assert_eq!(heard.from.remote.unwrap().network, 2001);
        assert!(matches!(
            heard.frame,
            Frame::Apdu(Apdu::SimpleAck { invoke_id: 9, .. })
        ));
    }

    #[test]
    fn broadcasts_results_and_refusing_routers_are_read() {
        let heard = hear(&broadcast(Reach::Local, &ack()), FROM).unwrap();
        assert_eq!(heard.from, Peer::at(FROM));
        assert_eq!(broadcast(Reach::Distributed, &ack())[1], 0x09);
        assert_eq!(register(600), [0x81, 5, 0, 6, 2, 88]);
        let refused = hear(&[0x81, 0, 0, 6, 0, 0x30], FROM).unwrap();
        assert!(matches!(refused.frame, Frame::Result(0x30)));
        let lost = [0x81, 0x0A, 0, 10, 1, 0x80, 3, 1, 0x07, 0xD1];
        assert!(matches!(
            hear(&lost, FROM).unwrap().frame,
            Frame::Unreachable {
                network: 2001,
                reason: 1
            }
        ));
    }

    #[test]
    fn datagrams_of_others_are_refused() {
        for bytes in [
            &[][..],
            &[0x81, 0x0A, 0],
            &[0x80, 0x0A, 0, 6, 1, 0],
            &[0x81, 0x0A, 0, 7, 1, 0],
            &[0x81, 0x0A, 0, 6, 2, 0],
            &[0x81, 0x0C, 0, 6, 1, 0],
            &[0x81, 0x0A, 0, 6, 1, 0],
            &[0x81, 0x04, 0, 8, 1, 2, 3, 4],
            &[0x81, 0x0A, 0, 10, 1, 0x08, 7, 0xD1, 0, 0x20],
        ] {
            assert!(hear(bytes, FROM).is_err(), "{bytes:?}");
        }
    }
}
