//! A session with a server: what opens it, and what its answer says.
//!
//! Promises: the password is wiped as soon as it has been sent; a token is never printed; what the answer
//! names as the session's address is used within the server only.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cms_collectors::web::{Address, Answer};
use reqwest::header::HeaderValue;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use crate::config::Secret;
use crate::limits::LEAVE_WITHIN;

/// The header that carries a token.
pub(super) const TOKEN: &str = "x-auth-token";

/// A session as a server describes it takes some hundred bytes.
pub(super) const SESSION_BYTES_MAX: u64 = 64 * 1024;

/// How often it is looked whether all sessions have ended.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Sessions of this process that are open.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Waits until the sessions of sources that are gone have been ended, for a moment at most.
pub async fn all_left() {
    let ending = async {
        while OPEN.load(Ordering::Relaxed) > 0 {
            sleep(LOOK_AGAIN).await;
        }
    };
    drop(timeout(LEAVE_WITHIN, ending).await);
}

/// An open session.
#[derive(Debug)]
pub(super) struct Session {
    token: HeaderValue,
    path: Option<String>,
}

/// What a session is opened with.
pub(super) fn login(user: &str, password: &Secret) -> Zeroizing<Vec<u8>> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Login<'a> {
        user_name: &'a str,
        password: &'a str,
    }
    let login = Login {
        user_name: user,
        password: password.expose(),
    };
    // Two strings always make JSON.
    Zeroizing::new(serde_json::to_vec(&login).unwrap_or_default())
}

impl Session {
    /// Reads the answer to a login that was taken.
    pub(super) fn opened(
        server: &Address,
        answer: &Answer,
        body: &[u8],
    ) -> Result<Self, &'static str> {
        let token = answer
            .header(TOKEN)
            .and_then(|token| HeaderValue::from_str(token).ok());
        let mut token = token.ok_or(
            "the login was taken, but the answer has no X-Auth-Token: use login = \"basic\" with it",
        )?;
        token.set_sensitive(true);
        let named = answer.header("location").map(str::to_owned);
        let named = named.or_else(|| id(body));
        OPEN.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            token,
            path: named.and_then(|named| path_within(server, &named)),
        })
    }

    pub(super) fn token(&self) -> HeaderValue {
        self.token.clone()
    }

    /// Where it is ended, below the server's address.
    pub(super) fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

fn id(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Described {
        #[serde(rename = "@odata.id")]
        id: String,
    }
    let described: Described = serde_json::from_slice(body).ok()?;
    Some(described.id)
}

fn path_within(server: &Address, named: &str) -> Option<String> {
    let scheme = if server.is_https() { "https" } else { "http" };
    let origin = format!("{scheme}://{}", server.authority());
    let path = named.strip_prefix(&origin).unwrap_or(named);
    let path = path.strip_prefix(server.path()).unwrap_or(path);
    let is_path = path.starts_with('/')
        && !path.starts_with("//")
        && path.bytes().all(|b| b.is_ascii_graphic());
    is_path.then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(headers: &[(&str, &str)], body: &str) -> Result<Session, &'static str> {
        let server: Address = "https://bmc.example:8443".parse().unwrap();
        let answer = Answer {
            status: 201,
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            refusal: Vec::new(),
        };
        Session::opened(&server, &answer, body.as_bytes())
    }

    #[test]
    fn a_session_is_ended_within_its_server_only() {
        let path = "/redfish/v1/SessionService/Sessions/7";
        let body = format!(r#"{{"@odata.id": "{path}"}}"#);
        for (location, body, ended) in [
            (Some(path), "", Some(path)),
            (
                Some("https://bmc.example:8443/redfish/v1/SessionService/Sessions/7"),
                "",
                Some(path),
            ),
            (None, &*body, Some(path)),
            (
                Some("https://other.example/redfish/v1/SessionService/Sessions/7"),
                "",
                None,
            ),
            (Some("//other.example/x"), "", None),
            (None, "<html>", None),
        ] {
            let mut headers = vec![("x-auth-token", "t0ken")];
            headers.extend(location.map(|location| ("location", location)));
            let session = opened(&headers, body).unwrap();
            assert_eq!(session.path(), ended, "{location:?}");
            assert!(!format!("{session:?}").contains("t0ken"));
        }
    }

    #[test]
    fn a_login_without_a_token_is_none() {
        assert!(opened(&[], "{}").unwrap_err().contains("X-Auth-Token"));
    }
}
