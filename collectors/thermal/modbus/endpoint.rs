//! Where a device is reached: an address that says the framing and the way.
//!
//! Promises: what is printed is read again as the same. Refuses: an address without its scheme, because RTU and TCP
//! frames cannot be told apart by a port.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The port of Modbus/TCP.
const PORT: u16 = 502;

/// The port of Modbus/TCP over TLS.
const TLS_PORT: u16 = 802;

const FORMS: &str = "write \"tcp://HOST:502\", \"tcp+tls://HOST:802\", \"rtu+tcp://HOST:PORT\" or \
                     \"rtu:///dev/ttyUSB0?baud=9600\"";

/// The way to one or more devices.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// Modbus/TCP.
    Tcp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
        /// Whether it is spoken over TLS.
        is_tls: bool,
    },
    /// Frames of RTU over TCP, as simple gateways pass them on.
    RtuOverTcp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
    },
    /// RTU on a serial line.
    Serial(Serial),
}

/// A serial line and its settings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial {
    /// The device file.
    pub path: PathBuf,
    /// Bits a second.
    pub baud: u32,
    /// Data bits, 7 or 8.
    pub data_bits: u8,
    /// The parity bit.
    pub parity: Parity,
    /// Stop bits, 1 or 2.
    pub stop_bits: u8,
}

/// The parity bit of a serial line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Parity {
    /// There is none.
    None,
    /// Even, the protocol's own default.
    Even,
    /// Odd.
    Odd,
}

impl Endpoint {
    /// Whether requests and replies belong together only by their order.
    #[must_use]
    pub const fn is_rtu(&self) -> bool {
        !matches!(self, Self::Tcp { .. })
    }

    /// Whether it is spoken over TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        matches!(self, Self::Tcp { is_tls: true, .. })
    }
}

impl Parity {
    const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Even => "even",
            Self::Odd => "odd",
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = match self {
            Self::Tcp {
                host,
                port,
                is_tls: false,
            } => ("tcp", host, port),
            Self::Tcp {
                host,
                port,
                is_tls: true,
            } => ("tcp+tls", host, port),
            Self::RtuOverTcp { host, port } => ("rtu+tcp", host, port),
            Self::Serial(serial) => return write!(f, "{serial}"),
        };
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rtu://{}?baud={}", self.path.display(), self.baud)?;
        if self.data_bits != 8 {
            write!(f, "&data={}", self.data_bits)?;
        }
        if self.parity != Parity::None {
            write!(f, "&parity={}", self.parity.word())?;
        }
        if self.stop_bits != 1 {
            write!(f, "&stop={}", self.stop_bits)?;
        }
        Ok(())
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("{text:?} says no way to the device: {FORMS}"));
        };
        match scheme {
            "tcp" => network(text, rest, PORT).map(|(host, port)| Self::Tcp {
                host,
                port,
                is_tls: false,
            }),
            "tcp+tls" => network(text, rest, TLS_PORT).map(|(host, port)| Self::Tcp {
                host,
                port,
                is_tls: true,
            }),
            "rtu+tcp" => {
                network(text, rest, PORT).map(|(host, port)| Self::RtuOverTcp { host, port })
            }
            "rtu" => serial(text, rest).map(Self::Serial),
            _ => Err(format!("{text:?} begins with no known way: {FORMS}")),
        }
    }
}

fn network(text: &str, rest: &str, port: u16) -> Result<(String, u16), String> {
    let wrong = || format!("{text:?} is no HOST:PORT: {FORMS}");
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, digits) = match rest.strip_prefix('[') {
        Some(inside) => {
            let (host, behind) = inside.split_once(']').ok_or_else(wrong)?;
            let digits = behind.strip_prefix(':');
            if digits.is_none() && !behind.is_empty() {
                return Err(wrong());
            }
            (host, digits)
        }
        None => match rest.split_once(':') {
            Some((host, digits)) => (host, Some(digits)),
            None => (rest, None),
        },
    };
    let is_of_host =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if host.is_empty() || !host.chars().all(is_of_host) {
        return Err(wrong());
    }
    let port = match digits {
        None => port,
        Some(digits) => digits
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(wrong)?,
    };
    Ok((host.to_owned(), port))
}

fn serial(text: &str, rest: &str) -> Result<Serial, String> {
    let (path, settings) = rest.split_once('?').unwrap_or((rest, ""));
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(format!(
            "{text:?} names no device file: write \"rtu:///dev/ttyUSB0?baud=9600\", with three slashes"
        ));
    }
    let mut serial = Serial {
        path: path.into(),
        baud: 9_600,
        data_bits: 8,
        parity: Parity::None,
        stop_bits: 1,
    };
    for setting in settings.split('&').filter(|setting| !setting.is_empty()) {
        let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
        let known = match key {
            "baud" => value
                .parse()
                .ok()
                .filter(|baud| (300..=4_000_000).contains(baud))
                .map(|baud| serial.baud = baud),
            "data" => digit(value, &[7, 8]).map(|bits| serial.data_bits = bits),
            "stop" => digit(value, &[1, 2]).map(|bits| serial.stop_bits = bits),
            "parity" => [Parity::None, Parity::Even, Parity::Odd]
                .into_iter()
                .find(|parity| parity.word() == value)
                .map(|parity| serial.parity = parity),
            _ => None,
        };
        if known.is_none() {
            return Err(format!(
                "{setting:?} is no setting of a serial line: baud=9600, data=8, parity=none|even|odd, stop=1"
            ));
        }
    }
    Ok(serial)
}

fn digit(value: &str, allowed: &[u8]) -> Option<u8> {
    value.parse().ok().filter(|digit| allowed.contains(digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_again() {
        for (text, printed) in [
            ("tcp://10.0.0.7", "tcp://10.0.0.7:502"),
            ("tcp://meter-1.example:1502/", "tcp://meter-1.example:1502"),
            ("tcp://[fe80::1]", "tcp://[fe80::1]:502"),
            ("tcp+tls://meter", "tcp+tls://meter:802"),
            ("rtu+tcp://gateway:4001", "rtu+tcp://gateway:4001"),
            ("rtu:///dev/ttyUSB0", "rtu:///dev/ttyUSB0?baud=9600"),
            (
                "rtu:///dev/serial/by-id/x?parity=even&baud=19200&stop=2&data=7",
                "rtu:///dev/serial/by-id/x?baud=19200&data=7&parity=even&stop=2",
            ),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), printed);
            assert_eq!(printed.parse(), Ok(endpoint));
        }
    }

    #[test]
    fn what_is_no_way_says_how_to_write_one() {
        for (text, words) in [
            (
                "10.0.0.7:502",
                "says no way to the device: write \"tcp://HOST:502\"",
            ),
            ("udp://10.0.0.7", "begins with no known way"),
            ("tcp://", "is no HOST:PORT"),
            ("tcp://a:0", "is no HOST:PORT"),
            ("tcp://a:65536", "is no HOST:PORT"),
            ("tcp://a/b", "is no HOST:PORT"),
            ("tcp://[::1", "is no HOST:PORT"),
            ("tcp://[::1]x", "is no HOST:PORT"),
            ("rtu://dev/ttyUSB0", "with three slashes"),
            (
                "rtu:///dev/ttyUSB0?baud=1",
                "\"baud=1\" is no setting of a serial line",
            ),
            (
                "rtu:///dev/ttyUSB0?speed=9600",
                "\"speed=9600\" is no setting",
            ),
            ("rtu:///dev/ttyUSB0?parity=E", "parity=none|even|odd"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
