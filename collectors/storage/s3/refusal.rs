//! Why an object store refuses a listing, in words that help.

use std::io;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use quick_xml::Reader;
use quick_xml::events::Event;

use super::settings::Place;
use crate::CollectError;
use crate::web::{Answer, denied, malformed, unreachable};

/// Longest part of a refusal that is told.
const TOLD_CHARACTERS_MAX: usize = 200;

/// What the body of a refusal says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    code: String,
    message: String,
    /// Where the bucket is, or in which region.
    endpoint: String,
    region: String,
}

/// The refusal as an error, in words; nothing where the answer is good.
pub(super) fn judge(place: &Place, answer: &Answer, at: Timestamp) -> Result<(), CollectError> {
    if answer.is_good() {
        return Ok(());
    }
    let url = place.address();
    let said = Said::read(&answer.refusal);
    let told = |said: &Said| {
        let words = format!("{}: {}", said.code, said.message);
        let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
        line.chars()
            .filter(|c| !c.is_control())
            .take(TOLD_CHARACTERS_MAX)
            .collect::<String>()
    };
    let deny = |hint: &str| {
        let source = io::Error::new(io::ErrorKind::PermissionDenied, told(&said));
        Err(denied(&url, hint, source))
    };
    let bucket = &place.bucket;
    match said.code.as_str() {
        "AccessDenied" | "AllAccessDisabled" => {
            let prefix = if place.prefix.is_empty() {
                String::new()
            } else {
                format!(" for the prefix {:?}", place.prefix)
            };
            deny(&format!(
                "allow this key s3:ListBucket on arn:aws:s3:::{bucket}{prefix}"
            ))
        }
        "InvalidAccessKeyId" => deny(
            "the store does not know this key: check access_key_id, and that it is of this store and enabled",
        ),
        "SignatureDoesNotMatch" => deny(
            "secret_access_key is not the one that belongs to access_key_id, or a proxy before the store changes \
             the host or path",
        ),
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => {
            deny("the key of limited life has run out: renew it together with session_token")
        }
        "AuthorizationHeaderMalformed" | "InvalidRegion" => {
            let region = if said.region.is_empty() {
                "the one of the store".to_owned()
            } else {
                format!("{:?}", said.region)
            };
            deny(&format!("set signing_region to {region}"))
        }
        "RequestTimeTooSkewed" | "RequestExpired" => deny(&skew(answer, at)),
        "NoSuchBucket" => Err(CollectError::Vanished {
            what: format!(
                "{url} ({}; check bucket, and style: \"virtual\" puts the bucket before the host, \"path\" behind it)",
                told(&said)
            ),
        }),
        "PermanentRedirect" | "TemporaryRedirect" | "Redirect" => Err(malformed(
            &url,
            &format!(
                "the bucket is elsewhere: put {} into url",
                if said.endpoint.is_empty() {
                    "its endpoint".to_owned()
                } else {
                    format!("{:?}", clean(&said.endpoint))
                }
            ),
        )),
        "SlowDown"
        | "TooManyRequests"
        | "RequestLimitExceeded"
        | "ServiceUnavailable"
        | "Throttling" => Err(unreachable(
            &url,
            format!(
                "{}; the scan goes on from the same page later; a smaller requests_per_second helps",
                told(&said)
            ),
        )),
        "NotImplemented" | "MethodNotAllowed" => Err(malformed(
            &url,
            &format!("{}; the store knows no ListObjectsV2", told(&said)),
        )),
        "" => answer.require_good(&url),
        _ if answer.status >= 500 => Err(unreachable(
            &url,
            format!("{}; its own log says why", told(&said)),
        )),
        _ => Err(malformed(
            &url,
            &format!("HTTP {}, {}", answer.status, told(&said)),
        )),
    }
}

/// Whether the place where the listing goes on is not known to the store any more.
pub(super) fn is_stale_token(answer: &Answer) -> bool {
    let code = Said::read(&answer.refusal).code;
    answer.status == 400
        && matches!(
            code.as_str(),
            "InvalidArgument" | "InvalidContinuationToken"
        )
}

fn skew(answer: &Answer, at: Timestamp) -> String {
    let date = answer
        .header("date")
        .and_then(|text| DateTimeParser::new().parse_zoned(text).ok());
    let apart = date.map_or(String::new(), |date| {
        let seconds = date.timestamp().as_second() - at.as_second();
        format!(" by {seconds} s")
    });
    format!(
        "the store's clock and this host's differ{apart}, more than the 15 minutes that signatures allow: put the wrong one right"
    )
}

fn clean(text: &str) -> String {
    let shown = text.chars().filter(|c| !c.is_control());
    shown.take(TOLD_CHARACTERS_MAX).collect()
}

impl Said {
    /// Reads the elements of `<Error>` as far as they make sense.
    fn read(refusal: &[u8]) -> Self {
        let mut said = Self::default();
        let mut reader = Reader::from_reader(refusal);
        let mut path: Vec<Vec<u8>> = Vec::new();
        while let Ok(event) = reader.read_event() {
            match event {
                Event::Start(tag) if path.len() < 4 => {
                    path.push(tag.local_name().as_ref().to_vec())
                }
                Event::End(_) => {
                    path.pop();
                }
                Event::Text(text) => {
                    if let ([root, name], Ok(text)) = (path.as_slice(), text.decode())
                        && root == b"Error"
                        && let Some(field) = said.field(name)
                    {
                        field.push_str(&text);
                    }
                }
                Event::Start(_) | Event::Eof => break,
                _ => {}
            }
        }
        said
    }

    fn field(&mut self, name: &[u8]) -> Option<&mut String> {
        Some(match name {
            b"Code" => &mut self.code,
            b"Message" => &mut self.message,
            b"Endpoint" => &mut self.endpoint,
            b"Region" => &mut self.region,
            _ => return None,
        })
    }
}
