//! Exactly one submission under one id: what a repeated request means, and what a failed one leaves behind.

use std::time::Duration;

use crate::record::{Record, State, SubmissionAttempt};
use crate::time::Timestamp;

/// How long a provider may take to respond to a submission. The function itself ends after 30 s, and the response has to be
/// recorded before that.
pub const SUBMIT_TIMEOUT: Duration = Duration::from_secs(20);

/// After which a submission without a response counts as interrupted: [`SUBMIT_TIMEOUT`], and the recording.
pub const IN_FLIGHT: Duration = Duration::from_secs(25);

/// What a request to submit means for the record that exists under its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Known from a callback or by registration: there is a task already, and its request is unknown.
    NotSubmittedHere,
    /// Another request was submitted under this id.
    OtherRequest,
    /// The same request was accepted: the same response.
    Accepted,
    /// The same request is being submitted at this moment: its outcome is this one's too.
    InFlight(SubmissionAttempt),
    /// Nobody knows whether the same request arrived.
    Interrupted(SubmissionAttempt),
}

/// Reads what a record means for a request.
pub fn existing(held: &Record, fingerprint: &str, now: Timestamp) -> Existing {
    match &held.submission {
        None => Existing::NotSubmittedHere,
        Some(theirs) if theirs.fingerprint != fingerprint => Existing::OtherRequest,
        Some(_) if is_settled(held) => Existing::Accepted,
        Some(theirs) if theirs.in_flight_until > now => Existing::InFlight(theirs.clone()),
        Some(theirs) => Existing::Interrupted(theirs.clone()),
    }
}

/// Whether it is known that the provider has the task.
pub fn is_settled(record: &Record) -> bool {
    record.provider_task_id.is_some() || record.state != State::Pending
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::{Attribute, Item, Value};

    fn record(attributes: &[(Attribute, Value)]) -> Record {
        let mut item = Item::from([(Attribute::Task, "kling/a".into()), (Attribute::State, State::Pending.into())]);
        item.extend(attributes.iter().cloned());
        Record::from_item(&item).expect("a record")
    }

    #[test]
    fn a_repeated_request_means_what_the_record_knows() {
        let now = Timestamp::from_seconds(100);
        let attempt = |until| SubmissionAttempt {
            fingerprint: "same".to_owned(),
            in_flight_until: Timestamp::from_seconds(until),
        };
        let submitted =
            |until| vec![(Attribute::Fingerprint, "same".into()), (Attribute::InFlightUntil, Value::Number(until))];
        let with = |mut attributes: Vec<_>, more| {
            attributes.push(more);
            attributes
        };
        for (attributes, expected) in [
            (vec![], Existing::NotSubmittedHere),
            (
                vec![(Attribute::Fingerprint, "other".into()), (Attribute::InFlightUntil, Value::Number(200))],
                Existing::OtherRequest,
            ),
            (submitted(200), Existing::InFlight(attempt(200))),
            (submitted(100), Existing::Interrupted(attempt(100))),
            (with(submitted(200), (Attribute::ProviderTaskId, "7".into())), Existing::Accepted),
            (with(submitted(50), (Attribute::State, State::Failed.into())), Existing::Accepted),
        ] {
            assert_eq!(existing(&record(&attributes), "same", now), expected, "{attributes:?}");
        }
    }
}
