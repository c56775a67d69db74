//! Events of the Function URL, before they become requests.
//!
//! Everybody can send requests to the URL, and `lambda_http` panics on those of which it cannot make a URI. A panic is an error
//! of the function: the sender gets a 502 instead of a 4xx, and raises the alarm for a crashed function.

use lambda_http::LambdaEvent;
use lambda_http::http::header::{HOST, HeaderName};
use lambda_http::http::uri::PathAndQuery;
use lambda_http::request::LambdaRequest;

/// Longest path, and longest query, that is read, in bytes. A callback URL has some 200. A URI holds 64 KiB, and
/// percent-encoding takes three bytes for one. Chosen freely between the two.
const MAX_LENGTH: usize = 8 * 1024;

/// Replaces what no URI can be made of. The path is read as it was sent; one that is none or too long becomes `/`, which is no
/// callback URL. A query that is none becomes one that nobody signed. Host and scheme are of no use to us.
pub fn readable(mut event: LambdaEvent<LambdaRequest>) -> LambdaEvent<LambdaRequest> {
    let LambdaRequest::ApiGatewayV2(request) = &mut event.payload else { return event };
    request.headers.remove(HOST);
    request.headers.remove(HeaderName::from_static("x-forwarded-proto"));
    request.request_context.domain_name = None;
    if !request.raw_path.as_deref().is_some_and(|path| path.starts_with('/') && path.len() <= MAX_LENGTH) {
        request.raw_path = Some("/".to_owned());
    }
    if let Some(query) = &mut request.raw_query_string
        && (query.len() > MAX_LENGTH || PathAndQuery::try_from(format!("/?{query}")).is_err())
    {
        "unreadable".clone_into(query);
    }
    event
}

#[cfg(test)]
mod tests {
    use lambda_http::{Context, Request, RequestExt as _};

    use super::*;

    fn request(change: impl FnOnce(&mut serde_json::Value)) -> Request {
        let event = include_str!("../../../events/lambda/function-url-callback.json");
        let mut event = serde_json::from_str(event).expect("JSON");
        change(&mut event);
        let payload = serde_json::from_str(&event.to_string()).expect("a request");
        readable(LambdaEvent::new(payload, Context::default())).payload.into()
    }

    /// Somebody without a token could make the function panic, and with it raise an alarm.
    #[test]
    fn every_event_becomes_a_request() {
        let long = "ü".repeat(40_000);
        for path in ["", "*", "%2Fcallback", "callback/kling/job-1/token", "[::1", "http://", long.as_str()] {
            assert_eq!(request(|event| event["rawPath"] = path.into()).raw_http_path(), "/", "{path}");
        }
        for path in ["/callback/kling/job-1/token", "/callback/kling/\u{212a}/%00", "/\0", "//x", "/<>\"|^`{}\\[]"] {
            assert_eq!(request(|event| event["rawPath"] = path.into()).raw_http_path(), path);
        }
        for query in ["<>", "a b", "\0", "\n", long.as_str()] {
            let request = request(|event| event["rawQueryString"] = query.into());
            assert_eq!(request.uri().query(), Some("unreadable"), "{query}");
        }
        for query in ["x=1&y=%20", "x", "=&"] {
            assert_eq!(request(|event| event["rawQueryString"] = query.into()).uri().query(), Some(query));
        }
        for (name, value) in [("host", "a b"), ("host", "[::1"), ("host", ""), ("x-forwarded-proto", "1:")] {
            assert_eq!(request(|event| event["headers"][name] = value.into()).uri().query(), None, "{name}: {value}");
        }
    }
}
