//! `[[storage.s3]]`: what can be configured about a bucket.

use std::collections::BTreeMap;
use std::time::Duration;

use cms_spec::units::Fixed;
use cms_spec::{Category, Subject};
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use toml::de::ValueDeserializer;

use super::S3Collector;
use super::listing::{encoded, is_class};
use super::scan::CLASSES_MAX;
use crate::checked::{Between, Dollars, Every};
use crate::storage::exclude::{Pattern, patterns};
use crate::storage::unit;
use crate::web::{Address, Login, SecretPlace, Signing, Site, Tls};
use crate::{Collector, Host, OpenError, Registration, Settings};

/// How often a scan at work goes on, and the scheduler asks whether one is due.
pub(super) const TICK: Duration = Duration::from_secs(5);

/// How long a tick asks for pages; what is left of [`TICK`] is a rest.
pub(super) const WORK_OF_A_TICK: Duration = Duration::from_secs(4);

/// How long one page may take.
pub(super) const PAGE_WITHIN: Duration = Duration::from_secs(60);

/// The last page of a tick may begin when its work is nearly over.
const DEADLINE: Duration = Duration::from_secs(75);

/// The longest name of a bucket that any store gives.
const BUCKET_BYTES_MAX: usize = 255;

/// The longest label of a host name.
const LABEL_BYTES_MAX: usize = 63;

/// The longest prefix is the longest key.
const PREFIX_BYTES_MAX: usize = 1_024;

/// The region of a store that was given none.
const SIGNING_REGION: &str = "us-east-1";

/// Requests in a second unless the table says otherwise: ten thousand objects in a second at most.
const REQUESTS_PER_SECOND: u32 = 10;

/// A bucket as a source.
pub const REGISTRATION: Registration = Registration {
    id: "storage/s3",
    category: Category::DarkData,
    table: "storage.s3",
    repeated: true,
    sample: include_str!("sample.toml"),
    parse,
};

/// The table, checked.
#[derive(Clone, Debug)]
pub(super) struct Config {
    enabled: bool,
    pub(super) place: Place,
    pub(super) name: Subject,
    pub(super) region: Option<Subject>,
    pub(super) prices: Prices,
    pub(super) interval: Interval,
    pub(super) exclude: Vec<Pattern>,
    pub(super) is_split: bool,
    requests_per_second: Option<RequestsPerSecond>,
}

/// Where the bucket is, and what of it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) site: Site,
    pub(super) bucket: String,
    pub(super) prefix: String,
    style: Style,
}

/// What a decimal gigabyte costs in a month, by storage class.
#[derive(Clone, Debug, Default)]
pub(super) struct Prices {
    by_class: BTreeMap<String, Fixed<6>>,
    other: Option<Fixed<6>>,
}

/// Where the name of the bucket stands in an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Style {
    /// Behind the host, as every store takes it.
    #[default]
    Path,
    /// Before the host.
    Virtual,
}

/// What is reported by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Units {
    /// The bucket as a whole.
    #[default]
    Bucket,
    /// Each part of the keys up to their first slash.
    FirstLevel,
}

/// From ten seconds, for small buckets, to the specification's 24 hours.
type Interval = Every<10, 86_400>;

type RequestsPerSecond = Between<1, 1_000>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default = "enabled")]
    enabled: bool,
    url: Address,
    bucket: Bucket,
    #[serde(default, deserialize_with = "name")]
    name: Option<Subject>,
    #[serde(default)]
    style: Style,
    signing_region: Option<Region>,
    access_key_id: Option<SecretPlace>,
    secret_access_key: Option<SecretPlace>,
    session_token: Option<SecretPlace>,
    #[serde(default)]
    tls: Tls,
    #[serde(default)]
    prefix: Prefix,
    #[serde(default, deserialize_with = "patterns")]
    exclude: Vec<Pattern>,
    #[serde(default)]
    units: Units,
    region: Option<Subject>,
    usd_per_gb_month: Option<Dollars<6>>,
    #[serde(default)]
    price: Price,
    #[serde(default = "interval")]
    interval: Interval,
    requests_per_second: Option<RequestsPerSecond>,
}

const fn enabled() -> bool {
    true
}

const fn interval() -> Interval {
    Interval::seconds::<{ 6 * 3600 }>()
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Subject>, D::Error> {
    unit::name(deserializer).map(Some)
}

/// The name of a bucket.
#[derive(Debug)]
struct Bucket(String);

impl<'de> Deserialize<'de> for Bucket {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_right = (1..=BUCKET_BYTES_MAX).contains(&text.len())
            && text.bytes().all(is_of_name)
            && !text.starts_with('.');
        if is_right {
            return Ok(Self(text));
        }
        Err(D::Error::custom(format_args!(
            "{text:?} is not the name of a bucket: 1 to {BUCKET_BYTES_MAX} of a-z, A-Z, 0-9, '.', '_' and '-'"
        )))
    }
}

/// The region that a signature is for.
#[derive(Debug)]
struct Region(String);

impl<'de> Deserialize<'de> for Region {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if (1..=LABEL_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_of_name) {
            return Ok(Self(text));
        }
        Err(D::Error::custom(format_args!(
            "{text:?} is not the name of a region, such as \"us-east-1\""
        )))
    }
}

/// What all listed keys begin with.
#[derive(Debug, Default)]
struct Prefix(String);

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.len() > PREFIX_BYTES_MAX {
            return Err(D::Error::custom(format_args!(
                "a prefix has {PREFIX_BYTES_MAX} bytes at most"
            )));
        }
        if text.starts_with('/') {
            return Err(D::Error::custom(
                "keys do not begin with a slash: write the prefix as \"logs/\"",
            ));
        }
        Ok(Self(text))
    }
}

/// `price = { STANDARD = 0.02, GLACIER = 0.004 }`
#[derive(Debug, Default)]
struct Price(BTreeMap<String, Fixed<6>>);

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let prices = BTreeMap::<String, Dollars<6>>::deserialize(deserializer)?;
        if prices.len() > CLASSES_MAX {
            return Err(D::Error::custom(format_args!(
                "there are more than {CLASSES_MAX} storage classes"
            )));
        }
        if let Some(wrong) = prices.keys().find(|class| !is_class(class)) {
            return Err(D::Error::custom(format_args!(
                "{wrong:?} is not the name of a storage class, such as STANDARD"
            )));
        }
        let prices = prices.into_iter();
        Ok(Self(prices.map(|(class, usd)| (class, usd.0)).collect()))
    }
}

impl Prices {
    /// What a class costs, where that is known.
    pub(super) fn of(&self, class: &str) -> Option<Fixed<6>> {
        self.by_class.get(class).copied().or(self.other)
    }
}

impl Place {
    /// The path and query of a question.
    pub(super) fn path(&self, query: &str) -> String {
        match self.style {
            Style::Path => format!("/{}?{query}", encoded(self.bucket.as_bytes())),
            Style::Virtual => format!("/?{query}"),
        }
    }

    /// The bucket's address, for messages.
    pub(super) fn address(&self) -> String {
        match self.style {
            Style::Path => self.site.address().url(&format!("/{}", self.bucket)),
            Style::Virtual => self.site.address().to_string(),
        }
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Raw::deserialize(deserializer)?;
        Self::checked(raw).map_err(D::Error::custom)
    }
}

impl Config {
    fn checked(raw: Raw) -> Result<Self, String> {
        let login = login(
            raw.access_key_id,
            raw.secret_access_key,
            raw.session_token,
            raw.signing_region,
        )?;
        let Bucket(bucket) = raw.bucket;
        let address = match raw.style {
            Style::Path => raw.url,
            Style::Virtual => before_the_host(&raw.url, &bucket)?,
        };
        let site = Site::checked(address, raw.tls, login)?;
        let named = bucket
            .parse::<Subject>()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            enabled: raw.enabled,
            place: Place {
                site,
                bucket,
                prefix: raw.prefix.0,
                style: raw.style,
            },
            name: raw.name.unwrap_or(named),
            region: raw.region,
            prices: Prices {
                by_class: raw.price.0,
                other: raw.usd_per_gb_month.map(|usd| usd.0),
            },
            interval: raw.interval,
            exclude: raw.exclude,
            is_split: raw.units == Units::FirstLevel,
            requests_per_second: raw.requests_per_second,
        })
    }

    pub(super) fn requests_per_second(&self) -> u32 {
        self.requests_per_second
            .map_or(REQUESTS_PER_SECOND, Between::get)
    }
}

/// The keys of the table that belong together: both or none, and the token only with both.
fn login(
    id: Option<SecretPlace>,
    secret: Option<SecretPlace>,
    session_token: Option<SecretPlace>,
    region: Option<Region>,
) -> Result<Option<Login>, String> {
    let (access_key_id, secret_access_key) = match (id, secret) {
        (Some(id), Some(secret)) => (id, secret),
        (None, None) if session_token.is_none() && region.is_none() => return Ok(None),
        _ => {
            return Err(
                "`access_key_id` and `secret_access_key` go together, and `session_token` and \
                 `signing_region` with them; without any of them the bucket is listed without a signature"
                    .to_owned(),
            );
        }
    };
    Ok(Some(Login::Signed(Box::new(Signing {
        region: region.map_or_else(|| SIGNING_REGION.to_owned(), |region| region.0),
        service: "s3",
        access_key_id,
        secret_access_key,
        session_token,
    }))))
}

/// The address with the bucket before its host.
fn before_the_host(url: &Address, bucket: &str) -> Result<Address, String> {
    let host = url.authority();
    let is_number = host.starts_with('[')
        || host
            .split(':')
            .next()
            .is_some_and(|host| host.parse::<std::net::Ipv4Addr>().is_ok());
    if is_number {
        return Err(
            "style = \"virtual\" needs a host name: an address of numbers has no names before it"
                .to_owned(),
        );
    }
    let is_of_label =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    if bucket.len() > LABEL_BYTES_MAX || !bucket.bytes().all(is_of_label) {
        return Err(format!(
            "{bucket:?} cannot be part of a host name: use style = \"path\""
        ));
    }
    let scheme = if url.is_https() { "https" } else { "http" };
    format!("{scheme}://{bucket}.{host}{}", url.path()).parse()
}

fn parse(table: ValueDeserializer<'_>) -> Result<Box<dyn Settings>, toml::de::Error> {
    Ok(Box::new(Config::deserialize(table)?))
}

impl Settings for Config {
    fn name(&self) -> String {
        format!("{} {}", REGISTRATION.id, self.name)
    }

    fn enabled(&self) -> bool {
        self.enabled
    }

    fn open(&self, host: &Host) -> Result<Box<dyn Collector>, OpenError> {
        Ok(Box::new(S3Collector::open(self, host)?))
    }

    fn interval(&self) -> Duration {
        TICK
    }

    fn deadline(&self) -> Duration {
        DEADLINE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "access_key_id = { file = '/k/id' }\nsecret_access_key = { env = 'SECRET' }\n";

    fn config(text: &str) -> Result<Config, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_owned())
    }

    #[test]
    fn the_bucket_stands_behind_the_host_or_before_it() {
        let path = config(&format!(
            "url = 'https://s3.example:9000/x'\nbucket = 'b_1'\n{KEY}"
        ));
        let place = path.unwrap().place;
        assert_eq!(place.address(), "https://s3.example:9000/x/b_1");
        assert_eq!(place.path("q=1"), "/b_1?q=1");
        let before = "url = 'https://s3.example:9000'\nbucket = 'b.1'\nstyle = 'virtual'\n";
        let place = config(&format!("{before}{KEY}")).unwrap().place;
        assert_eq!(place.address(), "https://b.1.s3.example:9000");
        assert_eq!(place.path("q=1"), "/?q=1");
        for (url, bucket) in [
            ("https://10.0.0.1:9000", "b"),
            ("https://[::1]", "b"),
            ("https://s3.example", "b_1"),
            ("https://s3.example", "B"),
        ] {
            let text = format!("url = '{url}'\nbucket = '{bucket}'\nstyle = 'virtual'\n{KEY}");
            assert!(config(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (text, message) in [
            ("url = 'http://10.0.0.1'\nbucket = 'b'\n", "in the clear"),
            ("url = 'https://a'\nbucket = '..'\n", "name of a bucket"),
            ("url = 'https://a'\nbucket = 'a/b'\n", "name of a bucket"),
            (
                "url = 'https://a'\nbucket = 'b'\nname = 'x:dark'\n",
                ":dark",
            ),
            ("url = 'https://a'\nbucket = 'b'\nprefix = '/x'\n", "slash"),
            (
                "url = 'https://a'\nbucket = 'b'\nprice = { STANDARD = -1 }\n",
                "negative",
            ),
            (
                "url = 'https://a'\nbucket = 'b'\nprice = { 'a b' = 1 }\n",
                "storage class",
            ),
            (
                "url = 'https://a'\nbucket = 'b'\nsigning_region = 'a b'\n",
                "region",
            ),
        ] {
            let refused = config(&format!("{text}{KEY}")).unwrap_err();
            assert!(refused.contains(message), "{text}: {refused}");
        }
        for (text, message) in [
            ("access_key_id = { env = 'A' }", "go together"),
            ("session_token = { env = 'T' }", "go together"),
            ("secret_access_key = 's3cret'", "does not stand in"),
        ] {
            let refused = config(&format!("url = 'https://a'\nbucket = 'b'\n{text}")).unwrap_err();
            assert!(
                refused.contains(message) && !refused.contains("s3cret"),
                "{refused}"
            );
        }
        assert!(config("url = 'http://10.0.0.1'\nbucket = 'public'").is_ok());
    }

    #[test]
    fn a_class_without_a_price_of_its_own_costs_what_the_others_do() {
        let text = format!(
            "url = 'https://a'\nbucket = 'b'\nusd_per_gb_month = 0.02\nprice = {{ GLACIER = 0.004 }}\n{KEY}"
        );
        let prices = config(&text).unwrap().prices;
        let raw = |class: &str| prices.of(class).map(Fixed::raw);
        assert_eq!(
            (raw("GLACIER"), raw("STANDARD")),
            (Some(4_000), Some(20_000))
        );
    }
}
