//! `PUT /tasks/{provider}/{id}`: reads the request, and registers a task that the caller submitted itself.

use std::time::Duration;

use lambda_http::http::StatusCode;
use lambda_http::{Body, Request, RequestExt as _, Response};
use reelhook_aws::table::{Owned, Registered};
use reelhook_core::annotations::{Annotations, Given};
use reelhook_core::poll_schedule::PollSchedule;
use reelhook_core::record::Record;
use reelhook_core::settings::Settings;
use reelhook_core::transition::ownership::{RECORDED_WITHIN, only_a_mention};
use reelhook_core::transition::submissions::Registration;
use reelhook_core::{TaskKey, Timestamp, view};
use serde_json::Value;
use tokio::time::sleep;

use crate::App;
use crate::problem::{Problem, respond};

/// How often, and how far apart, a provider task is looked at that a callback is recording at this moment.
const LOOKS: u32 = 8;
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Begins the name of a parameter that is a tag.
const TAG: &str = "tag.";

/// One PUT.
pub(crate) struct Put<'a> {
    pub(crate) app: &'a App,
    pub(crate) settings: &'a Settings,
    pub(crate) key: TaskKey,
    pub(crate) callback_url: String,
    pub(crate) given: Given,
    pub(crate) schedule: PollSchedule,
    /// When the request came.
    pub(crate) now: Timestamp,
}

pub(crate) async fn put(
    app: &App,
    settings: &Settings,
    key: TaskKey,
    callback_url: String,
    request: &Request,
    now: Timestamp,
) -> Result<Response<Body>, Problem> {
    let query = request.query_string_parameters();
    for (name, _) in query.iter() {
        if !matches!(name, "endpoint" | "provider_task_id" | "interrupted" | "metadata") && !name.starts_with(TAG) {
            return Err(Problem::invalid(format!(
                "unknown parameter {name:?}; use endpoint, provider_task_id, interrupted, metadata or {TAG}NAME"
            )));
        }
    }
    let given = |name: &str| query.first(name).filter(|value| !value.is_empty());
    let provider = key.provider();
    let schedule = PollSchedule::new(provider.adapter().profile(), &settings.provider(provider).poll);
    let tags = query.iter().filter_map(|(name, value)| Some((name.strip_prefix(TAG)?, value)));
    let annotations =
        Annotations::new(given("metadata"), tags).map_err(|invalid| Problem::invalid(invalid.to_string()))?;
    let given_with_it = Given { endpoint: given("endpoint").map(str::to_owned), annotations };
    let put = Put { app, settings, key, callback_url, given: given_with_it, schedule, now };
    let body: &[u8] = request.body();
    match given("provider_task_id") {
        Some(_) if !body.is_empty() => Err(Problem::invalid(
            "a body submits a task, provider_task_id registers one that was submitted; give one of the two",
        )),
        Some(provider_task_id) => put.register(provider_task_id).await,
        None => {
            let body: Value = serde_json::from_slice(body).map_err(|error| {
                Problem::invalid(format!("send the provider's own request body as JSON; this is not JSON: {error}"))
            })?;
            let resubmit = match given("interrupted") {
                None => false,
                Some("resubmit") => true,
                Some(other) => {
                    return Err(Problem::invalid(format!(
                        "interrupted={other:?} is unknown; use interrupted=resubmit"
                    )));
                }
            };
            put.submit(&body, resubmit).await
        }
    }
}

impl Put<'_> {
    pub(crate) fn view(&self, status: StatusCode, record: &Record) -> Response<Body> {
        respond(status, &view::of(record, Some(&self.callback_url), self.now))
    }

    pub(crate) fn conflict(&self, error: &'static str, message: impl Into<String>, record: &Record) -> Problem {
        Problem::conflict(error, message, view::of(record, Some(&self.callback_url), self.now))
    }

    pub(crate) async fn stored(&self) -> Result<Record, Problem> {
        let record = self.app.table.get(&self.key).await?;
        record.ok_or_else(|| Problem::unavailable(&format!("{} vanished between two calls", self.key)))
    }

    /// Claims a provider task. Returns the task that it belongs to, where that is another one that cannot give way: a record
    /// that only callbacks made does, while it holds no more than that there is a task.
    pub(crate) async fn owned_by_other(&self, provider_task_id: &str) -> Result<Option<Record>, Problem> {
        let table = &self.app.table;
        for _ in 0..LOOKS {
            let Owned::Theirs { owner, since } = table.own(&self.key, provider_task_id, self.now).await? else {
                return Ok(None);
            };
            let record = table.get(&owner).await?;
            let is_ours = match &record {
                Some(record) => {
                    only_a_mention(record) && table.displace(record, &self.key, provider_task_id, self.now).await?
                }
                None if self.now.since(since) > RECORDED_WITHIN => {
                    table.reassign(&owner, &self.key, provider_task_id, self.now).await?
                }
                // A callback of it is being recorded at this moment.
                None => {
                    sleep(LOOK_INTERVAL).await;
                    continue;
                }
            };
            return Ok(record.filter(|_| !is_ours));
        }
        Err(Problem::unavailable(&format!("the provider's task {provider_task_id} is being recorded")))
    }

    /// A task the caller submitted itself.
    async fn register(&self, provider_task_id: &str) -> Result<Response<Body>, Problem> {
        if self.given.endpoint.is_none() && self.key.provider().adapter().needs_endpoint() {
            return Err(Problem::invalid(format!(
                "polling a task of {} needs its endpoint; add ?endpoint=… as it was submitted",
                self.key.provider()
            )));
        }
        let due_at = self.now + self.schedule.first;
        if let Some(other) = self.owned_by_other(provider_task_id).await? {
            let message = format!(
                "the provider's task {provider_task_id} is known as {}; use that, or wait for its end and choose another task",
                other.task
            );
            return Err(self.conflict("exists_as", message, &other));
        }
        let registration = Registration {
            task: self.key.clone(),
            provider_task_id: Some(provider_task_id.to_owned()),
            given: self.given.clone(),
            marker: None,
            submission: None,
            due_at,
            deadline_at: self.now + self.schedule.deadline,
        };
        let held = match self.app.table.register(&registration, self.now).await? {
            Registered::New(record) => return Ok(self.view(StatusCode::CREATED, &record)),
            Registered::Existing(held) => *held,
        };
        let record = match (&held.provider_task_id, held.registered_at) {
            (Some(_), Some(_)) => held,
            (Some(other), None) if other != provider_task_id => held,
            // The callback was faster, or a submission was interrupted and the caller found out what became of it. A task that
            // only callbacks made known is registered by this, or it would be removed once a hint about it is refuted.
            _ => self.app.table.identify(&self.key, provider_task_id, &self.given, self.now, Some(due_at)).await?,
        };
        if record.provider_task_id.as_deref() == Some(provider_task_id) {
            return Ok(self.view(StatusCode::OK, &record));
        }
        self.app.table.disown(&self.key, provider_task_id).await?;
        let message = format!("{} is another task of the provider; choose another id", self.key);
        Err(self.conflict("other_task", message, &record))
    }
}
