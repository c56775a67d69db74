//! From what an adapter found in a body to the result the rest of reelhook acts on: what is certain, what is a hint, and
//! what says nothing about the task.

use serde_json::Value;

use super::adapter::{
    BodyTrust, CallbackBody, FreshLink, HintReason, ProviderResponse, StatusResult, SubmissionResult,
};
use super::failures::failure_of_http_status;
use super::json::{has_id, in_data, is_about, percent};
use super::links::Links;
use crate::report::{Artifact, Failure, Kind, Progress, Reason, Report, Source, TaskStatus};
use crate::usage::Usage;

/// The status of an open task with this progress.
pub(super) fn open_at(progress: &Value) -> TaskStatus {
    TaskStatus::Open(Progress { percent: percent(progress), unknown_status: None })
}

/// Whether a success has what the task was submitted for: not only a cover or a last frame. A watermarked video counts,
/// because some results have no other.
fn has_result(artifacts: &[Artifact]) -> bool {
    artifacts.iter().any(|artifact| artifact.kind.is_essential() || artifact.kind == Kind::WatermarkedVideo)
}

/// A callback whose trust does not depend on its result: a report under the provider's own id.
pub(super) fn complete_callback(provider_task_id: impl Into<String>, task_status: TaskStatus) -> CallbackBody {
    CallbackBody::Task { provider_task_id: Some(provider_task_id.into()), task_status, trust: BodyTrust::Report }
}

/// A callback under the provider's own id. Without an id or a status it is unreadable. A success without a result, or with
/// a file id for a link, is a hint.
pub(super) fn callback(provider_task_id: Option<String>, task_status: Option<TaskStatus>) -> CallbackBody {
    match (provider_task_id, task_status) {
        (Some(provider_task_id), Some(task_status)) => task(Some(provider_task_id), task_status),
        _ => CallbackBody::Unreadable,
    }
}

/// As [`callback`], for a provider whose bodies may omit the id: the callback URL alone names the task then. Without an id,
/// the status word has to be one that the adapter knows, because nothing else shows that the body is the provider's.
pub(super) fn callback_with_optional_id(
    provider_task_id: Option<String>,
    task_status: Option<TaskStatus>,
) -> CallbackBody {
    match task_status {
        Some(TaskStatus::Open(Progress { unknown_status: Some(_), .. })) if provider_task_id.is_none() => {
            CallbackBody::Unreadable
        }
        Some(task_status) => task(provider_task_id, task_status),
        None => CallbackBody::Unreadable,
    }
}

fn task(provider_task_id: Option<String>, task_status: TaskStatus) -> CallbackBody {
    let trust = match &task_status {
        TaskStatus::Finished(Report::Succeeded { artifacts, .. }) if !has_result(artifacts) => {
            BodyTrust::Hint(HintReason::NoResult)
        }
        TaskStatus::Finished(Report::Succeeded { artifacts, .. })
            if artifacts.iter().any(|artifact| matches!(artifact.source, Source::FileId(_))) =>
        {
            BodyTrust::Hint(HintReason::FileId)
        }
        _ => BodyTrust::Report,
    };
    CallbackBody::Task { provider_task_id, task_status, trust }
}

/// A callback in an upstream's form, under the upstream's id. A handshake stays a handshake.
pub(super) fn foreign(body: CallbackBody) -> CallbackBody {
    match body {
        CallbackBody::Task { task_status, .. } => {
            // What the upstream charges is between it and the provider.
            let task_status = task_status.with_usage(Usage::default());
            CallbackBody::Task { provider_task_id: None, task_status, trust: BodyTrust::Hint(HintReason::ForeignBody) }
        }
        other => other,
    }
}

/// What a status response says about its task. A success without a result stays open: a later response may have it.
pub(super) fn status(task_status: Option<TaskStatus>) -> StatusResult {
    match task_status {
        None => StatusResult::Unreadable,
        Some(TaskStatus::Finished(Report::Succeeded { artifacts, .. })) if !has_result(&artifacts) => {
            StatusResult::Task(TaskStatus::open())
        }
        Some(task_status) => StatusResult::Task(task_status),
    }
}

/// What a status response says that has one task in a `data` envelope, and an HTTP-like code in it when it is a `refusal`.
pub(super) fn status_in_envelope(
    response: &ProviderResponse,
    body: &Value,
    refusal: Option<Failure>,
    (ids, provider_task_id): (&[&str], &str),
    task_status: impl FnOnce(&Value) -> Option<TaskStatus>,
) -> StatusResult {
    if let Some(failure) = refusal {
        let unknown_id = failure.code.as_deref() == Some("404");
        return if unknown_id { StatusResult::NotFound } else { status_refused(response, failure) };
    }
    let task = in_data(body);
    if !response.is_success() || !is_about(task, ids, provider_task_id) {
        return status_by_http_status(response);
    }
    status(task_status(task))
}

/// The polled task: in a list the one with its id, else the only task unless that has another id.
pub(super) fn find_task<'a>(
    list: Option<&'a Vec<Value>>,
    only: &'a Value,
    ids: &[&str],
    provider_task_id: &str,
) -> Result<&'a Value, StatusResult> {
    match list {
        Some(tasks) => tasks.iter().find(|task| has_id(task, ids, provider_task_id)).ok_or(StatusResult::NotFound),
        None if is_about(only, ids, provider_task_id) => Ok(only),
        None => Err(StatusResult::Unreadable),
    }
}

/// A status request that was refused. A 404 means an unknown id; everything else says nothing about the task.
pub(super) fn status_refused(response: &ProviderResponse, failure: Failure) -> StatusResult {
    if response.status == 404 {
        StatusResult::NotFound
    } else {
        StatusResult::Refused { failure, retry_after: response.retry_after }
    }
}

/// A status response that is not in the provider's form, classified by its HTTP status alone.
pub(super) fn status_by_http_status(response: &ProviderResponse) -> StatusResult {
    if response.is_success() {
        StatusResult::Unreadable
    } else {
        status_refused(response, failure_of_http_status(response.status))
    }
}

/// The result of a submission from the task id and the failure in the provider's own form, if the response has them.
///
/// A 4xx without a known failure is a refusal too, except for those that a proxy sends after it forwarded the request. After
/// a time-out, a 5xx, or a success with neither id nor failure, the task may exist, and so it may after a failure that does not prove
/// the opposite.
pub(super) fn submission(
    response: &ProviderResponse,
    provider_task_id: Option<String>,
    failure: Option<Failure>,
) -> SubmissionResult {
    let status = response.status;
    let timed_out = matches!(status, 408 | 499 | 504 | 522 | 524);
    match (provider_task_id, failure) {
        (_, Some(failure)) if timed_out || may_exist(&failure, status) => {
            let words: String = failure.words().chars().take(MAX_WORDS).collect();
            SubmissionResult::Unclear(format!("the provider reported an error, HTTP {status}: {words}"))
        }
        (_, Some(failure)) => SubmissionResult::Refused(failure),
        (Some(provider_task_id), None) if response.is_success() => SubmissionResult::Accepted { provider_task_id },
        (_, None) if (400..500).contains(&status) && !timed_out && !matches!(status, 409 | 425) => {
            SubmissionResult::Refused(failure_of_http_status(status))
        }
        (_, None) => {
            SubmissionResult::Unclear(format!("the response has neither a task id nor an error (HTTP {status})"))
        }
    }
}

/// Letters of a provider's words that are repeated to the caller where they decide nothing.
const MAX_WORDS: usize = 120;

/// Whether a failure leaves it open if there is a task. The provider's own fault always does. Under a 5xx so does everything
/// but a reason that lies with the request or the account: relays put the words of whatever failed behind them under it.
fn may_exist(failure: &Failure, http_status: u16) -> bool {
    use Reason::{ContentModeration, InsufficientCredits, InvalidParameters, ProviderError, Timeout};
    match failure.reason {
        ProviderError | Timeout => true,
        ContentModeration | InvalidParameters | InsufficientCredits => false,
        _ => http_status >= 500,
    }
}

/// Why a cancellation was refused, if it was: in the provider's own form, or as its HTTP status means.
pub(super) fn cancellation(response: &ProviderResponse, failure: Option<Failure>) -> Option<Failure> {
    failure.or_else(|| (!response.is_success()).then(|| failure_of_http_status(response.status)))
}

/// The link in the response to a resolution, or the failure that its HTTP status means.
pub(super) fn fresh_link(response: &ProviderResponse, links: Links) -> Result<FreshLink, Failure> {
    match links.into_artifacts().pop() {
        Some(Artifact { source: Source::Url(url), expires_at, .. }) if response.is_success() => {
            Ok(FreshLink { url, expires_at })
        }
        _ if response.is_success() => Err(Failure::new(Reason::Unknown, true)),
        _ => Err(failure_of_http_status(response.status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_for_a_reason_of_ours_proves_that_there_is_no_task() {
        for (reason, status, may) in [
            (Reason::InvalidParameters, 500, false),
            (Reason::ContentModeration, 400, false),
            (Reason::RateLimited, 429, false),
            (Reason::RateLimited, 503, true),
            (Reason::ProviderError, 400, true),
            (Reason::Timeout, 200, true),
            (Reason::Unknown, 401, false),
            (Reason::Unknown, 502, true),
        ] {
            assert_eq!(may_exist(&Failure::new(reason, false), status), may, "{reason:?} {status}");
        }
    }
}
