//! Who asks: one API key in the `Authorization` header, known and not revoked.

use axum::http::{HeaderMap, header};

use crate::app::App;
use crate::key::ApiKey;
use crate::refused::Refused;
use crate::store::KeyRow;

/// Finds the key of the request, and takes one request from what it may make.
pub(crate) async fn key_of(app: &App, headers: &HeaderMap) -> Result<KeyRow, Refused> {
    let offered = bearer(headers)?;
    let (row, hash) = (app.store().key(offered.id()).await?).ok_or(Refused::ApiKeyUnknown)?;
    if !offered.matches(&hash) {
        return Err(Refused::ApiKeyUnknown);
    }
    if row.revoked_at.is_some() {
        return Err(Refused::ApiKeyRevoked(row.id));
    }
    app.buckets()
        .take(&row.id, app.now())
        .map_err(|wait_s| Refused::RateLimited { wait_s })?;
    Ok(row)
}

fn bearer(headers: &HeaderMap) -> Result<ApiKey, Refused> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(if headers.contains_key(header::AUTHORIZATION) {
            Refused::ApiKeyMalformed
        } else {
            Refused::ApiKeyMissing
        });
    };
    let (scheme, key) = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .ok_or(Refused::ApiKeyMalformed)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Refused::ApiKeyMalformed);
    }
    key.parse().map_err(|_| Refused::ApiKeyMalformed)
}
