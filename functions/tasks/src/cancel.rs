//! `DELETE /tasks/{provider}/{id}`: asks the provider to cancel a task. The task ends as cancelled when the provider says so, and not
//! before; whatever arrives until then is kept.

use std::time::Duration;

use lambda_http::http::StatusCode;
use lambda_http::{Body, Response};
use reelhook_aws::clock;
use reelhook_aws::provider_client::{PollLimits, PolledStatus, RequestError};
use reelhook_core::providers::adapter::{PolledTask, StatusResult};
use reelhook_core::record::{Record, State};
use reelhook_core::report::{Reason, Report, TaskStatus};
use reelhook_core::settings::{ProviderSettings, Settings};
use reelhook_core::status_poll::{self, PollResult, Step, Terms};
use reelhook_core::transition::submissions::CancellationResponse;
use reelhook_core::{TaskKey, view};
use serde_json::json;

use crate::problem::{Problem, respond};
use crate::{App, existing};

/// After a cancellation, `poll` looks at the task this much later: providers show it at once or within seconds.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What became of a cancellation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cancellation {
    /// The provider took it. The task's end says what came of it.
    Requested,
    /// The provider says that the task is cancelled.
    Confirmed,
    /// There is nothing to cancel, or no way to.
    Impossible,
}

/// What a cancellation works with.
struct Cancelling<'a> {
    app: &'a App,
    own: &'a ProviderSettings,
    callback_url: &'a str,
}

pub(crate) async fn cancel(
    app: &App,
    settings: &Settings,
    key: &TaskKey,
    callback_url: &str,
) -> Result<Response<Body>, Problem> {
    let cancelling = Cancelling { app, own: settings.provider(key.provider()), callback_url };
    cancelling.cancel(&existing(app, key).await?).await
}

impl Cancelling<'_> {
    async fn cancel(&self, record: &Record) -> Result<Response<Body>, Problem> {
        use Cancellation::{Confirmed, Impossible, Requested};
        let adapter = record.task.provider().adapter();
        let title = adapter.profile().title;
        let say = |cancellation, message: &str| Ok(self.response(cancellation, message, record));
        match &record.report {
            Some(report) if record.state != State::Pending => return Ok(self.ended(report, record)),
            _ if record.state.is_final() => return say(Impossible, "it is not a task"),
            _ => {}
        }
        let Some(cancellable) = adapter.profile().cancellable else {
            return say(Impossible, &format!("{title} has no documented call that cancels a task"));
        };
        let Some(task) = status_poll::polled_task(record) else {
            return say(
                Impossible,
                "the provider's id of the task is not known yet, so it cannot be named; try again later",
            );
        };
        let before = self.poll(record, task).await;
        let status = match (&before.result, &before.response) {
            (PollResult::Response(StatusResult::Task(TaskStatus::Finished(report))), _) => {
                return Ok(self.ended(report, record));
            }
            (PollResult::Response(StatusResult::Task(TaskStatus::Open(_))), Some(status)) => status,
            _ => return Err(unclear(record, "its status could not be polled, and nothing was sent")),
        };
        let Some(request) = adapter.cancellation(&task, status, self.own) else {
            return say(Impossible, &format!("{title} cancels a task only {cancellable}"));
        };
        match self.app.providers.send(&request, clock::now()).await.map(|response| adapter.read_cancellation(&response))
        {
            Ok(None) => {}
            Ok(Some(refusal)) => {
                return say(Impossible, &format!("{title} refused to cancel it: {}", refusal.words()));
            }
            Err(RequestError::NotSent(why)) => return Err(unclear(record, &format!("{why}, and nothing was sent"))),
            Err(error) => {
                tracing::warn!(task = %record.task, %error, "a cancellation got no response");
                // It may have arrived; the status will tell.
                self.note(record, CancellationResponse::Missing).await?;
                return Err(unclear(record, &error.to_string()));
            }
        }
        tracing::info!(task = %record.task, "the provider took a cancellation");
        let noted = self.note(record, CancellationResponse::Accepted).await?;
        let terms = Terms::of(record.task.provider(), self.own);
        let after = self.poll(record, task).await.result;
        Ok(match status_poll::decide(&noted, &after, &terms, clock::now()).step {
            Step::Report(report) if is_cancelled(&report) => {
                self.response(Confirmed, "the provider says that it is cancelled", &noted)
            }
            _ => {
                self.response(Requested, "the provider took the request; its next status says what came of it", &noted)
            }
        })
    }

    /// The task has ended.
    fn ended(&self, report: &Report, record: &Record) -> Response<Body> {
        if is_cancelled(report) {
            self.response(Cancellation::Confirmed, "it is cancelled", record)
        } else {
            self.response(Cancellation::Impossible, &format!("it has ended: {}", report.outcome().name()), record)
        }
    }

    /// Has the status polled soon. A task that was reported meanwhile stays as it is.
    async fn note(&self, record: &Record, response: CancellationResponse) -> Result<Record, Problem> {
        let now = clock::now();
        match self.app.table.note_cancellation(&record.task, response, now, now + LOOK_AGAIN_AFTER).await? {
            Some(noted) => Ok(noted),
            None => existing(self.app, &record.task).await,
        }
    }

    async fn poll(&self, record: &Record, task: PolledTask<'_>) -> PolledStatus {
        let (provider, now) = (record.task.provider(), clock::now());
        let polled = self.app.providers.poll_status(provider, &[task], self.own, PollLimits::ONE_TASK, now).await;
        polled.into_iter().flatten().next().unwrap_or_else(PolledStatus::not_pollable)
    }

    fn response(&self, cancellation: Cancellation, message: &str, record: &Record) -> Response<Body> {
        let (status, name) = match cancellation {
            Cancellation::Requested => (StatusCode::ACCEPTED, "requested"),
            Cancellation::Confirmed => (StatusCode::OK, "confirmed"),
            Cancellation::Impossible => (StatusCode::CONFLICT, "impossible"),
        };
        let message = format!("{}: {message}", record.task);
        let task = view::of(record, Some(self.callback_url), clock::now());
        respond(status, &json!({ "cancellation": name, "message": message, "task": task }))
    }
}

fn unclear(record: &Record, why: &str) -> Problem {
    let message = format!("nobody knows whether {} is cancelled: {why}; try again", record.task);
    Problem::new(StatusCode::BAD_GATEWAY, "provider_unreachable", message)
}

fn is_cancelled(report: &Report) -> bool {
    report.failure().is_some_and(|failure| failure.reason == Reason::Cancelled)
}
