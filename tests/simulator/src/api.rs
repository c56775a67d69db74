//! What a provider's own module implements.

use std::time::{Duration, SystemTime};

use axum::{Router, response::Response};
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::{
    config::Account,
    delivery::RetryPolicy,
    example::Example,
    files::{DAY, Style},
    provider::{Dialect, Provider, Signs},
    providers::{Shared, credential},
    record::{FileKind, Phase, Refusal, Stage},
    world::{Draft, Purpose, View, World},
};

/// Where a simulated provider publishes its keys.
pub(crate) const KEY_SET_PATH: &str = "/.well-known/jwks.json";

/// What holds for a provider in all its dialects.
pub(crate) struct Profile {
    pub(crate) router: fn() -> Router<Shared>,
    /// Its only API, or that of what belongs to no task.
    pub(crate) api: &'static dyn Api,
    pub(crate) examples: fn() -> Vec<Example>,
    /// The path of its documented base URL, after its name.
    pub(crate) base_path: &'static str,
    /// Whether it sends callbacks. If not, its tasks can only be polled.
    pub(crate) calls_back: bool,
    pub(crate) signs: Signs,
    /// The signing secret of the default configuration.
    pub(crate) signing_secret: Option<&'static str>,
    /// The customer, where signatures are about one of several.
    pub(crate) account_id: Option<&'static str>,
    /// Whether it publishes the keys of its signatures, at [`KEY_SET_PATH`] below its base URL.
    pub(crate) publishes_keys: bool,
}

impl Profile {
    /// A provider that calls back, whose base URL has no path, and that signs nothing.
    pub(crate) const fn new(
        router: fn() -> Router<Shared>,
        api: &'static dyn Api,
        examples: fn() -> Vec<Example>,
    ) -> Self {
        Self {
            router,
            api,
            examples,
            base_path: "",
            calls_back: true,
            signs: Signs::Nothing,
            signing_secret: None,
            account_id: None,
            publishes_keys: false,
        }
    }
}

/// A callback on its way, with what a signature can cover.
pub(crate) struct Outgoing<'a> {
    pub(crate) world: &'a World,
    pub(crate) account: &'a Account,
    /// The task's id at the sender.
    pub(crate) task_id: &'a str,
    pub(crate) message_id: &'a str,
    pub(crate) url: &'a str,
    pub(crate) body: &'a [u8],
    pub(crate) now: SystemTime,
}

pub(crate) type Headers = Vec<(&'static str, String)>;

/// A dialect. The defaults are what most providers do.
pub(crate) trait Api: Sync {
    fn provider(&self) -> Provider;

    /// The provider's own error response.
    fn refusal(&self, world: &World, refused: Refusal, message: &str) -> Response;

    /// The API key in the headers of a call.
    fn credential<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        credential(headers, "Bearer")
    }

    /// The error response to a call without the right credentials.
    fn unauthorized(&self, world: &World, headers: &HeaderMap) -> Option<Response> {
        let key = world.config.account(self.provider()).api_key;
        let authorized = !key.is_empty() && self.credential(headers) == Some(key.as_str());
        (!authorized).then(|| self.refusal(world, Refusal::Unauthorized, "the API key is missing or wrong"))
    }

    // Submissions.

    /// The number of videos a task can have.
    fn max_videos(&self) -> u32 {
        10
    }

    /// The task that an earlier submission with the same `Idempotency-Key` created.
    fn idempotent_task(&self, _world: &World, _key: &str) -> Option<String> {
        None
    }

    /// Whether it sends a challenge to the callback URL first.
    fn is_challenged(&self) -> bool {
        false
    }

    /// A new task id in the provider's format.
    fn new_id(&self, world: &World, _now: SystemTime) -> String {
        world.uuid()
    }

    /// The same, where the submission is part of it.
    fn id_of(&self, world: &World, _draft: &Draft, now: SystemTime) -> String {
        self.new_id(world, now)
    }

    fn submission_status(&self) -> StatusCode {
        StatusCode::OK
    }

    /// The body of the response to a submission that created a task.
    fn submission_body(&self, world: &World, view: &View) -> Value;

    // Callbacks.

    /// The dialect of the callbacks, if the provider only forwards the callback URL. Then that dialect has their stages, phases,
    /// bodies and retries, and the style of links.
    fn upstream(&self) -> Option<Dialect> {
        None
    }

    /// The stages of an open task for which the provider sends callbacks.
    fn stages(&self) -> &'static [Stage] {
        &[]
    }

    /// Whether the provider ever sends a callback for a phase. Stages are not checked: a script may send one out of order.
    fn is_pushed(&self, _phase: Phase) -> bool {
        self.provider().profile().calls_back
    }

    /// The body of a callback; `None` if the provider sends none for this phase.
    fn callback_body(&self, _view: &View) -> Option<Value> {
        None
    }

    fn callback_content_type(&self) -> &'static str {
        "application/json"
    }

    /// The URL that the provider posts to for the submitted callback URL.
    fn target(&self, callback_url: &str) -> String {
        callback_url.to_owned()
    }

    /// The headers that sign a callback.
    fn signature(&self, _outgoing: &Outgoing<'_>) -> Option<Headers> {
        None
    }

    /// How the provider retries a callback. If its documentation does not say, it never retries: the worst case for a receiver.
    fn retry_policy(&self, _phase: Phase) -> RetryPolicy {
        RetryPolicy::NEVER
    }

    // Files.

    /// Kind, stem and extension of the file that comes with each video.
    fn extra_file(&self, _request: &Value) -> Option<(FileKind, &'static str, &'static str)> {
        None
    }

    /// Whether callbacks and status responses name files by id, and a separate call issues the links.
    fn names_files_by_id(&self) -> bool {
        false
    }

    /// How long a link lives, unless the script says otherwise.
    fn link_life(&self, _kind: FileKind, _purpose: Purpose) -> Duration {
        DAY
    }

    /// What the links look like.
    fn link_style(&self, _kind: FileKind, _purpose: Purpose) -> Style {
        Style::Bare
    }

    /// Whether a status response replaces an existing link. Where that is not documented, only a dead one is replaced.
    fn renewed_by_status(&self, dead: bool) -> bool {
        dead
    }

    /// Whether the file host serves a client that sends these headers.
    fn serves(&self, _headers: &HeaderMap) -> bool {
        true
    }
}

impl dyn Api {
    /// The API of the callbacks: the upstream's if the provider only forwards the callback URL.
    pub(crate) fn sender(&'static self) -> &'static Self {
        self.upstream().map_or(self, Dialect::api)
    }
}
