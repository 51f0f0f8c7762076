//! Texts without addresses: what a source says about itself, as it may leave the host.
//!
//! Reasons and remarks travel in provenance. Whoever reads a payload learns what is wrong, and not how the network
//! inside is made: `status` has the whole text. Promises: no address of a configured source, no `scheme://` with what
//! it leads to and no number of an IP network is left. Refuses: to guess at bare names that nobody configured.

use std::net::{Ipv4Addr, Ipv6Addr};

/// What stands in the place of an address.
const HIDDEN: &str = "(address)";

/// The hosts of the sources that a text is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unaddressed {
    /// Lower case, without port and brackets.
    hosts: Vec<String>,
}

impl Unaddressed {
    /// Hosts may have a port, and brackets around an address of version 6.
    pub(crate) fn new<'a>(hosts: impl IntoIterator<Item = &'a str>) -> Self {
        let host = |host: &str| without_port(host).to_ascii_lowercase();
        Self {
            hosts: hosts.into_iter().map(host).collect(),
        }
    }

    /// The text with a word in the place of each address.
    pub(crate) fn hide(&self, text: &str) -> String {
        let mut told = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            let word = rest.split(|c: char| !is_of_word(c)).next().unwrap_or("");
            if word.is_empty() {
                told.push(character);
                rest = rest.get(character.len_utf8()..).unwrap_or_default();
                continue;
            }
            let behind = rest.get(word.len()..).unwrap_or_default();
            if let (Some(place), Some(before)) = (behind.strip_prefix("//"), before_scheme(word)) {
                // What it leads to ends where a path begins, or the words go on.
                let authority = |c: char| !is_of_word(c) && !matches!(c, '@' | '%' | '~');
                let end = place.find(authority).unwrap_or(place.len());
                told.push_str(before);
                told.push_str(HIDDEN);
                told.push_str(ending(place.get(..end).unwrap_or_default()));
                rest = place.get(end..).unwrap_or_default();
                continue;
            }
            let quotes = ['"', '\'', '`'];
            let is_quoted = told.ends_with(quotes) && behind.starts_with(quotes);
            let end = ending(word);
            let bare = word.strip_suffix(end).unwrap_or(word);
            if self.is_address(bare, is_quoted) {
                told.push_str(HIDDEN);
                told.push_str(end);
            } else {
                told.push_str(word);
            }
            rest = behind;
        }
        self.hosts
            .iter()
            .fold(told, |told, host| without(told, host))
    }

    fn is_address(&self, word: &str, is_quoted: bool) -> bool {
        let host = without_port(word);
        if is_ip(host) || is_ip(word) {
            return true;
        }
        // A short name may be any word.
        let is_plain = host.len() == word.len() && !host.contains('.') && !is_quoted;
        let is_same = |known: &String| known.eq_ignore_ascii_case(host);
        !is_plain && self.hosts.iter().any(is_same)
    }
}

/// Names, numbers and what joins them in an address.
fn is_of_word(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '.' | '-' | '_' | ':' | '[' | ']')
}

/// What stands before the scheme that a word ends with; nothing where it ends with none.
fn before_scheme(word: &str) -> Option<&str> {
    let name = word.strip_suffix(':')?;
    let is_of_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let before = name.trim_end_matches(is_of_scheme);
    (before.len() < name.len()).then_some(before)
}

/// The text without a host that is no plain word, however it is joined with what is around it.
fn without(text: String, host: &str) -> String {
    if !host.contains(['.', ':']) {
        return text;
    }
    let mut told = String::new();
    let mut from = 0;
    let lower = text.to_ascii_lowercase();
    for (at, _) in lower.match_indices(host) {
        let is_joined = |c: char| c.is_alphanumeric();
        let before = text.get(from..at).unwrap_or_default();
        let behind = text.get(at + host.len()..).unwrap_or_default();
        if before.ends_with(is_joined) || behind.starts_with(is_joined) {
            continue;
        }
        told.push_str(before);
        told.push_str(HIDDEN);
        from = at + host.len();
    }
    told.push_str(text.get(from..).unwrap_or_default());
    told
}

/// The stops that belong to the sentence and not to the word.
fn ending(word: &str) -> &str {
    let bare = word.trim_end_matches(['.', ':']);
    // An address of version 6 may end in two colons.
    let bare = if word.ends_with("::") && is_ip(word) {
        word
    } else {
        bare
    };
    word.get(bare.len()..).unwrap_or_default()
}

fn without_port(word: &str) -> &str {
    if let Some(six) = word.strip_prefix('[') {
        return six.split(']').next().unwrap_or_default();
    }
    match word.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') && is_port(port) => host,
        _ => word,
    }
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_ip(word: &str) -> bool {
    let is_six = |word: &str| word.len() > 2 && word.parse::<Ipv6Addr>().is_ok();
    word.parse::<Ipv4Addr>().is_ok() || is_six(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reasons_travel_without_addresses() {
        let hosts = [
            "bmc-17.example:8443",
            "pdu",
            "[fe80::1]:161",
            "10.9.8.7:9090",
        ];
        let known = Unaddressed::new(hosts);
        for (text, wanted) in [
            (
                "cannot reach https://bmc-17.example:8443/redfish/v1/: not valid for name \"bmc-17.example\"",
                "cannot reach (address)/redfish/v1/: not valid for name \"(address)\"",
            ),
            (
                "cannot reach http://10.9.8.7:9090: refused",
                "cannot reach (address): refused",
            ),
            (
                "it redirects to https://login.example/, and",
                "it redirects to (address)/, and",
            ),
            ("(https://user:word@h.example/x?y)", "((address)/x?y)"),
            (
                "feed 2 of 2, pdu:161, makes no sense",
                "feed 2 of 2, (address), makes no sense",
            ),
            ("a pdu is not \"pdu\"", "a pdu is not \"(address)\""),
            ("BMC-17.EXAMPLE. It", "(address). It"),
            ("store 192.0.2.7:10901: gone", "store (address): gone"),
            (
                "[fe80::1] and fe80::1 and ::1: away",
                "(address) and (address) and (address): away",
            ),
            ("[2001:db8::5]:161 is silent", "(address) is silent"),
        ] {
            assert_eq!(known.hide(text), wanted);
        }
    }

    #[test]
    fn what_is_no_address_stays() {
        let known = Unaddressed::new(["a", "pdu"]);
        for text in [
            "power supply 2 is enabled, but half of a sum is none",
            "1.3.6.1.4.1.318.1.1.26.9.4.3.1.7.7 is not there since 10:00:15 at 1.5 %",
            "PowerSubsystem: it says 47250.0 W, more than 130 % of nameplate_watts = 800: check a pdu",
            "/redfish/v1/Chassis/1/Power (HTTP 500: internal error); tls.ca_file :: [x] // y",
            "Grüße, 200 °C",
            "",
        ] {
            assert_eq!(known.hide(text), text);
        }
    }

    proptest! {
        #[test]
        fn nothing_configured_is_left(
            host in "[a-z][a-z0-9-]{0,8}\\.[a-z]{2,5}|10\\.[0-9]{1,2}\\.[0-9]{1,2}\\.[0-9]{1,2}|fe80::[a-f0-9]{1,4}",
            port in 1_u16..,
            before in "(.{0,20}[ (\"])?",
            after in "([ :,.)\"/].{0,20})?",
        ) {
            let known = Unaddressed::new([host.as_str()]);
            let at = if host.contains("::") { format!("[{host}]") } else { host.clone() };
            for address in [host.clone(), format!("{at}:{port}"), format!("http://{at}:{port}")] {
                let told = known.hide(&format!("{before}{address}{after}"));
                let there = before.matches(host.as_str()).count() + after.matches(host.as_str()).count();
                prop_assert!(told.matches(host.as_str()).count() <= there, "{}", told);
                prop_assert!(told.contains(HIDDEN), "{}", told);
            }
        }

        #[test]
        fn no_text_is_too_odd(text in any::<String>()) {
            let once = Unaddressed::new(["h.example"]).hide(&text);
            prop_assert_eq!(Unaddressed::new(["h.example"]).hide(&once), once.clone());
        }
    }
}
