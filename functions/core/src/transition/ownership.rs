//! Which task a provider task belongs to: one item for each provider task id, beside the items of the tasks. It keeps one
//! provider task from being recorded, stored and published under two keys.
//!
//! The item is written before the record it points to. A crash between the two leaves an item that points to no record: a
//! callback is recorded under the owner's key all the same, and a registration takes the provider task over once the item is
//! older than [`RECORDED_WITHIN`].

use std::time::Duration;

use super::{Condition, Effect, Transition, Write};
use crate::item::Attribute as A;
use crate::provider::Provider;
use crate::record::{RETENTION, Record, State};
use crate::task::TaskKey;
use crate::time::Timestamp;

/// How long after the item its record is there at the latest, if nothing crashed: longer than any function that writes the two
/// may run.
pub const RECORDED_WITHIN: Duration = Duration::from_mins(1);

/// own: none -> owner. Refused when another task owns the provider task; the item that stands in the way names it.
pub fn own(provider: Provider, provider_task_id: &str, owner: &TaskKey, now: Timestamp) -> Transition {
    let owner_value = owner.to_string().as_str().into();
    Transition {
        action: "claiming the provider task",
        task: TaskKey::of_provider_task(provider, provider_task_id),
        condition: Condition::Any(vec![Condition::Lacks(A::Task), Condition::Is(A::Owner, owner_value)]),
        write: Write::Update(owned(provider_task_id, owner, now, Effect::SetOnce(A::CreatedAt, now.into()))),
    }
}

/// reassign: one owner -> another, whose record is gone or was displaced.
pub fn reassign(
    provider: Provider,
    provider_task_id: &str,
    from: &TaskKey,
    to: &TaskKey,
    now: Timestamp,
) -> Transition {
    Transition {
        action: "reassigning the provider task",
        task: TaskKey::of_provider_task(provider, provider_task_id),
        condition: Condition::Is(A::Owner, from.to_string().as_str().into()),
        write: Write::Update(owned(provider_task_id, to, now, Effect::Set(A::CreatedAt, now.into()))),
    }
}

/// disown: owner -> none, when the task turns out to be another task of the provider.
pub fn disown(provider: Provider, provider_task_id: &str, owner: &TaskKey) -> Transition {
    Transition {
        action: "releasing the provider task",
        task: TaskKey::of_provider_task(provider, provider_task_id),
        condition: Condition::Is(A::Owner, owner.to_string().as_str().into()),
        write: Write::Delete,
    }
}

/// displace: a record that only callbacks made, and on which nobody works, gives way to the task that the provider task
/// belongs to. It goes with all that it was told: either that is [`only_a_mention`], or the caller records it for the task that
/// stays.
pub fn displace(record: &Record, now: Timestamp) -> Transition {
    let unsettled = match record.state {
        State::Reported => Condition::Is(A::State, State::Reported.into()),
        // A reopened task has settled its failure.
        _ => Condition::All(vec![Condition::Is(A::State, State::Pending.into()), Condition::Lacks(A::Outcome)]),
    };
    Transition {
        action: "displacing the task",
        task: record.task.clone(),
        condition: Condition::All(vec![
            unsettled,
            Condition::Lacks(A::RegisteredAt),
            Condition::unrevised(record),
            Condition::Any(vec![Condition::Lacks(A::ClaimedUntil), Condition::AtMost(A::ClaimedUntil, now.seconds())]),
        ]),
        write: Write::Delete,
    }
}

/// Whether a record holds no more than that there is a task: a status poll tells all the rest again. A report does not come
/// twice, and a fallback is for the time when no status poll is answered.
pub fn only_a_mention(record: &Record) -> bool {
    record.state == State::Pending && record.outcome().is_none() && record.fallback.is_none()
}

fn owned(provider_task_id: &str, owner: &TaskKey, now: Timestamp, created: Effect) -> Vec<Effect> {
    vec![
        created,
        Effect::Set(A::Owner, owner.to_string().as_str().into()),
        Effect::Set(A::ProviderTaskId, provider_task_id.into()),
        // Longer than any record it points to.
        Effect::Set(A::ExpiresAt, (now + RETENTION + RETENTION).into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::{Attribute, Item};
    use crate::record::Fallback;
    use crate::report::Report;
    use crate::transition::Applied;

    #[test]
    fn a_provider_task_has_one_owner() {
        let now = Timestamp::from_seconds(1000);
        let (one, two): (TaskKey, TaskKey) = ("kling/a".parse().expect("a key"), "kling/b".parse().expect("a key"));
        let own = |owner: &TaskKey| own(Provider::Kling, "p-1", owner, now);
        let Applied::Done(Some(item)) = own(&one).evaluate(None) else { panic!("it is free") };
        assert_eq!(item[&Attribute::Owner], "kling/a".into());
        assert!(matches!(own(&one).evaluate(Some(item.clone())), Applied::Done(_)), "it is its own");
        assert!(matches!(own(&two).evaluate(Some(item.clone())), Applied::Refused(Some(_))), "it is another's");
        let reassigned = reassign(Provider::Kling, "p-1", &one, &two, now).evaluate(Some(item.clone()));
        assert!(matches!(reassigned, Applied::Done(Some(item)) if item[&Attribute::Owner] == "kling/b".into()));
        assert!(matches!(disown(Provider::Kling, "p-1", &two).evaluate(Some(item.clone())), Applied::Refused(_)));
        assert_eq!(disown(Provider::Kling, "p-1", &one).evaluate(Some(item)), Applied::Done(None));
    }

    #[test]
    fn what_is_not_said_twice_is_more_than_a_mention() {
        let item = Item::from([(A::Task, "kling/p-1".into()), (A::State, State::Pending.into())]);
        let mention = Record::from_item(&item).expect("a record");
        let report = Report::Succeeded { artifacts: vec![], usage: None };
        let fallback = Fallback { report, received_at: Timestamp::from_seconds(1) };
        assert!(only_a_mention(&mention));
        assert!(!only_a_mention(&Record { fallback: Some(fallback), ..mention.clone() }));
        assert!(!only_a_mention(&Record { state: State::Reported, ..mention.clone() }));
        let read_as_pending = displace(&mention, Timestamp::from_seconds(1000));
        let mut reported = item;
        reported.insert(A::State, State::Reported.into());
        assert!(
            matches!(read_as_pending.evaluate(Some(reported)), Applied::Refused(_)),
            "it was reported since it was read"
        );
    }

    #[test]
    fn only_what_nobody_registered_or_works_on_is_displaced() {
        let now = Timestamp::from_seconds(1000);
        let pending = || Item::from([(A::Task, "kling/p-1".into()), (A::State, State::Pending.into())]);
        for (story, attribute, value, displaced) in [
            ("pending", A::DueAt, 5.into(), true),
            ("registered", A::RegisteredAt, 5.into(), false),
            ("reported", A::State, State::Reported.into(), true),
            ("archived", A::State, State::Archived.into(), false),
            ("reopened", A::Outcome, "failed".into(), false),
            ("worked on", A::ClaimedUntil, 1001.into(), false),
            ("worked on once", A::ClaimedUntil, 1000.into(), true),
        ] {
            let mut item = pending();
            item.insert(attribute, value);
            let record = Record::from_item(&item).expect("a record");
            assert_eq!(
                matches!(displace(&record, now).evaluate(Some(item)), Applied::Done(None)),
                displaced,
                "{story}"
            );
        }
    }
}
