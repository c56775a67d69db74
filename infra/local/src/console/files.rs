//! The files of a task, by ranges, as a player asks for them. Nothing else of the bucket: the name has to be that of a file that the
//! record has.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use reelhook_core::TaskKey;

use super::Console;

pub(super) async fn file(
    State(console): State<Console>,
    Path((provider, id, name)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    let not_found = || (StatusCode::NOT_FOUND, "no such file").into_response();
    let Ok(task) = format!("{provider}/{id}").parse::<TaskKey>() else { return not_found() };
    let record = match console.deployed.table.get(&task).await {
        Ok(Some(record)) => record,
        Ok(None) => return not_found(),
        Err(error) => return (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    };
    let wanted = format!("{}{name}", task.prefix());
    let Some(artifact) = record.artifacts.iter().find(|artifact| artifact.key == wanted) else { return not_found() };
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok()).map(str::to_owned);
    let bucket = &console.deployed.outputs.bucket_name;
    let request = console.deployed.s3.get_object().bucket(bucket).key(&artifact.key).set_range(range);
    let object = match request.send().await {
        Ok(object) => object,
        Err(error) => {
            let status = error.raw_response().map_or(502, |response| response.status().as_u16());
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            return (status, "the bucket does not give the file").into_response();
        }
    };
    let status = if object.content_range().is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let mut response_headers = HeaderMap::new();
    let mut set = |name, value: Option<&str>| {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            response_headers.insert(name, value);
        }
    };
    set(header::CONTENT_TYPE, Some(&artifact.content_type));
    set(header::ACCEPT_RANGES, Some("bytes"));
    set(header::CONTENT_RANGE, object.content_range());
    set(header::CONTENT_LENGTH, object.content_length().map(|length| length.to_string()).as_deref());
    let pieces = stream::unfold(object.body, |mut body| async move { body.next().await.map(|piece| (piece, body)) });
    (status, response_headers, Body::from_stream(pieces)).into_response()
}
