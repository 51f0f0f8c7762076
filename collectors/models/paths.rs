//! Which paths of servers ask a model something.
//!
//! Owns: the list. Promises: a path that is told is one of ours, never a text out of a request.

use super::request::Word;
use super::scan::Scan;

/// Paths that ask a model something, of any server.
const INFERENCE: [&[u8]; 34] = [
    b"/api/chat",
    b"/api/embed",
    b"/api/embeddings",
    b"/api/generate",
    b"/classify",
    b"/completion",
    b"/completions",
    b"/chat/completions",
    b"/embed",
    b"/embed_all",
    b"/embed_sparse",
    b"/embedding",
    b"/embeddings",
    b"/encode",
    b"/generate",
    b"/generate_stream",
    b"/infill",
    b"/invocations",
    b"/pooling",
    b"/rerank",
    b"/reranking",
    b"/score",
    b"/v1/audio/transcriptions",
    b"/v1/audio/translations",
    b"/v1/chat/completions",
    b"/v1/completions",
    b"/v1/embeddings",
    b"/v1/images/generations",
    b"/v1/messages",
    b"/v1/rerank",
    b"/v1/reranking",
    b"/v1/responses",
    b"/v1/score",
    b"/v2/rerank",
];

/// Longest query that is passed over; uvicorn takes requests with up to 64 KiB before their body.
const QUERY_MAX: usize = 65_536;

/// The path in our words, if it asks a model something.
pub(crate) fn inference(path: &[u8]) -> Option<&'static [u8]> {
    INFERENCE.into_iter().find(|known| *known == path)
}

/// A path of the list as a word.
pub(crate) fn word(path: &'static [u8]) -> Option<Word> {
    Word::new(path)
}

/// What a server said about one request to a path of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// The path, one of the list.
    pub(crate) path: &'static [u8],
    /// Whether its status is 2xx.
    pub(crate) is_served: bool,
}

impl Access {
    /// Reads what uvicorn writes behind `INFO:`: `10.0.0.1:5000 - "POST /v1/completions HTTP/1.1" 200 OK`, with
    /// `quote` as the quotes stand in the line.
    pub(crate) fn uvicorn(scan: &mut Scan<'_>, quote: &[u8]) -> Option<Self> {
        /// An IPv6 address with a zone, and a port.
        const CLIENT_MAX: usize = 64;
        scan.blanks();
        scan.until(b' ', CLIENT_MAX)?;
        scan.literal(b"- ")?;
        scan.literal(quote)?;
        scan.literal(b"POST ")?;
        let path = inference(scan.name()?)?;
        if scan.literal(b"?").is_some() {
            scan.until(b' ', QUERY_MAX)?;
        } else {
            scan.literal(b" ")?;
        }
        scan.literal(b"HTTP/")?;
        scan.digits(1)?;
        if scan.literal(b".").is_some() {
            scan.digits(1)?;
        }
        scan.literal(quote)?;
        scan.literal(b" ")?;
        let is_served = matches!(scan.digits(3)?, 200..=299);
        Some(Self { path, is_served })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_the_list_are_told() {
        assert_eq!(inference(b"/v1/embeddings"), Some(&b"/v1/embeddings"[..]));
        for path in [
            "/v1/embeddings?user=me",
            "/v1/models",
            "/api/tags",
            "/",
            "",
            "/v1/embeddings/x",
            "/V1/embeddings",
        ] {
            assert_eq!(inference(path.as_bytes()), None, "{path}");
        }
        assert!(INFERENCE.into_iter().all(|path| word(path).is_some()));
    }

    #[test]
    fn lines_of_uvicorn() {
        let read = |text: &str| Access::uvicorn(&mut Scan::new(text.as_bytes()), b"\"");
        let served =
            read("     ::1:50122 - \"POST /v1/messages?beta=true HTTP/1.1\" 200 OK").unwrap();
        assert_eq!(
            (served.path, served.is_served),
            (&b"/v1/messages"[..], true)
        );
        assert!(
            !read("10.0.0.1:1 - \"POST /generate HTTP/2\" 503")
                .unwrap()
                .is_served
        );
        for text in [
            "10.0.0.1:1 - \"GET /generate HTTP/1.1\" 200 OK",
            "10.0.0.1:1 - \"POST /tokenize HTTP/1.1\" 200 OK",
            "10.0.0.1:1 \"POST /generate HTTP/1.1\" 200 OK",
            "10.0.0.1:1 - \"POST /generate HTTP/1.1\"",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
