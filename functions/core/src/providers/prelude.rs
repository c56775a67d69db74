//! What every adapter is written with.

pub(super) use serde_json::{Value, json};

pub(super) use super::common::{
    self, Api, DAY, HOUR, Links, encoded, first_id, first_text, id, in_data, integer, items, moment, object, text,
    with_callback_url, word,
};
pub(super) use super::failures::{Failures, Retry, code, part, prefix, words};
pub(super) use super::{
    Adapter, Answer, CallbackBody, FreshLink, InvalidSubmission, PolledTask, Profile, Request, StatusAnswer,
    StatusRequest, Submission, SubmissionAnswer,
};
pub(super) use crate::redacted::Secret;
pub(super) use crate::report::{Artifact, Failure, Kind, Reason, Source, Statement};
pub(super) use crate::request::{Authenticity, CallbackRequest, Refusal};
pub(super) use crate::settings::ProviderSettings;
pub(super) use crate::time::Timestamp;
