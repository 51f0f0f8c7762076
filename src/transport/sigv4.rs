//! Signatures over requests in Amazon's scheme (SigV4), which object stores ask for.
//!
//! Owns: the canonical form of a request and what is computed from it. Promises: host, date and every header that
//! it is given are signed, and the body's digest; nothing of the secret is in the result. Refuses: a clock, the
//! date is one of the headers; bodies signed in pieces.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign as hmac};
use reqwest::Url;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The header that carries the moment of signing, as `20130524T000000Z`.
const DATE: &str = "x-amz-date";

/// The header that object stores want the body's digest in.
const CONTENT: &str = "x-amz-content-sha256";

/// The header that a key of limited life is shown with.
const TOKEN: &str = "x-amz-security-token";

/// Object stores take the path as it stands; all other services sign it encoded once more.
const OBJECT_STORE: &str = "s3";

/// Who signs, and for what.
pub(super) struct Signer<'a> {
    pub(super) access_key_id: &'a str,
    pub(super) secret_access_key: &'a str,
    pub(super) session_token: Option<&'a str>,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

/// What is signed.
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    pub(super) url: &'a Url,
    /// All headers but the host that the signature shall cover, the date among them.
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: &'a [u8],
}

/// The request carries no date that a signature could be of.
#[derive(Debug, thiserror::Error)]
#[error("the request carries no {DATE} of the form 20130524T000000Z")]
pub(super) struct NoDate;

impl Signer<'_> {
    /// The headers to add to a request.
    pub(super) fn sign(&self, request: &Signed<'_>) -> Result<Vec<(&'static str, String)>, NoDate> {
        let content = hex(digest(&SHA256, request.body).as_ref());
        let mut added: Vec<(&'static str, String)> = Vec::new();
        if self.service == OBJECT_STORE {
            added.push((CONTENT, content.clone()));
        }
        if let Some(token) = self.session_token {
            added.push((TOKEN, token.to_owned()));
        }
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        headers.insert("host".to_owned(), host(request.url));
        let given = request.headers.iter().copied();
        for (name, value) in given.chain(added.iter().map(|(name, value)| (*name, value.as_str())))
        {
            let words: Vec<&str> = value.split_whitespace().collect();
            headers.insert(name.to_ascii_lowercase(), words.join(" "));
        }
        let date = headers.get(DATE).cloned().ok_or(NoDate)?;
        let day = date.get(..8).filter(|_| date.len() == 16).ok_or(NoDate)?;
        let names: Vec<&str> = headers.keys().map(String::as_str).collect();
        let names = names.join(";");
        let lines: String = headers.iter().map(|(n, v)| format!("{n}:{v}\n")).collect();
        let canonical = format!(
            "{}\n{}\n{}\n{lines}\n{names}\n{content}",
            request.method,
            self.path(request.url),
            query(request.url),
        );
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let text = format!(
            "{ALGORITHM}\n{date}\n{scope}\n{}",
            hex(digest(&SHA256, canonical.as_bytes()).as_ref())
        );
        let signature = hex(&self.keyed(day, text.as_bytes()));
        let authorization = format!(
            "{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            self.access_key_id
        );
        added.push(("authorization", authorization));
        Ok(added)
    }

    fn keyed(&self, day: &str, text: &[u8]) -> Vec<u8> {
        let first = format!("AWS4{}", self.secret_access_key).into_bytes();
        let parts = [day, self.region, self.service, "aws4_request"];
        let last = parts.iter().fold(first, |key, part| {
            let tag = hmac(&Key::new(HMAC_SHA256, &key), part.as_bytes());
            tag.as_ref().to_vec()
        });
        hmac(&Key::new(HMAC_SHA256, &last), text).as_ref().to_vec()
    }

    fn path(&self, url: &Url) -> String {
        let parts = url.path().split('/').map(|part| {
            let once = encoded(&decoded(part));
            if self.service == OBJECT_STORE {
                once
            } else {
                encoded(once.as_bytes())
            }
        });
        parts.collect::<Vec<String>>().join("/")
    }
}

/// Host and port as the request says them: no port where it is the scheme's own.
fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The pairs of the query in the order of their names.
fn query(url: &Url) -> String {
    let text = url.query().unwrap_or_default();
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<(String, String)> = pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (encoded(&decoded(name)), encoded(&decoded(value)))
        })
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
    pairs.join("&")
}

/// Everything but letters, digits and `-_.~` as `%` and two digits.
fn encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let code = after
            .get(..2)
            .filter(|_| *byte == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(code.unwrap_or(*byte));
        rest = if code.is_some() {
            after.get(2..).unwrap_or_default()
        } else {
            after
        };
    }
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    //! The examples that Amazon publishes with the scheme, for object stores and for other services.

    use super::*;

    const OBJECTS: Signer<'_> = Signer {
        access_key_id: "AKIAIOSFODNN7EXAMPLE",
        secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        session_token: None,
        region: "us-east-1",
        service: "s3",
    };

    const OTHERS: Signer<'_> = Signer {
        access_key_id: "AKIDEXAMPLE",
        secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        service: "service",
        ..OBJECTS
    };

    fn signed(
        signer: &Signer<'_>,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
    ) -> Vec<(&'static str, String)> {
        let request = Signed {
            method,
            url: &url.parse().unwrap(),
            headers,
            body: b"",
        };
        signer.sign(&request).unwrap()
    }

    fn signature(signer: &Signer<'_>, method: &str, url: &str, headers: &[(&str, &str)]) -> String {
        let added = signed(signer, method, url, headers);
        let (_, authorization) = added.last().unwrap();
        authorization.rsplit('=').next().unwrap().to_owned()
    }

    #[test]
    fn requests_to_an_object_store() {
        let date = (DATE, "20130524T000000Z");
        let host = "https://examplebucket.s3.amazonaws.com";
        for (path, headers, expected) in [
            (
                "/test.txt",
                &[("Range", "bytes=0-9"), date][..],
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            ),
            (
                "/?lifecycle",
                &[date],
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            ),
            (
                "/?max-keys=2&prefix=J",
                &[date],
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        ] {
            let found = signature(&OBJECTS, "GET", &format!("{host}{path}"), headers);
            assert_eq!(found, expected, "{path}");
        }
        let added = signed(&OBJECTS, "GET", &format!("{host}/?lifecycle"), &[date]);
        assert_eq!(
            added[0],
            (
                CONTENT,
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".to_owned()
            )
        );
        assert_eq!(
            added[1].1.rsplit_once(", Signature=").unwrap().0,
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
             SignedHeaders=host;x-amz-content-sha256;x-amz-date"
        );
    }

    #[test]
    fn requests_to_other_services() {
        let date = (DATE, "20150830T123600Z");
        let host = "https://example.amazonaws.com";
        for (method, path, expected) in [
            (
                "GET",
                "/",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "GET",
                "/?Param2=value2&Param1=value1",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "POST",
                "/",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
        ] {
            let found = signature(&OTHERS, method, &format!("{host}{path}"), &[date]);
            assert_eq!(found, expected, "{method} {path}");
        }
        let users = Signer {
            service: "iam",
            ..OTHERS
        };
        let form = (
            "Content-Type",
            "application/x-www-form-urlencoded;  charset=utf-8",
        );
        let url = "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08";
        assert_eq!(
            signature(&users, "GET", url, &[form, date]),
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }

    #[test]
    fn a_token_is_shown_and_signed() {
        let limited = Signer {
            session_token: Some("token"),
            ..OBJECTS
        };
        let added = signed(
            &limited,
            "GET",
            "http://127.0.0.1:9000/b",
            &[(DATE, "20130524T000000Z")],
        );
        assert!(added.contains(&(TOKEN, "token".to_owned())));
        let (_, authorization) = added.last().unwrap();
        assert!(authorization.contains("x-amz-date;x-amz-security-token,"));
    }

    #[test]
    fn the_canonical_form_does_not_depend_on_what_the_url_leaves_as_it_stands() {
        let url: Url = "https://h:443/a(b)%2fc%C3%A4?x=a/b%20c%2B(d)&a"
            .parse()
            .unwrap();
        assert_eq!(host(&url), "h");
        assert_eq!(OBJECTS.path(&url), "/a%28b%29%2Fc%C3%A4");
        assert_eq!(OTHERS.path(&url), "/a%2528b%2529%252Fc%25C3%25A4");
        assert_eq!(query(&url), "a=&x=a%2Fb%20c%2B%28d%29");
        let ported: Url = "http://[::1]:9000/".parse().unwrap();
        assert_eq!(host(&ported), "[::1]:9000");
    }

    #[test]
    fn without_a_date_nothing_is_signed() {
        for date in [None, Some((DATE, "2013-05-24"))] {
            let headers: Vec<(&str, &str)> = date.into_iter().collect();
            let request = Signed {
                method: "GET",
                url: &"https://h/".parse().unwrap(),
                headers: &headers,
                body: b"",
            };
            assert!(OBJECTS.sign(&request).is_err());
        }
    }
}
