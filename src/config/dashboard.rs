//! Where submissions go and who the agent is there: endpoint, key, certificates.
//!
//! Promises: https only; the key is never in the configuration itself. Refuses: any option that weakens the
//! verification of the dashboard's certificate.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use reqwest::Url;
use toml::Spanned;

use super::checks::{Checker, Fault, absolute, shown_path};
use super::reference::{self, SecretKey};
use super::resolved::Origin;
use super::secret::SecretSource;
use super::tree::Node;
use super::{raw, tree};

/// The public dashboard.
const ENDPOINT: &str = "https://dashboard.carbonmirror.org/api/v1";

/// The API key, and how its place is written.
const API_KEY: SecretKey = SecretKey {
    path: "dashboard.api_key",
    example: "api_key = { file = \"/etc/cms-telemetry-agent/api.key\" }, or { credential = \"api-key\" }, \
     or { env = \"CMS_API_KEY\" }",
    may_be_variable: true,
};

/// The key that stands by.
const API_KEY_NEXT: SecretKey = SecretKey {
    path: "dashboard.api_key_next",
    ..API_KEY
};

/// The dashboard, as this agent reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dashboard {
    /// Its address.
    pub endpoint: Endpoint,
    /// Where the API key is.
    pub api_key: SecretSource,
    /// Where the one that will replace it is, while both are known to the dashboard.
    pub api_key_next: Option<SecretSource>,
    /// Authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The agent's own certificate, where the dashboard asks for one.
    pub client_identity: Option<ClientIdentity>,
}

/// A certificate and its key, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate, and those between it and the root.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// An https address without user, query and fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    authority: String,
    prefix: String,
}

impl Endpoint {
    /// Host, and port unless it is 443: what a signature covers as `@authority`.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The path of a resource below the endpoint: what a signature covers as `@path`.
    #[must_use]
    pub fn path(&self, resource: &str) -> String {
        format!("{}/{}", self.prefix, resource.trim_start_matches('/'))
    }

    /// The whole address of a resource below the endpoint.
    #[must_use]
    pub fn url(&self, resource: &str) -> String {
        format!("https://{}{}", self.authority, self.path(resource))
    }

    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let url = Url::parse(text).map_err(|error| {
            Fault::new(format!("this is no address: {error}"))
                .help(format!("write: endpoint = \"{ENDPOINT}\""))
        })?;
        let refuse = |message: &str| Err(Fault::new(message));
        if url.scheme() != "https" {
            return Err(Fault::new("only https is possible").help(
                "submissions travel over TLS 1.3 and nothing else: specification, section VI.B",
            ));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("an address holds no user and no password");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return refuse("an address holds no query and no fragment");
        }
        let host = url.host_str().unwrap_or_default();
        Ok(Self {
            authority: match url.port() {
                Some(port) => format!("{host}:{port}"),
                None => host.to_owned(),
            },
            prefix: url.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}{}", self.authority, self.prefix)
    }
}

/// Checks `[dashboard]` and the keys that were taken out of it.
pub(super) fn check(
    check: &mut Checker<'_>,
    raw: raw::Dashboard,
    (api_key, api_key_next): (Option<Node<'_>>, Option<Node<'_>>),
    span: Range<usize>,
) -> Option<Dashboard> {
    let endpoint = endpoint(check, raw.endpoint);
    let api_key = match api_key {
        Some(node) => reference::check(check, &API_KEY, &node),
        None => {
            check.missing(API_KEY.path, span, API_KEY.example);
            None
        }
    };
    if api_key_next.is_none() {
        check.note(API_KEY_NEXT.path, None, Origin::default());
    }
    let api_key_next = api_key_next.map(|node| reference::check(check, &API_KEY_NEXT, &node));
    let mut path = |key: &str, raw: Option<Spanned<String>>| {
        if raw.is_none() {
            check.note(key, None, Origin::default());
        }
        check.optional(key, raw, absolute, shown_path)
    };
    let ca_file = path("dashboard.ca_file", raw.ca_file);
    let cert_span = raw.client_cert_file.as_ref().map(Spanned::span);
    let key_span = raw.client_key_file.as_ref().map(Spanned::span);
    let cert_file = path("dashboard.client_cert_file", raw.client_cert_file);
    let key_file = path("dashboard.client_key_file", raw.client_key_file);
    match (cert_span, key_span) {
        (Some(given), None) => {
            let example = "client_key_file = \"/etc/cms-telemetry-agent/client.key\"";
            check.missing("dashboard.client_key_file", given, example);
        }
        (None, Some(given)) => {
            let example = "client_cert_file = \"/etc/cms-telemetry-agent/client.pem\"";
            check.missing("dashboard.client_cert_file", given, example);
        }
        _ => {}
    }
    let identity = cert_file.zip(key_file);
    Some(Dashboard {
        endpoint: endpoint?,
        api_key: api_key?,
        // One that is there and wrong has its problem; the configuration is refused with it.
        api_key_next: api_key_next.flatten(),
        ca_file,
        client_identity: identity.map(|(cert_file, key_file)| ClientIdentity {
            cert_file,
            key_file,
        }),
    })
}

fn endpoint(check: &mut Checker<'_>, raw: Option<Spanned<String>>) -> Option<Endpoint> {
    let key = "dashboard.endpoint";
    if raw.is_none() {
        check.note(key, Some(tree::string(ENDPOINT)), Origin::default());
        return Endpoint::parse(ENDPOINT).ok();
    }
    let parse = |text: String| Endpoint::parse(&text);
    check.optional(key, raw, parse, |e| tree::string(&e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_authority_and_prefix() {
        let endpoint = Endpoint::parse("https://Dash.Example:443/api/v1/").unwrap();
        assert_eq!(endpoint.authority(), "dash.example");
        assert_eq!(
            endpoint.path("/telemetry/dark-data"),
            "/api/v1/telemetry/dark-data"
        );
        assert_eq!(endpoint.to_string(), "https://dash.example/api/v1");
        let local = Endpoint::parse("https://[::1]:8443").unwrap();
        assert_eq!(local.url("status"), "https://[::1]:8443/status");
    }

    #[test]
    fn anything_but_plain_https_is_refused() {
        for wrong in [
            "",
            "dash.example",
            "http://dash.example",
            "https://u@dash.example",
            "https://:p@dash.example",
            "https://dash.example/?a=1",
            "https://dash.example/#a",
            "https://",
        ] {
            assert!(Endpoint::parse(wrong).is_err(), "{wrong}");
        }
    }
}
