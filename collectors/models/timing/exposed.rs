//! Lines of llama.cpp that show what people wrote, or announce that others will.

use memchr::memmem;

use crate::models::scan::Scan;

/// Within how many bytes a line of JSON says its level: after the function and two numbers.
const LEVEL_WITHIN: usize = 160;

/// Whether a line without prefix shows a prompt, or comes from a server that was told to show them.
pub(crate) fn shows_prompt(text: &[u8]) -> bool {
    match text.first() {
        Some(b's') => server(text).is_some() || slot(text).is_some(),
        Some(b'V') => text.starts_with(b"VERB ["),
        Some(b'{') if text.starts_with(b"{\"function\":\"") => {
            let beginning = text.get(..LEVEL_WITHIN).unwrap_or(text);
            memmem::find(beginning, b"\"level\":\"VERB\"").is_some()
        }
        Some(b'{') => of_2023(text).is_some(),
        _ => false,
    }
}

/// `srv  log_server_r: request:  …` and `response: …`; an access line has a method there.
fn server(text: &[u8]) -> Option<()> {
    let mut scan = Scan::new(text);
    scan.literal(b"srv  log_server_r: ")?;
    if scan.literal(b"response: ").is_some() {
        return Some(());
    }
    scan.literal(b"request: ")?;
    let has_method = scan.rest().first().is_some_and(u8::is_ascii_uppercase);
    (!has_method).then_some(())
}

/// `slot update_slots: id  0 | task 0 | prompt token   0: …` and `slot process_toke: …`, which shows each token.
fn slot(text: &[u8]) -> Option<()> {
    let mut scan = Scan::new(text);
    scan.literal(b"slot ")?;
    if scan.literal(b"process_toke").is_some() {
        return Some(());
    }
    scan.until(b'|', 40)?;
    scan.until(b'|', 20)?;
    scan.literal(b" prompt token ")
}

/// `{"timestamp":…,"level":"VERBOSE"`.
fn of_2023(text: &[u8]) -> Option<()> {
    let mut scan = Scan::new(text);
    scan.literal(b"{\"timestamp\":")?;
    scan.digits(15)?;
    scan.literal(b",\"level\":\"VERBOSE\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_generation_is_known() {
        for text in [
            "srv  log_server_r: request:  {\"prompt\":",
            "srv  log_server_r: request: {\"prompt\":",
            "srv  log_server_r: response: {\"content\":",
            "slot update_slots: id  0 | task 0 | prompt token   0:   1234 'word'",
            "slot process_toke: id  0 | task 0 | n_decoded = 1, n_remaining = -1, next token:  5 'word'",
            "VERB [      log_server_request] request | tid=",
            r#"{"function":"log_server_request","level":"VERB","line":1,"request":"#,
            r#"{"function":"update_slots","id_slot":0,"id_task":0,"level":"VERB","line":1"#,
            r#"{"timestamp":1773480404,"level":"VERBOSE","function":"log_server_request""#,
        ] {
            assert!(shows_prompt(text.as_bytes()), "{text}");
        }
        for text in [
            "srv  log_server_r: request: POST /v1/chat/completions 127.0.0.1 200",
            "slot update_slots: id  0 | task 0 | prompt done, n_past = 1046, n_tokens = 1046",
            "INFO [      log_server_request] request | tid=",
            r#"{"function":"print_timings","id_slot":0,"level":"INFO""#,
            "",
        ] {
            assert!(!shows_prompt(text.as_bytes()), "{text}");
        }
    }
}
