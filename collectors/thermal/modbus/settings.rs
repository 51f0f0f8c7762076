//! What the configuration says about devices and the points on them, checked.
//!
//! Promises: what is wrong is refused with what to write in its place; a point that is taken can be asked for.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::checked::Between;
use crate::web::Tls;

use super::decode::{Order, Type};
use super::endpoint::Endpoint;
use super::line::Manner;
use super::plan::Limits;
use super::register::{Kind, Numbering, Span};
use super::words::{Host, Millis, Parsed, UnitNumber, Word};

/// A reply of a meter takes a few tens of milliseconds; one second is what others wait too.
const TIMEOUT: Millis<20, 30_000> = Millis(1_000);

/// A device that answers on any number listens to this one, most often.
const UNIT: u8 = 1;

/// A named device: `[[thermal.modbus]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Named {
    pub(crate) name: String,
    url: Option<Parsed<Endpoint>>,
    host: Option<Parsed<Host>>,
    unit: Option<UnitNumber>,
    order: Option<Parsed<Order>>,
    one_based: Option<bool>,
    paper: Option<bool>,
    timeout: Option<Millis<20, 30_000>>,
    pause: Option<Millis<0, 10_000>>,
    max_registers: Option<Between<1, 125>>,
    max_bits: Option<Between<1, 2_000>>,
    max_gap: Option<Between<0, 124>>,
    tls: Option<Tls>,
}

/// The table of a point: `modbus = { … }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    pub(crate) device: Option<String>,
    url: Option<Parsed<Endpoint>>,
    host: Option<Parsed<Host>>,
    unit: Option<UnitNumber>,
    coil: Option<i64>,
    discrete: Option<i64>,
    holding: Option<i64>,
    input: Option<i64>,
    #[serde(rename = "type")]
    means: Option<Parsed<Word>>,
    bit: Option<Between<0, 15>>,
    width: Option<Between<1, 16>>,
    order: Option<Parsed<Order>>,
    one_based: Option<bool>,
    paper: Option<bool>,
    timeout: Option<Millis<20, 30_000>>,
    pause: Option<Millis<0, 10_000>>,
    tls: Option<Tls>,
}

/// A value on a device, and all that is needed to ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) endpoint: Endpoint,
    pub(crate) tls: Option<Tls>,
    pub(crate) unit: u8,
    pub(crate) span: Span,
    pub(crate) means: Type,
    pub(crate) order: Order,
    pub(crate) manner: Manner,
    pub(crate) limits: Limits,
}

impl Point {
    /// Joins a point with the device that it names, or with what itself says about one.
    ///
    /// # Errors
    /// In words, with the next step.
    pub(crate) fn join(written: &Written, named: Option<&Named>) -> Result<Self, String> {
        let own = [
            ("url", written.url.is_some()),
            ("host", written.host.is_some()),
            ("tls", written.tls.is_some()),
            ("timeout", written.timeout.is_some()),
            ("pause", written.pause.is_some()),
        ];
        if let (Some(named), Some((key, _))) = (named, own.iter().find(|(_, is_there)| *is_there)) {
            return Err(format!(
                "`{key}` belongs to the device: write it into [[thermal.modbus]] {:?}, or leave `device` out",
                named.name
            ));
        }
        let (url, host) = match named {
            Some(named) => (&named.url, &named.host),
            None => (&written.url, &written.host),
        };
        let endpoint = match (url, host) {
            (Some(Parsed(endpoint)), None) | (None, Some(Parsed(Host(endpoint)))) => {
                endpoint.clone()
            }
            (None, None) => {
                return Err(
                    "the device is missing: give `host` (Modbus/TCP), `url` (any way), or `device` with the name of a \
                     [[thermal.modbus]]"
                        .to_owned(),
                );
            }
            (Some(_), Some(_)) => {
                return Err("`host` and `url` say the same: give one of them".to_owned());
            }
        };
        let tls = named.map_or(&written.tls, |named| &named.tls).clone();
        if tls.is_some() && !endpoint.is_tls() {
            return Err("`tls` needs a url that begins with \"tcp+tls://\"".to_owned());
        }
        let unit = written.unit.or(named.and_then(|named| named.unit));
        let unit = unit.map_or(UNIT, |unit| unit.0);
        if unit == 0 && endpoint.is_rtu() {
            return Err(
                "unit 0 is everybody and nobody answers for it: a device on RTU has 1 to 247"
                    .to_owned(),
            );
        }
        let limits = named.map_or_else(Limits::default, Named::limits);
        let (kind, address) = written.register()?;
        let numbering = numbering(
            written
                .one_based
                .or(named.and_then(|named| named.one_based)),
            written.paper.or(named.and_then(|named| named.paper)),
        )?;
        let means = written.means(kind)?;
        let registers = means.registers();
        if !kind.is_bit() && registers > limits.registers_max {
            return Err(format!(
                "a {} has {registers} registers and `max_registers` is {}: a value is read by one request",
                means.word(),
                limits.registers_max
            ));
        }
        let first = numbering
            .address(kind, address)
            .map_err(|error| error.to_string())?;
        let span = Span::new(kind, first, registers).map_err(|error| error.to_string())?;
        let order = written
            .order
            .as_ref()
            .or(named.and_then(|named| named.order.as_ref()));
        let millis = |own: Option<Duration>, of_device: Option<Duration>| own.or(of_device);
        let manner = Manner {
            timeout: millis(
                written.timeout.map(Millis::duration),
                named.and_then(|named| named.timeout).map(Millis::duration),
            )
            .unwrap_or(TIMEOUT.duration()),
            pause: millis(
                written.pause.map(Millis::duration),
                named.and_then(|named| named.pause).map(Millis::duration),
            )
            .unwrap_or_default(),
        };
        Ok(Self {
            endpoint,
            tls,
            unit,
            span,
            means,
            order: order.map(|order| order.0).unwrap_or_default(),
            manner,
            limits,
        })
    }

    /// What the point is reached over.
    pub(crate) fn connection(&self) -> String {
        match self.tls.as_ref().and_then(|tls| tls.ca_file.as_ref()) {
            Some(file) => format!("{} ({})", self.endpoint, file.display()),
            None => self.endpoint.to_string(),
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            endpoint,
            unit,
            span,
            means,
            ..
        } = self;
        let (kind, first) = (span.kind(), span.first());
        write!(f, "{endpoint} unit {unit} {kind} {first} {}", means.word())?;
        if means.registers() > 1 {
            write!(f, " {}", self.order)?;
        }
        Ok(())
    }
}

impl Named {
    fn limits(&self) -> Limits {
        let or = |own: Option<u32>, default: u16| {
            own.and_then(|own| u16::try_from(own).ok())
                .unwrap_or(default)
        };
        let default = Limits::default();
        Limits {
            registers_max: or(self.max_registers.map(Between::get), default.registers_max),
            bits_max: or(self.max_bits.map(Between::get), default.bits_max),
            gap_max: or(self.max_gap.map(Between::get), default.gap_max),
        }
    }
}

impl Written {
    /// The kind of register, and the address as it is written.
    fn register(&self) -> Result<(Kind, i64), String> {
        let of_kind = |kind| match kind {
            Kind::Coil => self.coil,
            Kind::Discrete => self.discrete,
            Kind::Holding => self.holding,
            Kind::Input => self.input,
        };
        let mut found = Kind::ALL
            .into_iter()
            .filter_map(|kind| Some((kind, of_kind(kind)?)));
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one),
            (None, _) => Err(
                "the address is missing: give one of `holding`, `input`, `coil` and `discrete`, for example `input = 4`"
                    .to_owned(),
            ),
            (Some((one, _)), Some((other, _))) => {
                Err(format!("a value stands in one place: give `{one}` or `{other}`"))
            }
        }
    }

    fn means(&self, kind: Kind) -> Result<Type, String> {
        let word = self.means.as_ref().map(|word| word.0);
        let of_bits = self.bit.is_some() || self.width.is_some();
        if of_bits && word != Some(Word::Bits) {
            return Err("`bit` and `width` belong to `type = \"bits\"`".to_owned());
        }
        if kind.is_bit() {
            return match word {
                None | Some(Word::Plain(Type::Bool)) => Ok(Type::Bool),
                Some(_) => Err(format!(
                    "a {kind} is a single bit: leave `type` out, or read a `holding` or `input` register"
                )),
            };
        }
        match word {
            Some(Word::Plain(Type::Bool)) => Err(format!(
                "a {kind} register has 16 bits: write `type = \"bits\", bit = 0` for one of them"
            )),
            Some(Word::Plain(plain)) => Ok(plain),
            Some(Word::Bits) => {
                let narrow = |number: Option<u32>, or: u8| {
                    number.and_then(|n| u8::try_from(n).ok()).unwrap_or(or)
                };
                let first = narrow(self.bit.map(Between::get), 0);
                let width = narrow(self.width.map(Between::get), 1);
                if first + width > 16 {
                    return Err(format!(
                        "{width} bits from bit {first} on end beyond bit 15"
                    ));
                }
                Ok(Type::Bits { first, width })
            }
            None => Err(format!(
                "`type` is missing: {}, as the device's list says",
                Word::LIST
            )),
        }
    }
}

fn numbering(one_based: Option<bool>, paper: Option<bool>) -> Result<Numbering, String> {
    match (one_based.unwrap_or(false), paper.unwrap_or(false)) {
        (false, false) => Ok(Numbering::ZeroBased),
        (true, false) => Ok(Numbering::OneBased),
        (false, true) => Ok(Numbering::Paper),
        (true, true) => {
            Err("paper addresses count from one already: leave `one_based` out".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named() -> Named {
        toml::from_str("name = 'm'\nurl = 'rtu:///dev/ttyS0'\nunit = 5\norder = 'CDAB'\npaper = true\nmax_registers = 2")
            .unwrap()
    }

    fn point(text: &str, named: Option<&Named>) -> Result<Point, String> {
        let written: Written = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        Point::join(&written, named)
    }

    fn of_host(text: &str) -> Result<Point, String> {
        point(&format!("host = '10.0.0.7'\n{text}"), None)
    }

    #[test]
    fn a_point_says_itself_or_its_device_does() {
        let point =
            of_host("unit = 3\ninput = 4\ntype = 'float32'\norder = 'CDAB'\ntimeout = '500ms'")
                .unwrap();
        assert_eq!(
            point.to_string(),
            "tcp://10.0.0.7:502 unit 3 input 4 float32 CDAB"
        );
        assert_eq!(point.manner.timeout, Duration::from_millis(500));
        let on_device = self::point(
            "device = 'm'\nholding = 40108\ntype = 'uint32'",
            Some(&named()),
        )
        .unwrap();
        assert_eq!(
            on_device.to_string(),
            "rtu:///dev/ttyS0?baud=9600 unit 5 holding 107 uint32 CDAB"
        );
        let other = self::point("device = 'm'\nunit = 6\ncoil = 1", Some(&named())).unwrap();
        assert_eq!(
            other.to_string(),
            "rtu:///dev/ttyS0?baud=9600 unit 6 coil 0 bool"
        );
        assert_eq!(other.connection(), on_device.connection());
        assert_eq!(of_host("coil = 3").unwrap().unit, 1);
        let bits = of_host("input = 3\ntype = 'bits'\nbit = 4\nwidth = 12").unwrap();
        assert_eq!(
            bits.means,
            Type::Bits {
                first: 4,
                width: 12
            }
        );
    }

    #[test]
    fn what_is_wrong_says_what_to_write() {
        for (text, words) in [
            (
                "holding = 65536\ntype = 'int16'",
                "if the list counts from one, say `one_based = true`",
            ),
            (
                "holding = 400108\ntype = 'int16'",
                "say `paper = true`, or write `holding = 107`",
            ),
            (
                "holding = 65535\ntype = 'float64'",
                "the value begins too late",
            ),
            ("holding = 1", "`type` is missing: int16"),
            ("holding = 1\ntype = 'float'", "did you mean \"float32\"?"),
            ("holding = 1\ntype = 'FLOAT32'", "did you mean \"float32\"?"),
            ("holding = 1\ntype = 'dword'", "did you mean \"uint32\"?"),
            (
                "holding = 1\ntype = 'complex'",
                "\"complex\" is no type; there are int16",
            ),
            (
                "holding = 1\ntype = 'string'",
                "a point is a number and no text",
            ),
            (
                "holding = 1\ntype = 'float32'\norder = 'little'",
                "is no order of bytes: it is \"ABCD\"",
            ),
            (
                "holding = 1\ntype = 'bool'",
                "write `type = \"bits\", bit = 0`",
            ),
            (
                "coil = 1\ntype = 'float32'",
                "a coil is a single bit: leave `type` out",
            ),
            (
                "coil = 1\ninput = 1",
                "a value stands in one place: give `coil` or `input`",
            ),
            ("type = 'int16'", "the address is missing"),
            (
                "holding = 1\ntype = 'int16'\nbit = 1",
                "belong to `type = \"bits\"`",
            ),
            (
                "holding = 1\ntype = 'bits'\nbit = 15\nwidth = 2",
                "end beyond bit 15",
            ),
            ("unit = 256\nholding = 1\ntype = 'int16'", "256 is no unit"),
            (
                "holding = 1\ntype = 'int16'\none_based = true\npaper = true",
                "leave `one_based` out",
            ),
            (
                "holding = 1\ntype = 'int16'\ntimeout = '5m'",
                "outside the allowed 20ms to 30000ms",
            ),
            (
                "holding = 1\ntype = 'int16'\ntimeout = 'soon'",
                "write it as \"500ms\"",
            ),
            (
                "holding = 1\ntype = 'int16'\nurl = 'tcp://a'",
                "`host` and `url` say the same",
            ),
            (
                "holding = 1\ntype = 'int16'\ntls = {}",
                "needs a url that begins with \"tcp+tls://\"",
            ),
        ] {
            let error = of_host(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        let on_device = |text: &str| point(text, Some(&named())).unwrap_err();
        assert!(
            on_device("holding = 40001\ntype = 'int64'")
                .contains("has 4 registers and `max_registers` is 2")
        );
        assert!(
            on_device("holding = 40001\ntype = 'int16'\npause = '1s'")
                .contains("`pause` belongs to the device")
        );
        assert!(
            on_device("holding = 40001\ntype = 'int16'\nunit = 0")
                .contains("a device on RTU has 1 to 247")
        );
        assert!(
            point("input = 4\ntype = 'int16'", None)
                .unwrap_err()
                .contains("the device is missing")
        );
        assert!(
            point("host = 'tcp://a'\ninput = 4", None)
                .unwrap_err()
                .contains("is a url: write `url =")
        );
    }
}
