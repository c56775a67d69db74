//! When a link expires.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use url::Url;

use crate::redacted::SignedUrl;
use crate::time::Timestamp;

/// The expiry of a presigned link, from its own parameters: `X-Amz-Date` with `X-Amz-Expires` (S3), `X-Tos-…` (Volcengine),
/// `X-Goog-…` (Google), `x-oss-…` (Alibaba OSS version 4), or `Expires` in Unix seconds (S3 version 2, `CloudFront`, older
/// OSS). None without these parameters, or with implausible values.
///
/// Parameter names are compared without case, because providers and their caches rewrite them.
fn of_presigned_link(link: &SignedUrl) -> Option<Timestamp> {
    let url = Url::parse(link.expose()).ok()?;
    let parameter = |name: &str| {
        url.query_pairs().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.into_owned())
    };
    for vendor in ["X-Amz", "X-Tos", "X-Goog", "X-Oss"] {
        if let (Some(date), Some(life)) =
            (parameter(&format!("{vendor}-Date")), parameter(&format!("{vendor}-Expires")))
        {
            let life: u32 = life.parse().ok()?;
            return Some(signing_date(&date)? + Duration::from_secs(life.into()));
        }
    }
    let seconds: i64 = parameter("Expires")?.parse().ok()?;
    plausible(seconds)
}

/// The expiry of a link with a JSON Web Token (RFC 7519) among its parameters: the token's `exp`, in Unix seconds. The token is not
/// verified, because it is meant for the host of the link.
fn of_token_in_link(link: &SignedUrl) -> Option<Timestamp> {
    let url = Url::parse(link.expose()).ok()?;
    url.query_pairs().find_map(|(_, token)| {
        let [_, claims, _] = token.split('.').collect::<Vec<_>>().try_into().ok()?;
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        plausible(claims["exp"].as_i64()?)
    })
}

/// The expiry of a link: as stated in the body, else by the link's own parameters, else `usual`.
pub fn of_link(stated: Option<Timestamp>, link: &SignedUrl, usual: Timestamp) -> Timestamp {
    stated.or_else(|| of_presigned_link(link)).or_else(|| of_token_in_link(link)).unwrap_or(usual)
}

/// Unix seconds between 2001 and 5138: shorter numbers are durations, longer ones milliseconds.
fn plausible(seconds: i64) -> Option<Timestamp> {
    (1_000_000_000..100_000_000_000).contains(&seconds).then(|| Timestamp::from_seconds(seconds))
}

/// Parses `20260514T103704Z`.
fn signing_date(text: &str) -> Option<Timestamp> {
    let [date, time] = text.strip_suffix('Z')?.split('T').collect::<Vec<_>>().try_into().ok()?;
    let digits = |text: &str, length: usize| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(date, 8) || !digits(time, 6) {
        return None;
    }
    Timestamp::from_rfc3339(&format!(
        "{}-{}-{}T{}:{}:{}Z",
        &date[..4],
        &date[4..6],
        &date[6..],
        &time[..2],
        &time[2..4],
        &time[4..]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expiry(link: &str) -> Option<i64> {
        of_presigned_link(&SignedUrl::new(link)).map(Timestamp::seconds)
    }

    #[test]
    fn presigned_links_have_an_expiry() {
        assert_eq!(
            expiry("https://a/v?X-Tos-Date=20260514T103704Z&X-Tos-Expires=86400&X-Tos-Signature=s"),
            Some(1_778_841_424)
        );
        assert_eq!(expiry("https://a/v?x-amz-expires=3600&x-amz-date=20250623T081805Z"), Some(1_750_670_285));
        assert_eq!(
            expiry("https://a/v?x-oss-date=20250623T081805Z&x-oss-expires=3600&x-oss-signature=s"),
            Some(1_750_670_285)
        );
        assert_eq!(expiry("https://a/v?Expires=1763510682&OSSAccessKeyId=k&Signature=s"), Some(1_763_510_682));
    }

    #[test]
    fn other_links_have_no_expiry() {
        for link in [
            "https://a/v.mp4",
            "not a link?Expires=1763510682",
            "https://a/v?X-Amz-Expires=86400",
            "https://a/v?X-Amz-Date=2026&X-Amz-Expires=86400",
            "https://a/v?X-Amz-Date=ääääT103704Z&X-Amz-Expires=86400",
            "https://a/v?Expires=3600",
            "https://a/v?Expires=1763510682000",
            "https://a/v?Expires=-1",
        ] {
            assert_eq!(expiry(link), None, "{link}");
        }
    }

    #[test]
    fn a_link_may_carry_a_token_with_its_expiry() {
        let expiry = |token: &str| {
            let link = SignedUrl::new(format!("https://a/v.mp4?v=1.2.3&_jwt={token}"));
            of_token_in_link(&link).map(Timestamp::seconds)
        };
        let token = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(expiry(&token(r#"{"bucket":"b?>","exp":1790416800}"#)), Some(1_790_416_800));
        for claims in ["", "[]", "{}", r#"{"exp":"soon"}"#, r#"{"exp":3600}"#, r#"{"exp":1790416800000}"#] {
            assert_eq!(expiry(&token(claims)), None, "{claims}");
        }
        for token in ["", "e30", "e30.e30", "e30.!.c2ln", "e30.e30.c2ln.c2ln"] {
            assert_eq!(expiry(token), None, "{token}");
        }
    }

    #[test]
    fn the_body_takes_precedence_then_the_link_then_the_usual_life() {
        let link = SignedUrl::new("https://a/v?Expires=1763510682");
        let bare = SignedUrl::new("https://a/v");
        let usual = Timestamp::from_seconds(2_000_000_060);
        assert_eq!(of_link(Some(Timestamp::from_seconds(1_763_000_000)), &link, usual).seconds(), 1_763_000_000);
        assert_eq!(of_link(None, &link, usual).seconds(), 1_763_510_682);
        assert_eq!(of_link(None, &bare, usual), usual);
    }
}
