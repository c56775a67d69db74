//! The imports that every adapter needs.

pub(super) use std::time::Duration;

pub(super) use serde_json::{Value, json};

pub(super) use super::adapter::{
    Adapter, CallbackBody, Callbacks, FIRST_POLL, FreshLink, InvalidSubmission, LookupResult, PolledTask, Profile,
    ProviderResponse, Request, StatusRequest, StatusResult, Submission, SubmissionResult,
};
pub(super) use super::failures::{Failures, Retry, code, part, prefix, words};
pub(super) use super::json::{
    first_id, first_text, has_id, id, in_data, integer, is_about, items, object, status_word, text, timestamp,
};
pub(super) use super::links::Links;
pub(super) use super::requests::{self, Api, encoded};
pub(super) use super::responses;
pub(super) use crate::redacted::Secret;
pub(super) use crate::report::{Artifact, Failure, Kind, Reason, Source, TaskStatus};
pub(super) use crate::request::{Authenticity, CallbackRequest, Refusal};
pub(super) use crate::settings::ProviderSettings;
pub(super) use crate::time::Timestamp;
pub(super) use crate::usage::{self, Usage};
