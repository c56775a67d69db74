//! The rules of reelhook, without input or output: no AWS, no sockets, no clock of its own. Time comes in as a
//! [`Timestamp`], bytes come in as bytes, and what is to be done goes out as values, so every rule here can be tested from
//! a file.
//!
//! # Layout
//!
//! | module | has |
//! |---|---|
//! | [`provider`], [`task`], [`time`] | the names of things: provider, id, task key, S3 prefix, point in time |
//! | [`token`] | the callback URL of a task, and whether a token is right |
//! | [`request`], [`signature`] | the request of a callback, and the signatures that providers use |
//! | [`callback`] | from bytes to a report that may be recorded; [`callback::proof`]: how far it is believed |
//! | [`report`] | what a provider says about a task, normalised |
//! | [`providers`] | the adapters, one file each |
//! | [`record`], [`item`], `stored_report` | the record of a task as it is read, and its stored form |
//! | [`transition`] | every conditional write to the table, as a value |
//! | [`submission`] | exactly one submission under one id |
//! | [`status_poll`] | what a status poll means for a task |
//! | [`poll_schedule`], [`concurrency`] | when to poll a task, and how many polls of one provider at a time |
//! | [`requeue`] | when a task that waits is queued again |
//! | [`transfer`] | how a file is copied: which, in which pieces, when again, what is kept |
//! | [`result`] | `result.json` |
//! | [`message`] | what travels through the queue |
//! | [`backoff`], [`retry_after`] | how long to wait before the next attempt, and how long a response wants us to |
//! | [`expiry`] | when a link dies |
//! | [`ssrf`] | which addresses the copier may connect to |
//! | [`settings`] | the one JSON document of provider settings |
//! | [`metric`] | what is counted and measured |
//! | [`explain`] | what a body means, for an operator |
//! | [`redacted`] | secrets and signed URLs that cannot be printed |
//!
//! `functions/ARCHITECTURE.md` walks a callback, a message, a scheduled run and a submission through the tree.

pub mod annotations;
pub mod backoff;
pub mod callback;
pub mod concurrency;
pub mod credential;
pub mod expiry;
pub mod explain;
pub mod item;
pub mod key_set;
pub mod message;
pub mod metric;
pub mod poll_schedule;
pub mod provider;
pub mod providers;
pub mod record;
pub mod redacted;
pub mod report;
pub mod request;
pub mod requeue;
pub mod result;
pub mod retry_after;
pub mod settings;
pub mod signature;
pub mod ssrf;
pub mod status_poll;
mod stored_report;
pub mod submission;
pub mod task;
pub mod time;
pub mod token;
pub mod transfer;
pub mod transition;
pub mod usage;
pub mod view;

pub use provider::Provider;
pub use task::{TaskId, TaskKey};
pub use time::Timestamp;
