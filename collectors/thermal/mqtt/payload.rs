//! What a message says: a number alone, or one inside of JSON.
//!
//! Promises: a payload that is something else is told in words and never guessed at.

use cms_spec::decimal::Decimal;
use jiff::Timestamp;
use serde_json::Value;

use super::super::device::PointError;
use super::super::document::{self, Select};

/// Where in a payload the value is, and the time that it was measured at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Nothing where the payload is the number.
    pub value: Option<Select>,
    /// Nothing where the message does not say when.
    pub time: Option<Select>,
}

/// A number, and when it was measured if the message says so.
pub type Said = (Decimal, Option<Timestamp>);

impl Places {
    /// Reads a payload.
    ///
    /// # Errors
    /// In words.
    pub fn read(&self, payload: &[u8]) -> Result<Said, String> {
        read(payload, self).map_err(|error| error.to_string())
    }
}

/// Reads a payload.
pub(super) fn read(payload: &[u8], places: &Places) -> Result<Said, PointError> {
    let wrong = |why: String| PointError::Malformed(format!("the payload {why}"));
    let text = std::str::from_utf8(payload)
        .map_err(|_| wrong("is not text".to_owned()))?
        .trim();
    let Some(place) = &places.value else {
        return match document::number(text) {
            Ok(number) => Ok((number, None)),
            Err(PointError::Bad(why)) => Err(PointError::Bad(format!("the payload {why}"))),
            Err(error) if text.starts_with(['{', '[']) => Err(wrong(format!(
                "{error}; it looks like JSON: say where the number is with `json`"
            ))),
            Err(error) => Err(wrong(error.to_string())),
        };
    };
    let document: Value =
        serde_json::from_str(text).map_err(|error| wrong(format!("is no JSON: {error}")))?;
    let number = document::value(&document, place)?;
    let time = match &places.time {
        None => None,
        Some(place) => Some(document::moment(&document, place)?),
    };
    Ok((number, time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn places(value: Option<&str>, time: Option<&str>) -> Places {
        let select = |text: &str| Select::parse(text).unwrap();
        Places {
            value: value.map(select),
            time: time.map(select),
        }
    }

    fn said(payload: &str, value: Option<&str>, time: Option<&str>) -> Result<String, String> {
        match read(payload.as_bytes(), &places(value, time)) {
            Ok((number, None)) => Ok(number.to_string()),
            Ok((number, Some(at))) => Ok(format!("{number} at {at}")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn numbers_and_where_they_are() {
        let json = r#"{"v": 24.6, "s": "8.5", "a": [1, {"x~y": 2e3}], "t": 1732216800}"#;
        assert_eq!(said(" 8123.5\n", None, None), Ok("8123.5".to_owned()));
        assert_eq!(said(json, Some("/v"), None), Ok("24.6".to_owned()));
        assert_eq!(said(json, Some("$.s"), None), Ok("8.5".to_owned()));
        assert_eq!(said(json, Some("/a/1/x~0y"), None), Ok("2000".to_owned()));
        let at = "24.6 at 2024-11-21T19:20:00Z".to_owned();
        assert_eq!(said(json, Some("/v"), Some("/t")), Ok(at.clone()));
        let milli = json.replace("1732216800", "1732216800000");
        assert_eq!(said(&milli, Some("/v"), Some("/t")), Ok(at.clone()));
        let text = json.replace("1732216800", r#""2024-11-21T20:20:00+01:00""#);
        assert_eq!(said(&text, Some("/v"), Some("/t")), Ok(at));
    }

    #[test]
    fn what_is_no_number_is_told() {
        let cases = [
            (
                "online",
                None,
                None,
                "the payload is \"online\": this is not a number",
            ),
            ("NaN", None, None, "the payload is NaN"),
            ("{\"v\": 1}", None, None, "with `json`"),
            ("{\"v\": 1", Some("/v"), None, "is no JSON"),
            ("{\"v\": 1}", Some("/w"), None, "/w"),
            ("{\"v\": null}", Some("/v"), None, "/v is null"),
            ("{\"v\": true}", Some("/v"), None, "not a number"),
            (
                "{\"v\": 1, \"t\": \"noon\"}",
                Some("/v"),
                Some("/t"),
                "no time",
            ),
        ];
        for (payload, value, time, expected) in cases {
            let told = said(payload, value, time).unwrap_err();
            assert!(told.contains(expected), "{payload}: {told}");
        }
        assert!(read(&[0xff, 0xfe], &Places::default()).is_err());
    }

    proptest! {
        #[test]
        fn no_payload_panics(payload: Vec<u8>, place in "/([a-z0-9~]{0,3}/){0,3}") {
            drop(read(&payload, &places(None, None)));
            drop(read(&payload, &places(Some(&place), Some(&place))));
        }
    }
}
