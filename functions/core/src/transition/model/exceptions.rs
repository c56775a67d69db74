//! The mutants that break no promise, each with the reason. Most leave out one of two conditions that refuse the same: a
//! transition does not rely on the one before it. A test fails when one of these breaks a promise after all.

/// A part of a transition by its name in the table of mutants, and why nothing breaks without it.
type Exception = (&'static str, &'static str);

/// The reason why nothing breaks without a part, if it is an exception.
pub(super) fn reason(part: &str) -> Option<&'static str> {
    ALL.iter().find(|(name, _)| *name == part).map(|(_, reason)| *reason)
}

const LATER: &str = "only when the task is looked at next changes";
const BACK_OFF: &str = "only the length of a back-off changes";
const ABSENT: &str = "no task in this state has one, the effect is shared with others";
const PRESENT: &str = "every task in this state has it, the effect is shared with others";

/// All of them.
pub(super) const ALL: &[Exception] = &[
    ("claim: raise attempts", BACK_OFF),
    ("close: no outcome", "said by another condition too: only a hint reopens a task, and that raises the revision"),
    ("close: state is pending", "said by another condition too: what is not pending holds an outcome"),
    ("close: remove artifacts", ABSENT),
    ("close: remove checkpoints", ABSENT),
    ("close: remove last_error", ABSENT),
    ("close: set attempts", BACK_OFF),
    ("close: set created_at once", PRESENT),
    ("close: set due_at once", PRESENT),
    ("close: set due_shard", PRESENT),
    ("identify: any about provider_task_id", "another id is `correct_identity`'s, which the model leaves out"),
    (
        "identify: no provider_task_id in any about provider_task_id",
        "`note_submission` follows and records the id; only when the task is looked at next changes",
    ),
    (
        "identify: the same provider_task_id in any about provider_task_id",
        "`note_submission` follows and registers the task; only when the task is looked at next changes",
    ),
    ("identify: raise revision", "said by another condition too: `remove` leaves registered tasks alone"),
    ("identify: set due_at", LATER),
    ("note_hint: set attempts", BACK_OFF),
    (
        "note_open: all about state in any about task",
        "a submission's response names the id as well; until then only when the task is looked at next changes",
    ),
    ("note_open: any about provider_task_id", "said by another condition too: there is no id in the record"),
    (
        "note_open: state is pending in all about state in any about task",
        "said by another condition too: what is not pending has an id",
    ),
    (
        "note_open: the same provider_task_id in any about provider_task_id",
        "said by another condition too: there is no id in the record",
    ),
    ("note_submission: has task", "`register` comes first"),
    ("note_submission: raise revision", "said by another condition too: `remove` leaves registered tasks alone"),
    ("postpone: any about state", "said by another condition too: the state is as it was read, and that was not final"),
    (
        "postpone: state is reported",
        "said by another condition too: what is settled is not due, and what is reopened has another fencing token",
    ),
    ("postpone: state is pending in any about state", LATER),
    ("postpone: state is reported in any about state", LATER),
    ("postpone: fencing_token as read", LATER),
    ("postpone: no fencing_token", LATER),
    ("postpone: set due_at", LATER),
    ("register: set fingerprint", "for a submission that is repeated, which the model leaves out"),
    ("register: set in_flight_until", "for a submission that is repeated, which the model leaves out"),
    (
        "release_unfinished: state is reported",
        "said by another condition too: whatever makes another state of it raises the fencing token",
    ),
    ("release_unfinished: set due_at", LATER),
    ("remove: no outcome", "said by another condition too: only a hint reopens a task, and that raises the revision"),
    ("remove: no registered_at", "said by another condition too: a registration raises the revision"),
    (
        "remove: state is pending",
        "said by another condition too: no report comes of a task that the provider does not know",
    ),
    ("renew: any about state", "said by another condition too: what is final has no lease"),
    ("reopen: no provider_task_id in any about provider_task_id", PRESENT),
    (
        "reopen: raise revision",
        "said by another condition too: it raises the fencing token, and a task that holds an outcome is neither closed nor removed",
    ),
    ("reopen: set attempts", BACK_OFF),
    ("reopen: set raw once", PRESENT),
    ("reopen: set raw_bytes once", PRESENT),
    ("report: set attempts", BACK_OFF),
    ("report: remove checkpoints", ABSENT),
    ("restore: has outcome", "said by another condition too: it was read so, and no outcome is taken away"),
    ("restore: set attempts", BACK_OFF),
    (
        "settle: state is reported",
        "said by another condition too: whatever makes another state of it raises the fencing token",
    ),
    ("take_over: no provider_task_id in any about provider_task_id", PRESENT),
    ("take_over: remove checkpoints", ABSENT),
    ("take_over: remove fallback", ABSENT),
    ("take_over: remove hint", ABSENT),
    ("take_over: set attempts", BACK_OFF),
    ("take_over: set created_at once", PRESENT),
    ("take_over: set provider_task_id once", PRESENT),
    ("take_over: set reported_at", PRESENT),
    (
        "reopen: any about outcome in all about state",
        "a success that was reported a moment ago is confirmed once more, or restored",
    ),
    (
        "reopen: any about state in all about state",
        "said by another condition too: a pending task takes the hint at the first write",
    ),
    ("reopen: remove claimed_until", "the next worker only waits until the lease of the one before runs out"),
    (
        "restore: state is pending",
        "said by another condition too: only a status poll of the worker itself reports a reopened task",
    ),
    ("take_over: any about outcome in all about state", "a success over the same success, which is published once"),
    (
        "take_over: any about state in all about state",
        "said by another condition too: a pending task takes the success at the first write",
    ),
];
