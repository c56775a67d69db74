//! Submits a task, exactly once under its id.

use std::time::Duration;

use lambda_http::http::StatusCode;
use lambda_http::{Body, Response};
use reelhook_aws::clock;
use reelhook_aws::provider_client::{LookedUp, RequestError};
use reelhook_aws::table::Registered;
use reelhook_aws::unique_id::unique_id;
use reelhook_core::providers::adapter::{ProviderResponse, Submission, SubmissionResult};
use reelhook_core::record::{Record, SubmissionAttempt, fingerprint};
use reelhook_core::report::Failure;
use reelhook_core::submission::{self, Existing, IN_FLIGHT};
use reelhook_core::transition::submissions::{Registration, interrupt, resubmit};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::problem::Problem;
use crate::put::Put;

/// How long a second caller waits for the first one's submission, and how often it looks. A little shorter than the
/// function's own 30 s.
const WAIT_FOR_OTHER: Duration = Duration::from_secs(24);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long an interrupted submission is looked up: a submission has to fit after it.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(5);

/// Whether the submission is the first under its id.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Round {
    First,
    /// One before it was interrupted, and may have made a task.
    Repeated,
}

impl Put<'_> {
    /// Submits, exactly once under this id.
    pub(crate) async fn submit(&self, body: &Value, may_resubmit: bool) -> Result<Response<Body>, Problem> {
        let provider = self.key.provider();
        let own = self.settings.provider(provider);
        let adapter = provider.adapter();
        let request = |marker: &str| {
            let endpoint = self.given.endpoint.as_deref();
            let submission = Submission { body, endpoint, callback_url: &self.callback_url, marker };
            adapter
                .submission(&submission, own, self.now)
                .map_err(|error| Problem::invalid(format!("{} was not submitted: {error}", self.key)))
        };
        let marker = adapter.marker_in(body, self.given.endpoint.as_deref()).unwrap_or_else(unique_id);
        // Everything that can be wrong with the request is found before anything is written.
        let mut sent = request(&marker)?;
        let attempt =
            SubmissionAttempt { fingerprint: fingerprint(&self.given, body), in_flight_until: self.now + IN_FLIGHT };
        let registration = Registration {
            task: self.key.clone(),
            provider_task_id: None,
            given: self.given.clone(),
            marker: adapter.profile().marker.map(|_| marker),
            submission: Some(attempt.clone()),
            // Not before the submission has its response or is known to have none.
            due_at: self.now + self.schedule.first.max(IN_FLIGHT),
            deadline_at: self.now + self.schedule.deadline,
        };
        let round = match self.app.table.register(&registration, self.now).await? {
            Registered::New(_) => Round::First,
            Registered::Existing(held) => {
                let marker = held.marker.clone();
                if let Some(response) = self.existing(*held, &attempt, may_resubmit).await? {
                    return Ok(response);
                }
                // The same id of ours as before: a provider that takes one has one task under it.
                sent = request(&marker.unwrap_or_else(unique_id))?;
                Round::Repeated
            }
        };
        match self.app.providers.send(&sent, self.now).await {
            Ok(response) => self.conclude(&attempt, round, &response).await,
            Err(RequestError::NotSent(why)) if round == Round::Repeated => {
                self.left_open(&attempt, format!("could not be repeated ({why}), the one before it")).await
            }
            Err(RequestError::NotSent(why)) => {
                tracing::warn!(task = %self.key, why, "the provider could not be reached");
                self.app.table.withdraw(&self.key, &attempt).await?;
                let message =
                    format!("{} was not submitted: the provider could not be reached ({why}); try again", self.key);
                Err(Problem::new(StatusCode::BAD_GATEWAY, "provider_unreachable", message))
            }
            Err(error @ (RequestError::NoResponse(_) | RequestError::TooLong)) => {
                tracing::error!(task = %self.key, %error, "a submission got no response");
                self.left_open(&attempt, format!("got no response from the provider ({error})")).await
            }
        }
    }

    /// Records what the provider's response says.
    async fn conclude(
        &self,
        attempt: &SubmissionAttempt,
        round: Round,
        response: &ProviderResponse,
    ) -> Result<Response<Body>, Problem> {
        let http_status = response.status;
        match self.key.provider().adapter().read_submission(response) {
            SubmissionResult::Accepted { provider_task_id } => {
                self.accepted(StatusCode::CREATED, &provider_task_id).await
            }
            // This one is refused, the interrupted one before it may exist.
            SubmissionResult::Refused(failure) if round == Round::Repeated => {
                self.left_open(attempt, format!("was repeated and refused ({}), the one before it", failure.words()))
                    .await
            }
            SubmissionResult::Refused(failure) => self.refused(attempt, failure).await,
            SubmissionResult::Unclear(why) => {
                tracing::error!(task = %self.key, http_status, why, "the response to a submission is unclear");
                self.left_open(attempt, format!("got an unclear response from the provider ({why})")).await
            }
        }
    }

    /// There is a record under this id. Returns its response, or none when its interrupted submission is to be repeated, now
    /// as this attempt.
    async fn existing(
        &self,
        held: Record,
        attempt: &SubmissionAttempt,
        may_resubmit: bool,
    ) -> Result<Option<Response<Body>>, Problem> {
        let theirs = match submission::existing(&held, &attempt.fingerprint, self.now) {
            Existing::NotSubmittedHere => {
                let message = format!("{} exists and was not submitted here; choose another id", self.key);
                return Err(self.conflict("exists", message, &held));
            }
            Existing::OtherRequest => {
                let message = format!("{} was submitted with another request; choose another id", self.key);
                return Err(self.conflict("other_request", message, &held));
            }
            Existing::Accepted => return Ok(Some(self.view(StatusCode::OK, &held))),
            // Nothing is begun after waiting for it, because there would be no time left to record what came of it.
            Existing::InFlight(theirs) => return self.wait_for_other(&theirs).await.map(Some),
            Existing::Interrupted(theirs) => {
                if let Some(found) = self.look_up(&held).await? {
                    return Ok(Some(found));
                }
                if !may_resubmit {
                    return Err(self.interrupted("was interrupted", &held));
                }
                theirs
            }
        };
        let due_at = self.now + self.schedule.first.max(IN_FLIGHT);
        let deadline_at = self.now + self.schedule.deadline;
        let again = resubmit(&self.key, &theirs, attempt, self.given.endpoint.as_deref(), due_at, deadline_at);
        if !self.app.table.replace_attempt(&again).await? {
            let message = format!("{} is being repeated by another request; get it in a moment", self.key);
            return Err(self.conflict("in_flight", message, &held));
        }
        tracing::warn!(task = %self.key, "an interrupted submission is repeated at the caller's wish");
        Ok(None)
    }

    /// Whether the provider has the task of an interrupted submission, as far as it can be asked. The response if so.
    async fn look_up(&self, held: &Record) -> Result<Option<Response<Body>>, Problem> {
        let own = self.settings.provider(self.key.provider());
        match timeout(LOOK_UP_WITHIN, self.app.providers.look_up(held, own, self.now)).await {
            Ok(Some(LookedUp::Found { provider_task_id })) => {
                tracing::info!(task = %self.key, provider_task_id, "the provider has the task of an interrupted submission");
                self.accepted(StatusCode::OK, &provider_task_id).await.map(Some)
            }
            Ok(_) | Err(_) => Ok(None),
        }
    }

    /// Waits for the submission another caller is making, and returns the response to what came of it.
    async fn wait_for_other(&self, theirs: &SubmissionAttempt) -> Result<Response<Body>, Problem> {
        let end = Instant::now() + WAIT_FOR_OTHER;
        loop {
            sleep(LOOK_EVERY).await;
            let Some(record) = self.app.table.get(&self.key).await? else {
                let message = format!(
                    "{} was submitted by another request and refused by the provider; submit it again",
                    self.key
                );
                return Err(Problem::new(StatusCode::CONFLICT, "refused_meanwhile", message));
            };
            if submission::is_settled(&record) {
                return Ok(self.view(StatusCode::OK, &record));
            }
            if record.submission.as_ref() != Some(theirs) {
                return Err(self.interrupted("was interrupted", &record));
            }
            if Instant::now() > end {
                let message = format!("{} is being submitted by another request; get it in a moment", self.key);
                return Err(self.conflict("in_flight", message, &record));
            }
        }
    }

    async fn accepted(&self, status: StatusCode, provider_task_id: &str) -> Result<Response<Body>, Problem> {
        tracing::info!(task = %self.key, provider_task_id, "submitted");
        let now = clock::now();
        // Our own response says with more authority than any callback whose task it is. Where somebody's callback was faster
        // and is carried out already, both are kept. A failure here costs no submission: the id is recorded all the same.
        match self.owned_by_other(provider_task_id).await {
            Ok(None) => {}
            Ok(Some(other)) => tracing::error!(
                task = %self.key, known_as = %other.task, provider_task_id, "a submitted task is known under another key"
            ),
            Err(_) => tracing::error!(task = %self.key, provider_task_id, "a submitted task could not be claimed"),
        }
        match self.app.table.submitted(&self.key, provider_task_id, now, now + self.schedule.first).await {
            Ok(record) => Ok(self.view(status, &record)),
            Err(error) => {
                tracing::error!(task = %self.key, provider_task_id, %error, "the id of a submitted task could not be recorded");
                let message = format!(
                    "{} was submitted and its id {provider_task_id} could not be recorded; put it again with \
                     ?provider_task_id={provider_task_id} and no body. Its callback is accepted all the same",
                    self.key
                );
                Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "submitted_not_recorded", message))
            }
        }
    }

    /// The provider made no task, so the id is free again.
    async fn refused(&self, attempt: &SubmissionAttempt, failure: Failure) -> Result<Response<Body>, Problem> {
        let (reason, code) = (failure.reason.name(), failure.code.as_deref());
        tracing::warn!(task = %self.key, reason, code, "the provider refused a submission");
        if !self.app.table.withdraw(&self.key, attempt).await? {
            // Somebody has heard of a task under this URL after all; what is known counts.
            return Ok(self.view(StatusCode::OK, &self.stored().await?));
        }
        let message = format!("{} was refused by the provider and is not recorded: {}", self.key, failure.words());
        Err(Problem::refused(message, failure))
    }

    /// Nobody knows whether there is a task. The record stays, so that its callback is accepted, and says so.
    async fn left_open(&self, attempt: &SubmissionAttempt, what: String) -> Result<Response<Body>, Problem> {
        // From now on it counts as interrupted, and a repeated request need not wait to be told.
        if let Err(error) = self.app.table.replace_attempt(&interrupt(&self.key, attempt, clock::now())).await {
            tracing::warn!(task = %self.key, %error, "an interrupted submission is known as such a little later");
        }
        let record = self.stored().await?;
        if submission::is_settled(&record) {
            // The callback told us meanwhile.
            return Ok(self.view(StatusCode::OK, &record));
        }
        Err(self.interrupted(&what, &record).with_status(StatusCode::GATEWAY_TIMEOUT))
    }

    fn interrupted(&self, what: &str, record: &Record) -> Problem {
        let message = format!(
            "the submission of {} {what}, and nobody knows whether the provider has the task. It is not repeated by itself. If \
             it exists, its callback is accepted; look it up at the provider and put it with ?provider_task_id=…, or put it \
             again with ?interrupted=resubmit, which may pay twice",
            self.key
        );
        self.conflict("interrupted", message, record)
    }
}
