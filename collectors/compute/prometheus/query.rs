//! One question to the query API, and its answer row by row.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::answer::{Row, Shell, Taker};
use crate::CollectError;
use crate::web::{Body, Request, Server, malformed};

/// Longest answer: 20,000 instances with long labels have 10 MB.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What the server has beyond its own limit to say that it was late.
const GRACE: Duration = Duration::from_secs(5);

const PATH: &str = "/api/v1/query";

/// Asks one server.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) server: Arc<dyn Server>,
    /// The address of the query API.
    pub(super) url: String,
    pub(super) timeout: Duration,
    pub(super) tenant: Option<String>,
}

/// What a server said besides the rows.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Warnings, and that the answer is partial.
    pub(super) remarks: Vec<String>,
    /// The server's clock.
    pub(super) date: Option<Timestamp>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum QueryError {
    /// Other questions have no better chance.
    #[error("the server cannot be asked")]
    Hopeless(#[from] CollectError),
    /// This one was too much for the server; others may not be.
    #[error("{0}")]
    TooMuch(String),
}

impl Client {
    pub(super) fn new(server: Arc<dyn Server>, base: &str, timeout: Duration) -> Self {
        Self {
            server,
            url: format!("{base}{PATH}"),
            timeout,
            tenant: None,
        }
    }

    /// Asks for the values of an expression at a time.
    pub(super) async fn ask(
        &self,
        expression: &str,
        at: Timestamp,
        on_row: &mut (dyn FnMut(Row) + Send),
    ) -> Result<Said, QueryError> {
        let form = format!(
            "query={}&time={}.{:03}&timeout={}s",
            encoded(expression),
            at.as_second(),
            at.subsec_millisecond(),
            self.timeout.as_secs()
        );
        let tenant = self
            .tenant
            .as_deref()
            .map(|tenant| ("x-scope-orgid", tenant));
        let headers: Vec<(&str, &str)> = std::iter::once(("accept", "application/json"))
            .chain(tenant)
            .collect();
        let request = Request {
            path: PATH,
            body: Some(Body {
                content_type: "application/x-www-form-urlencoded",
                bytes: form.as_bytes(),
            }),
            headers: &headers,
            within: self.timeout.saturating_add(GRACE),
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        let mut taker = Taker::default();
        let mut on_piece = |piece: &[u8]| {
            let taken = taker.take(piece, &mut |row| on_row(row));
            taken.map_err(|why| malformed(&self.url, &why))
        };
        let answer = match self.server.ask(&request, &mut on_piece).await {
            Ok(answer) => answer,
            Err(CollectError::Timeout { after, .. }) => {
                return Err(QueryError::TooMuch(format!("no answer within {after:?}")));
            }
            Err(error) => return Err(error.into()),
        };
        let date = answer.header("date").and_then(|date| {
            jiff::fmt::rfc2822::DateTimeParser::new()
                .parse_timestamp(date)
                .ok()
        });
        if !answer.is_good() {
            return Err(self.refused(&answer, expression));
        }
        let shell = taker.finish().map_err(|why| malformed(&self.url, &why))?;
        if let Some(refusal) = shell.refusal() {
            return Err(malformed(&self.url, &refusal).into());
        }
        Ok(Said {
            remarks: shell.remarks().collect(),
            date,
        })
    }

    fn refused(&self, answer: &crate::web::Answer, expression: &str) -> QueryError {
        let told = Shell::read(&answer.refusal).and_then(|shell| shell.refusal());
        match (answer.status, told) {
            (400, Some(told)) => {
                let why = format!("it refuses the expression {expression}: {told}");
                malformed(&self.url, &why).into()
            }
            (422 | 429 | 500..=599, told) => {
                let told = told.unwrap_or_else(|| answer.reason());
                QueryError::TooMuch(format!("HTTP {}: {told}", answer.status))
            }
            _ => match answer.require_good(&self.url) {
                Err(error) => error.into(),
                Ok(()) => QueryError::TooMuch("no answer".to_owned()),
            },
        }
    }
}

/// Texts as one regular expression that matches each of them and nothing else, in a PromQL text.
pub(super) fn any_of<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut pattern = String::new();
    for (at, text) in texts.enumerate() {
        if at > 0 {
            pattern.push('|');
        }
        for character in text.chars() {
            match character {
                // One backslash for the expression, another one for the text that it stands in.
                '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$' => {
                    pattern.push_str("\\\\");
                    pattern.push(character);
                }
                '\\' => pattern.push_str("\\\\\\\\"),
                '"' => pattern.push_str("\\\""),
                '\n' => pattern.push_str("\\n"),
                other => pattern.push(other),
            }
        }
    }
    pattern
}

/// A value of a form.
fn encoded(text: &str) -> String {
    let mut form = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            form.push(char::from(byte));
        } else {
            // Writing to a text cannot fail.
            let _ = write!(form, "%{byte:02X}");
        }
    }
    form
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_expressions_are_quoted() {
        assert_eq!(encoded("a b&=é\"+"), "a%20b%26%3D%C3%A9%22%2B");
        let names = ["10.0.0.7:9100", "a|b", "c\\d", "e\"f", "[::1]"];
        assert_eq!(
            any_of(names.into_iter()),
            r#"10\\.0\\.0\\.7:9100|a\\|b|c\\\\d|e\"f|\\[::1\\]"#
        );
    }
}
