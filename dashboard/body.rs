//! Bodies, bounded twice: as they are sent, and as they are after decompression.

use std::io::Read as _;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, header};

use crate::refused::Refused;

/// Bytes on the wire: the specification expects 2 MB for the largest category, uncompressed.
pub(crate) const WIRE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes after decompression: 8 times the largest expected, and what one examination may hold.
pub(crate) const DECODED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// log2 of the window that a zstd frame may demand: 8 MiB, which every encoder level up to 19 respects.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

const JSON: &str = "application/json";
const ZSTD: &str = "zstd";

/// Reads a whole body, or stops at the bound.
pub(crate) async fn read(body: Body, bytes_max: usize) -> Result<Vec<u8>, Refused> {
    match to_bytes(body, bytes_max).await {
        Ok(bytes) => Ok(bytes.into()),
        // axum gives one error for both; a broken connection never sees the answer anyway.
        Err(_) => Err(Refused::TooLarge {
            max: bytes_max,
            decoded: false,
        }),
    }
}

/// Refuses what is not JSON or is encoded in an unknown way, before anything is read.
pub(crate) fn check_headers(headers: &HeaderMap) -> Result<(), Refused> {
    let text = |name| {
        let value = headers.get(name).map(|v| v.to_str().unwrap_or("not text"));
        value.map(str::to_owned)
    };
    let media = text(header::CONTENT_TYPE).unwrap_or_default();
    let essence = media.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case(JSON) {
        return Err(Refused::MediaTypeUnsupported(media));
    }
    match text(header::CONTENT_ENCODING) {
        Some(other) if other != ZSTD => Err(Refused::EncodingUnsupported(other)),
        _ => Ok(()),
    }
}

/// Undoes the signed content encoding.
pub(crate) fn decode(body: Vec<u8>, encoding: Option<&str>) -> Result<Vec<u8>, Refused> {
    match encoding {
        None => Ok(body),
        Some(ZSTD) => decompress(&body, DECODED_BYTES_MAX),
        Some(other) => Err(Refused::EncodingUnsupported(other.to_owned())),
    }
}

fn decompress(body: &[u8], bytes_max: usize) -> Result<Vec<u8>, Refused> {
    let malformed = |_| Refused::CompressionMalformed;
    let mut decoder = zstd::stream::read::Decoder::new(body).map_err(malformed)?;
    decoder
        .window_log_max(ZSTD_WINDOW_LOG_MAX)
        .map_err(malformed)?;
    let mut decoded = Vec::new();
    // One byte more than allowed tells a bomb from a body that just fits.
    let bound = u64::try_from(bytes_max)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    decoder
        .take(bound)
        .read_to_end(&mut decoded)
        .map_err(malformed)?;
    if decoded.len() > bytes_max {
        return Err(Refused::TooLarge {
            max: bytes_max,
            decoded: true,
        });
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(bytes, 3).unwrap()
    }

    #[test]
    fn a_body_that_just_fits() {
        assert_eq!(decompress(&packed(b"four"), 4).unwrap(), b"four");
        let refused = decompress(&packed(b"five!"), 4).unwrap_err();
        assert_eq!(refused.code(), "too_large");
    }

    #[test]
    fn a_bomb_stops_at_the_bound() {
        let bomb = packed(&vec![b' '; 4 * DECODED_BYTES_MAX]);
        assert!(bomb.len() < 100_000);
        let refused = decode(bomb, Some(ZSTD)).unwrap_err();
        assert_eq!((refused.status(), refused.code()), (413, "too_large"));
    }

    #[test]
    fn half_a_frame_is_malformed() {
        let whole = packed(&[7; 1000]);
        let refused = decompress(&whole[..whole.len() - 3], 4096).unwrap_err();
        assert_eq!(refused.code(), "compression_malformed");
    }
}
