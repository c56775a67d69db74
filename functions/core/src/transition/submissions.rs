//! From nothing to a task that is known and can be polled.

use super::{Condition, Effect, Transition, Write};
use crate::annotations::{Annotations, Given};
use crate::item::{Attribute as A, Value};
use crate::record::{State, SubmissionAttempt, due_shard};
use crate::task::TaskKey;
use crate::time::Timestamp;

/// A task that the application makes known.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The task.
    pub task: TaskKey,
    /// The provider's own id, where the caller submitted the task and knows it.
    pub provider_task_id: Option<String>,
    /// What the caller gives with it.
    pub given: Given,
    /// The id of ours that the submission carries, where the provider takes one.
    pub marker: Option<String>,
    /// The submission that is about to be made, where reelhook makes it.
    pub submission: Option<SubmissionAttempt>,
    /// When to look first.
    pub due_at: Timestamp,
    /// When to give up.
    pub deadline_at: Timestamp,
}

/// register: none -> pending. Of two at the same moment one is new, and the other sees what it wrote.
pub fn register(registration: &Registration, now: Timestamp) -> Transition {
    let known = registration.provider_task_id.as_deref();
    let submission = registration.submission.as_ref();
    let mut effects = vec![
        Effect::Set(A::State, State::Pending.into()),
        Effect::Set(A::CreatedAt, now.into()),
        Effect::Set(A::RegisteredAt, now.into()),
        Effect::Set(A::DeadlineAt, registration.deadline_at.into()),
        Effect::Set(A::DueAt, registration.due_at.into()),
        Effect::Set(A::DueShard, u64::from(due_shard(&registration.task)).into()),
    ];
    effects.extend(Effect::set_some(A::ProviderTaskId, known));
    effects.extend(Effect::set_some(A::SubmittedAt, known.map(|_| now)));
    effects.extend(Effect::set_some(A::Endpoint, registration.given.endpoint.as_deref()));
    effects.extend(Effect::set_some(A::Annotations, stored(&registration.given.annotations)));
    effects.extend(Effect::set_some(A::Marker, registration.marker.as_deref()));
    effects.extend(Effect::set_some(A::Fingerprint, submission.map(|attempt| attempt.fingerprint.as_str())));
    effects.extend(Effect::set_some(A::InFlightUntil, submission.map(|attempt| attempt.in_flight_until)));
    Transition {
        action: "registering",
        task: registration.task.clone(),
        condition: Condition::Lacks(A::Task),
        write: Write::Update(effects),
    }
}

fn stored(annotations: &Annotations) -> Option<Value> {
    (!annotations.is_empty()).then(|| Value::json(annotations))
}

/// The provider accepted the submission, or the caller names the task it submitted itself: from `due_at` on the task can be
/// polled. Without one it stays due when it is: to move it would cost as much as two writes. Refused when the record is not
/// pending any more, or has another id.
pub fn identify(
    task: &TaskKey,
    provider_task_id: &str,
    given: &Given,
    now: Timestamp,
    due_at: Option<Timestamp>,
) -> Transition {
    let condition = Condition::All(vec![
        Condition::Is(A::State, State::Pending.into()),
        Condition::Any(vec![
            Condition::Lacks(A::ProviderTaskId),
            Condition::Is(A::ProviderTaskId, provider_task_id.into()),
        ]),
    ]);
    let mut effects = identification(provider_task_id, given, now);
    effects.extend(Effect::set_some(A::DueAt, due_at));
    Transition { action: "recording the submission", task: task.clone(), condition, write: Write::Update(effects) }
}

/// The response to our own submission names another id than a callback did that came first. The response is authenticated
/// and the callback's URL may have been learned by somebody, so the response's id replaces the other, and what the callback
/// said about another task goes with it.
pub fn correct_identity(task: &TaskKey, provider_task_id: &str, now: Timestamp, due_at: Timestamp) -> Transition {
    Transition {
        action: "correcting the provider task id",
        task: task.clone(),
        condition: Condition::Is(A::State, State::Pending.into()),
        write: Write::Update(vec![
            Effect::Set(A::ProviderTaskId, provider_task_id.into()),
            Effect::SetOnce(A::SubmittedAt, now.into()),
            Effect::Set(A::DueAt, due_at.into()),
            Effect::Increment(A::Revision),
            Effect::Remove(A::Hint),
            Effect::Remove(A::Fallback),
            Effect::Remove(A::Raw),
            Effect::Remove(A::RawBytes),
        ]),
    }
}

/// The same for a task that was reported before its submission was recorded: nothing becomes due by this.
pub fn note_submission(task: &TaskKey, provider_task_id: &str, given: &Given, now: Timestamp) -> Transition {
    Transition {
        action: "recording the submission",
        task: task.clone(),
        condition: Condition::Has(A::Task),
        write: Write::Update(identification(provider_task_id, given, now)),
    }
}

fn identification(provider_task_id: &str, given: &Given, now: Timestamp) -> Vec<Effect> {
    let mut effects = vec![
        Effect::SetOnce(A::ProviderTaskId, provider_task_id.into()),
        Effect::SetOnce(A::SubmittedAt, now.into()),
        Effect::SetOnce(A::RegisteredAt, now.into()),
        Effect::Increment(A::Revision),
    ];
    // Over what the body of a callback told.
    effects.extend(Effect::set_some(A::Endpoint, given.endpoint.as_deref()));
    effects.extend(Effect::set_once_some(A::Annotations, stored(&given.annotations)));
    effects
}

/// The provider refused the submission: there is no task, and the id is free again. Only this attempt is withdrawn, and only
/// while nobody has heard of a task.
pub fn withdraw(task: &TaskKey, attempt: &SubmissionAttempt) -> Transition {
    let mut conditions = interrupted(attempt);
    conditions.push(Condition::Lacks(A::Raw));
    Transition {
        action: "withdrawing the submission",
        task: task.clone(),
        condition: Condition::All(conditions),
        write: Write::Delete,
    }
}

/// An interrupted submission is made again, at the caller's express wish. Of two at the same moment one succeeds: the
/// interrupted attempt has to stand there still.
pub fn resubmit(
    task: &TaskKey,
    interrupted_attempt: &SubmissionAttempt,
    attempt: &SubmissionAttempt,
    endpoint: Option<&str>,
    due_at: Timestamp,
    deadline_at: Timestamp,
) -> Transition {
    let mut effects = vec![
        Effect::Set(A::Fingerprint, attempt.fingerprint.as_str().into()),
        Effect::Set(A::InFlightUntil, attempt.in_flight_until.into()),
        Effect::Set(A::DueAt, due_at.into()),
        Effect::Set(A::DeadlineAt, deadline_at.into()),
    ];
    effects.extend(Effect::set_some(A::Endpoint, endpoint));
    Transition {
        action: "submitting again",
        task: task.clone(),
        condition: Condition::All(interrupted(interrupted_attempt)),
        write: Write::Update(effects),
    }
}

/// Nobody knows whether the submission arrived: from `now` on it counts as interrupted.
pub fn interrupt(task: &TaskKey, attempt: &SubmissionAttempt, now: Timestamp) -> Transition {
    Transition {
        action: "recording the interruption",
        task: task.clone(),
        condition: Condition::All(interrupted(attempt)),
        write: Write::Update(vec![Effect::Set(A::InFlightUntil, now.into())]),
    }
}

/// What the provider responded to a cancellation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancellationResponse {
    /// That it took it.
    Accepted,
    /// Nothing: it may have arrived or not.
    Missing,
}

/// The provider was asked to cancel the task: its status is polled at `due_at`, and whatever arrives is kept all the same.
pub fn note_cancellation(
    task: &TaskKey,
    response: CancellationResponse,
    now: Timestamp,
    due_at: Timestamp,
) -> Transition {
    let mut effects = vec![Effect::Set(A::CancelRequestedAt, now.into()), Effect::Set(A::DueAt, due_at.into())];
    if response == CancellationResponse::Accepted {
        effects.push(Effect::Set(A::CancelAcceptedAt, now.into()));
    }
    Transition {
        action: "recording the cancellation",
        task: task.clone(),
        condition: Condition::Is(A::State, State::Pending.into()),
        write: Write::Update(effects),
    }
}

/// The record still waits for the response to this attempt.
fn interrupted(attempt: &SubmissionAttempt) -> Vec<Condition> {
    vec![
        Condition::Is(A::State, State::Pending.into()),
        Condition::Lacks(A::ProviderTaskId),
        Condition::Is(A::Fingerprint, Value::from(attempt.fingerprint.as_str())),
        Condition::Is(A::InFlightUntil, attempt.in_flight_until.into()),
    ]
}
